/* AVX-512 VNNI: a register holds a group, 16 rows x 4 columns, and one instruction multiplies and
 * adds it.
 *
 * vpdpbusd wants unsigned times signed: Q4 is unsigned as stored (8 means zero), Q8 becomes so by
 * flipping its top bit (128 means zero). Either way the sum of the activations takes the excess
 * back: the accumulator simply starts at minus that. Two accumulators hide the latency. */
#include "kernels.h"

#if defined(ME_HAS_VNNI)
#include <immintrin.h>

#define LANES 16
#define LANES_TARGET __attribute__((target("avx512f,avx512bw,avx512vnni,avx512vl,fma,f16c")))
#include "lanes.h"

enum { TILE = 4 }; /* rows that share a loaded block: 8 groups and their totals fit the registers */

LANES_TARGET static inline __m512i four(const int8_t *x) {
    int32_t word;
    memcpy(&word, x, sizeof word);
    return _mm512_set1_epi32(word);
}

/* The eight groups of a block, unsigned, and what its zero is. */
typedef struct {
    __m512i group[8];
    int32_t zero;
} block;

LANES_TARGET static inline block load_q8(const uint8_t *quants) {
    block q;
    q.zero = 128;
    for (int i = 0; i < 8; i++)
        q.group[i] = _mm512_xor_si512(_mm512_loadu_si512(quants + i * 64),
                                      _mm512_set1_epi8((char)0x80));
    return q;
}

LANES_TARGET static inline block load_q4(const uint8_t *quants) {
    __m512i low = _mm512_set1_epi8(15);
    block q;
    q.zero = 8;
    for (int i = 0; i < 4; i++) {
        __m512i pair = _mm512_loadu_si512(quants + i * 64);
        q.group[i] = _mm512_and_si512(pair, low);
        q.group[i + 4] = _mm512_and_si512(_mm512_srli_epi16(pair, 4), low);
    }
    return q;
}

LANES_TARGET static inline __m512i product(const block *q, const int8_t *x, int32_t sum) {
    __m512i a = _mm512_set1_epi32(-q->zero * sum), z = _mm512_setzero_si512();
    for (int i = 0; i < 8; i += 2) {
        a = _mm512_dpbusd_epi32(a, q->group[i], four(x + i * 4));
        z = _mm512_dpbusd_epi32(z, q->group[i + 1], four(x + i * 4 + 4));
    }
    return _mm512_add_epi32(a, z);
}

/* n rows against one panel: a block is loaded and unpacked once for all of them. Inlined with n and
 * kind constant, so that blocks and totals stay in registers. */
LANES_TARGET static inline __attribute__((always_inline)) void tile(
    const me_panel *panel, const me_row *rows, int n, uint32_t kind, float (*out)[ME_PANEL]) {
    __m512 total[TILE];
    size_t block_bytes = kind == ME_Q8 ? 512 : 256;
    for (int i = 0; i < n; i++) total[i] = _mm512_setzero_ps();
    for (size_t b = 0; b < panel->n_blocks; b++) {
        const uint8_t *quants = panel->quants + b * block_bytes;
        const uint16_t *scales = panel->scales + b * ME_PANEL;
        block q = kind == ME_Q8 ? load_q8(quants) : load_q4(quants);
        __m512 scale = _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(const void *)scales));
        for (int i = 0; i < n; i++) {
            __m512i sum = product(&q, rows[i].q + b * ME_COLUMNS, rows[i].sum[b]);
            __m512 both = _mm512_mul_ps(scale, _mm512_set1_ps(rows[i].scale[b]));
            total[i] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sum), both, total[i]);
        }
    }
    for (int i = 0; i < n; i++) _mm512_storeu_ps(out[i], total[i]);
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
