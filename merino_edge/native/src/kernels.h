/* The loops that take the time, once per instruction set, and the choice among them.
 *
 * Integer sums are exact, so every set gives the same integers for a block of 32 columns; only the
 * order of the float sums over blocks differs. */
#ifndef ME_KERNELS_H
#define ME_KERNELS_H

#include "model.h"

/* 16 rows of a matrix. */
typedef struct {
    const uint8_t *quants;
    const uint16_t *scales, *minimums; /* minimums: of Q4 only */
    uint32_t n_blocks;
} me_panel;

/* A vector in int8 (-127..127): value = scale * q. For each 32 values a scale, the sum of q, and
 * total = scale * sum. */
typedef struct {
    int8_t *q;
    float *scale, *total;
    int32_t *sum;
} me_row;

/* out[i] = panel x rows[i], for n_rows vectors. */
typedef void (*me_panel_kernel)(const me_panel *panel, const me_row *rows, uint32_t n_rows,
                                float (*out)[ME_PANEL]);

/* Attention over a cache of one type. Keys lie in panels of 16 positions, [channel][16]; values in
 * rows, [position][channel]. */
typedef struct {
    /* out[q][i] = queries[q] . key i, for 16 n_panels keys; rows of out lie stride apart */
    void (*scores)(const float *queries, uint32_t n_queries, uint32_t d, const void *keys,
                   uint32_t n_panels, float *out, size_t stride);
    /* out[q] = sum of weights[q][i] values[i] over n positions */
    void (*blend)(const float *weights, size_t stride, uint32_t n_queries, const void *values,
                  uint32_t n, uint32_t d, float *out, size_t out_stride);
    void (*store)(const float *x, uint32_t n, void *out);
} me_cache_kernels;

typedef struct {
    const char *name;
    me_panel_kernel q8, q4;
    float (*dot)(const float *a, const float *b, uint32_t n);
    float (*largest)(const float *x, uint32_t n);
    float (*total)(const float *x, uint32_t n);
    void (*exponentials)(float *x, uint32_t n, float shift, float scale); /* e^(scale (x - shift)) */
    void (*activate)(uint32_t activation, float *x, uint32_t n);
    void (*quantise)(const float *x, const me_row *out, uint32_t b); /* block b, from 32 floats */
    me_cache_kernels f32, f16;
} me_kernels;

extern const me_kernels me_kernels_plain;
#if defined(__x86_64__)
extern const me_kernels me_kernels_avx2;
#if defined(__clang__) || __GNUC__ >= 8 /* older compilers have no VNNI */
#define ME_HAS_VNNI 1
extern const me_kernels me_kernels_avx512vnni;
#endif
#endif
#if defined(__aarch64__)
extern const me_kernels me_kernels_neon;
#if defined(__clang__) || __GNUC__ >= 8
#define ME_HAS_NEONDOT 1
extern const me_kernels me_kernels_neondot;
#endif
#endif

const me_kernels *me_kernels_in_use(void);
const me_kernels *me_kernels_named(const char *name); /* NULL if this machine lacks them */

#endif
