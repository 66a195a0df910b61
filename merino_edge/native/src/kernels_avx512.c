/* AVX-512 VNNI: a register holds a group, 16 rows x 4 columns, and one instruction multiplies and
 * adds it.
 *
 * vpdpbusd wants unsigned times signed: Q4 is unsigned as stored, Q8 becomes so by flipping its top
 * bit (128 means zero). The sum of the activations takes that excess back: the accumulator simply
 * starts at minus 128 times the sum. The high nibbles of Q4 are not shifted down: their sum, 16 times
 * too large, is. */
#include "kernels.h"

#if defined(ME_HAS_VNNI)
#include <immintrin.h>

#define LANES 16
#define LANES_TARGET __attribute__((target("avx512f,avx512bw,avx512vnni,avx512vl,fma,f16c")))
#define LANES_SPLAT(x) (me_lanes)_mm512_set1_ps(x)
#define LANES_FMA(a, b, c) (me_lanes)_mm512_fmadd_ps((__m512)(a), (__m512)(b), (__m512)(c))
#define LANES_MAX(a, b) (me_lanes)_mm512_max_ps((__m512)(a), (__m512)(b))
#define LANES_MIN(a, b) (me_lanes)_mm512_min_ps((__m512)(a), (__m512)(b))
#define LANES_FROM_HALF(p) (me_lanes)_mm512_cvtph_ps(_mm256_loadu_si256((const void *)(p)))
#define LANES_TO_HALF(v, p) _mm256_storeu_si256((void *)(p), _mm512_cvtps_ph((__m512)(v), 0))
#include "lanes.h"

enum { TILE = 8 }; /* rows that share a loaded block: 8 groups and their totals fit the registers */

LANES_TARGET static inline __m512i four(const int8_t *x) {
    int32_t word;
    memcpy(&word, x, sizeof word);
    return _mm512_set1_epi32(word);
}

/* The eight groups of a block, unsigned. */
typedef struct {
    __m512i group[8];
} block;

LANES_TARGET static inline block load_q8(const uint8_t *quants) {
    block q;
    for (int i = 0; i < 8; i++)
        q.group[i] = _mm512_xor_si512(_mm512_loadu_si512(quants + i * 64),
                                      _mm512_set1_epi8((char)0x80));
    return q;
}

LANES_TARGET static inline block load_q4(const uint8_t *quants) {
    block q;
    for (int i = 0; i < 4; i++) {
        __m512i pair = _mm512_loadu_si512(quants + i * 64);
        q.group[i] = _mm512_and_si512(pair, _mm512_set1_epi8(15));
        q.group[i + 4] = _mm512_and_si512(pair, _mm512_set1_epi8((char)0xf0));
    }
    return q;
}

/* start + the products; those of the last four groups divided by 2^shift. */
LANES_TARGET static inline __m512i product(const block *q, const int8_t *x, __m512i start,
                                           unsigned shift) {
    __m512i high = _mm512_setzero_si512();
    for (int i = 0; i < 4; i++) {
        start = _mm512_dpbusd_epi32(start, q->group[i], four(x + i * 4));
        high = _mm512_dpbusd_epi32(high, q->group[i + 4], four(x + i * 4 + 16));
    }
    return _mm512_add_epi32(start, _mm512_srai_epi32(high, shift));
}

/* n rows against one panel: a block is loaded and unpacked once for all of them. Inlined with n and
 * kind constant, so that blocks and totals stay in registers. */
LANES_TARGET static inline __attribute__((always_inline)) void tile(
    const me_panel *panel, const me_row *rows, int n, uint32_t kind, float (*out)[ME_PANEL]) {
    me_lanes total[TILE], shift[TILE]; /* apart: two additions in a row would wait for each other */
    size_t block_bytes = kind == ME_Q8 ? 512 : 256;
    for (int i = 0; i < n; i++) total[i] = shift[i] = LANES_SPLAT(0.0f);
    for (size_t b = 0; b < panel->n_blocks; b++) {
        const uint8_t *quants = panel->quants + b * block_bytes;
        const uint16_t *scales = panel->scales + b * ME_PANEL;
        block q = kind == ME_Q8 ? load_q8(quants) : load_q4(quants);
        me_lanes scale = LANES_FROM_HALF(scales), minimum = {0};
        if (kind == ME_Q4) minimum = LANES_FROM_HALF(panel->minimums + b * ME_PANEL);
        for (int i = 0; i < n; i++) {
            __m512i start = _mm512_set1_epi32(kind == ME_Q8 ? -128 * rows[i].sum[b] : 0);
            __m512i sum = product(&q, rows[i].q + b * ME_COLUMNS, start, kind == ME_Q8 ? 0 : 4);
            total[i] = LANES_FMA(_mm512_cvtepi32_ps(sum), scale * rows[i].scale[b], total[i]);
            if (kind == ME_Q4) shift[i] = LANES_FMA(minimum, LANES_SPLAT(rows[i].total[b]), shift[i]);
        }
    }
    for (int i = 0; i < n; i++) _mm512_storeu_ps(out[i], (__m512)(total[i] + shift[i]));
}

LANES_TARGET static void vnni_q8(const me_panel *panel, const me_row *rows, uint32_t n_rows,
                                 float (*out)[ME_PANEL]) {
    uint32_t i = 0;
    for (; i + TILE <= n_rows; i += TILE) tile(panel, rows + i, TILE, ME_Q8, out + i);
    for (; i < n_rows; i++) tile(panel, rows + i, 1, ME_Q8, out + i);
}

LANES_TARGET static void vnni_q4(const me_panel *panel, const me_row *rows, uint32_t n_rows,
                                 float (*out)[ME_PANEL]) {
    uint32_t i = 0;
    for (; i + TILE <= n_rows; i += TILE) tile(panel, rows + i, TILE, ME_Q4, out + i);
    for (; i < n_rows; i++) tile(panel, rows + i, 1, ME_Q4, out + i);
}

const me_kernels me_kernels_avx512vnni = {"avx512vnni", vnni_q8, vnni_q4, LANES_KERNELS};
#endif
