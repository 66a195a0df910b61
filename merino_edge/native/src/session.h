/* One text being read and written: its cache, its scratch memory and its threads. */
#ifndef ME_SESSION_H
#define ME_SESSION_H

#include "kernels.h"
#include "pace.h"

enum {
    ME_CHUNK = 64,   /* tokens that pass through the layers together */
    ME_SEGMENT = 128 /* positions whose softmax is taken together: a multiple of ME_PANEL */
};

/* What one group of queries has found in each segment of the past; see attention.c. */
typedef struct {
    float *largest, *sums; /* [queries, n_segments] */
    float *values;         /* [queries, n_segments, head_dim] */
} me_parts;

struct me_session {
    const me_model *model;
    const me_kernels *kernels;
    uint32_t context_len, position;
    uint32_t cache_len, n_segments; /* context_len, in whole panels and in segments */
    uint32_t cancelled, has_logits;
    me_team team;
    me_pace step_pace, chunk_pace; /* of single tokens, of whole chunks */
    me_worker *workers;

    /* The chunk in hand: written by the caller before the team runs. */
    const int32_t *ids;
    uint32_t n_tokens;
    uint32_t n_heads_rows; /* how many of its last tokens want logits */
    float *logits_out;     /* [n_heads_rows, vocab_size] */

    float *x;      /* [CHUNK, max_width]: the residual stream */
    float *aside;  /* [CHUNK, max_width]: x before attention, where the feed-forward reads it, too */
    float *y;      /* [CHUNK, wide]: a row on its way into a matrix */
    float *z;      /* [CHUNK, wide]: what came out of qkv or up */
    me_row *rows;  /* [CHUNK]: y in int8 */
    float *scores;          /* [n_threads, queries, SEGMENT] */
    me_parts *parts;        /* one a thread, or one a head of keys: whichever is more */
    uint8_t *keys, *values; /* per layer: [n_kv_head, cache_len, head_dim], keys in panels */
    float *cosines, *sines; /* [CHUNK, max head_dim / 2], of one head_dim at a time */
    float *logits;          /* [vocab_size], of the last token */
};

/* The team's job: passes the chunk through all layers (decoder.c). */
void me_decode_chunk(void *session, uint32_t thread);

#endif
