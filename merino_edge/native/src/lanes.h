/* Float loops over vectors, written once and compiled for each instruction set.
 *
 * Each kernels_*.c includes this after it has defined LANES (floats in a vector), LANES_TARGET and
 * four operations: LANES_SPLAT(x), LANES_FMA(a, b, c) = a b + c, LANES_FROM_HALF(p) and
 * LANES_TO_HALF(v, p). The functions carry their own target because the compiler lowers vectors
 * before it inlines. Loops over small constant counts are unrolled, so that their arrays are
 * registers. */
#include <string.h>

#include "half.h"

typedef float me_lanes __attribute__((vector_size(LANES * 4)));
typedef int32_t me_int_lanes __attribute__((vector_size(LANES * 4)));
typedef float me_four_lanes __attribute__((vector_size(16)));

#define LANES_INLINE LANES_TARGET static inline __attribute__((always_inline))
enum { LANES_IN_PANEL = ME_PANEL / LANES };

LANES_INLINE me_lanes lanes_at(const float *x) {
    me_lanes v;
    memcpy(&v, x, sizeof v);
    return v;
}

/* From element i on of a float or float16 array. */
LANES_INLINE me_lanes lanes_of(const void *x, size_t i, int is_half) {
    return is_half ? LANES_FROM_HALF((const uint16_t *)x + i) : lanes_at((const float *)x + i);
}

LANES_INLINE float lanes_sum(me_lanes v) {
    me_four_lanes quarters[LANES / 4], sum;
    memcpy(quarters, &v, sizeof v);
    sum = quarters[0];
    for (int i = 1; i < LANES / 4; i++) sum += quarters[i];
    return (sum[0] + sum[1]) + (sum[2] + sum[3]);
}

/* Four accumulators hide the latency of an addition. */
LANES_TARGET static float lanes_dot(const float *a, const float *b, uint32_t n) {
    me_lanes s[4] = {{0}};
    uint32_t i = 0;
    for (; i + 4 * LANES <= n; i += 4 * LANES)
        for (int k = 0; k < 4; k++)
            s[k] = LANES_FMA(lanes_at(a + i + k * LANES), lanes_at(b + i + k * LANES), s[k]);
    for (; i + LANES <= n; i += LANES) s[0] = LANES_FMA(lanes_at(a + i), lanes_at(b + i), s[0]);
    float sum = lanes_sum((s[0] + s[1]) + (s[2] + s[3]));
    for (; i < n; i++) sum += a[i] * b[i];
    return sum;
}

/* Scores of n_queries queries and n_panels panels of keys: a key is loaded once for all queries,
 * and its 16 positions stay in the lanes, so that nothing is summed across. */
LANES_INLINE void lanes_score_tile(const float *queries, int n_queries, uint32_t d,
                                   const void *keys, int n_panels, int is_half, float *out,
                                   size_t stride) {
    me_lanes sums[4][4][LANES_IN_PANEL] = {{{{0}}}};
    for (uint32_t c = 0; c < d; c++)
        for (int p = 0; p < n_panels; p++)
            for (int v = 0; v < LANES_IN_PANEL; v++) {
                size_t place = ((size_t)p * d + c) * ME_PANEL + (size_t)v * LANES;
                me_lanes key = lanes_of(keys, place, is_half);
                for (int q = 0; q < n_queries; q++)
                    sums[q][p][v] =
                        LANES_FMA(LANES_SPLAT(queries[(size_t)q * d + c]), key, sums[q][p][v]);
            }
    for (int q = 0; q < n_queries; q++)
        for (int p = 0; p < n_panels; p++)
            memcpy(out + q * stride + p * ME_PANEL, sums[q][p], ME_PANEL * sizeof(float));
}

/* All panels, at_once of them together: with few queries, their sums hide each other's latency. */
LANES_INLINE void lanes_score(const float *queries, int n_queries, uint32_t d, const void *keys,
                              uint32_t n_panels, int at_once, int is_half, float *out,
                              size_t stride) {
    size_t panel_bytes = (size_t)d * ME_PANEL * (is_half ? sizeof(uint16_t) : sizeof(float));
    const uint8_t *panel = keys;
    uint32_t p = 0;
    for (; p + (uint32_t)at_once <= n_panels; p += (uint32_t)at_once)
        lanes_score_tile(queries, n_queries, d, panel + p * panel_bytes, at_once, is_half,
                         out + p * ME_PANEL, stride);
    for (; p < n_panels; p++)
        lanes_score_tile(queries, n_queries, d, panel + p * panel_bytes, 1, is_half,
                         out + p * ME_PANEL, stride);
}

LANES_INLINE void lanes_scores(const float *queries, uint32_t n_queries, uint32_t d,
                               const void *keys, uint32_t n_panels, int is_half, float *out,
                               size_t stride) {
    enum { WIDE = LANES == 16 ? 2 : 1 }; /* what the registers of this set hold */
    for (; n_queries >= 4; n_queries -= 4, queries += 4 * (size_t)d, out += 4 * stride)
        lanes_score(queries, 4, d, keys, n_panels, WIDE, is_half, out, stride);
    switch (n_queries) {
    case 3: lanes_score(queries, 3, d, keys, n_panels, WIDE, is_half, out, stride); break;
    case 2: lanes_score(queries, 2, d, keys, n_panels, 2, is_half, out, stride); break;
    case 1: lanes_score(queries, 1, d, keys, n_panels, 4, is_half, out, stride); break;
    default: break;
    }
}

/* A strip of the blended values stays in registers while all positions pass. */
LANES_INLINE void lanes_blend_strip(const float *weights, size_t stride, int n_queries,
                                    const void *values, uint32_t n, uint32_t d, int n_vectors,
                                    int is_half, float *out, size_t out_stride) {
    me_lanes sums[4][4] = {{{0}}};
    for (uint32_t i = 0; i < n; i++)
        for (int v = 0; v < n_vectors; v++) {
            me_lanes value = lanes_of(values, (size_t)i * d + (size_t)v * LANES, is_half);
            for (int q = 0; q < n_queries; q++)
                sums[q][v] = LANES_FMA(LANES_SPLAT(weights[q * stride + i]), value, sums[q][v]);
        }
    for (int q = 0; q < n_queries; q++)
        memcpy(out + q * out_stride, sums[q], (size_t)n_vectors * LANES * sizeof(float));
}

/* The channels that fill no vector. */
LANES_INLINE void lanes_blend_tail(const float *weights, size_t stride, int n_queries,
                                   const void *values, uint32_t n, uint32_t d, uint32_t from,
                                   int is_half, float *out, size_t out_stride) {
    for (int q = 0; q < n_queries; q++)
        for (uint32_t c = from; c < d; c++) {
            float sum = 0;
            for (uint32_t i = 0; i < n; i++) {
                size_t at = (size_t)i * d + c;
                float value = is_half ? me_float_from_half(((const uint16_t *)values)[at])
                                      : ((const float *)values)[at];
                sum += weights[q * stride + i] * value;
            }
            out[q * out_stride + c] = sum;
        }
}

LANES_INLINE void lanes_blend(const float *weights, size_t stride, int n_queries,
                              const void *values, uint32_t n, uint32_t d, int is_half, float *out,
                              size_t out_stride) {
    enum { STRIP = LANES == 8 ? 2 : 4 };
    size_t item = is_half ? sizeof(uint16_t) : sizeof(float);
    const uint8_t *channel = values;
    uint32_t c = 0;
    for (; c + STRIP * LANES <= d; c += STRIP * LANES)
        lanes_blend_strip(weights, stride, n_queries, channel + c * item, n, d, STRIP, is_half,
                          out + c, out_stride);
    for (; c + LANES <= d; c += LANES)
        lanes_blend_strip(weights, stride, n_queries, channel + c * item, n, d, 1, is_half, out + c,
                          out_stride);
    lanes_blend_tail(weights, stride, n_queries, values, n, d, c, is_half, out, out_stride);
}

LANES_INLINE void lanes_blends(const float *weights, size_t stride, uint32_t n_queries,
                               const void *values, uint32_t n, uint32_t d, int is_half, float *out,
                               size_t out_stride) {
    for (; n_queries >= 4; n_queries -= 4, weights += 4 * stride, out += 4 * out_stride)
        lanes_blend(weights, stride, 4, values, n, d, is_half, out, out_stride);
    switch (n_queries) {
    case 3: lanes_blend(weights, stride, 3, values, n, d, is_half, out, out_stride); break;
    case 2: lanes_blend(weights, stride, 2, values, n, d, is_half, out, out_stride); break;
    case 1: lanes_blend(weights, stride, 1, values, n, d, is_half, out, out_stride); break;
    default: break;
    }
}

LANES_TARGET static void lanes_scores_f32(const float *queries, uint32_t n_queries, uint32_t d,
                                          const void *keys, uint32_t n_panels, float *out,
                                          size_t stride) {
    lanes_scores(queries, n_queries, d, keys, n_panels, 0, out, stride);
}

LANES_TARGET static void lanes_scores_f16(const float *queries, uint32_t n_queries, uint32_t d,
                                          const void *keys, uint32_t n_panels, float *out,
                                          size_t stride) {
    lanes_scores(queries, n_queries, d, keys, n_panels, 1, out, stride);
}

LANES_TARGET static void lanes_blend_f32(const float *weights, size_t stride, uint32_t n_queries,
                                         const void *values, uint32_t n, uint32_t d, float *out,
                                         size_t out_stride) {
    lanes_blends(weights, stride, n_queries, values, n, d, 0, out, out_stride);
}

LANES_TARGET static void lanes_blend_f16(const float *weights, size_t stride, uint32_t n_queries,
                                         const void *values, uint32_t n, uint32_t d, float *out,
                                         size_t out_stride) {
    lanes_blends(weights, stride, n_queries, values, n, d, 1, out, out_stride);
}

LANES_TARGET static void lanes_store_f32(const float *x, uint32_t n, void *out) {
    memcpy(out, x, n * sizeof(float));
}

LANES_TARGET static void lanes_store_f16(const float *x, uint32_t n, void *out) {
    uint16_t *halfs = out;
    uint32_t i = 0;
    for (; i + LANES <= n; i += LANES) LANES_TO_HALF(lanes_at(x + i), halfs + i);
    for (; i < n; i++) halfs[i] = me_half_from_float(x[i]);
}

/* e^x within 2 ulp from -87 to 88; beyond, as at those ends. e^x = 2^k e^r, |r| <= log(2) / 2; the
 * polynomial is Cephes' expf. Adding 1.5 * 2^23 leaves the nearest integer in a float's low bits. */
LANES_INLINE me_lanes lanes_exponential(me_lanes x) {
    const float round = 12582912.0f;
    const int32_t round_bits = 0x4b400000;
    me_int_lanes low = x < -87.0f, high = x > 88.0f;
    me_lanes zero = {0};
    me_int_lanes bounds = (low & (me_int_lanes)(zero - 87.0f)) | (high & (me_int_lanes)(zero + 88.0f));
    x = (me_lanes)(((me_int_lanes)x & ~(low | high)) | bounds);
    me_lanes shifted = x * 1.44269504f + round;
    me_lanes k = shifted - round;
    me_lanes r = x - k * 0.693359375f + k * 2.12194440e-4f;
    me_lanes tail = r * 1.9875691500e-4f + 1.3981999507e-3f;
    tail = tail * r + 8.3334519073e-3f;
    tail = tail * r + 4.1665795894e-2f;
    tail = tail * r + 1.6666665459e-1f;
    tail = tail * r + 5.0000001201e-1f;
    me_int_lanes power = (((me_int_lanes)shifted - round_bits) + 127) << 23;
    return (tail * r * r + r + 1.0f) * (me_lanes)power;
}

LANES_TARGET static void lanes_exponentials(float *x, uint32_t n, float shift, float scale) {
    for (uint32_t i = 0; i < n; i += LANES) {
        size_t n_bytes = (n - i < LANES ? n - i : LANES) * sizeof(float);
        me_lanes v = {0};
        memcpy(&v, x + i, n_bytes);
        v = lanes_exponential((v - shift) * scale);
        memcpy(x + i, &v, n_bytes);
    }
}

LANES_INLINE me_lanes lanes_more(me_lanes a, me_lanes b) {
    me_int_lanes more = a > b;
    return (me_lanes)((more & (me_int_lanes)a) | (~more & (me_int_lanes)b));
}

LANES_TARGET static float lanes_largest(const float *x, uint32_t n) {
    float largest = x[0];
    uint32_t i = 0;
    if (n >= LANES) {
        me_lanes most = lanes_at(x);
        for (i = LANES; i + LANES <= n; i += LANES) most = lanes_more(lanes_at(x + i), most);
        largest = most[0];
        for (int k = 1; k < LANES; k++) largest = most[k] > largest ? most[k] : largest;
    }
    for (; i < n; i++) largest = x[i] > largest ? x[i] : largest;
    return largest;
}

LANES_TARGET static float lanes_total(const float *x, uint32_t n) {
    me_lanes sums = {0};
    uint32_t i = 0;
    for (; i + LANES <= n; i += LANES) sums += lanes_at(x + i);
    float sum = lanes_sum(sums);
    for (; i < n; i++) sum += x[i];
    return sum;
}

/* The float half of a me_kernels. */
#define LANES_KERNELS                                                                              \
    lanes_dot, lanes_largest, lanes_total, lanes_exponentials,                                     \
    {lanes_scores_f32, lanes_blend_f32, lanes_store_f32},                                          \
    {lanes_scores_f16, lanes_blend_f16, lanes_store_f16}
