/* One thread's view of the work, for the stages of a layer (decoder.c, attention.c).
 *
 * All threads run the same code on their share of each stage; where one stage reads what another
 * thread wrote in the stage before, they meet. */
#ifndef ME_WORKER_H
#define ME_WORKER_H

#include "session.h"

typedef struct {
    me_session *s;
    const me_model *m;
    uint32_t thread, n_threads;
} me_hand;

static inline void me_meet(const me_hand *w) { me_team_meet(&w->s->team); }

static inline me_share me_hand_share(const me_hand *w, uint32_t n) {
    return me_share_of(n, w->thread, w->n_threads);
}

/* Rows of token t of the chunk. */
static inline float *me_x_row(const me_hand *w, uint32_t t) {
    return w->s->x + (size_t)t * w->m->max_width;
}
static inline float *me_aside_row(const me_hand *w, uint32_t t) {
    return w->s->aside + (size_t)t * w->m->max_width;
}
static inline float *me_y_row(const me_hand *w, uint32_t t) {
    return w->s->y + (size_t)t * w->m->max_row;
}
static inline float *me_z_row(const me_hand *w, uint32_t t) {
    return w->s->z + (size_t)t * w->m->max_row;
}

/* Where one layer's keys and values lie. */
typedef struct {
    uint8_t *keys, *values;
} me_layer_cache;

/* From queries, keys and values in z to the attended values in y; the threads meet before y is
 * read. */
void me_attention(const me_hand *w, const me_block *b, const me_layer_cache *cache);
/* Bytes of keys (or values) of one layer. */
size_t me_layer_cache_bytes(const me_session *s, const me_block *b);
/* Cosines and sines of the chunk's positions, for heads of which so many channels turn. */
void me_compute_angles(const me_hand *w, uint32_t n_rotated);

#endif
