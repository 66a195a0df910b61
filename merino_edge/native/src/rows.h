/* What happens to a row of activations between two matrices: see rows.c. */
#ifndef ME_ROWS_H
#define ME_ROWS_H

#include "kernels.h"

void me_norm_row(const me_config *config, const me_norm *norm, const me_kernels *kernels,
                 const float *x, uint32_t n, float *out);
/* x[i] = act(x[i]) for begin <= i < end; gated: act(x[i]) * x[i + n_ff]. */
void me_activate(const me_config *config, const me_kernels *kernels, float *x, uint32_t n_ff,
                 uint32_t begin, uint32_t end);
/* The int8 of some blocks of 32 of a row of n values; what lies behind the row counts as zero. */
void me_quantise_blocks(const me_kernels *kernels, const float *x, uint32_t n, uint32_t begin,
                        uint32_t end, const me_row *out);
/* Turns channel j of a head with channel j + half. */
void me_rotate(float *head, const float *cosines, const float *sines, uint32_t half);
/* Row i of a matrix, as floats. */
void me_matrix_row(const me_matrix *matrix, uint32_t i, float *out);

#endif
