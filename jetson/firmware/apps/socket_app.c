/* A firmware that asks a server on the same board: socket_app SOCKET BUDGET_MS N_TOKENS < prompts
 *
 * Each line of the input is a prompt; what continues it comes out as one line. The program keeps no
 * model, no tokenizer and no more memory than it was born with, and it outlives the server: when
 * that is restarted, the program connects again, at growing intervals, and asks again what was not
 * answered. An answer that is not there after BUDGET_MS milliseconds is cancelled, and what came of
 * it is kept. The line on stderr says how each ended.
 */
#define _POSIX_C_SOURCE 200809L
#include "merino_edge_client.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { MAX_LINE = 1 << 14, CONNECT_MS = 2000, GRACE_MS = 5000, MAX_TRIES = 8 };

static mec_client client;
static char line[MAX_LINE], text[1 << 16];
static size_t n_text;

static void sleep_ms(long ms) {
    struct timespec t = {ms / 1000, ms % 1000 * 1000000};
    nanosleep(&t, NULL);
}

/* Connects, at intervals from 100 ms to 6.4 s; whether it did. */
static int connected(const char *path) {
    long pause_ms = 100;
    for (int i = 0; i < MAX_TRIES; i++, pause_ms *= 2) {
        if (mec_open(&client, path, CONNECT_MS) == MEC_OK) return 1;
        fprintf(stderr, "not connected (%s)\n", client.why);
        if (i + 1 < MAX_TRIES) sleep_ms(pause_ms);
    }
    return 0;
}

static void keep(const mec_event *event) {
    size_t n = event->text_bytes < sizeof text - n_text ? event->text_bytes : sizeof text - n_text;
    memcpy(text + n_text, event->text, n);
    n_text += n;
}

/* One request from its asking to its last event; MEC_CLOSED if the server left in between. */
static int ask(int64_t id, int budget_ms, int64_t n_tokens) {
    mec_options options = MEC_DEFAULTS;
    mec_event event;
    int is_cancelled = 0;
    options.max_new_tokens = n_tokens;
    options.limit_ms = budget_ms; /* the server keeps it, too */
    n_text = 0;
    int status = mec_generate(&client, id, line, &options);
    while (status == MEC_OK) {
        status = mec_next(&client, &event, is_cancelled ? GRACE_MS : budget_ms);
        if (status == MEC_TIMEOUT && !is_cancelled) {
            is_cancelled = 1;
            status = mec_cancel(&client, id);
        } else if (status == MEC_OK && event.id == id) {
            keep(&event);
            if (!mec_is_last(&event)) continue;
            if (event.kind == MEC_ERROR)
                fprintf(stderr, "refused: %s (%s)\n", event.message, event.code);
            else
                fprintf(stderr, "%s: %ld tokens, the first after %.0f ms\n", event.finish_reason,
                        (long)event.n_generated, event.ttft_ms);
            return MEC_OK;
        }
    }
    mec_close(&client); /* whatever it was, the next begins with a new connection */
    return MEC_CLOSED;
}

int main(int argc, char **argv) {
    if (argc != 4) return puts("usage: socket_app SOCKET BUDGET_MS N_TOKENS < prompts"), 2;
    if (!connected(argv[1])) return 1;
    for (int64_t id = 1; fgets(line, sizeof line, stdin); id++) {
        line[strcspn(line, "\n")] = 0;
        for (int tries = 0; ask(id, atoi(argv[2]), atol(argv[3])) != MEC_OK; tries++) {
            fprintf(stderr, "asked again (%s)\n", client.why);
            if (tries == MAX_TRIES || !connected(argv[1])) return 1;
        }
        fwrite(text, 1, n_text, stdout);
        putchar('\n');
        fflush(stdout);
    }
    mec_close(&client);
    return 0;
}
