/* Attention over the valid prefix, in segments of 128 positions.
 *
 * The one idea: softmax can be taken in parts. A segment gives its values weighted by
 * e^(score - largest of the segment), the sum of those weights, and the largest; the parts of a
 * text are then blended by e^(largest of the part - largest of all). So a single token's past is
 * shared among the threads by head and segment, and because the segments begin at fixed positions,
 * a logit depends neither on the number of threads nor on how a text is cut into chunks.
 *
 * The queries of a group share its keys and values, and read them together. Keys lie in panels of 16
 * positions, [channel][16]: a score is a lane, and nothing is summed across lanes. */
#include <math.h>
#include <string.h>

#include "rows.h"
#include "worker.h"

static const me_cache_kernels *cache_kernels(const me_session *s) {
    return s->model->half_cache ? &s->kernels->f16 : &s->kernels->f32;
}

static size_t number_bytes(const me_session *s) {
    return s->model->half_cache ? sizeof(uint16_t) : sizeof(float);
}

/* Bytes of one head's keys (or values), up to a position. */
static size_t head_bytes(const me_session *s, uint32_t n, uint32_t head_dim) {
    return (size_t)n * head_dim * number_bytes(s);
}

size_t me_layer_cache_bytes(const me_session *s, const me_block *b) {
    return b->n_kv_head * head_bytes(s, s->cache_len, b->head_dim);
}

/* Angles in double, as the reference: at position 8000 a float has lost three digits. */
void me_compute_angles(const me_hand *w, uint32_t n_rotated) {
    uint32_t half = n_rotated / 2;
    me_share tokens = me_hand_share(w, w->s->n_tokens);
    for (uint32_t j = 0; j < half; j++) {
        double frequency = pow(w->m->config.rope_base, -(double)j / half);
        for (uint32_t t = tokens.begin; t < tokens.end; t++) {
            double angle = (w->s->position + t) * frequency;
            w->s->cosines[(size_t)t * half + j] = (float)cos(angle);
            w->s->sines[(size_t)t * half + j] = (float)sin(angle);
        }
    }
    me_meet(w);
}

static void scatter_key(const me_session *s, const float *key, uint32_t d, uint8_t *panel,
                        uint32_t lane) {
    if (s->model->half_cache) {
        uint16_t halfs[ME_COLUMNS], *out = (uint16_t *)(void *)panel;
        for (uint32_t begin = 0; begin < d; begin += ME_COLUMNS) {
            uint32_t n = d - begin < ME_COLUMNS ? d - begin : ME_COLUMNS;
            s->kernels->f16.store(key + begin, n, halfs);
            for (uint32_t c = 0; c < n; c++) out[(begin + c) * ME_PANEL + lane] = halfs[c];
        }
    } else {
        float *out = (float *)(void *)panel;
        for (uint32_t c = 0; c < d; c++) out[c * ME_PANEL + lane] = key[c];
    }
}

/* Token t's key and value of one head, from z into the cache. */
static void store_key(const me_hand *w, const me_block *b, const me_layer_cache *cache, uint32_t t,
                      uint32_t kv_head, const float *key) {
    const me_session *s = w->s;
    uint32_t d = b->head_dim, position = s->position + t, lane = position % ME_PANEL;
    size_t head = kv_head * head_bytes(s, s->cache_len, d);
    scatter_key(s, key, d, cache->keys + head + head_bytes(s, position - lane, d), lane);
    cache_kernels(s)->store(key + (size_t)b->n_kv_head * d, d,
                            cache->values + head + head_bytes(s, position, d));
}

/* Queries and keys are turned to their positions; keys and values go into the cache. */
static void store_keys(const me_hand *w, const me_block *b, const me_layer_cache *cache) {
    const me_session *s = w->s;
    uint32_t d = b->head_dim, half = b->n_rotated / 2, n_turned = b->n_head + b->n_kv_head;
    me_share tasks = me_hand_share(w, s->n_tokens * n_turned);
    for (uint32_t i = tasks.begin; i < tasks.end; i++) {
        uint32_t t = i / n_turned, head = i % n_turned;
        float *turned = me_z_row(w, t) + (size_t)head * d;
        if (w->m->config.position == ME_ROPE)
            me_rotate(turned, s->cosines + (size_t)t * half, s->sines + (size_t)t * half, half);
        if (head >= b->n_head) store_key(w, b, cache, t, head - b->n_head, turned);
    }
    me_meet(w);
}

/* One group of queries and one segment: its part of the softmax and of the values. */
static void attend_segment(const me_hand *w, const me_block *b, const me_layer_cache *cache,
                           uint32_t t, uint32_t kv_head, uint32_t segment, const me_parts *parts) {
    const me_session *s = w->s;
    const me_cache_kernels *k = cache_kernels(s);
    uint32_t d = b->head_dim, n_queries = b->n_head / b->n_kv_head;
    uint32_t begin = segment * ME_SEGMENT, n = s->position + t + 1 - begin;
    if (n > ME_SEGMENT) n = ME_SEGMENT;
    size_t place = kv_head * head_bytes(s, s->cache_len, d) + head_bytes(s, begin, d);
    float *scores = s->scores + (size_t)w->thread * s->model->max_queries * ME_SEGMENT;
    float scale = 1.0f / sqrtf((float)d);
    k->scores(me_z_row(w, t) + (size_t)kv_head * n_queries * d, n_queries, d, cache->keys + place,
              (n + ME_PANEL - 1) / ME_PANEL, scores, ME_SEGMENT);
    for (uint32_t q = 0; q < n_queries; q++) {
        float *x = scores + (size_t)q * ME_SEGMENT, largest = s->kernels->largest(x, n);
        s->kernels->exponentials(x, n, largest, scale);
        parts->largest[q * s->n_segments + segment] = largest;
        parts->sums[q * s->n_segments + segment] = s->kernels->total(x, n);
    }
    k->blend(scores, ME_SEGMENT, n_queries, cache->values + place, n, d,
             parts->values + (size_t)segment * d, (size_t)s->n_segments * d);
}

/* The parts of a group's segments become its rows of y. */
static void blend_parts(const me_hand *w, const me_block *b, uint32_t t, uint32_t kv_head,
                        const me_parts *parts) {
    const me_session *s = w->s;
    uint32_t d = b->head_dim, n_queries = b->n_head / b->n_kv_head;
    uint32_t n = (s->position + t) / ME_SEGMENT + 1;
    for (uint32_t q = 0; q < n_queries; q++) {
        float *out = me_y_row(w, t) + (size_t)(kv_head * n_queries + q) * d;
        float *weights = parts->largest + (size_t)q * s->n_segments, sum = 0;
        const float *sums = parts->sums + (size_t)q * s->n_segments;
        s->kernels->exponentials(weights, n, s->kernels->largest(weights, n), 1.0f / sqrtf((float)d));
        for (uint32_t i = 0; i < n; i++) sum += weights[i] * sums[i];
        s->kernels->f32.blend(weights, 0, 1, parts->values + (size_t)q * s->n_segments * d, n, d, out,
                              0);
        for (uint32_t c = 0; c < d; c++) out[c] /= sum;
    }
}

/* A single token: every head's segments are tasks of their own. */
static void attend_in_parts(const me_hand *w, const me_block *b, const me_layer_cache *cache) {
    uint32_t n_segments = w->s->position / ME_SEGMENT + 1;
    me_share tasks = me_hand_share(w, b->n_kv_head * n_segments);
    for (uint32_t i = tasks.begin; i < tasks.end; i++) {
        uint32_t kv_head = i / n_segments;
        attend_segment(w, b, cache, 0, kv_head, i % n_segments, &w->s->parts[kv_head]);
    }
    me_meet(w);
    me_share heads = me_hand_share(w, b->n_kv_head);
    for (uint32_t i = heads.begin; i < heads.end; i++) blend_parts(w, b, 0, i, &w->s->parts[i]);
}

/* Many tokens: there are tasks enough without cutting a token's past. */
static void attend_by_token(const me_hand *w, const me_block *b, const me_layer_cache *cache) {
    const me_parts *parts = &w->s->parts[w->thread];
    me_share tasks = me_hand_share(w, w->s->n_tokens * b->n_kv_head);
    for (uint32_t i = tasks.begin; i < tasks.end; i++) {
        uint32_t t = i / b->n_kv_head, kv_head = i % b->n_kv_head;
        uint32_t n_segments = (w->s->position + t) / ME_SEGMENT + 1;
        for (uint32_t segment = 0; segment < n_segments; segment++)
            attend_segment(w, b, cache, t, kv_head, segment, parts);
        blend_parts(w, b, t, kv_head, parts);
    }
}

void me_attention(const me_hand *w, const me_block *b, const me_layer_cache *cache) {
    store_keys(w, b, cache);
    if (w->s->n_tokens == 1)
        attend_in_parts(w, b, cache);
    else
        attend_by_token(w, b, cache);
    me_meet(w);
}
