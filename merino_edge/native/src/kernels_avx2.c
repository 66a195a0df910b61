/* AVX2: 8 rows x 4 columns a register.
 *
 * vpmaddubsw multiplies unsigned by signed bytes and adds pairs into int16, saturating. Q4 is
 * unsigned and small: 15 * 127 * 2 * 8 groups stay below 32767, so a whole block is summed in
 * int16. Q8 moves the sign over to the activations: 128 * 127 * 2 fits, but only once. */
#include "kernels.h"

#if defined(__x86_64__)
#include <immintrin.h>

#define LANES 8
#define LANES_TARGET __attribute__((target("avx2,fma,f16c")))
#include "lanes.h"

/* Four activations, in every row's place. */
LANES_TARGET static inline __m256i four(const int8_t *x) {
    int32_t word;
    memcpy(&word, x, sizeof word);
    return _mm256_set1_epi32(word);
}

LANES_TARGET static inline __m256i load(const uint8_t *x) {
    return _mm256_loadu_si256((const __m256i *)(const void *)x);
}

/* 8 rows of a block; the caller points at the first or the second half of the groups. */
LANES_TARGET static inline __m256i block_q8(const uint8_t *quants, const int8_t *x) {
    __m256i ones = _mm256_set1_epi16(1), sum = _mm256_setzero_si256();
    for (int group = 0; group < 8; group++) {
        __m256i q = load(quants + group * 64);
        __m256i signed_x = _mm256_sign_epi8(four(x + group * 4), q);
        __m256i pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(q), signed_x);
        sum = _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, ones));
    }
    return sum;
}

LANES_TARGET static inline __m256i block_q4(const uint8_t *quants, const int8_t *x) {
    __m256i low = _mm256_set1_epi8(15), pairs = _mm256_setzero_si256();
    for (int j = 0; j < 4; j++) {
        __m256i q = load(quants + j * 64);
        __m256i high = _mm256_and_si256(_mm256_srli_epi16(q, 4), low);
        q = _mm256_and_si256(q, low);
        pairs = _mm256_add_epi16(pairs, _mm256_maddubs_epi16(q, four(x + j * 4)));
        pairs = _mm256_add_epi16(pairs, _mm256_maddubs_epi16(high, four(x + j * 4 + 16)));
    }
    return _mm256_madd_epi16(pairs, _mm256_set1_epi16(1));
}

LANES_TARGET static inline __m256 scaled(__m256 total, __m256i sum, const uint16_t *scales,
                                         float x_scale) {
    __m256 scale = _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(const void *)scales));
    scale = _mm256_mul_ps(scale, _mm256_set1_ps(x_scale));
    return _mm256_fmadd_ps(_mm256_cvtepi32_ps(sum), scale, total);
}

LANES_TARGET static void avx2_q8(const me_panel *panel, const me_row *rows, uint32_t n_rows,
                                 float (*out)[ME_PANEL]) {
    for (uint32_t i = 0; i < n_rows; i++) {
        __m256 a = _mm256_setzero_ps(), z = a;
        for (uint32_t b = 0; b < panel->n_blocks; b++) {
            const uint8_t *quants = panel->quants + (size_t)b * 512;
            const uint16_t *scales = panel->scales + (size_t)b * ME_PANEL;
            const int8_t *x = rows[i].q + (size_t)b * ME_COLUMNS;
            a = scaled(a, block_q8(quants, x), scales, rows[i].scale[b]);
            z = scaled(z, block_q8(quants + 32, x), scales + 8, rows[i].scale[b]);
        }
        _mm256_storeu_ps(out[i], a);
        _mm256_storeu_ps(out[i] + 8, z);
    }
}

LANES_TARGET static void avx2_q4(const me_panel *panel, const me_row *rows, uint32_t n_rows,
                                 float (*out)[ME_PANEL]) {
    for (uint32_t i = 0; i < n_rows; i++) {
        __m256 a = _mm256_setzero_ps(), z = a;
        for (uint32_t b = 0; b < panel->n_blocks; b++) {
            const uint8_t *quants = panel->quants + (size_t)b * 256;
            const uint16_t *scales = panel->scales + (size_t)b * ME_PANEL;
            const int8_t *x = rows[i].q + (size_t)b * ME_COLUMNS;
            __m256i eights = _mm256_set1_epi32(8 * rows[i].sum[b]); /* 8 means zero */
            __m256i first = _mm256_sub_epi32(block_q4(quants, x), eights);
            __m256i second = _mm256_sub_epi32(block_q4(quants + 32, x), eights);
            a = scaled(a, first, scales, rows[i].scale[b]);
            z = scaled(z, second, scales + 8, rows[i].scale[b]);
        }
        _mm256_storeu_ps(out[i], a);
        _mm256_storeu_ps(out[i] + 8, z);
    }
}

const me_kernels me_kernels_avx2 = {"avx2", avx2_q8, avx2_q4, LANES_KERNELS};
#endif
