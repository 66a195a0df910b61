/* A firmware that embeds the decoder: embedded_app MODEL PIECES BUDGET_MS N_TOKENS < requests
 *
 * What a device does that has no other process to ask: it takes all memory at its start, reads the
 * instruction that begins every request once, and then answers requests until its input ends. Each
 * line of the input is token ids; the first line is that instruction, the others are requests,
 * prepared on a workstation, since the decoder knows no tokenizer. For each request one line of text
 * comes out. An answer has N_TOKENS tokens at most and BUDGET_MS milliseconds from the request on
 * (a device has other things to do); then it is cut, and the line on stderr says so. A request that
 * does not fit, or that holds nonsense, is refused, and the next one is none the worse for it.
 * SIGINT and SIGTERM end the program between two tokens, and nothing stays open.
 */
#define _POSIX_C_SOURCE 200809L
#include <errno.h>
#include <merino_edge.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { MAX_IDS = 4096, MAX_LINE = 1 << 16, N_THREADS = 4 };

static uint32_t table[1 << 20]; /* pieces.bin: see formats/pieces_file.py */
static char line[MAX_LINE];
static int32_t ids[MAX_IDS];
static volatile sig_atomic_t stopping;

static void on_signal(int number) {
    (void)number;
    stopping = 1;
}

static double now_ms(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return 1e3 * (double)t.tv_sec + 1e-6 * (double)t.tv_nsec;
}

/* As in examples/stream_text.c: each of these programs is one file, to be copied whole. */
static int read_table(const char *path) {
    FILE *file = fopen(path, "rb");
    size_t size = file ? fread(table, 1, sizeof table, file) : 0;
    if (file) fclose(file);
    return size > 24 && !memcmp(table, "PIECES\0\1", 8) &&
           size == 4 * (7 + (size_t)table[2] + table[3]) + table[4];
}

static int ends_text(uint32_t id) {
    for (uint32_t i = 0; i < table[3]; i++)
        if (table[6 + i] == id) return 1;
    return 0;
}

static void write_piece(uint32_t id) {
    const uint32_t *starts = table + 6 + table[3], *text = starts + table[2] + 1;
    if (id < table[2])
        fwrite((const char *)text + starts[id], 1, starts[id + 1] - starts[id], stdout);
}

/* The next line of the input as ids; how many, 0 at its end, -1 for a line that is none. */
static int read_ids(void) {
    char *at = line, *end;
    int n = 0;
    if (!fgets(line, sizeof line, stdin)) return 0;
    int is_whole = strchr(line, '\n') || feof(stdin);
    for (int c = 0; !is_whole && c != '\n' && c != EOF;) c = getchar(); /* the rest of it */
    for (; is_whole; at = end) {
        errno = 0;
        long id = strtol(at, &end, 10);
        if (end == at) break;
        if (n == MAX_IDS || errno || id < 0 || id > INT32_MAX) return -1;
        ids[n++] = (int32_t)id;
    }
    return !is_whole || *(at += strspn(at, " \t\r\n")) || !n ? -1 : n;
}

/* One answer, behind the instruction; the text goes out as it comes. */
static const char *answer(me_session *session, uint32_t n, double budget_ms, long n_tokens) {
    double until_ms = now_ms() + budget_ms;
    int32_t id;
    int status = me_prefill(session, ids, n, 1, NULL);
    while (status == ME_OK && n_tokens-- > 0) {
        if (stopping) return "stopped";
        if (now_ms() > until_ms) return "cut: its time was over";
        status = me_best(session, 1, &id, NULL);
        if (status != ME_OK || ends_text((uint32_t)id)) break;
        write_piece((uint32_t)id);
        if (n_tokens > 0) status = me_step(session, id, NULL);
    }
    return status == ME_ERROR_FULL ? "cut: the context is full" : me_status_text(status);
}

static int serve(me_session *session, double budget_ms, long n_tokens) {
    int n = read_ids(), status = n > 0 ? me_prefill(session, ids, (uint32_t)n, 0, NULL) : -1;
    if (status != ME_OK) return fprintf(stderr, "the instruction cannot be read\n"), 1;
    uint32_t instruction = me_position(session);
    while (!stopping && (n = read_ids()) != 0) {
        const char *how = "refused: no token ids";
        if (n > 0) how = answer(session, (uint32_t)n, budget_ms, n_tokens);
        putchar('\n');
        fflush(stdout);
        fprintf(stderr, "%s\n", how);
        me_rewind(session, instruction); /* what was read once stays read */
    }
    return 0;
}

int main(int argc, char **argv) {
    char why[256] = "the table of pieces cannot be read, or is damaged";
    struct sigaction action;
    me_model *model = NULL;
    me_session *session = NULL;
    me_info info;
    if (argc != 5) return puts("usage: embedded_app MODEL PIECES BUDGET_MS N_TOKENS < requests"), 2;
    memset(&action, 0, sizeof action);
    action.sa_handler = on_signal; /* without SA_RESTART: it also ends the waiting for input */
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    int failed = !read_table(argv[2]) || me_open(argv[1], &model, why, sizeof why) != ME_OK;
    if (!failed) me_get_info(model, &info);
    failed = failed || me_session_open(model, info.max_seq_len, N_THREADS, &session, why, sizeof why);
    if (failed) {
        fprintf(stderr, "%s\n", why);
    } else {
        fprintf(stderr, "%s kernels, %zu bytes of session, and no more will be taken\n",
                info.kernels, me_session_bytes(model, info.max_seq_len, N_THREADS));
        failed = serve(session, atof(argv[3]), atol(argv[4]));
    }
    me_session_close(session);
    me_close(model);
    return failed;
}
