/* Merino Edge: a client of `merino-edge serve BUNDLE --socket PATH`, in one header and one source.
 *
 * Speaks merino-edge.socket/1 (PROTOCOL.md): a line of JSON asks, lines of JSON answer. Allocates
 * nothing: a client is the struct below, whose buffer holds the longest line that a server sends,
 * and a prompt is escaped on its way into the socket. Never waits longer than it is told to, sets no
 * signals, keeps no state outside of the struct; a client is for one thread at a time, several
 * clients are independent. C99 and POSIX.
 *
 *     static mec_client client; mec_event event;
 *     if (mec_open(&client, "/run/merino-edge/socket", 2000) != MEC_OK) ... client.why
 *     mec_generate(&client, 1, "The sheep", NULL);
 *     while (mec_next(&client, &event, 5000) == MEC_OK && !mec_is_last(&event))
 *         fwrite(event.text, 1, event.text_bytes, stdout);
 *     mec_close(&client);
 */
#ifndef MERINO_EDGE_CLIENT_H
#define MERINO_EDGE_CLIENT_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define MEC_PROTOCOL "merino-edge.socket/1"
enum { MEC_MAX_EVENT_BYTES = 8192, MEC_WHY_BYTES = 160 };

enum {
    MEC_OK = 0,
    MEC_TIMEOUT = 1,        /* nothing came in time; ask again */
    MEC_CLOSED = 2,         /* the server is gone, or was never there: mec_close, mec_open */
    MEC_ERROR_PROTOCOL = 3, /* it speaks something else, or another version */
    MEC_ERROR_ARGUMENT = 4
};

typedef enum {
    MEC_OTHER = 0, /* an event that this version does not know: ignore it */
    MEC_HELLO,
    MEC_ACCEPTED,  /* n_prompt */
    MEC_TOKEN,     /* text, which may be empty; token_id */
    MEC_DONE,      /* finish_reason, n_prompt, n_generated, ttft_ms, decode_ms */
    MEC_ERROR,     /* code, message; of a request, its last event */
    MEC_PONG,
    MEC_RESET,
    MEC_STATS
} mec_kind;

/* Strings end with a zero, are never NULL, and hold until the next call with this client. */
typedef struct {
    mec_kind kind;
    int64_t id; /* of the request; -1 where the line has none */
    const char *text;
    size_t text_bytes; /* the text may hold zeros */
    int32_t token_id;  /* -1 where the event brings none */
    const char *finish_reason, *code, *message;
    int64_t n_prompt, n_generated, context_len; /* -1 where the event does not say */
    double ttft_ms, decode_ms;                  /* the same */
} mec_event;

/* What a request may choose; begin with MEC_DEFAULTS. Negative: as the bundle recommends. */
typedef struct {
    int64_t max_new_tokens, top_k, seed;
    double temperature, top_p, repetition_penalty;
    double limit_ms; /* until it must have ended, waiting included */
    const char *stop; /* ends before this text; NULL for none */
} mec_options;
#define MEC_DEFAULTS {-1, -1, -1, -1.0, -1.0, -1.0, -1.0, NULL}

/* The fields are for this source alone, but for why and context_len. */
typedef struct {
    int fd;
    int send_timeout_ms;
    int64_t context_len; /* tokens that fit, as the server said */
    size_t n_held, n_taken; /* bytes in the buffer; those of the line that was given out */
    int is_dropping;
    char why[MEC_WHY_BYTES]; /* one sentence after a failure */
    char held[MEC_MAX_EVENT_BYTES + 1];
} mec_client;

/* Connects and reads the hello. timeout_ms also bounds later sending. */
int mec_open(mec_client *client, const char *path, int timeout_ms);
void mec_close(mec_client *client); /* also after a failed opening; the server cancels what is open */

/* Asks for a text to be continued; id is the caller's, from 0, and not in use. options may be NULL.
 * The prompt is UTF-8. */
int mec_generate(mec_client *client, int64_t id, const char *prompt, const mec_options *options);
/* The same with token ids, for a bundle without a tokenizer. */
int mec_generate_ids(mec_client *client, int64_t id, const int32_t *ids, size_t n,
                     const mec_options *options);
/* Asks for an answer; system may be NULL. */
int mec_chat(mec_client *client, int64_t id, const char *system, const char *user,
             const mec_options *options);
int mec_cancel(mec_client *client, int64_t id); /* its last event comes nevertheless */
/* A line as it is, without its end, for what else the protocol knows: "{\"op\":\"stats\"}". */
int mec_send_line(mec_client *client, const char *line);

/* The next event; timeout_ms 0 for what is there, negative to wait as long as it takes. */
int mec_next(mec_client *client, mec_event *event, int timeout_ms);
/* Whether a request ends with this event. */
int mec_is_last(const mec_event *event);
int mec_fd(const mec_client *client); /* to poll for input, beside other things */

#ifdef __cplusplus
}
#endif
#endif
