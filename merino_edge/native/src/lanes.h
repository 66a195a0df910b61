/* Float loops over vectors of LANES floats, for the instruction set LANES_TARGET: included by each
 * kernels_*.c. They carry their own target because the compiler lowers vectors before it inlines.
 * Four accumulators hide the latency of an addition. */
#include <string.h>

typedef float me_lanes __attribute__((vector_size(LANES * 4)));

LANES_TARGET static inline me_lanes lanes_at(const float *x) {
    me_lanes v;
    memcpy(&v, x, sizeof v);
    return v;
}

LANES_TARGET static float lanes_dot(const float *a, const float *b, uint32_t n) {
    me_lanes s0 = {0}, s1 = {0}, s2 = {0}, s3 = {0};
    uint32_t i = 0;
    for (; i + 4 * LANES <= n; i += 4 * LANES) {
        s0 += lanes_at(a + i) * lanes_at(b + i);
        s1 += lanes_at(a + i + LANES) * lanes_at(b + i + LANES);
        s2 += lanes_at(a + i + 2 * LANES) * lanes_at(b + i + 2 * LANES);
        s3 += lanes_at(a + i + 3 * LANES) * lanes_at(b + i + 3 * LANES);
    }
    for (; i + LANES <= n; i += LANES) s0 += lanes_at(a + i) * lanes_at(b + i);
    s0 = (s0 + s1) + (s2 + s3);
    float sum = 0;
    for (int lane = 0; lane < LANES; lane++) sum += s0[lane];
    for (; i < n; i++) sum += a[i] * b[i];
    return sum;
}

LANES_TARGET static void lanes_add_scaled(float *out, const float *x, float scale, uint32_t n) {
    uint32_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        me_lanes sum = lanes_at(out + i) + lanes_at(x + i) * scale;
        memcpy(out + i, &sum, sizeof sum);
    }
    for (; i < n; i++) out[i] += scale * x[i];
}
