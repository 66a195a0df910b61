/* Merino Edge: a decoder that runs from one memory-mapped file.
 *
 * A model is a read-only file, mapped and used in place: processes share it, and opening copies
 * nothing. A session is one text: its cache, its threads and its scratch memory, all taken when it
 * is opened; a step allocates nothing. Several sessions may share a model, each used by one thread
 * at a time. Functions that can fail give a status; nothing here exits, prints or sets signals.
 *
 *     me_model *model; me_session *session; char message[256]; int32_t id;
 *     if (me_open("model.merino", &model, message, sizeof message) != ME_OK) ...
 *     me_session_open(model, 512, 2, &session, message, sizeof message);
 *     me_prefill(session, ids, n, 1, NULL);
 *     while (me_best(session, 1, &id, NULL) == ME_OK && id != end) me_step(session, id, NULL);
 */
#ifndef MERINO_EDGE_H
#define MERINO_EDGE_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default) /* a shared library exports these, and nothing else */

#define ME_ABI_VERSION 3

enum {
    ME_OK = 0,
    ME_ERROR_FILE = 1,     /* the file cannot be opened, read or mapped */
    ME_ERROR_FORMAT = 2,   /* it is not a model of this version, or it is damaged */
    ME_ERROR_MEMORY = 3,
    ME_ERROR_ARGUMENT = 4, /* a token id, a count or a pointer that cannot be */
    ME_ERROR_FULL = 5,     /* the context has no room for these tokens */
    ME_CANCELLED = 6,
    ME_ERROR_SYSTEM = 7    /* threads could not be started */
};

enum { ME_MAX_TOP_K = 256, ME_MAX_THREADS = 64 };

typedef struct me_model me_model;
typedef struct me_session me_session;

typedef struct {
    uint32_t vocab_size, max_seq_len, n_layers, n_blocks;
    uint64_t file_bytes;
    const char *kernels; /* the instruction set in use, as in me_use_kernels */
} me_info;

uint32_t me_abi_version(void);
const char *me_status_text(int status);

/* message may be NULL; otherwise it holds one sentence after a failure, cut to message_bytes. */
int me_open(const char *path, me_model **model, char *message, size_t message_bytes);
void me_close(me_model *model); /* after its sessions */
int me_get_info(const me_model *model, me_info *info);

/* Processors that this process may use, 1 to ME_MAX_THREADS: its affinity, and on Linux the quota of
 * processor time of its cgroups. A session asked for more threads than that runs so many; on a
 * machine busy with other work it runs a step on one thread where that is faster. No logit depends
 * on the number of threads. */
uint32_t me_usable_threads(void);

/* All the memory of a session, in bytes; 0 if there can be no such session. */
size_t me_session_bytes(const me_model *model, uint32_t context_len, uint32_t n_threads);
int me_session_open(const me_model *model, uint32_t context_len, uint32_t n_threads,
                    me_session **session, char *message, size_t message_bytes);
void me_session_close(me_session *session);

/* Reads n tokens. logits: [n_logits, vocab_size] of the last n_logits of them, or NULL. With
 * n_logits 0 no logits are computed; with n_logits > 0 me_best knows those of the last token.
 * Nothing is read if an id is out of range or the context too short. */
int me_prefill(me_session *session, const int32_t *ids, uint32_t n, uint32_t n_logits,
               float *logits);
/* Reads one token; logits: [vocab_size], or NULL for me_best alone. */
int me_step(me_session *session, int32_t id, float *logits);
/* The k largest of the last logits, largest first, the lower id first among equals. */
int me_best(me_session *session, uint32_t k, int32_t *ids, float *logits);
/* One of the top_k largest (1 to ME_MAX_TOP_K), by chance: the likelier first that together reach the
 * share top_p (1 for all), at a temperature (0 for the largest alone). state is the caller's random
 * number: begin with any, and keep it; the same state gives the same text. */
int me_sample(me_session *session, float temperature, uint32_t top_k, float top_p, uint64_t *state,
              int32_t *id);
uint32_t me_position(const me_session *session);
/* Forgets what comes after the first n_tokens, which stay read: a text may be continued in several
 * ways. ME_ERROR_ARGUMENT, and nothing forgotten, if fewer were read. me_best knows no logits then. */
int me_rewind(me_session *session, uint32_t n_tokens);
void me_reset(me_session *session); /* to the beginning */
/* From another thread: the running me_prefill stops between chunks and returns ME_CANCELLED; the
 * tokens of the chunks before stay read, as me_position says. */
void me_cancel(me_session *session);

/* "plain", "avx2", "avx512vnni", "neon", "neondot" or NULL for the best: process-wide, for tests,
 * before a session is opened. ME_ERROR_ARGUMENT if this machine lacks it. */
int me_use_kernels(const char *name);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif
