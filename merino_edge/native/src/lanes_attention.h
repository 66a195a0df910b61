/* Attention over a cache of floats or float16: scores, blending, storing. Part of lanes.h. */

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
