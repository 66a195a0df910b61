/* Which token comes next: the largest logits, or one of them by chance.
 *
 * k is small and nearly all logits lose against the k-th best so far, so whole strips are passed
 * over by their largest value; what is left goes by insertion into a short sorted list. */

#include "session.h"

enum { STRIP = 256 };

typedef struct {
    const float *logits;
    int32_t *ids;
    uint32_t n, k;
} best_list;

static void consider(best_list *best, uint32_t id) {
    const float *logits = best->logits;
    if (best->n == best->k && !(logits[id] > logits[best->ids[best->n - 1]])) return;
    uint32_t place = best->n < best->k ? best->n++ : best->n - 1;
    for (; place && logits[id] > logits[best->ids[place - 1]]; place--)
        best->ids[place] = best->ids[place - 1];
    best->ids[place] = (int32_t)id;
}

int me_best(me_session *s, uint32_t k, int32_t *ids, float *logits) {
    if (!s || !ids || !s->has_logits || k > s->model->config.vocab_size) return ME_ERROR_ARGUMENT;
    best_list best = {s->logits, ids, 0, k};
    uint32_t n_ids = k ? s->model->config.vocab_size : 0;
    for (uint32_t begin = 0; begin < n_ids; begin += STRIP) {
        uint32_t n = n_ids - begin < STRIP ? n_ids - begin : STRIP;
        if (best.n == k && !(s->kernels->largest(s->logits + begin, n) > s->logits[ids[k - 1]]))
            continue;
        for (uint32_t id = begin; id < begin + n; id++) consider(&best, id);
    }
    for (uint32_t i = 0; logits && i < k; i++) logits[i] = s->logits[ids[i]];
    return ME_OK;
}

/* SplitMix64 (Steele, Lea, Flood 2014): any state will do, 0 too. In [0, 1), 24 bits of it. */
static float next_random(uint64_t *state) {
    uint64_t z = *state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return (float)((z ^ z >> 31) >> 40) * 0x1p-24f;
}

/* Of weights that fall, the first that together reach the share. */
static uint32_t nucleus(const float *weights, uint32_t n, float share) {
    float sum = 0, reached = 0;
    for (uint32_t i = 0; i < n; i++) sum += weights[i];
    for (uint32_t i = 0; i < n; i++)
        if ((reached += weights[i]) >= share * sum) return i + 1;
    return n;
}

static uint32_t draw(const float *weights, uint32_t n, uint64_t *state) {
    float sum = 0;
    for (uint32_t i = 0; i < n; i++) sum += weights[i];
    float left = next_random(state) * sum;
    for (uint32_t i = 0; i + 1 < n; i++)
        if ((left -= weights[i]) < 0) return i;
    return n - 1;
}

int me_sample(me_session *s, float temperature, uint32_t top_k, float top_p, uint64_t *state,
              int32_t *id) {
    int32_t ids[ME_MAX_TOP_K];
    float weights[ME_MAX_TOP_K];
    if (!s || !id || top_k < 1 || top_k > ME_MAX_TOP_K || !(temperature >= 0) || !(top_p > 0))
        return ME_ERROR_ARGUMENT;
    if (temperature == 0) return me_best(s, 1, id, NULL);
    if (top_k > s->model->config.vocab_size) top_k = s->model->config.vocab_size;
    int status = state ? me_best(s, top_k, ids, weights) : ME_ERROR_ARGUMENT;
    if (status != ME_OK) return status;
    s->kernels->exponentials(weights, top_k, weights[0], 1.0f / temperature);
    *id = ids[draw(weights, nucleus(weights, top_k, top_p), state)];
    return ME_OK;
}
