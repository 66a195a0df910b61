/* Activations, and a row in int8. Part of lanes.h.
 *
 * Nothing here sums floats, so all instruction sets round the same value to the same int8. */

LANES_INLINE me_lanes lanes_sigmoid(me_lanes v) {
    return LANES_SPLAT(1.0f) / (LANES_SPLAT(1.0f) + lanes_exponential(-v));
}

/* erf(|v|) within 2e-7: Abramowitz and Stegun 7.1.26. */
LANES_INLINE me_lanes lanes_erf_of_size(me_lanes size) {
    me_lanes t = LANES_SPLAT(1.0f) / LANES_FMA(size, LANES_SPLAT(0.3275911f), LANES_SPLAT(1.0f));
    me_lanes sum = LANES_FMA(t, LANES_SPLAT(1.061405429f), LANES_SPLAT(-1.453152027f));
    sum = LANES_FMA(sum, t, LANES_SPLAT(1.421413741f));
    sum = LANES_FMA(sum, t, LANES_SPLAT(-0.284496736f));
    sum = LANES_FMA(sum, t, LANES_SPLAT(0.254829592f));
    return LANES_SPLAT(1.0f) - sum * t * lanes_exponential(-size * size);
}

/* 0.5 v (1 + erf(v / sqrt(2))); erf is odd, so v erf(v) = |v| erf(|v|). */
LANES_INLINE me_lanes lanes_gelu(me_lanes v) {
    me_lanes size = LANES_MAX(v, -v);
    me_lanes erf = lanes_erf_of_size(size * LANES_SPLAT(0.70710678f));
    return LANES_SPLAT(0.5f) * LANES_FMA(size, erf, v);
}

/* 0.5 (1 + tanh(u)) is the sigmoid of 2 u. */
LANES_INLINE me_lanes lanes_gelu_tanh(me_lanes v) {
    me_lanes u = LANES_FMA(v * v * v, LANES_SPLAT(0.044715f), v);
    return v * lanes_sigmoid(u * LANES_SPLAT(1.59576912f));
}

LANES_INLINE me_lanes lanes_activation(uint32_t activation, me_lanes v) {
    switch (activation) {
    case ME_GELU: return lanes_gelu(v);
    case ME_GELU_TANH: return lanes_gelu_tanh(v);
    case ME_RELU: return LANES_MAX(v, LANES_SPLAT(0.0f));
    default: return v * lanes_sigmoid(v);
    }
}

LANES_TARGET static void lanes_activate(uint32_t activation, float *x, uint32_t n) {
    uint32_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        me_lanes v = lanes_activation(activation, lanes_at(x + i));
        memcpy(x + i, &v, sizeof v);
    }
    me_lanes tail = lanes_tail(x + i, n - i);
    tail = lanes_activation(activation, tail);
    memcpy(x + i, &tail, (n - i) * sizeof(float));
}

LANES_INLINE float lanes_largest_size(const float *x, uint32_t n) {
    me_lanes most = {0};
    for (uint32_t i = 0; i < n; i += LANES) {
        me_lanes v = lanes_at(x + i);
        most = LANES_MAX(LANES_MAX(v, -v), most);
    }
    float largest = most[0];
    for (int k = 1; k < LANES; k++) largest = most[k] > largest ? most[k] : largest;
    return largest;
}

LANES_TARGET static void lanes_quantise(const float *x, const me_row *out, uint32_t b) {
    const me_lanes round = LANES_SPLAT(12582912.0f); /* leaves the nearest integer in the low bits */
    float most = lanes_largest_size(x, ME_COLUMNS);
    /* below this the inverse would overflow; such a block is zero */
    me_lanes inverse = LANES_SPLAT(most > 1e-30f ? 127.0f / most : 0.0f);
    int32_t rounded[ME_COLUMNS], sum = 0;
    for (int i = 0; i < ME_COLUMNS; i += LANES) {
        me_lanes steps = lanes_at(x + i) * inverse; /* not fused: a tie is one everywhere */
        me_lanes shifted = steps + round;
        me_int_lanes q = (me_int_lanes)shifted - (me_int_lanes)round;
        memcpy(rounded + i, &q, sizeof q);
    }
    int8_t *q = out->q + (size_t)b * ME_COLUMNS;
    for (int i = 0; i < ME_COLUMNS; i++) q[i] = (int8_t)rounded[i];
    for (int i = 0; i < ME_COLUMNS; i++) sum += q[i];
    out->scale[b] = most / 127.0f;
    out->sum[b] = sum;
    out->total[b] = out->scale[b] * (float)sum;
}
