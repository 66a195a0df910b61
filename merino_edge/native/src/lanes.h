/* Float loops over vectors, written once and compiled for each instruction set.
 *
 * Each kernels_*.c includes this after it has defined LANES (floats in a vector), LANES_TARGET and
 * six operations: LANES_SPLAT(x), LANES_FMA(a, b, c) = a b + c, LANES_MAX, LANES_MIN,
 * LANES_FROM_HALF(p) and LANES_TO_HALF(v, p). What is made of these lies in lanes_attention.h and
 * lanes_rows.h. The functions carry their own target because the compiler lowers vectors
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

/* The last n < LANES floats, and zeros. */
LANES_INLINE me_lanes lanes_tail(const float *x, uint32_t n) {
    me_lanes v = {0};
    memcpy(&v, x, n * sizeof(float));
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

/* e^x within 2 ulp from -87 to 88; beyond, as at those ends. e^x = 2^k e^r, |r| <= log(2) / 2; the
 * polynomial is Cephes' expf. Adding 1.5 * 2^23 leaves the nearest integer in a float's low bits. */
LANES_INLINE me_lanes lanes_exponential(me_lanes x) {
    const me_lanes round = LANES_SPLAT(12582912.0f);
    x = LANES_MIN(LANES_MAX(x, LANES_SPLAT(-87.0f)), LANES_SPLAT(88.0f));
    me_lanes shifted = LANES_FMA(x, LANES_SPLAT(1.44269504f), round);
    me_lanes k = shifted - round;
    me_lanes r = LANES_FMA(k, LANES_SPLAT(-0.693359375f), x);
    r = LANES_FMA(k, LANES_SPLAT(2.12194440e-4f), r);
    me_lanes tail = LANES_FMA(r, LANES_SPLAT(1.9875691500e-4f), LANES_SPLAT(1.3981999507e-3f));
    tail = LANES_FMA(tail, r, LANES_SPLAT(8.3334519073e-3f));
    tail = LANES_FMA(tail, r, LANES_SPLAT(4.1665795894e-2f));
    tail = LANES_FMA(tail, r, LANES_SPLAT(1.6666665459e-1f));
    tail = LANES_FMA(tail, r, LANES_SPLAT(5.0000001201e-1f));
    me_int_lanes power = (((me_int_lanes)shifted - (me_int_lanes)round) + 127) << 23;
    return LANES_FMA(tail, r * r, r + LANES_SPLAT(1.0f)) * (me_lanes)power;
}

LANES_TARGET static void lanes_exponentials(float *x, uint32_t n, float shift, float scale) {
    uint32_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        me_lanes v = lanes_at(x + i) - LANES_SPLAT(shift);
        v = lanes_exponential(v * LANES_SPLAT(scale));
        memcpy(x + i, &v, sizeof v);
    }
    me_lanes tail = lanes_tail(x + i, n - i) - LANES_SPLAT(shift);
    tail = lanes_exponential(tail * LANES_SPLAT(scale));
    memcpy(x + i, &tail, (n - i) * sizeof(float));
}

LANES_TARGET static float lanes_largest(const float *x, uint32_t n) {
    float largest = x[0];
    uint32_t i = 0;
    if (n >= LANES) {
        me_lanes most = lanes_at(x);
        for (i = LANES; i + LANES <= n; i += LANES) most = LANES_MAX(lanes_at(x + i), most);
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

#include "lanes_attention.h"
#include "lanes_rows.h"

/* All of a me_kernels but its products. */
#define LANES_KERNELS                                                                      \
    lanes_dot, lanes_largest, lanes_total, lanes_exponentials, lanes_activate,             \
    lanes_quantise, {lanes_scores_f32, lanes_blend_f32, lanes_store_f32},                  \
    {lanes_scores_f16, lanes_blend_f16, lanes_store_f16}
