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
#define LANES_SPLAT(x) (me_lanes)_mm256_set1_ps(x)
#define LANES_FMA(a, b, c) (me_lanes)_mm256_fmadd_ps((__m256)(a), (__m256)(b), (__m256)(c))
#define LANES_MAX(a, b) (me_lanes)_mm256_max_ps((__m256)(a), (__m256)(b))
#define LANES_MIN(a, b) (me_lanes)_mm256_min_ps((__m256)(a), (__m256)(b))
#define LANES_FROM_HALF(p) (me_lanes)_mm256_cvtph_ps(_mm_loadu_si128((const void *)(p)))
#define LANES_TO_HALF(v, p) _mm_storeu_si128((void *)(p), _mm256_cvtps_ph((__m256)(v), 0))
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

/* total + what 8 halfs give times factor */
LANES_TARGET static inline __m256 add_halfs(__m256 total, const uint16_t *halfs, float factor) {
    return LANES_FMA(LANES_FROM_HALF(halfs), _mm256_set1_ps(factor), total);
}

LANES_TARGET static inline __m256 scaled(__m256 total, __m256i sum, const uint16_t *scales,
                                         float x_scale) {
    __m256 scale = LANES_FROM_HALF(scales) * x_scale;
    return LANES_FMA(_mm256_cvtepi32_ps(sum), scale, total);
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
            const uint16_t *minimums = panel->minimums + (size_t)b * ME_PANEL;
            a = scaled(a, block_q4(quants, x), scales, rows[i].scale[b]);
            z = scaled(z, block_q4(quants + 32, x), scales + 8, rows[i].scale[b]);
            a = add_halfs(a, minimums, rows[i].total[b]);
            z = add_halfs(z, minimums + 8, rows[i].total[b]);
        }
        _mm256_storeu_ps(out[i], a);
        _mm256_storeu_ps(out[i] + 8, z);
    }
}

const me_kernels me_kernels_avx2 = {"avx2", avx2_q8, avx2_q4, LANES_KERNELS};
#endif
