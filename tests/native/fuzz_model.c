/* Any bytes as a model file: refused with a sentence, or run to the end.
 *
 * A libFuzzer target; fuzz_mutator.c makes the files. The core is compiled with mmap and munmap
 * renamed to the two below: a file then lies in a heap block that ends where the file ends, and the
 * address sanitizer sees a read one byte behind it. What opens must keep a promise, too: tokens one
 * by one give the logits of the same tokens together. */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "merino_edge.h"

enum {
    SHORT = 20, /* tokens: more than a chunk and a panel of keys */
    LONG = 140, /* more than a segment of attention; one file in 16 */
    MAX_WORK = 8 << 20, MAX_SESSION = 64 << 20 /* bytes; more would only be slow */
};

static int file = -1;
static char path[40];
static long n_refused, n_ran, n_passed_over;

static void demand(int holds, const char *what) {
    if (holds) return;
    fprintf(stderr, "promise broken: %s\n", what);
    abort();
}

void *fuzz_mmap(void *address, size_t n, int protection, int flags, int fd, off_t offset) {
    void *memory = NULL;
    (void)address, (void)protection, (void)flags;
    if (posix_memalign(&memory, 4096, n) != 0) return MAP_FAILED;
    demand(pread(fd, memory, n, offset) == (ssize_t)n, "the whole file is read");
    return memory;
}

int fuzz_munmap(void *address, size_t n) {
    (void)n;
    free(address);
    return 0;
}

static void report(void) {
    fprintf(stderr, "%ld refused, %ld ran, %ld passed over\n", n_refused, n_ran, n_passed_over);
}

int LLVMFuzzerInitialize(int *argc, char ***argv) {
    (void)argc, (void)argv;
    file = memfd_create("model", 0);
    snprintf(path, sizeof path, "/proc/self/fd/%d", file);
    atexit(report);
    return file < 0;
}

/* What varies between files but the files: the kernels, the threads, the number of tokens. */
static uint32_t hash(const uint8_t *data, size_t n) {
    uint32_t h = 2166136261u;
    for (size_t i = 0; i < n; i++) h = (h ^ data[i]) * 16777619u;
    return h ^ h >> 15;
}

static void choose_kernels(uint32_t h) {
    static const char *const NAMES[] = {"plain", "avx2", "avx512vnni", "neon", "neondot"};
    if (me_use_kernels(NAMES[h % 5]) != ME_OK) me_use_kernels(NULL);
}

static int same(const float *a, const float *b, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (a[i] != b[i] && (a[i] == a[i] || b[i] == b[i])) return 0;
    return 1;
}

static void check_choices(me_session *s, uint32_t vocab_size) {
    int32_t best[5], one;
    float logits[5];
    uint64_t state = 1;
    uint32_t k = vocab_size < 5 ? vocab_size : 5;
    demand(me_best(s, k, best, logits) == ME_OK, "the best logits are known");
    demand(me_sample(s, 0.7f, k, 0.9f, &state, &one) == ME_OK, "a token can be drawn");
    demand(one >= 0 && (uint32_t)one < vocab_size, "what is drawn is a token");
    for (uint32_t i = 0; i < k; i++)
        demand(best[i] >= 0 && (uint32_t)best[i] < vocab_size, "what is best is a token");
    demand(me_step(s, (int32_t)vocab_size, NULL) == ME_ERROR_ARGUMENT, "no such token");
}

static void read_twice(me_session *s, uint32_t n, uint32_t vocab_size) {
    size_t row = vocab_size;
    int32_t *ids = malloc(n * sizeof *ids);
    float *together = malloc(n * row * sizeof *together), *alone = malloc(row * sizeof *alone);
    for (uint32_t i = 0; i < n; i++) ids[i] = (int32_t)(i * 7919 % vocab_size);
    demand(me_prefill(s, ids, n, n, together) == ME_OK, "the tokens are read");
    check_choices(s, vocab_size);
    demand(me_step(s, 0, NULL) == ME_ERROR_FULL, "the context is full");
    me_reset(s);
    demand(me_prefill(s, ids, 1 + n / 2, 0, NULL) == ME_OK, "half of them are read");
    for (uint32_t i = me_position(s); i < n; i++) {
        demand(me_step(s, ids[i], alone) == ME_OK, "one is read");
        demand(same(alone, together + i * row, row), "alone and together, the same logits");
    }
    demand(me_rewind(s, n + 1) == ME_ERROR_ARGUMENT, "nobody goes back to what comes later");
    demand(me_rewind(s, n - 1) == ME_OK && me_position(s) == n - 1, "the last token is forgotten");
    demand(me_step(s, ids[n - 1], alone) == ME_OK, "it is read again");
    demand(same(alone, together + (n - 1) * row, row), "with the same logits");
    free(ids), free(together), free(alone);
}

static void run(me_model *model, uint32_t h) {
    me_info info;
    me_session *session;
    demand(me_get_info(model, &info) == ME_OK, "an open model has sizes");
    uint32_t n = h / 8 % 16 ? SHORT : LONG, n_threads = h / 128 % 64 ? 1 : 2;
    if (n > info.max_seq_len) n = info.max_seq_len;
    size_t n_bytes = me_session_bytes(model, n, n_threads);
    demand(n_bytes > 0, "a session has a size");
    if (n_bytes > MAX_SESSION || info.n_layers * info.file_bytes * n / SHORT > MAX_WORK) {
        n_passed_over++;
        return;
    }
    demand(me_session_open(model, n, n_threads, &session, NULL, 0) == ME_OK, "a session opens");
    read_twice(session, n, info.vocab_size);
    me_session_close(session);
    n_ran++;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    char message[200] = "";
    me_model *model;
    uint32_t h = hash(data, n);
    demand(ftruncate(file, 0) == 0 && pwrite(file, data, n, 0) == (ssize_t)n, "the file is written");
    choose_kernels(h);
    if (me_open(path, &model, message, sizeof message) == ME_OK) {
        run(model, h);
        me_close(model);
    } else {
        demand(message[0] != 0, "a refusal says why");
        n_refused++;
    }
    return 0;
}
