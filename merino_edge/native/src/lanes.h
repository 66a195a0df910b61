/* Float loops over vectors of LANES floats, for the instruction set LANES_TARGET: included by each
 * kernels_*.c. They carry their own target because the compiler lowers vectors before it inlines.
 * Four accumulators hide the latency of an addition. */
#include <string.h>

typedef float me_lanes __attribute__((vector_size(LANES * 4)));
typedef int32_t me_int_lanes __attribute__((vector_size(LANES * 4)));
typedef float me_four_lanes __attribute__((vector_size(16)));

LANES_TARGET static inline me_lanes lanes_at(const float *x) {
    me_lanes v;
    memcpy(&v, x, sizeof v);
    return v;
}

LANES_TARGET static inline float lanes_sum(me_lanes v) {
    me_four_lanes quarters[LANES / 4], sum;
    memcpy(quarters, &v, sizeof v);
    sum = quarters[0];
    for (int i = 1; i < LANES / 4; i++) sum += quarters[i];
    return (sum[0] + sum[1]) + (sum[2] + sum[3]);
}

LANES_TARGET static inline float lanes_dot(const float *a, const float *b, uint32_t n) {
    me_lanes s0 = {0}, s1 = {0}, s2 = {0}, s3 = {0};
    uint32_t i = 0;
    for (; i + 4 * LANES <= n; i += 4 * LANES) {
        s0 += lanes_at(a + i) * lanes_at(b + i);
        s1 += lanes_at(a + i + LANES) * lanes_at(b + i + LANES);
        s2 += lanes_at(a + i + 2 * LANES) * lanes_at(b + i + 2 * LANES);
        s3 += lanes_at(a + i + 3 * LANES) * lanes_at(b + i + 3 * LANES);
    }
    for (; i + LANES <= n; i += LANES) s0 += lanes_at(a + i) * lanes_at(b + i);
    float sum = lanes_sum((s0 + s1) + (s2 + s3));
    for (; i < n; i++) sum += a[i] * b[i];
    return sum;
}

LANES_TARGET static void lanes_dots(const float *x, const float *rows, uint32_t n_rows, uint32_t n,
                                    float *out) {
    for (uint32_t i = 0; i < n_rows; i++) out[i] = lanes_dot(x, rows + (size_t)i * n, n);
}

/* A strip of the sum stays in registers while all rows pass. */
LANES_TARGET static void lanes_weighted_sum(const float *weights, const float *rows,
                                            uint32_t n_rows, uint32_t n, float *out) {
    uint32_t j = 0;
    for (; j + 4 * LANES <= n; j += 4 * LANES) {
        me_lanes s[4] = {{0}};
        for (uint32_t i = 0; i < n_rows; i++)
            for (int k = 0; k < 4; k++)
                s[k] += lanes_at(rows + (size_t)i * n + j + k * LANES) * weights[i];
        memcpy(out + j, s, sizeof s);
    }
    for (; j + LANES <= n; j += LANES) {
        me_lanes s = {0};
        for (uint32_t i = 0; i < n_rows; i++) s += lanes_at(rows + (size_t)i * n + j) * weights[i];
        memcpy(out + j, &s, sizeof s);
    }
    for (; j < n; j++) {
        out[j] = 0;
        for (uint32_t i = 0; i < n_rows; i++) out[j] += rows[(size_t)i * n + j] * weights[i];
    }
}

/* e^x within 2 ulp from -87 to 88; beyond, as at those ends. e^x = 2^k e^r, |r| <= log(2) / 2; the
 * polynomial is Cephes' expf. Adding 1.5 * 2^23 leaves the nearest integer in a float's low bits. */
LANES_TARGET static inline me_lanes lanes_exponential(me_lanes x) {
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

LANES_TARGET static inline float lanes_largest(const float *x, uint32_t n) {
    float largest = x[0];
    uint32_t i = 0;
    if (n >= LANES) {
        me_lanes most = lanes_at(x);
        for (i = LANES; i + LANES <= n; i += LANES) {
            me_lanes v = lanes_at(x + i);
            me_int_lanes more = v > most;
            most = (me_lanes)((more & (me_int_lanes)v) | (~more & (me_int_lanes)most));
        }
        largest = most[0];
        for (int k = 1; k < LANES; k++) largest = most[k] > largest ? most[k] : largest;
    }
    for (; i < n; i++) largest = x[i] > largest ? x[i] : largest;
    return largest;
}

LANES_TARGET static void lanes_softmax(float *x, uint32_t n, float scale) {
    lanes_exponentials(x, n, lanes_largest(x, n), scale);
    me_lanes sums = {0};
    uint32_t i = 0;
    for (; i + LANES <= n; i += LANES) sums += lanes_at(x + i);
    float sum = lanes_sum(sums);
    for (; i < n; i++) sum += x[i];
    float factor = 1.0f / sum;
    for (i = 0; i < n; i++) x[i] *= factor;
}

/* The float half of a me_kernels. */
#define LANES_KERNELS \
    lanes_dot, lanes_dots, lanes_weighted_sum, lanes_softmax, lanes_exponentials
