/* Sessions: their memory, taken at once, and the functions that callers see.
 *
 * The memory is laid out by one function that runs twice: over nothing, to learn the size, and over
 * the allocation, to give the pointers. So the two cannot disagree. */
#define _POSIX_C_SOURCE 200112L
#include "session.h"

#include <stdlib.h>
#include <string.h>

#include "file.h"

enum { ALIGNMENT = 64 };

static void *part(uint8_t *base, uint64_t *used, uint64_t n_items, size_t item_bytes) {
    void *place = base ? base + *used : NULL;
    *used += (n_items * item_bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    return place;
}

static void lay_out_rows(me_session *s, uint8_t *base, uint64_t *used) {
    uint64_t n_blocks = (s->model->max_row + ME_COLUMNS - 1) / ME_COLUMNS;
    s->rows = part(base, used, ME_CHUNK, sizeof *s->rows);
    for (int t = 0; t < ME_CHUNK; t++) {
        me_row row;
        row.q = part(base, used, n_blocks, ME_COLUMNS);
        row.scale = part(base, used, n_blocks, sizeof *row.scale);
        row.total = part(base, used, n_blocks, sizeof *row.total);
        row.sum = part(base, used, n_blocks, sizeof *row.sum);
        if (base) s->rows[t] = row;
    }
}

static void lay_out_parts(me_session *s, uint8_t *base, uint64_t *used, uint32_t n_threads) {
    const me_model *m = s->model;
    uint32_t n_parts = n_threads > m->max_kv_head ? n_threads : m->max_kv_head;
    uint64_t n_sums = (uint64_t)m->max_queries * s->n_segments;
    s->parts = part(base, used, n_parts, sizeof *s->parts);
    for (uint32_t i = 0; i < n_parts; i++) {
        me_parts parts;
        parts.largest = part(base, used, n_sums, sizeof(float));
        parts.sums = part(base, used, n_sums, sizeof(float));
        parts.values = part(base, used, (uint64_t)m->max_group * s->n_segments, sizeof(float));
        if (base) s->parts[i] = parts;
    }
}

/* Sets the pointers of a session whose memory begins at base; gives the bytes in all. */
static uint64_t lay_out(me_session *s, uint8_t *base, uint32_t n_threads) {
    const me_model *m = s->model;
    uint64_t used = 0;
    s->n_segments = (s->context_len + ME_SEGMENT - 1) / ME_SEGMENT;
    s->cache_len = (s->context_len + ME_PANEL - 1) / ME_PANEL * ME_PANEL;
    part(base, &used, 1, sizeof *s);
    s->workers = part(base, &used, n_threads, sizeof *s->workers);
    s->x = part(base, &used, (uint64_t)ME_CHUNK * m->max_width, sizeof(float));
    uint64_t n_aside = m->config.parallel_residual ? (uint64_t)ME_CHUNK * m->max_width : 0;
    s->aside = part(base, &used, n_aside, sizeof(float));
    s->y = part(base, &used, (uint64_t)ME_CHUNK * m->max_row, sizeof(float));
    s->z = part(base, &used, (uint64_t)ME_CHUNK * m->max_row, sizeof(float));
    lay_out_rows(s, base, &used);
    s->scores = part(base, &used, (uint64_t)n_threads * m->max_queries * ME_SEGMENT, sizeof(float));
    lay_out_parts(s, base, &used, n_threads);
    s->cosines = part(base, &used, (uint64_t)ME_CHUNK * m->max_half, sizeof(float));
    s->sines = part(base, &used, (uint64_t)ME_CHUNK * m->max_half, sizeof(float));
    s->logits = part(base, &used, m->config.vocab_size, sizeof(float));
    size_t number = m->half_cache ? sizeof(uint16_t) : sizeof(float);
    s->keys = part(base, &used, m->cache_row * s->cache_len, number);
    s->values = part(base, &used, m->cache_row * s->cache_len, number);
    return used;
}

static uint32_t smaller(uint32_t a, uint32_t b) { return a < b ? a : b; }

/* The threads of a session that was asked to have so many; 0 if it cannot. */
static uint32_t team_size(uint32_t n_threads) {
    return n_threads > ME_MAX_THREADS ? 0 : smaller(n_threads, me_usable_threads());
}

static int possible(const me_model *m, uint32_t context_len, uint32_t n_threads) {
    return context_len >= 1 && context_len <= m->config.max_seq_len && n_threads >= 1;
}

static size_t session_bytes(const me_model *model, uint32_t context_len, uint32_t n_threads) {
    me_session plan;
    if (!model || !possible(model, context_len, n_threads)) return 0;
    memset(&plan, 0, sizeof plan);
    plan.model = model;
    plan.context_len = context_len;
    uint64_t n_bytes = lay_out(&plan, NULL, n_threads);
    return n_bytes > SIZE_MAX ? 0 : (size_t)n_bytes;
}

size_t me_session_bytes(const me_model *model, uint32_t context_len, uint32_t n_threads) {
    return session_bytes(model, context_len, team_size(n_threads));
}

int me_session_open(const me_model *model, uint32_t context_len, uint32_t n_threads,
                    me_session **session, char *message, size_t message_bytes) {
    me_message to = {message, message_bytes};
    uint32_t n_team = team_size(n_threads);
    size_t n_bytes = session_bytes(model, context_len, n_team);
    void *memory = NULL;
    if (!session) return ME_ERROR_ARGUMENT;
    *session = NULL;
    if (n_bytes == 0)
        return me_fail(&to, ME_ERROR_ARGUMENT, "no session of %u tokens with %u threads: "
                       "1 to %u tokens, 1 to %d threads", context_len, n_threads,
                       model ? model->config.max_seq_len : 0, ME_MAX_THREADS);
    if (posix_memalign(&memory, ALIGNMENT, n_bytes) != 0)
        return me_fail(&to, ME_ERROR_MEMORY, "a session needs %zu bytes", n_bytes);
    me_session *s = memory;
    memset(s, 0, sizeof *s);
    s->model = model;
    s->kernels = me_kernels_in_use();
    s->context_len = context_len;
    lay_out(s, memory, n_team);
    if (me_team_start(&s->team, s->workers, n_team) != 0) {
        free(memory);
        return me_fail(&to, ME_ERROR_SYSTEM, "%u threads cannot be started", n_team);
    }
    *session = s;
    return ME_OK;
}

void me_session_close(me_session *s) {
    if (!s) return;
    me_team_stop(&s->team);
    free(s);
}

static int check_ids(const me_session *s, const int32_t *ids, uint32_t n) {
    if (!ids && n) return ME_ERROR_ARGUMENT;
    for (uint32_t i = 0; i < n; i++)
        if (ids[i] < 0 || (uint32_t)ids[i] >= s->model->config.vocab_size)
            return ME_ERROR_ARGUMENT;
    return n > s->context_len - s->position ? ME_ERROR_FULL : ME_OK;
}

/* A step or a whole chunk by whoever is faster at it; other lengths are not compared. */
static void run_team(me_session *s) {
    me_pace *pace = s->n_tokens == 1 ? &s->step_pace : &s->chunk_pace;
    if (s->n_tokens == 1 || s->n_tokens == ME_CHUNK)
        me_pace_run(pace, &s->team, me_decode_chunk, s);
    else
        me_team_run(&s->team, me_decode_chunk, s);
}

/* One chunk; n_rows of its last tokens get logits, into the caller's rows or the session's own. */
static void run_chunk(me_session *s, const int32_t *ids, uint32_t n, uint32_t n_rows,
                      float *logits) {
    size_t vocab_size = s->model->config.vocab_size;
    s->ids = ids;
    s->n_tokens = n;
    s->n_heads_rows = n_rows;
    s->logits_out = logits ? logits : s->logits;
    run_team(s);
    s->position += n;
    s->has_logits = n_rows > 0;
    if (logits && n_rows)
        memcpy(s->logits, logits + (n_rows - 1) * vocab_size, vocab_size * sizeof(float));
}

int me_prefill(me_session *s, const int32_t *ids, uint32_t n, uint32_t n_logits, float *logits) {
    if (!s || n == 0 || n_logits > n) return ME_ERROR_ARGUMENT;
    int status = check_ids(s, ids, n);
    if (status != ME_OK) return status;
    if (!logits) n_logits = smaller(n_logits, 1);
    uint32_t first_logits = n - n_logits;
    __atomic_store_n(&s->cancelled, 0, __ATOMIC_RELAXED);
    for (uint32_t begin = 0, end; begin < n; begin = end) {
        if (__atomic_load_n(&s->cancelled, __ATOMIC_RELAXED)) return ME_CANCELLED;
        end = begin + smaller(n - begin, ME_CHUNK);
        uint32_t n_rows = end <= first_logits ? 0 : smaller(end - first_logits, end - begin);
        run_chunk(s, ids + begin, end - begin, n_rows, logits);
        if (logits) logits += (size_t)n_rows * s->model->config.vocab_size;
    }
    return ME_OK;
}

int me_step(me_session *s, int32_t id, float *logits) {
    if (!s) return ME_ERROR_ARGUMENT;
    int status = check_ids(s, &id, 1);
    if (status == ME_OK) run_chunk(s, &id, 1, 1, logits);
    return status;
}

uint32_t me_position(const me_session *s) { return s ? s->position : 0; }

int me_rewind(me_session *s, uint32_t n_tokens) {
    if (!s || n_tokens > s->position) return ME_ERROR_ARGUMENT;
    s->position = n_tokens;
    s->has_logits = 0;
    return ME_OK;
}

void me_reset(me_session *s) { me_rewind(s, 0); }

void me_cancel(me_session *s) {
    if (s) __atomic_store_n(&s->cancelled, 1, __ATOMIC_RELAXED);
}
