/* What sessions promise of threads, memory and the system, kept or not; the exit status says which.
 *
 *     sessions_check cancel MODEL        a prefill stopped by another thread, its session in use again
 *     sessions_check together MODEL      sessions of one model in threads at once, against one alone
 *     sessions_check memory MODEL        20,000 steps need no more of it than 1,000, and ask for none
 *     sessions_check idle MODEL          between steps nobody uses the processor
 *     sessions_check calls MODEL N       a step of N threads under a kernel that allows it one call
 *
 * The core's calls of malloc and its kin are counted on their way (linked with --wrap).
 */
#define _GNU_SOURCE
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "merino_edge.h"

enum { CHUNK = 64, N_STEPS = 40, N_SESSIONS = 3, CANNOT_TELL = 77 };

static me_model *model;
static me_info info;

static void require(int kept, const char *promise) {
    if (kept) return;
    printf("broken: %s\n", promise);
    exit(1);
}

static me_session *open_session(uint32_t n_threads) {
    me_session *session;
    char message[200] = "";
    int status = me_session_open(model, info.max_seq_len, n_threads, &session, message, 200);
    require(status == ME_OK, message);
    return session;
}

static void fill_ids(int32_t *ids, uint32_t n) {
    for (uint32_t i = 0; i < n; i++) ids[i] = (int32_t)(i * 7 % info.vocab_size);
}

static int finished;

static void *keep_cancelling(void *session) {
    while (!__atomic_load_n(&finished, __ATOMIC_ACQUIRE)) me_cancel(session);
    return NULL;
}

/* A model's whole context is read over and over until the other thread comes between. */
static void check_cancel(void) {
    uint32_t n = info.max_seq_len, n_tries = 0, n_read;
    int32_t *ids = malloc(n * sizeof *ids);
    float *logits = malloc(2 * info.vocab_size * sizeof *logits), *again = logits + info.vocab_size;
    me_session *session = open_session(2);
    pthread_t canceller;
    int status;
    fill_ids(ids, n);
    pthread_create(&canceller, NULL, keep_cancelling, session);
    do {
        me_reset(session);
        status = me_prefill(session, ids, n, 1, logits);
    } while (status == ME_OK && ++n_tries < 10000);
    __atomic_store_n(&finished, 1, __ATOMIC_RELEASE);
    pthread_join(canceller, NULL);
    n_read = me_position(session);
    require(status == ME_CANCELLED, "the prefill is cancelled");
    require(n_read % CHUNK == 0 && n_read < n, "whole chunks stay read");
    require(me_prefill(session, ids + n_read, n - n_read, 1, logits) == ME_OK, "it can go on");
    me_reset(session);
    require(me_prefill(session, ids, n, 1, again) == ME_OK, "it can begin anew");
    require(!memcmp(logits, again, info.vocab_size * sizeof *logits), "with the same logits");
    me_session_close(session);
    free(logits);
    free(ids);
}

/* Every session reads the same text, some tokens at once and then one by one. */
static void *decode(void *last_logits) {
    int32_t ids[CHUNK + 5];
    me_session *session = open_session(2);
    fill_ids(ids, CHUNK + 5);
    require(me_prefill(session, ids, CHUNK + 5, 0, NULL) == ME_OK, "a session reads");
    for (int32_t i = 0; i < N_STEPS; i++)
        require(me_step(session, i, last_logits) == ME_OK, "a session steps");
    me_session_close(session);
    return NULL;
}

static void check_together(void) {
    float *logits[N_SESSIONS + 1];
    pthread_t threads[N_SESSIONS];
    size_t n_bytes = info.vocab_size * sizeof(float);
    for (int i = 0; i <= N_SESSIONS; i++) logits[i] = malloc(n_bytes);
    decode(logits[N_SESSIONS]);
    for (int i = 0; i < N_SESSIONS; i++) pthread_create(&threads[i], NULL, decode, logits[i]);
    for (int i = 0; i < N_SESSIONS; i++) pthread_join(threads[i], NULL);
    for (int i = 0; i < N_SESSIONS; i++)
        require(!memcmp(logits[i], logits[N_SESSIONS], n_bytes), "alone or together, one logit");
    for (int i = 0; i <= N_SESSIONS; i++) free(logits[i]);
}

static void take_steps(me_session *session, int n) {
    for (int i = 0; i < n; i++) {
        if (me_position(session) == info.max_seq_len) me_reset(session);
        require(me_step(session, i % 50, NULL) == ME_OK, "a session steps");
    }
}

static int n_allocations;

void *__real_malloc(size_t n_bytes);
void *__real_calloc(size_t n, size_t n_bytes);
void *__real_realloc(void *old, size_t n_bytes);
int __real_posix_memalign(void **memory, size_t alignment, size_t n_bytes);

static void count(void) { __atomic_add_fetch(&n_allocations, 1, __ATOMIC_RELAXED); }

void *__wrap_malloc(size_t n_bytes) { return count(), __real_malloc(n_bytes); }
void *__wrap_calloc(size_t n, size_t n_bytes) { return count(), __real_calloc(n, n_bytes); }
void *__wrap_realloc(void *old, size_t n_bytes) { return count(), __real_realloc(old, n_bytes); }
int __wrap_posix_memalign(void **memory, size_t alignment, size_t n_bytes) {
    return count(), __real_posix_memalign(memory, alignment, n_bytes);
}

static long resident_pages(void) {
    long size, resident = -1;
    FILE *file = fopen("/proc/self/statm", "r");
    require(file && fscanf(file, "%ld %ld", &size, &resident) == 2, "/proc has the memory");
    fclose(file);
    return resident;
}

static void check_memory(void) {
    me_session *session = open_session(2);
    int n_of_opening = n_allocations;
    require(n_of_opening > 0, "opening allocates");
    take_steps(session, 1000);
    resident_pages(); /* the reading itself takes memory the first time */
    long before = resident_pages();
    take_steps(session, 19000);
    require(resident_pages() == before, "no page more");
    require(n_allocations == n_of_opening, "no allocation in a step");
    me_session_close(session);
}

static double processor_s(void) {
    struct timespec used;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used);
    return (double)used.tv_sec + 1e-9 * (double)used.tv_nsec;
}

static void check_idle(void) {
    const struct timespec pause = {0, 200000000};
    me_session *session = open_session(2);
    take_steps(session, 10);
    double before = processor_s();
    nanosleep(&pause, NULL);
    require(processor_s() - before < 0.005, "who waits for the next step sleeps");
    me_session_close(session);
}

/* From here on all threads may sleep and wake each other (if n_threads > 1), write, and exit. */
static int forbid_calls(uint32_t n_threads) {
    uint32_t futex = n_threads > 1 ? SYS_futex : SYS_exit_group;
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, futex, 3, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_write, 2, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_exit_group, 1, 0),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {sizeof code / sizeof *code, code};
    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
           syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &program) == 0;
}

static void check_calls(uint32_t n_threads) {
    me_session *session = open_session(n_threads);
    int32_t ids[CHUNK], best[5];
    uint64_t state = 1;
    fill_ids(ids, CHUNK);
    take_steps(session, 5); /* a thread that begins asks for a few things */
    if (!forbid_calls(n_threads)) exit(CANNOT_TELL);
    require(me_prefill(session, ids, CHUNK, 1, NULL) == ME_OK, "a session reads");
    take_steps(session, 2000);
    require(me_best(session, 5, best, NULL) == ME_OK, "a session has its best");
    require(me_sample(session, 0.7f, 40, 0.9f, &state, best) == ME_OK, "a session samples");
    _exit(0); /* closing ends threads, which asks more of the system */
}

int main(int argc, char **argv) {
    char message[200] = "";
    require(argc >= 3, "two arguments");
    require(me_open(argv[2], &model, message, sizeof message) == ME_OK, message);
    me_get_info(model, &info);
    if (!strcmp(argv[1], "cancel")) check_cancel();
    if (!strcmp(argv[1], "together")) check_together();
    if (!strcmp(argv[1], "memory")) check_memory();
    if (!strcmp(argv[1], "idle")) check_idle();
    if (!strcmp(argv[1], "calls") && argc == 4) check_calls((uint32_t)atoi(argv[3]));
    me_close(model);
    printf("kept\n");
    return 0;
}
