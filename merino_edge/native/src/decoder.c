/* The decoder itself: a chunk of tokens through all layers, by every thread of the team at once.
 *
 * All threads run the same code on their share of the work: rows of a matrix, heads, or tokens.
 * Where one stage reads what another thread wrote in the stage before, they meet. The semantics are
 * those of merino_edge/runtime/backends/reference.py, line for line. */
#include <math.h>
#include <string.h>

#include "rows.h"
#include "session.h"

/* One thread's view of the work. */
typedef struct {
    me_session *s;
    const me_model *m;
    uint32_t thread, n_threads, wide; /* wide: floats from row to row of y and z */
} worker;

static void meet(const worker *w) { me_team_meet(&w->s->team); }

static me_share share_of(const worker *w, uint32_t n) {
    return me_share_of(n, w->thread, w->n_threads);
}

static float *x_row(const worker *w, uint32_t t) { return w->s->x + (size_t)t * w->m->max_width; }
static float *y_row(const worker *w, uint32_t t) { return w->s->y + (size_t)t * w->wide; }
static float *z_row(const worker *w, uint32_t t) { return w->s->z + (size_t)t * w->wide; }

/* Where a product goes: rows of floats, set or added to, from row `first` of the chunk on. */
typedef struct {
    float *out;
    size_t stride;
    int add;
} target;

static void put(const target *to, uint32_t t, uint32_t row, float value) {
    float *place = to->out + t * to->stride + row;
    *place = to->add ? *place + value : value;
}

static void multiply_floats(const worker *w, const me_matrix *m, const float *bias, uint32_t first,
                            uint32_t n, const target *to) {
    me_share rows = share_of(w, m->n_out);
    for (uint32_t row = rows.begin; row < rows.end; row++)
        for (uint32_t t = 0; t < n; t++) {
            const float *weights = m->rows + (size_t)row * m->n_in;
            float sum = w->s->kernels->dot(weights, y_row(w, first + t), m->n_in);
            put(to, t, row, bias ? sum + bias[row] : sum);
        }
}

static void multiply_panels(const worker *w, const me_matrix *m, const float *bias, uint32_t first,
                            uint32_t n, const target *to) {
    float out[ME_CHUNK][ME_PANEL];
    size_t block_bytes = m->kind == ME_Q8 ? 512 : 256;
    me_panel_kernel kernel = m->kind == ME_Q8 ? w->s->kernels->q8 : w->s->kernels->q4;
    me_share panels = share_of(w, m->n_panels);
    for (uint32_t p = panels.begin; p < panels.end; p++) {
        size_t block = (size_t)p * m->n_blocks;
        me_panel panel = {m->quants + block * block_bytes, m->scales + block * ME_PANEL,
                          m->n_blocks};
        kernel(&panel, w->s->rows + first, n, out);
        uint32_t row = p * ME_PANEL;
        uint32_t n_rows = m->n_out - row < ME_PANEL ? m->n_out - row : ME_PANEL;
        for (uint32_t t = 0; t < n; t++)
            for (uint32_t r = 0; r < n_rows; r++)
                put(to, t, row + r, bias ? out[t][r] + bias[row + r] : out[t][r]);
    }
}

/* y's rows [first, first + n) times the matrix; the threads meet before (y complete) and after. */
static void multiply(const worker *w, const me_matrix *m, const float *bias, uint32_t first,
                     uint32_t n, target to) {
    meet(w);
    if (m->kind == ME_F32)
        multiply_floats(w, m, bias, first, n, &to);
    else
        multiply_panels(w, m, bias, first, n, &to);
    meet(w);
}

/* The int8 form of a row of y, where the matrix wants it. */
static void quantise(const worker *w, uint32_t t, const me_matrix *m) {
    if (m->kind != ME_F32)
        me_quantise_blocks(y_row(w, t), m->n_in, 0, m->n_blocks, &w->s->rows[t]);
}

static void normalise(const worker *w, const me_norm *norm, const me_matrix *next, uint32_t first) {
    me_share tokens = share_of(w, w->s->n_tokens - first);
    for (uint32_t t = first + tokens.begin; t < first + tokens.end; t++) {
        me_norm_row(&w->m->config, norm, w->s->kernels, x_row(w, t), next->n_in, y_row(w, t));
        quantise(w, t, next);
    }
}

/* x goes into a matrix as it is: joints, and the head's. */
static void copy_stream(const worker *w, const me_matrix *next, uint32_t first) {
    me_share tokens = share_of(w, w->s->n_tokens - first);
    for (uint32_t t = first + tokens.begin; t < first + tokens.end; t++) {
        memcpy(y_row(w, t), x_row(w, t), next->n_in * sizeof(float));
        quantise(w, t, next);
    }
}

static target stream(const worker *w, uint32_t first, int add) {
    target to = {x_row(w, first), w->m->max_width, add};
    return to;
}

static target scratch(const worker *w) {
    target to = {w->s->z, w->wide, 0};
    return to;
}

static void embed(const worker *w) {
    me_share tokens = share_of(w, w->s->n_tokens);
    for (uint32_t t = tokens.begin; t < tokens.end; t++)
        me_matrix_row(&w->m->embed, (uint32_t)w->s->ids[t], x_row(w, t));
    meet(w);
}

static void add_positions(const worker *w, uint32_t width) {
    me_share tokens = share_of(w, w->s->n_tokens);
    for (uint32_t t = tokens.begin; t < tokens.end; t++) {
        const float *row = w->m->pos_embed + (size_t)(w->s->position + t) * width;
        for (uint32_t i = 0; i < width; i++) x_row(w, t)[i] += row[i];
    }
    meet(w);
}

/* Angles in double, as the reference: at position 8000 a float has lost three digits. */
static void compute_angles(const worker *w, uint32_t half) {
    me_share tokens = share_of(w, w->s->n_tokens);
    for (uint32_t j = 0; j < half; j++) {
        double frequency = pow(w->m->config.rope_base, -(double)j / half);
        for (uint32_t t = tokens.begin; t < tokens.end; t++) {
            double angle = (w->s->position + t) * frequency;
            w->s->cosines[(size_t)t * half + j] = (float)cos(angle);
            w->s->sines[(size_t)t * half + j] = (float)sin(angle);
        }
    }
    meet(w);
}

/* Rotated keys, and values, of the chunk go into the layer's cache. */
static void store_keys(const worker *w, const me_block *b, float *keys, float *values) {
    me_session *s = w->s;
    uint32_t d = b->head_dim, half = d / 2;
    me_share tasks = share_of(w, s->n_tokens * b->n_kv_head);
    for (uint32_t i = tasks.begin; i < tasks.end; i++) {
        uint32_t t = i / b->n_kv_head, head = i % b->n_kv_head;
        float *key = z_row(w, t) + (size_t)(b->n_head + head) * d;
        size_t place = ((size_t)head * s->context_len + s->position + t) * d;
        if (w->m->config.position == ME_ROPE)
            me_rotate(key, s->cosines + (size_t)t * half, s->sines + (size_t)t * half, half);
        memcpy(keys + place, key, d * sizeof(float));
        memcpy(values + place, key + (size_t)b->n_kv_head * d, d * sizeof(float));
    }
    meet(w);
}

/* One query over the prefix that it may see: out [head_dim]. */
static void attend(const worker *w, const float *query, const float *keys, const float *values,
                   uint32_t n, uint32_t d, float *out) {
    const me_kernels *k = w->s->kernels;
    float *scores = w->s->scores + (size_t)w->thread * w->s->context_len;
    k->dots(query, keys, n, d, scores);
    k->softmax(scores, n, 1.0f / sqrtf((float)d));
    k->weighted_sum(scores, values, n, d, out);
}

static void attend_all(const worker *w, const me_block *b, const float *keys,
                       const float *values) {
    me_session *s = w->s;
    uint32_t d = b->head_dim, half = d / 2, heads_per_kv = b->n_head / b->n_kv_head;
    me_share tasks = share_of(w, s->n_tokens * b->n_head);
    for (uint32_t i = tasks.begin; i < tasks.end; i++) {
        uint32_t t = i / b->n_head, head = i % b->n_head;
        float *query = z_row(w, t) + (size_t)head * d;
        size_t place = (size_t)(head / heads_per_kv) * s->context_len * d;
        if (w->m->config.position == ME_ROPE)
            me_rotate(query, s->cosines + (size_t)t * half, s->sines + (size_t)t * half, half);
        attend(w, query, keys + place, values + place, s->position + t + 1, d,
               y_row(w, t) + (size_t)head * d);
    }
    meet(w);
    me_share tokens = share_of(w, s->n_tokens);
    for (uint32_t t = tokens.begin; t < tokens.end; t++) quantise(w, t, &b->out.weight);
}

/* Activation and int8 together, 32 channels at a time: the dear part of a layer without matrices. */
static void activate(const worker *w, const me_block *b) {
    const me_matrix *down = &b->down.weight;
    me_share tasks = share_of(w, w->s->n_tokens * down->n_blocks);
    for (uint32_t i = tasks.begin; i < tasks.end; i++) {
        uint32_t t = i / down->n_blocks, block = i % down->n_blocks;
        uint32_t begin = block * ME_COLUMNS;
        uint32_t end = b->d_ff - begin < ME_COLUMNS ? b->d_ff : begin + ME_COLUMNS;
        me_activate(&w->m->config, w->s->kernels, z_row(w, t), b->d_ff, begin, end);
        memcpy(y_row(w, t) + begin, z_row(w, t) + begin, (end - begin) * sizeof(float));
        if (down->kind != ME_F32)
            me_quantise_blocks(y_row(w, t), b->d_ff, block, block + 1, &w->s->rows[t]);
    }
}

static void run_layer(const worker *w, const me_block *b, const me_norm *norms, float *keys,
                      float *values) {
    uint32_t n = w->s->n_tokens;
    normalise(w, &norms[0], &b->qkv.weight, 0);
    multiply(w, &b->qkv.weight, b->qkv.bias, 0, n, scratch(w));
    store_keys(w, b, keys, values);
    attend_all(w, b, keys, values);
    multiply(w, &b->out.weight, b->out.bias, 0, n, stream(w, 0, 1));
    normalise(w, &norms[1], &b->up.weight, 0);
    multiply(w, &b->up.weight, b->up.bias, 0, n, scratch(w));
    activate(w, b);
    multiply(w, &b->down.weight, b->down.bias, 0, n, stream(w, 0, 1));
}

/* x goes through a bias-free matrix and comes back with another width. */
static void join(const worker *w, const me_matrix *joint, uint32_t first) {
    copy_stream(w, joint, first);
    multiply(w, joint, NULL, first, w->s->n_tokens - first, stream(w, first, 0));
}

static void run_head(const worker *w) {
    const me_model *m = w->m;
    uint32_t n = w->s->n_heads_rows, first = w->s->n_tokens - n;
    target logits = {w->s->logits_out, m->config.vocab_size, 0};
    if (n == 0) return;
    if (m->head_joint.n_out) {
        normalise(w, &m->final_norm, &m->head_joint, first);
        multiply(w, &m->head_joint, NULL, first, n, stream(w, first, 0));
        copy_stream(w, &m->head, first);
    } else {
        normalise(w, &m->final_norm, &m->head, first);
    }
    multiply(w, &m->head, NULL, first, n, logits);
}

void me_decode_chunk(void *session, uint32_t thread) {
    me_session *s = session;
    const me_model *m = s->model;
    worker w = {s, m, thread, s->team.n_threads, 0};
    w.wide = m->max_row;
    float *keys = s->keys, *values = s->values;
    uint32_t angles_of = 0;
    embed(&w);
    for (uint32_t i = 0; i < m->n_blocks; i++) {
        const me_block *b = &m->blocks[i];
        if (b->joint_in) join(&w, &b->joint, 0);
        if (i == 0 && m->pos_embed) add_positions(&w, b->d_model);
        if (m->config.position == ME_ROPE && angles_of != b->head_dim)
            compute_angles(&w, (angles_of = b->head_dim) / 2);
        for (uint32_t layer = 0; layer < b->depth; layer++) {
            size_t size = (size_t)b->n_kv_head * s->context_len * b->head_dim;
            run_layer(&w, b, &b->norms[2 * layer], keys, values);
            keys += size, values += size;
        }
    }
    run_head(&w);
}
