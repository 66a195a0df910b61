/* Norms, activations, rotation, and the int8 form of a row: one row at a time. */
#include "rows.h"

#include <math.h>
#include <string.h>

#include "half.h"

void me_activate(const me_config *config, const me_kernels *kernels, float *x, uint32_t n_ff,
                 uint32_t begin, uint32_t end) {
    kernels->activate(config->activation, x + begin, end - begin);
    if (config->gated_ffn)
        for (uint32_t i = begin; i < end; i++) x[i] *= x[i + n_ff];
}

void me_norm_row(const me_config *config, const me_norm *norm, const me_kernels *kernels,
                 const float *x, uint32_t n, float *out) {
    float mean = config->norm == ME_LAYERNORM ? kernels->total(x, n) / (float)n : 0;
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

void me_quantise_blocks(const me_kernels *kernels, const float *x, uint32_t n, uint32_t begin,
                        uint32_t end, const me_row *out) {
    for (uint32_t b = begin; b < end; b++) {
        const float *block = x + (size_t)b * ME_COLUMNS;
        float padded[ME_COLUMNS] = {0};
        uint32_t left = n - b * ME_COLUMNS;
        if (left < ME_COLUMNS) block = memcpy(padded, block, left * sizeof(float));
        kernels->quantise(block, out, b);
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
