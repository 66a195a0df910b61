/* A decoder as it lies in the mapped file: sizes, and pointers into it. Nothing is owned but the
 * small tables of blocks and norms. */
#ifndef ME_MODEL_H
#define ME_MODEL_H

#include "merino_edge.h"

enum { ME_F32 = 0, ME_Q8 = 1, ME_Q4 = 2 };
enum { ME_LAYERNORM = 0, ME_RMSNORM = 1 };
enum { ME_LEARNED = 0, ME_ROPE = 1 };
enum { ME_PRE = 0, ME_POST = 1 }; /* x + f(norm(x)); norm(x + f(x)) */
enum { ME_GELU = 0, ME_GELU_TANH = 1, ME_RELU = 2, ME_SILU = 3 };
enum { ME_PANEL = 16, ME_COLUMNS = 32 }; /* rows of a panel; columns that share a scale */

/* [n_out, n_in]. F32: rows. Q8 and Q4: panels of quants, then their float16 scales; then, for Q4,
 * float16 minimums. */
typedef struct {
    uint32_t kind, n_out, n_in, n_panels, n_blocks;
    const float *rows;
    const uint8_t *quants;
    const uint16_t *scales, *minimums;
} me_matrix;

typedef struct {
    const float *weight, *bias; /* bias is NULL for rmsnorm */
} me_norm;

typedef struct {
    me_matrix weight;
    const float *bias; /* or NULL */
} me_linear;

typedef struct {
    uint32_t d_model, n_head, n_kv_head, head_dim, d_ff, depth, joint_in;
    uint32_t n_rotated; /* channels of a head that rope turns, the first ones */
    me_matrix joint; /* if joint_in is not 0 */
    me_linear qkv, out, up, down;
    me_norm *norms; /* attention, feed-forward, attention, ...: two for each application */
} me_block;

typedef struct {
    uint32_t vocab_size, max_seq_len, embed_dim, norm;
    float norm_eps;
    uint32_t position;
    float rope_base;
    uint32_t activation, gated_ffn, attention_bias, ffn_bias, tie_embeddings;
    uint32_t norm_place, no_final_norm, parallel_residual, zero; /* zero in version 2 */
} me_config;

struct me_model {
    const uint8_t *map;
    uint64_t file_bytes;
    me_config config;
    uint32_t n_blocks, n_layers;
    uint32_t max_width; /* of the residual stream and the embedding */
    uint32_t max_row;   /* of anything that enters or leaves a matrix, but the logits */
    uint32_t max_half;  /* of n_rotated */
    uint64_t cache_row; /* numbers of keys (or values) that one token adds, over all layers */
    uint32_t half_cache; /* float16, unless all matrices are float32 */
    uint32_t max_kv_head, max_queries; /* of n_kv_head; of the queries that share one */
    uint32_t max_group;                /* of the channels of those queries */
    me_block *blocks;
    me_norm *norms;
    const float *pos_embed;
    me_matrix embed, head_joint, head; /* head_joint.n_out is 0 where there is none */
    me_norm final_norm; /* weight is NULL where there is none */
};

#endif
