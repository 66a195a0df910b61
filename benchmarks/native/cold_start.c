/* From nothing to the first token, and what memory does over many tokens: lines "name value".
 *
 *     cold_start MODEL CONTEXT THREADS [TOKENS]
 *
 * Without TOKENS: milliseconds until the first token is known, and the process's peak memory. With
 * TOKENS: the time of so many, and resident memory after a thousand of them and after all. */
#define _POSIX_C_SOURCE 200809L
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "merino_edge.h"

static double now_ms(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec * 1e-6;
}

/* A line of /proc/self/status, in kB. */
static long status_kb(const char *name) {
    char line[256];
    long kb = -1;
    FILE *status = fopen("/proc/self/status", "r");
    while (status && fgets(line, sizeof line, status))
        if (strncmp(line, name, strlen(name)) == 0) kb = atol(line + strlen(name) + 1);
    if (status) fclose(status);
    return kb;
}

static void fail(int status, const char *message) {
    if (status == ME_OK) return;
    fprintf(stderr, "%s: %s\n", me_status_text(status), message);
    exit(1);
}

static int32_t step(me_session *session, int32_t id) {
    fail(me_step(session, id, NULL), "");
    fail(me_best(session, 1, &id, NULL), "");
    return id;
}

static void read_many(me_session *session, uint32_t context_len, long n_tokens) {
    int32_t id = 1;
    double begun = now_ms();
    for (long i = 0; i < n_tokens; i++) {
        if (me_position(session) == context_len) me_reset(session);
        id = step(session, id);
        if (i + 1 == 1000) printf("rss_after_1000_kb %ld\n", status_kb("VmRSS"));
    }
    printf("decode_ms %.3f\n", now_ms() - begun);
    printf("rss_after_all_kb %ld\n", status_kb("VmRSS"));
}

int main(int argc, char **argv) {
    double begun = now_ms();
    char message[256] = "";
    me_model *model;
    me_session *session;
    int32_t id;
    if (argc < 4) return 2;
    uint32_t context_len = (uint32_t)atoi(argv[2]), n_threads = (uint32_t)atoi(argv[3]);
    fail(me_open(argv[1], &model, message, sizeof message), message);
    double opened = now_ms();
    fail(me_session_open(model, context_len, n_threads, &session, message, sizeof message), message);
    double ready = now_ms();
    static const int32_t PROMPT[] = {1, 2, 3, 4, 5, 6, 7, 8};
    fail(me_prefill(session, PROMPT, 8, 1, NULL), "");
    fail(me_best(session, 1, &id, NULL), "");
    printf("open_ms %.3f\nsession_ms %.3f\n", opened - begun, ready - opened);
    printf("first_token_ms %.3f\n", now_ms() - begun);
    printf("peak_kb %ld\n", status_kb("VmHWM"));
    printf("session_bytes %zu\n", me_session_bytes(model, context_len, n_threads));
    if (argc > 4) read_many(session, context_len, atol(argv[4]));
    me_session_close(session);
    me_close(model);
    return 0;
}
