/* NEON, with and without the dot product of ARMv8.2: a register is 4 rows x 4 columns.
 *
 * Here both factors are signed. Without the dot product, int8 products are added in int16: two of
 * Q8 fit (2 * 128 * 127 < 32768), and for Q4, within 0..15, all eight of a block do. Lanes hold
 * half a row each until the end, when neighbours are added. */
#include "kernels.h"

#if defined(__aarch64__)
#include <arm_neon.h>

#define LANES 4
#define LANES_TARGET
#define LANES_SPLAT(x) (me_lanes)vdupq_n_f32(x)
#define LANES_FMA(a, b, c) (me_lanes)vfmaq_f32((float32x4_t)(c), (float32x4_t)(a), (float32x4_t)(b))
#define LANES_MAX(a, b) (me_lanes)vmaxq_f32((float32x4_t)(a), (float32x4_t)(b))
#define LANES_MIN(a, b) (me_lanes)vminq_f32((float32x4_t)(a), (float32x4_t)(b))
#define LANES_FROM_HALF(p) (me_lanes)vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p)))
#define LANES_TO_HALF(v, p) vst1_u16(p, vreinterpret_u16_f16(vcvt_f16_f32((float32x4_t)(v))))
#include "lanes.h"

#if defined(__clang__)
#define DOT_TARGET __attribute__((target("dotprod")))
#elif defined(ME_HAS_NEONDOT)
#define DOT_TARGET __attribute__((target("arch=armv8.2-a+dotprod")))
#endif
#define INLINE static inline __attribute__((always_inline))

/* The 32 activations of a block: as they lie, and each four in every row's place. */
typedef struct {
    int8x16_t halves[2], fours[8];
} activations;

#define FOUR(half, lane) \
    vreinterpretq_s8_s32(vdupq_laneq_s32(vreinterpretq_s32_s8((half)), (lane)))

INLINE activations load(const int8_t *x) {
    int8x16_t a = vld1q_s8(x), z = vld1q_s8(x + 16);
    activations all = {{a, z},
                       {FOUR(a, 0), FOUR(a, 1), FOUR(a, 2), FOUR(a, 3), FOUR(z, 0), FOUR(z, 1),
                        FOUR(z, 2), FOUR(z, 3)}};
    return all;
}

INLINE int8x16_t group_q8(const uint8_t *quants, int group) {
    return vreinterpretq_s8_u8(vld1q_u8(quants + group * 64));
}

INLINE int8x16_t group_q4(const uint8_t *quants, int group) {
    uint8x16_t pair = vld1q_u8(quants + group % 4 * 64);
    return vreinterpretq_s8_u8(group < 4 ? vandq_u8(pair, vdupq_n_u8(15)) : vshrq_n_u8(pair, 4));
}

/* The integers of one block for 4 rows; quants points at their first group. */
typedef int32x4_t (*quarter_kernel)(const uint8_t *quants, const activations *x);

INLINE int32x4_t quarter_q8(const uint8_t *quants, const activations *x) {
    int32x4_t first = vdupq_n_s32(0), second = first;
    for (int g = 0; g < 8; g += 2) {
        int8x16_t q = group_q8(quants, g), y = x->fours[g];
        int8x16_t r = group_q8(quants, g + 1), z = x->fours[g + 1];
        int16x8_t low = vmull_s8(vget_low_s8(q), vget_low_s8(y));
        int16x8_t high = vmull_high_s8(q, y);
        first = vpadalq_s16(first, vmlal_s8(low, vget_low_s8(r), vget_low_s8(z)));
        second = vpadalq_s16(second, vmlal_high_s8(high, r, z));
    }
    return vpaddq_s32(first, second);
}

INLINE int32x4_t quarter_q4(const uint8_t *quants, const activations *x) {
    int8x16_t q = group_q4(quants, 0), y = x->fours[0];
    int16x8_t first = vmull_s8(vget_low_s8(q), vget_low_s8(y)), second = vmull_high_s8(q, y);
    for (int g = 1; g < 8; g++) {
        q = group_q4(quants, g), y = x->fours[g];
        first = vmlal_s8(first, vget_low_s8(q), vget_low_s8(y));
        second = vmlal_high_s8(second, q, y);
    }
    return vpaddlq_s16(vpaddq_s16(first, second)); /* 2 * 8 * 15 * 127 < 32768 */
}

/* A block's 16 scales, or minimums: four are loaded too often, eight at once are not. */
typedef struct {
    float32x4_t of[4];
} sixteen;

INLINE sixteen from_halfs(const uint16_t *halfs) {
    float16x8_t a = vreinterpretq_f16_u16(vld1q_u16(halfs));
    float16x8_t z = vreinterpretq_f16_u16(vld1q_u16(halfs + 8));
    sixteen all = {{vcvt_f32_f16(vget_low_f16(a)), vcvt_high_f32_f16(a),
                    vcvt_f32_f16(vget_low_f16(z)), vcvt_high_f32_f16(z)}};
    return all;
}

/* The first block of panel and row. Q4's minimums are where Q8 has none, so block_bytes tells them
 * apart; inlined with it constant. */
INLINE void add_block(const me_panel *panel, const me_row *row, size_t block_bytes,
                      quarter_kernel quarter, sixteen *total) {
    activations x = load(row->q);
    sixteen scales = from_halfs(panel->scales), minimums = {{{0}}};
    if (block_bytes == 256) minimums = from_halfs(panel->minimums);
    for (int k = 0; k < 4; k++) {
        float32x4_t sum = vcvtq_f32_s32(quarter(panel->quants + k * 16, &x));
        total->of[k] = vfmaq_f32(total->of[k], sum, vmulq_n_f32(scales.of[k], *row->scale));
        if (block_bytes == 256)
            total->of[k] = vfmaq_f32(total->of[k], minimums.of[k], vdupq_n_f32(*row->total));
    }
}

INLINE void multiply(const me_panel *panel, const me_row *rows, uint32_t n_rows,
                     float (*out)[ME_PANEL], size_t block_bytes, quarter_kernel quarter) {
    for (uint32_t i = 0; i < n_rows; i++) {
        sixteen total = {{vdupq_n_f32(0), vdupq_n_f32(0), vdupq_n_f32(0), vdupq_n_f32(0)}};
        me_panel left = *panel; /* both move on, block by block */
        me_row row = rows[i];
        for (uint32_t b = 0; b < panel->n_blocks; b++) {
            add_block(&left, &row, block_bytes, quarter, &total);
            left.quants += block_bytes, left.scales += ME_PANEL;
            if (block_bytes == 256) left.minimums += ME_PANEL;
            row.q += ME_COLUMNS, row.scale++, row.total++;
        }
        for (int k = 0; k < 4; k++) vst1q_f32(out[i] + k * 4, total.of[k]);
    }
}

static void neon_q8(const me_panel *panel, const me_row *rows, uint32_t n_rows,
                    float (*out)[ME_PANEL]) {
    multiply(panel, rows, n_rows, out, 512, quarter_q8);
}

static void neon_q4(const me_panel *panel, const me_row *rows, uint32_t n_rows,
                    float (*out)[ME_PANEL]) {
    multiply(panel, rows, n_rows, out, 256, quarter_q4);
}

const me_kernels me_kernels_neon = {"neon", neon_q8, neon_q4, LANES_KERNELS};

#if defined(ME_HAS_NEONDOT)
/* A lane of the activations stands for four of them in every row's place. */
#define DOT_ALL(group)                                                       \
    int32x4_t a = vdotq_laneq_s32(vdupq_n_s32(0), group(quants, 0), x->halves[0], 0); \
    int32x4_t z = vdotq_laneq_s32(vdupq_n_s32(0), group(quants, 4), x->halves[1], 0); \
    a = vdotq_laneq_s32(a, group(quants, 1), x->halves[0], 1);               \
    z = vdotq_laneq_s32(z, group(quants, 5), x->halves[1], 1);               \
    a = vdotq_laneq_s32(a, group(quants, 2), x->halves[0], 2);               \
    z = vdotq_laneq_s32(z, group(quants, 6), x->halves[1], 2);               \
    a = vdotq_laneq_s32(a, group(quants, 3), x->halves[0], 3);               \
    z = vdotq_laneq_s32(z, group(quants, 7), x->halves[1], 3);               \
    return vaddq_s32(a, z);

DOT_TARGET static inline int32x4_t dot_quarter_q8(const uint8_t *quants, const activations *x) {
    DOT_ALL(group_q8)
}

DOT_TARGET static inline int32x4_t dot_quarter_q4(const uint8_t *quants, const activations *x) {
    DOT_ALL(group_q4)
}

DOT_TARGET static void dot_q8(const me_panel *panel, const me_row *rows, uint32_t n_rows,
                              float (*out)[ME_PANEL]) {
    multiply(panel, rows, n_rows, out, 512, dot_quarter_q8);
}

DOT_TARGET static void dot_q4(const me_panel *panel, const me_row *rows, uint32_t n_rows,
                              float (*out)[ME_PANEL]) {
    multiply(panel, rows, n_rows, out, 256, dot_quarter_q4);
}

const me_kernels me_kernels_neondot = {"neondot", dot_q8, dot_q4, LANES_KERNELS};
#endif
#endif
