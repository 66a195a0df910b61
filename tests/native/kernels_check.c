/* Holds every kernel of this machine to the plain one, over random and adversarial shapes.
 *
 * With all scales 1 a product is an integer below 2^24, which a float holds exactly: then the
 * kernels must agree to the bit. With random scales the order of the float sums differs. The
 * extremes are those that a wrong saturation, sign or zero point would show: -128, 127, -8, 7. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../merino_edge/native/src/kernels.h"
#include "../../merino_edge/native/src/rows.h"

enum { MAX_BLOCKS = 67, MAX_ROWS = 16 };

static uint8_t *quants; /* on the heap and just as long as the panel: a sanitizer sees overreading */
static uint16_t scales[MAX_BLOCKS * ME_PANEL];
static int8_t q[MAX_ROWS][MAX_BLOCKS * ME_COLUMNS];
static float x_scales[MAX_ROWS][MAX_BLOCKS];
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
    for (uint32_t i = 0; i < n_blocks * ME_PANEL; i++) /* 1, or 2^-15 to 2^-4 */
        scales[i] = exact ? 0x3c00 : (uint16_t)(random_bits() % 0x2c00);
    for (int row = 0; row < MAX_ROWS; row++) {
        me_row r = {q[row], x_scales[row], sums[row]};
        rows[row] = r;
        memset(sums[row], 0, sizeof sums[row]);
        for (uint32_t i = 0; i < n_blocks * ME_COLUMNS; i++) {
            q[row][i] = activation_of(activations, i);
            sums[row][i / ME_COLUMNS] += q[row][i];
        }
        for (uint32_t b = 0; b < n_blocks; b++)
            x_scales[row][b] = exact ? 1.0f : (float)(random_bits() % 1000) * 1e-3f;
    }
}

/* How far two sums of the same n numbers may lie apart: n roundings of their size. */
static float tolerance(uint32_t n_blocks, int exact) {
    return exact ? 0.0f : (float)(n_blocks + 2) * 1.2e-7f * 127 * 128 * 32 * 0.0625f * (float)n_blocks;
}

static int differ(me_panel_kernel fast, me_panel_kernel plain, uint32_t n_blocks, uint32_t n_rows,
                  float allowed) {
    float a[MAX_ROWS][ME_PANEL], b[MAX_ROWS][ME_PANEL];
    me_panel panel = {quants, scales, n_blocks};
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
        wrong += differ(k->q8, me_kernels_plain.q8, n_blocks, n_rows, allowed);
        fill(n_blocks, 256, weights, activations, exact);
        wrong += differ(k->q4, me_kernels_plain.q4, n_blocks, n_rows, allowed);
    }
    return wrong;
}

/* The plain kernel itself, against the description of the file, value by value. */
static int check_plain(uint32_t n_blocks) {
    int wrong = 0;
    float out[1][ME_PANEL], value[MAX_BLOCKS * ME_COLUMNS];
    for (uint32_t kind = ME_Q8; kind <= ME_Q4; kind++) {
        fill(n_blocks, kind == ME_Q8 ? 512 : 256, RANDOM, RANDOM, 1);
        me_matrix m = {kind, ME_PANEL, n_blocks * ME_COLUMNS, 1, n_blocks, NULL, quants, scales};
        me_panel panel = {quants, scales, n_blocks};
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

static int check_sums(const me_kernels *k, uint32_t n) { /* of integers: exact in any order */
    enum { N = 5 };
    int wrong = 0;
    float *x = malloc((n + 1) * sizeof *x), *rows_of = malloc((n * N + 1) * sizeof *x);
    float *sum = malloc((n + 1) * sizeof *x), weights[N], dots[N];
    for (uint32_t i = 0; i < n; i++) x[i] = (float)(random_bits() % 64);
    for (uint32_t i = 0; i < n * N; i++) rows_of[i] = (float)(random_bits() % 64) - 32;
    for (uint32_t i = 0; i < N; i++) weights[i] = (float)(i + 1);
    k->dots(x, rows_of, N, n, dots);
    k->weighted_sum(weights, rows_of, N, n, sum);
    for (uint32_t row = 0; row < N; row++) {
        float expected = 0;
        for (uint32_t i = 0; i < n; i++) expected += x[i] * rows_of[row * n + i];
        wrong += dots[row] != expected;
    }
    for (uint32_t i = 0; i < n; i++) {
        float expected = 0;
        for (uint32_t row = 0; row < N; row++) expected += weights[row] * rows_of[row * n + i];
        wrong += sum[i] != expected;
    }
    free(x);
    free(rows_of);
    free(sum);
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

static int check_softmax(const me_kernels *k, uint32_t n) {
    int wrong = 0;
    double most = -1e9, sum = 0;
    float *x = malloc(n * sizeof *x), *y = malloc(n * sizeof *y);
    for (uint32_t i = 0; i < n; i++) {
        x[i] = y[i] = (float)(random_bits() % 8000) * 0.01f - 40.0f;
        most = x[i] > most ? x[i] : most;
    }
    for (uint32_t i = 0; i < n; i++) sum += exp((x[i] - most) * 0.25);
    k->softmax(y, n, 0.25f);
    for (uint32_t i = 0; i < n; i++) {
        double exact = exp((x[i] - most) * 0.25) / sum;
        wrong += !(fabs(y[i] - exact) <= 2e-6 * exact);
    }
    free(x);
    free(y);
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
        for (uint32_t n = 0; n < 200; n++) wrong += check_sums(k, n);
        for (uint32_t n = 1; n < 100; n++) wrong += check_softmax(k, n);
        wrong += check_exponentials(k);
        printf("%s: %d differences\n", k->name, wrong - before);
    }
    free(quants);
    return wrong != 0;
}
