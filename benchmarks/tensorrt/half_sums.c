/* Matrix products that add up in half precision, as a chain of HFMA instructions does.
 *
 * out[m][n] = round(a[m][k] * b[n][k] + out[m][n]) for k = 0, 1, 2, ..., where round() is to binary16
 * after every step: the product is exact, the sum is rounded once (to binary32 first, which matters
 * in one case of some thousands). This is what a kernel does that keeps its sums in half precision,
 * with no part sums: the least exact way to do it.
 *
 * Compiled by half_sums.py: x86-64 with AVX2, FMA and F16C; OpenMP for the rows.
 */
#include <immintrin.h>
#include <stdint.h>

enum { LANES = 8, VECTORS = 4, PANEL = LANES * VECTORS };

static inline __m256 rounded(__m256 x) {
    return _mm256_cvtph_ps(_mm256_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT));
}

static void row_times_panel(const float *row, const float *panel, int64_t depth, uint16_t *out) {
    __m256 sums[VECTORS] = {0};
    for (int64_t k = 0; k < depth; k++) {
        __m256 factor = _mm256_broadcast_ss(row + k);
        for (int v = 0; v < VECTORS; v++) {
            __m256 column = _mm256_loadu_ps(panel + k * PANEL + v * LANES);
            sums[v] = rounded(_mm256_fmadd_ps(factor, column, sums[v]));
        }
    }
    for (int v = 0; v < VECTORS; v++) {
        __m128i half = _mm256_cvtps_ph(sums[v], _MM_FROUND_TO_NEAREST_INT);
        _mm_storeu_si128((__m128i *)(out + v * LANES), half);
    }
}

/* a: rows x depth; panels: n_panels x depth x 32, float32 values that binary16 holds exactly;
 * out: rows x (32 n_panels), binary16. */
void half_sums(const float *a, const float *panels, uint16_t *out, int64_t rows, int64_t depth,
               int64_t n_panels) {
    for (int64_t p = 0; p < n_panels; p++) {
#pragma omp parallel for schedule(static)
        for (int64_t m = 0; m < rows; m++)
            row_times_panel(a + m * depth, panels + p * depth * PANEL, depth,
                            out + (m * n_panels + p) * PANEL);
    }
}
