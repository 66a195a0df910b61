/* Norms, activations, rotation, and the int8 form of a row: one row at a time, plain C
 * that the compiler turns into vector code.
 *
 * There is one such function for all instruction sets, so that every kernel gets the same int8. */
#include "rows.h"

#include <math.h>
#include <string.h>

#include "half.h"

/* Adding 1.5 * 2^23 leaves a float's nearest integer in its low bits: rounding that vectorises. */
static const float ROUND = 12582912.0f;

static int32_t bits_of(float x) {
    int32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

/* x <- x / (1 + e^(-u)), for as many u as a block has columns. */
static void times_sigmoid(const me_kernels *kernels, float *x, float *u, uint32_t n) {
    kernels->exponentials(u, n, 0.0f, -1.0f);
    for (uint32_t i = 0; i < n; i++) x[i] /= 1.0f + u[i];
}

static void silu(const me_kernels *kernels, float *x, uint32_t n) {
    float u[ME_COLUMNS];
    memcpy(u, x, n * sizeof(float));
    times_sigmoid(kernels, x, u, n);
}

/* 0.5 (1 + tanh(v)) is the sigmoid of 2 v. */
static void gelu_tanh(const me_kernels *kernels, float *x, uint32_t n) {
    float u[ME_COLUMNS];
    for (uint32_t i = 0; i < n; i++)
        u[i] = 1.59576912f * (x[i] + 0.044715f * x[i] * x[i] * x[i]);
    times_sigmoid(kernels, x, u, n);
}

static void gelu(float *x, uint32_t n) {
    for (uint32_t i = 0; i < n; i++) x[i] = 0.5f * x[i] * (1.0f + erff(x[i] * 0.70710678f));
}

static void relu(float *x, uint32_t n) {
    for (uint32_t i = 0; i < n; i++) x[i] = x[i] > 0 ? x[i] : 0;
}

void me_activate(const me_config *config, const me_kernels *kernels, float *x, uint32_t n_ff,
                 uint32_t begin, uint32_t end) {
    switch (config->activation) {
    case ME_GELU: gelu(x + begin, end - begin); break;
    case ME_GELU_TANH: gelu_tanh(kernels, x + begin, end - begin); break;
    case ME_RELU: relu(x + begin, end - begin); break;
    default: silu(kernels, x + begin, end - begin);
    }
    if (config->gated_ffn)
        for (uint32_t i = begin; i < end; i++) x[i] *= x[i + n_ff];
}

void me_norm_row(const me_config *config, const me_norm *norm, const me_kernels *kernels,
                 const float *x, uint32_t n, float *out) {
    float mean = 0;
    if (config->norm == ME_LAYERNORM) {
        double sum = 0;
        for (uint32_t i = 0; i < n; i++) sum += x[i];
        mean = (float)(sum / n);
    }
    for (uint32_t i = 0; i < n; i++) out[i] = x[i] - mean;
    float factor = 1.0f / sqrtf(kernels->dot(out, out, n) / (float)n + config->norm_eps);
    for (uint32_t i = 0; i < n; i++) out[i] *= factor * norm->weight[i];
    if (norm->bias)
        for (uint32_t i = 0; i < n; i++) out[i] += norm->bias[i];
}

void me_rotate(float *head, const float *cosines, const float *sines, uint32_t half) {
    for (uint32_t j = 0; j < half; j++) {
        float first = head[j], second = head[j + half];
        head[j] = first * cosines[j] - second * sines[j];
        head[j + half] = second * cosines[j] + first * sines[j];
    }
}

static void quantise_block(const float x[ME_COLUMNS], const me_row *out, uint32_t b) {
    int8_t *q = out->q + (size_t)b * ME_COLUMNS;
    int32_t most_bits = 0; /* sizes of floats order like their bits, and integers vectorise */
    float most;
    for (int i = 0; i < ME_COLUMNS; i++) {
        int32_t bits = bits_of(x[i]) & 0x7fffffff;
        most_bits = bits > most_bits ? bits : most_bits;
    }
    memcpy(&most, &most_bits, sizeof most);
    /* below this the inverse would overflow; such a block is zero */
    float inverse = most > 1e-30f ? 127.0f / most : 0.0f;
    int32_t sum = 0;
    for (int i = 0; i < ME_COLUMNS; i++) {
        int32_t rounded = bits_of(x[i] * inverse + ROUND) - bits_of(ROUND);
        q[i] = (int8_t)rounded;
        sum += (int8_t)rounded;
    }
    out->scale[b] = most / 127.0f;
    out->sum[b] = sum;
    out->total[b] = out->scale[b] * (float)sum;
}

void me_quantise_blocks(const float *x, uint32_t n, uint32_t begin, uint32_t end,
                        const me_row *out) {
    for (uint32_t b = begin; b < end; b++) {
        const float *block = x + (size_t)b * ME_COLUMNS;
        float padded[ME_COLUMNS] = {0};
        uint32_t left = n - b * ME_COLUMNS;
        if (left < ME_COLUMNS) block = memcpy(padded, block, left * sizeof(float));
        quantise_block(block, out, b);
    }
}

/* Where the value lies is said in kernels_plain.c. */
static float value_at(const me_matrix *m, uint32_t row, uint32_t column) {
    size_t block = (size_t)(row / ME_PANEL) * m->n_blocks + column / ME_COLUMNS;
    uint32_t r = row % ME_PANEL, i = column % ME_COLUMNS;
    float scale = me_float_from_half(m->scales[block * ME_PANEL + r]);
    if (m->kind == ME_Q8)
        return scale * (int8_t)m->quants[block * 512 + i / 4 * 64 + r * 4 + i % 4];
    uint8_t pair = m->quants[block * 256 + i % 16 / 4 * 64 + r * 4 + i % 4];
    float minimum = me_float_from_half(m->minimums[block * ME_PANEL + r]);
    return scale * (float)(i < 16 ? pair & 15 : pair >> 4) + minimum;
}

void me_matrix_row(const me_matrix *m, uint32_t row, float *out) {
    if (m->kind == ME_F32)
        memcpy(out, m->rows + (size_t)row * m->n_in, m->n_in * sizeof(float));
    else
        for (uint32_t i = 0; i < m->n_in; i++) out[i] = value_at(m, row, i);
}
