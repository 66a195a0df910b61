/* The decoder itself: a chunk of tokens through all layers, by every thread of the team at once.
 *
 * A thread's share of a stage is rows of a matrix, heads, or tokens. The semantics are those of
 * merino_edge/runtime/backends/reference.py, line for line. */
#include <string.h>

#include "rows.h"
#include "worker.h"

/* Where a product goes: rows of floats, set or added to, from row `first` of the chunk on. */
typedef struct {
    float *out;
    size_t stride;
    int add;
} target;

/* n values of row t, from column `first` on. */
static inline void put(const target *to, uint32_t t, uint32_t first, uint32_t n,
                       const float *values, const float *bias) {
    float *place = to->out + t * to->stride + first;
    for (uint32_t i = 0; i < n; i++) {
        float value = bias ? values[i] + bias[first + i] : values[i];
        place[i] = to->add ? place[i] + value : value;
    }
}

static void multiply_floats(const me_hand *w, const me_matrix *m, const float *bias, uint32_t first,
                            uint32_t n, const target *to) {
    me_share rows = me_hand_share(w, m->n_out);
    for (uint32_t row = rows.begin; row < rows.end; row++)
        for (uint32_t t = 0; t < n; t++) {
            const float *weights = m->rows + (size_t)row * m->n_in;
            float sum = w->s->kernels->dot(weights, me_y_row(w, first + t), m->n_in);
            put(to, t, row, 1, &sum, bias);
        }
}

static void multiply_panels(const me_hand *w, const me_matrix *m, const float *bias, uint32_t first,
                            uint32_t n, const target *to) {
    float out[ME_CHUNK][ME_PANEL];
    size_t block_bytes = m->kind == ME_Q8 ? 512 : 256;
    me_panel_kernel kernel = m->kind == ME_Q8 ? w->s->kernels->q8 : w->s->kernels->q4;
    me_share panels = me_hand_share(w, m->n_panels);
    for (uint32_t p = panels.begin; p < panels.end; p++) {
        size_t block = (size_t)p * m->n_blocks;
        me_panel panel = {m->quants + block * block_bytes, m->scales + block * ME_PANEL,
                          m->minimums ? m->minimums + block * ME_PANEL : NULL, m->n_blocks};
        kernel(&panel, w->s->rows + first, n, out);
        uint32_t row = p * ME_PANEL;
        uint32_t n_rows = m->n_out - row < ME_PANEL ? m->n_out - row : ME_PANEL;
        for (uint32_t t = 0; t < n; t++)
            if (n_rows == ME_PANEL) /* said as a constant, it becomes vectors */
                put(to, t, row, ME_PANEL, out[t], bias);
            else
                put(to, t, row, n_rows, out[t], bias);
    }
}

/* y's rows [first, first + n) times the matrix; the threads meet before (y complete) and after. */
static void multiply(const me_hand *w, const me_matrix *m, const float *bias, uint32_t first,
                     uint32_t n, target to) {
    me_meet(w);
    if (m->kind == ME_F32)
        multiply_floats(w, m, bias, first, n, &to);
    else
        multiply_panels(w, m, bias, first, n, &to);
    me_meet(w);
}

/* The int8 form of a row of y, where the matrix wants it. */
static void quantise(const me_hand *w, uint32_t t, const me_matrix *m) {
    if (m->kind != ME_F32)
        me_quantise_blocks(w->s->kernels, me_y_row(w, t), m->n_in, 0, m->n_blocks, &w->s->rows[t]);
}

/* Rows of the stream (x, or what was set aside of it) go through a norm into a matrix. */
static void normalise(const me_hand *w, const me_norm *norm, const me_matrix *next, uint32_t first,
                      const float *rows) {
    me_share tokens = me_hand_share(w, w->s->n_tokens - first);
    for (uint32_t t = first + tokens.begin; t < first + tokens.end; t++) {
        const float *row = rows + (size_t)t * w->m->max_width;
        me_norm_row(&w->m->config, norm, w->s->kernels, row, next->n_in, me_y_row(w, t));
        quantise(w, t, next);
    }
}

/* x goes into a matrix as it is: joints, the head's, and all of them where norms come after. */
static void copy_stream(const me_hand *w, const me_matrix *next, uint32_t first) {
    me_share tokens = me_hand_share(w, w->s->n_tokens - first);
    for (uint32_t t = first + tokens.begin; t < first + tokens.end; t++) {
        memcpy(me_y_row(w, t), me_x_row(w, t), next->n_in * sizeof(float));
        quantise(w, t, next);
    }
}

static target stream(const me_hand *w, uint32_t first, int add) {
    target to = {me_x_row(w, first), w->m->max_width, add};
    return to;
}

static target scratch(const me_hand *w) {
    target to = {w->s->z, w->m->max_row, 0};
    return to;
}

static void embed(const me_hand *w) {
    me_share tokens = me_hand_share(w, w->s->n_tokens);
    for (uint32_t t = tokens.begin; t < tokens.end; t++)
        me_matrix_row(&w->m->embed, (uint32_t)w->s->ids[t], me_x_row(w, t));
    me_meet(w);
}

static void add_positions(const me_hand *w, uint32_t width) {
    me_share tokens = me_hand_share(w, w->s->n_tokens);
    for (uint32_t t = tokens.begin; t < tokens.end; t++) {
        const float *row = w->m->pos_embed + (size_t)(w->s->position + t) * width;
        for (uint32_t i = 0; i < width; i++) me_x_row(w, t)[i] += row[i];
    }
    me_meet(w);
}

/* Activation and int8 together, 32 channels at a time: the dear part of a layer without matrices. */
static void activate(const me_hand *w, const me_block *b) {
    const me_matrix *down = &b->down.weight;
    me_share tasks = me_hand_share(w, w->s->n_tokens * down->n_blocks);
    for (uint32_t i = tasks.begin; i < tasks.end; i++) {
        uint32_t t = i / down->n_blocks, block = i % down->n_blocks;
        uint32_t begin = block * ME_COLUMNS;
        uint32_t end = b->d_ff - begin < ME_COLUMNS ? b->d_ff : begin + ME_COLUMNS;
        me_activate(&w->m->config, w->s->kernels, me_z_row(w, t), b->d_ff, begin, end);
        memcpy(me_y_row(w, t) + begin, me_z_row(w, t) + begin, (end - begin) * sizeof(float));
        if (down->kind != ME_F32)
            me_quantise_blocks(w->s->kernels, me_y_row(w, t), b->d_ff, block, block + 1, &w->s->rows[t]);
    }
}

/* The int8 of what attention left in y. */
static void quantise_rows(const me_hand *w, const me_matrix *next) {
    me_share tokens = me_hand_share(w, w->s->n_tokens);
    for (uint32_t t = tokens.begin; t < tokens.end; t++) quantise(w, t, next);
}

/* What attention makes of y is added to x. */
static void attend(const me_hand *w, const me_block *b, const me_layer_cache *cache) {
    uint32_t n = w->s->n_tokens;
    multiply(w, &b->qkv.weight, b->qkv.bias, 0, n, scratch(w));
    me_attention(w, b, cache);
    quantise_rows(w, &b->out.weight);
    multiply(w, &b->out.weight, b->out.bias, 0, n, stream(w, 0, 1));
}

/* What the feed-forward makes of y is added to x. */
static void feed_forward(const me_hand *w, const me_block *b) {
    uint32_t n = w->s->n_tokens;
    multiply(w, &b->up.weight, b->up.bias, 0, n, scratch(w));
    activate(w, b);
    multiply(w, &b->down.weight, b->down.bias, 0, n, stream(w, 0, 1));
}

/* x is normalised where it lies. Who reads it next may share the tokens otherwise. */
static void settle(const me_hand *w, const me_norm *norm, uint32_t width) {
    me_share tokens = me_hand_share(w, w->s->n_tokens);
    for (uint32_t t = tokens.begin; t < tokens.end; t++)
        me_norm_row(&w->m->config, norm, w->s->kernels, me_x_row(w, t), width, me_x_row(w, t));
    me_meet(w);
}

static void set_aside(const me_hand *w, uint32_t width) {
    me_share tokens = me_hand_share(w, w->s->n_tokens);
    for (uint32_t t = tokens.begin; t < tokens.end; t++)
        memcpy(me_aside_row(w, t), me_x_row(w, t), width * sizeof(float));
}

typedef void layer_function(const me_hand *, const me_block *, const me_norm *,
                            const me_layer_cache *);

/* norm(x + f(x)), for attention and for the feed-forward. */
static void run_post_layer(const me_hand *w, const me_block *b, const me_norm *norms,
                           const me_layer_cache *cache) {
    copy_stream(w, &b->qkv.weight, 0);
    attend(w, b, cache);
    settle(w, &norms[0], b->d_model);
    copy_stream(w, &b->up.weight, 0);
    feed_forward(w, b);
    settle(w, &norms[1], b->d_model);
}

/* x + f(norm(x)); with parallel residuals the feed-forward reads what attention has read. */
static void run_layer(const me_hand *w, const me_block *b, const me_norm *norms,
                      const me_layer_cache *cache) {
    int parallel = w->m->config.parallel_residual != 0;
    if (parallel) set_aside(w, b->d_model);
    normalise(w, &norms[0], &b->qkv.weight, 0, w->s->x);
    attend(w, b, cache);
    normalise(w, &norms[1], &b->up.weight, 0, parallel ? w->s->aside : w->s->x);
    feed_forward(w, b);
}

/* x goes through a bias-free matrix and comes back with another width. */
static void join(const me_hand *w, const me_matrix *joint, uint32_t first) {
    copy_stream(w, joint, first);
    multiply(w, joint, NULL, first, w->s->n_tokens - first, stream(w, first, 0));
}

/* The last rows of the stream go into a matrix, through the final norm if there is one. */
static void leave(const me_hand *w, const me_matrix *next, uint32_t first) {
    if (w->m->final_norm.weight)
        normalise(w, &w->m->final_norm, next, first, w->s->x);
    else
        copy_stream(w, next, first);
}

static void run_head(const me_hand *w) {
    const me_model *m = w->m;
    uint32_t n = w->s->n_heads_rows, first = w->s->n_tokens - n;
    target logits = {w->s->logits_out, m->config.vocab_size, 0};
    if (n == 0) return;
    if (m->head_joint.n_out) {
        leave(w, &m->head_joint, first);
        multiply(w, &m->head_joint, NULL, first, n, stream(w, first, 0));
        copy_stream(w, &m->head, first);
    } else {
        leave(w, &m->head, first);
    }
    multiply(w, &m->head, NULL, first, n, logits);
}

void me_decode_chunk(void *session, uint32_t thread) {
    me_session *s = session;
    const me_model *m = s->model;
    me_hand hand = {s, m, thread, s->team.n_threads}, *w = &hand;
    me_layer_cache cache = {s->keys, s->values};
    layer_function *run = m->config.norm_place == ME_POST ? run_post_layer : run_layer;
    uint32_t angles_of = 0;
    embed(w);
    for (uint32_t i = 0; i < m->n_blocks; i++) {
        const me_block *b = &m->blocks[i];
        if (b->joint_in) join(w, &b->joint, 0);
        if (i == 0 && m->pos_embed) add_positions(w, b->d_model);
        if (m->config.position == ME_ROPE && angles_of != b->n_rotated)
            me_compute_angles(w, angles_of = b->n_rotated);
        for (uint32_t layer = 0; layer < b->depth; layer++) {
            run(w, b, &b->norms[2 * layer], &cache);
            cache.keys += me_layer_cache_bytes(s, b);
            cache.values += me_layer_cache_bytes(s, b);
        }
    }
    run_head(w);
}
