/* Holds every kernel of this machine to the plain one, over random and adversarial shapes.
 *
 * With all scales 1 a product is an integer below 2^24, which a float holds exactly: then the
 * kernels must agree to the bit. With random scales the order of the float sums differs. The
 * extremes are those that a wrong saturation, sign or zero point would show: -128, 127, -8, 7. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../merino_edge/native/src/half.h"
#include "../../merino_edge/native/src/kernels.h"
#include "../../merino_edge/native/src/rows.h"

enum { MAX_BLOCKS = 67, MAX_ROWS = 16 };

static uint8_t *quants; /* on the heap and just as long as the panel: a sanitizer sees overreading */
static uint16_t scales[MAX_BLOCKS * ME_PANEL], minimums[MAX_BLOCKS * ME_PANEL];
static int8_t q[MAX_ROWS][MAX_BLOCKS * ME_COLUMNS];
static float x_scales[MAX_ROWS][MAX_BLOCKS], totals[MAX_ROWS][MAX_BLOCKS];
static int32_t sums[MAX_ROWS][MAX_BLOCKS];
static me_row rows[MAX_ROWS];

static uint32_t state = 1;
static uint32_t random_bits(void) { return (state = state * 1664525u + 1013904223u) >> 8; }

enum { RANDOM, LOWEST, HIGHEST, ALTERNATING, N_PATTERNS };

static uint8_t byte_of(int pattern, uint32_t i) {
    static const uint8_t LOW[] = {0x80, 0x00}, HIGH[] = {0x7f, 0xff};
    switch (pattern) {
    case LOWEST: return LOW[i / 64 % 2];
    case HIGHEST: return HIGH[i / 64 % 2];
    case ALTERNATING: return i % 2 ? 0x80 : 0x7f;
    default: return (uint8_t)random_bits();
    }
}

static int8_t activation_of(int pattern, uint32_t i) {
    switch (pattern) {
    case LOWEST: return -127;
    case HIGHEST: return 127;
    case ALTERNATING: return i % 2 ? -127 : 127;
    default: return (int8_t)(random_bits() % 255 - 127);
    }
}

static void fill(uint32_t n_blocks, uint32_t block_bytes, int weights, int activations, int exact) {
    free(quants);
    quants = malloc((size_t)n_blocks * block_bytes);
    for (uint32_t i = 0; i < n_blocks * block_bytes; i++) quants[i] = byte_of(weights, i);
    for (uint32_t i = 0; i < n_blocks * ME_PANEL; i++) { /* 1, or 2^-15 to 2^-4 */
        scales[i] = exact ? 0x3c00 : (uint16_t)(random_bits() % 0x2c00);
        minimums[i] = exact ? 0xc800 : (uint16_t)(0x8000 | random_bits() % 0x2c00); /* -8, or so */
    }
    for (int row = 0; row < MAX_ROWS; row++) {
        me_row r = {q[row], x_scales[row], totals[row], sums[row]};
        rows[row] = r;
        memset(sums[row], 0, sizeof sums[row]);
        for (uint32_t i = 0; i < n_blocks * ME_COLUMNS; i++) {
            q[row][i] = activation_of(activations, i);
            sums[row][i / ME_COLUMNS] += q[row][i];
        }
        for (uint32_t b = 0; b < n_blocks; b++) {
            x_scales[row][b] = exact ? 1.0f : (float)(random_bits() % 1000) * 1e-3f;
            totals[row][b] = x_scales[row][b] * (float)sums[row][b];
        }
    }
}

/* How far two sums of the same n numbers may lie apart: n roundings of their size. */
static float tolerance(uint32_t n_blocks, int exact) {
    return exact ? 0.0f : (float)(n_blocks + 2) * 1.2e-7f * 127 * 128 * 32 * 0.0625f * (float)n_blocks;
}

static int differ(me_panel_kernel fast, me_panel_kernel plain, uint32_t n_blocks, uint32_t n_rows,
                  float allowed, int with_minimums) {
    float a[MAX_ROWS][ME_PANEL], b[MAX_ROWS][ME_PANEL];
    me_panel panel = {quants, scales, with_minimums ? minimums : NULL, n_blocks};
    fast(&panel, rows, n_rows, a);
    plain(&panel, rows, n_rows, b);
    int wrong = 0;
    for (uint32_t i = 0; i < n_rows; i++)
        for (int row = 0; row < ME_PANEL; row++)
            wrong |= !(fabsf(a[i][row] - b[i][row]) <= allowed); /* so that NaN is wrong */
    return wrong;
}

static int check_shape(const me_kernels *k, uint32_t n_blocks, uint32_t n_rows) {
    int wrong = 0;
    for (int i = 0; i < N_PATTERNS * N_PATTERNS * 2; i++) {
        int exact = i % 2 && n_blocks <= 32; /* beyond, 128 * 127 * 32 each leave a float's integers */
        int weights = i / 2 / N_PATTERNS, activations = i / 2 % N_PATTERNS;
        float allowed = tolerance(n_blocks, exact);
        fill(n_blocks, 512, weights, activations, exact);
        wrong += differ(k->q8, me_kernels_plain.q8, n_blocks, n_rows, allowed, 0);
        fill(n_blocks, 256, weights, activations, exact);
        wrong += differ(k->q4, me_kernels_plain.q4, n_blocks, n_rows, allowed, 1);
    }
    return wrong;
}

/* The plain kernel itself, against the description of the file, value by value. */
static int check_plain(uint32_t n_blocks) {
    int wrong = 0;
    float out[1][ME_PANEL], value[MAX_BLOCKS * ME_COLUMNS];
    for (uint32_t kind = ME_Q8; kind <= ME_Q4; kind++) {
        fill(n_blocks, kind == ME_Q8 ? 512 : 256, RANDOM, RANDOM, 1);
        me_matrix m = {kind, ME_PANEL, n_blocks * ME_COLUMNS, 1, n_blocks, NULL, quants, scales, minimums};
        me_panel panel = {quants, scales, kind == ME_Q4 ? minimums : NULL, n_blocks};
        (kind == ME_Q8 ? me_kernels_plain.q8 : me_kernels_plain.q4)(&panel, rows, 1, out);
        for (uint32_t row = 0; row < ME_PANEL; row++) {
            float sum = 0;
            me_matrix_row(&m, row, value);
            for (uint32_t i = 0; i < m.n_in; i++) sum += value[i] * q[0][i];
            wrong += sum != out[0][row];
        }
    }
    return wrong;
}

/* Integers up to 31 in size: exact in float16, and their sums in any order. */
static float small_integer(void) { return (float)(random_bits() % 63) - 31.0f; }

/* Attention over a cache of one type, against the sums written out. */
static int check_cache(const me_cache_kernels *k, size_t item, uint32_t n_queries, uint32_t d,
                       uint32_t n_panels) {
    enum { MOST = 6 };
    int wrong = 0;
    uint32_t n = n_panels * ME_PANEL, n_blended = n - 3;
    float *x = malloc((size_t)n * d * sizeof *x);
    uint8_t *keys = malloc(n * d * item), *values = malloc(n * d * item);
    float *queries = malloc(MOST * d * sizeof *queries), *blended = malloc(MOST * d * sizeof *blended);
    float *scores = malloc(MOST * n * sizeof *scores);
    for (uint32_t i = 0; i < MOST * d; i++) queries[i] = small_integer();
    for (uint32_t i = 0; i < n * d; i++) x[i] = small_integer();
    for (uint32_t i = 0; i < n; i++) k->store(x + i * d, d, values + (size_t)i * d * item);
    for (uint32_t panel = 0; panel < n_panels; panel++)
        for (uint32_t c = 0; c < d; c++) {
            float lanes[ME_PANEL];
            for (uint32_t i = 0; i < ME_PANEL; i++) lanes[i] = x[(panel * ME_PANEL + i) * d + c];
            k->store(lanes, ME_PANEL, keys + ((size_t)panel * d + c) * ME_PANEL * item);
        }
    k->scores(queries, n_queries, d, keys, n_panels, scores, n);
    for (uint32_t q = 0; q < n_queries; q++)
        for (uint32_t i = 0; i < n; i++) {
            float expected = 0;
            for (uint32_t c = 0; c < d; c++) expected += queries[q * d + c] * x[i * d + c];
            wrong += scores[q * n + i] != expected;
            scores[q * n + i] = small_integer();
        }
    k->blend(scores, n, n_queries, values, n_blended, d, blended, d);
    for (uint32_t q = 0; q < n_queries; q++)
        for (uint32_t c = 0; c < d; c++) {
            float expected = 0;
            for (uint32_t i = 0; i < n_blended; i++) expected += scores[q * n + i] * x[i * d + c];
            wrong += blended[q * d + c] != expected;
        }
    free(x), free(keys), free(values), free(queries), free(blended), free(scores);
    return wrong;
}

static int check_attention(const me_kernels *k) {
    static const uint32_t DIMENSIONS[] = {1, 2, 6, 16, 20, 33, 64, 80, 128};
    int wrong = 0;
    for (size_t i = 0; i < sizeof DIMENSIONS / sizeof *DIMENSIONS; i++)
        for (uint32_t n_queries = 1; n_queries <= 6; n_queries++)
            for (uint32_t n_panels = 1; n_panels <= 5; n_panels++) {
                wrong += check_cache(&k->f32, sizeof(float), n_queries, DIMENSIONS[i], n_panels);
                wrong += check_cache(&k->f16, sizeof(uint16_t), n_queries, DIMENSIONS[i], n_panels);
            }
    return wrong;
}

/* Every float16 comes back from float32, and what lies between goes to the nearest, even first. */
static int check_halfs(const me_kernels *k) {
    int wrong = 0;
    for (uint32_t half = 0; half < 0x7c00; half++) {
        float a = me_float_from_half((uint16_t)half), b = me_float_from_half((uint16_t)(half + 1));
        float middle = half == 0x7bff ? 65520.0f : (a + b) / 2;
        float x[16] = {a, -a, nextafterf(middle, a), nextafterf(middle, INFINITY), middle, -middle};
        uint16_t found[16], even = (uint16_t)(half + (half & 1));
        uint16_t expected[16] = {(uint16_t)half, (uint16_t)(half | 0x8000), (uint16_t)half,
                                 (uint16_t)(half + 1), even, (uint16_t)(even | 0x8000)};
        k->f16.store(x, 16, found);
        wrong += memcmp(found, expected, sizeof found) != 0;
        k->f16.store(x, 6, found);
        wrong += memcmp(found, expected, 6 * sizeof *found) != 0;
    }
    return wrong;
}

static int check_sums(const me_kernels *k, uint32_t n) { /* of integers: exact in any order */
    float *x = malloc(n * sizeof *x), sum = 0, square = 0, largest = -INFINITY;
    for (uint32_t i = 0; i < n; i++) {
        x[i] = small_integer();
        sum += x[i];
        square += x[i] * x[i];
        largest = x[i] > largest ? x[i] : largest;
    }
    int wrong = k->dot(x, x, n) != square;
    wrong += k->total(x, n) != sum;
    wrong += k->largest(x, n) != largest;
    free(x);
    return wrong;
}

static double activated(uint32_t activation, double x) {
    switch (activation) {
    case ME_GELU: return 0.5 * x * (1 + erf(x / sqrt(2.0)));
    case ME_GELU_TANH: return 0.5 * x * (1 + tanh(sqrt(2 / 3.14159265358979) * (x + 0.044715 * x * x * x)));
    case ME_RELU: return x > 0 ? x : 0;
    default: return x / (1 + exp(-x));
    }
}

static int check_activations(const me_kernels *k) {
    int wrong = 0;
    float x[41], y[41];
    for (uint32_t activation = ME_GELU; activation <= ME_SILU; activation++)
        for (int round = 0; round < 400; round++) {
            for (int i = 0; i < 41; i++) x[i] = (float)(random_bits() % 40001) * (i < 30 ? 2e-4f : 4e-3f) - 4;
            x[0] = round % 2 ? 0.0f : -80.0f, x[1] = round % 2 ? -1e-6f : 300.0f;
            memcpy(y, x, sizeof x);
            k->activate(activation, y, 41);
            for (int i = 0; i < 41; i++) {
                double exact = activated(activation, x[i]);
                wrong += !(fabs(y[i] - exact) <= 5e-7 * (1 + fabs(exact)));
            }
        }
    return wrong;
}

/* A row's int8 is the same for every set, ties, tiny blocks and infinities included. */
static int check_quantised(const me_kernels *k) {
    static const float SCALES[] = {1.0f, 0x1p-20f, 1e-31f, 1e30f, 0.0f};
    int wrong = 0;
    for (int round = 0; round < 1000; round++) {
        float x[ME_COLUMNS];
        int8_t a[ME_COLUMNS], b[ME_COLUMNS];
        float numbers[4];
        int32_t sums[2];
        me_row ours = {a, &numbers[0], &numbers[1], &sums[0]};
        me_row plain = {b, &numbers[2], &numbers[3], &sums[1]};
        for (int i = 0; i < ME_COLUMNS; i++) /* halves of 127ths are frequent */
            x[i] = (float)((int)(random_bits() % 509) - 254) * SCALES[round % 5];
        k->quantise(x, &ours, 0);
        me_kernels_plain.quantise(x, &plain, 0);
        wrong += memcmp(a, b, sizeof a) != 0 || sums[0] != sums[1];
        wrong += numbers[0] != numbers[2] || numbers[1] != numbers[3];
    }
    return wrong;
}

static int check_exponentials(const me_kernels *k) {
    static const float EXTREMES[] = {-INFINITY, -1e30f, -87.5f, 88.0f, 0.0f, -0.0f, 1e-30f};
    int wrong = 0;
    float x[37], y[37];
    for (int round = 0; round < 200; round++) {
        for (int i = 0; i < 37; i++) x[i] = y[i] = (float)(random_bits() % 170000) * 1e-3f - 85.0f;
        memcpy(x + round % 30, EXTREMES, sizeof EXTREMES);
        memcpy(y, x, sizeof x);
        k->exponentials(y, 37, 0.0f, 1.0f);
        for (int i = 0; i < 37; i++) {
            double exact = exp(x[i] < -87.0f ? -87.0 : x[i]);
            wrong += !(fabs(y[i] - exact) <= 4e-7 * exact);
        }
    }
    return wrong;
}

int main(void) {
    static const char *const NAMES[] = {"plain", "avx2", "avx512vnni", "neon", "neondot"};
    static const uint32_t SHAPES[][2] = {{1, 1},  {2, 3},  {3, 4},  {18, 1}, {18, 5},
                                         {20, 16}, {31, 7}, {48, 2}, {67, 9}};
    int wrong = check_plain(1) + check_plain(3);
    for (size_t i = 0; i < sizeof NAMES / sizeof *NAMES; i++) {
        const me_kernels *k = me_kernels_named(NAMES[i]);
        if (!k) continue;
        int before = wrong;
        for (size_t j = 0; j < sizeof SHAPES / sizeof *SHAPES; j++)
            wrong += check_shape(k, SHAPES[j][0], SHAPES[j][1]);
        for (uint32_t n = 1; n < 200; n++) wrong += check_sums(k, n);
        wrong += check_attention(k) + check_halfs(k);
        wrong += check_activations(k) + check_quantised(k);
        wrong += check_exponentials(k);
        printf("%s: %d differences\n", k->name, wrong - before);
    }
    free(quants);
    return wrong != 0;
}
