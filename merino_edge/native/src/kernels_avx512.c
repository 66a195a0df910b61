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

LANES_TARGET static inline __m512i four(const int8_t *x) {
    int32_t word;
    memcpy(&word, x, sizeof word);
    return _mm512_set1_epi32(word);
}

LANES_TARGET static inline __m512i block_q8(const uint8_t *quants, const int8_t *x, int32_t sum) {
    __m512i top = _mm512_set1_epi8((char)0x80);
    __m512i a = _mm512_set1_epi32(-128 * sum), z = _mm512_setzero_si512();
    for (int group = 0; group < 8; group += 2) {
        __m512i first = _mm512_loadu_si512(quants + group * 64);
        __m512i second = _mm512_loadu_si512(quants + group * 64 + 64);
        a = _mm512_dpbusd_epi32(a, _mm512_xor_si512(first, top), four(x + group * 4));
        z = _mm512_dpbusd_epi32(z, _mm512_xor_si512(second, top), four(x + group * 4 + 4));
    }
    return _mm512_add_epi32(a, z);
}

LANES_TARGET static inline __m512i block_q4(const uint8_t *quants, const int8_t *x, int32_t sum) {
    __m512i low = _mm512_set1_epi8(15);
    __m512i a = _mm512_set1_epi32(-8 * sum), z = _mm512_setzero_si512();
    for (int j = 0; j < 4; j++) {
        __m512i q = _mm512_loadu_si512(quants + j * 64);
        __m512i high = _mm512_and_si512(_mm512_srli_epi16(q, 4), low);
        a = _mm512_dpbusd_epi32(a, _mm512_and_si512(q, low), four(x + j * 4));
        z = _mm512_dpbusd_epi32(z, high, four(x + j * 4 + 16));
    }
    return _mm512_add_epi32(a, z);
}

LANES_TARGET static inline __m512 scaled(__m512 total, __m512i sum, const uint16_t *scales,
                                         float x_scale) {
    __m512 scale = _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(const void *)scales));
    scale = _mm512_mul_ps(scale, _mm512_set1_ps(x_scale));
    return _mm512_fmadd_ps(_mm512_cvtepi32_ps(sum), scale, total);
}

LANES_TARGET static void vnni_q8(const me_panel *panel, const me_row *rows, uint32_t n_rows,
                                 float (*out)[ME_PANEL]) {
    for (uint32_t i = 0; i < n_rows; i++) {
        __m512 total = _mm512_setzero_ps();
        for (uint32_t b = 0; b < panel->n_blocks; b++) {
            __m512i sum = block_q8(panel->quants + (size_t)b * 512,
                                   rows[i].q + (size_t)b * ME_COLUMNS, rows[i].sum[b]);
            total = scaled(total, sum, panel->scales + (size_t)b * ME_PANEL, rows[i].scale[b]);
        }
        _mm512_storeu_ps(out[i], total);
    }
}

LANES_TARGET static void vnni_q4(const me_panel *panel, const me_row *rows, uint32_t n_rows,
                                 float (*out)[ME_PANEL]) {
    for (uint32_t i = 0; i < n_rows; i++) {
        __m512 total = _mm512_setzero_ps();
        for (uint32_t b = 0; b < panel->n_blocks; b++) {
            __m512i sum = block_q4(panel->quants + (size_t)b * 256,
                                   rows[i].q + (size_t)b * ME_COLUMNS, rows[i].sum[b]);
            total = scaled(total, sum, panel->scales + (size_t)b * ME_PANEL, rows[i].scale[b]);
        }
        _mm512_storeu_ps(out[i], total);
    }
}

const me_kernels me_kernels_avx512vnni = {"avx512vnni", vnni_q8, vnni_q4, lanes_dot,
                                          lanes_add_scaled};
#endif
