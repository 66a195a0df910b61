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
    const uint16_t *scales;
    uint32_t n_blocks;
} me_panel;

/* A vector in int8 (-127..127): value = scale * q, a scale and a sum of q for each 32 values. */
typedef struct {
    int8_t *q;
    float *scale;
    int32_t *sum;
} me_row;

/* out[i] = panel x rows[i], for n_rows vectors. */
typedef void (*me_panel_kernel)(const me_panel *panel, const me_row *rows, uint32_t n_rows,
                                float (*out)[ME_PANEL]);

typedef struct {
    const char *name;
    me_panel_kernel q8, q4;
    float (*dot)(const float *a, const float *b, uint32_t n);
    /* out[i] = x . rows[i], for rows [n_rows, n] */
    void (*dots)(const float *x, const float *rows, uint32_t n_rows, uint32_t n, float *out);
    /* out = sum of weights[i] rows[i], for rows [n_rows, n] */
    void (*weighted_sum)(const float *weights, const float *rows, uint32_t n_rows, uint32_t n,
                         float *out);
    void (*softmax)(float *x, uint32_t n, float scale); /* x <- softmax(scale x) */
    void (*exponentials)(float *x, uint32_t n, float shift, float scale); /* e^(scale (x - shift)) */
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
