/* The kernels in plain C: what the fast ones are held to, and what runs where there are none. */
#include "half.h"
#include "kernels.h"

#define LANES 4
#define LANES_TARGET
#define LANES_SPLAT(x) plain_splat(x)
#define LANES_FMA(a, b, c) ((a) * (b) + (c))
#define LANES_MAX(a, b) plain_choose((a) > (b), a, b)
#define LANES_MIN(a, b) plain_choose((a) < (b), a, b)
#define LANES_FROM_HALF(p) plain_from_half(p)
#define LANES_TO_HALF(v, p) plain_to_half(v, p)

typedef float four_floats __attribute__((vector_size(16)));

typedef int32_t four_ints __attribute__((vector_size(16)));

static inline four_floats plain_choose(four_ints which, four_floats a, four_floats b) {
    return (four_floats)((which & (four_ints)a) | (~which & (four_ints)b));
}

static inline four_floats plain_splat(float x) {
    four_floats v = {x, x, x, x};
    return v;
}

static inline four_floats plain_from_half(const uint16_t *x) {
    four_floats v = {me_float_from_half(x[0]), me_float_from_half(x[1]), me_float_from_half(x[2]),
                     me_float_from_half(x[3])};
    return v;
}

static inline void plain_to_half(four_floats v, uint16_t *out) {
    for (int i = 0; i < 4; i++) out[i] = me_half_from_float(v[i]);
}

#include "lanes.h"

/* The integers of one block: for 16 rows, the sum over 32 columns of q * x. Groups of 4 columns:
 * value (row, column) of group g is byte g * 64 + row * 4 + column. */
static void block_q8(const uint8_t *quants, const int8_t *x, int32_t sums[ME_PANEL]) {
    const int8_t *q = (const int8_t *)quants;
    for (int row = 0; row < ME_PANEL; row++) {
        int32_t sum = 0;
        for (int i = 0; i < ME_COLUMNS; i++) sum += q[i / 4 * 64 + row * 4 + i % 4] * x[i];
        sums[row] = sum;
    }
}

/* Group g is in the low nibbles of 64 bytes, group g + 4 in their high ones. */
static void block_q4(const uint8_t *quants, const int8_t *x, int32_t sums[ME_PANEL]) {
    for (int row = 0; row < ME_PANEL; row++) {
        int32_t sum = 0;
        for (int i = 0; i < ME_COLUMNS / 2; i++) {
            uint8_t pair = quants[i / 4 * 64 + row * 4 + i % 4];
            sum += (pair & 15) * x[i] + (pair >> 4) * x[i + ME_COLUMNS / 2];
        }
        sums[row] = sum;
    }
}

typedef void (*block_kernel)(const uint8_t *quants, const int8_t *x, int32_t sums[ME_PANEL]);

static void one_row(const me_panel *panel, const me_row *x, block_kernel block,
                    uint32_t block_bytes, float out[ME_PANEL]) {
    int32_t sums[ME_PANEL];
    for (int row = 0; row < ME_PANEL; row++) out[row] = 0;
    for (size_t b = 0; b < panel->n_blocks; b++) {
        block(panel->quants + b * block_bytes, x->q + b * ME_COLUMNS, sums);
        for (int row = 0; row < ME_PANEL; row++) {
            size_t place = b * ME_PANEL + (size_t)row;
            out[row] += me_float_from_half(panel->scales[place]) * x->scale[b] * (float)sums[row];
            if (panel->minimums) out[row] += me_float_from_half(panel->minimums[place]) * x->total[b];
        }
    }
}

static void plain_q8(const me_panel *panel, const me_row *rows, uint32_t n_rows,
                     float (*out)[ME_PANEL]) {
    for (uint32_t i = 0; i < n_rows; i++) one_row(panel, &rows[i], block_q8, 512, out[i]);
}

static void plain_q4(const me_panel *panel, const me_row *rows, uint32_t n_rows,
                     float (*out)[ME_PANEL]) {
    for (uint32_t i = 0; i < n_rows; i++) one_row(panel, &rows[i], block_q4, 256, out[i]);
}

const me_kernels me_kernels_plain = {"plain", plain_q8, plain_q4, LANES_KERNELS};
