/* A long life of the C library: soak_library MODEL N_TOKENS EVERY SEED
 *
 * Texts are read, continued, cancelled from another thread, gone back in, filled to the last place
 * of the context, and asked for nonsense, in an order that SEED gives; now and then a session or a
 * whole model is opened and closed beside, or a file that is none. Every EVERY generated tokens a
 * line says: tokens, resident bytes, file descriptors. The last line counts what happened. */
#define _POSIX_C_SOURCE 200809L
#include <dirent.h>
#include <merino_edge.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { MAX_CONTEXT = 1 << 16, N_THREADS = 2 };

static me_session *session;
static me_info info;
static const char *model_path;
static int32_t ids[MAX_CONTEXT];
static uint64_t state;
static long n_tokens, n_wanted, n_every, n_sampled;
static long n_texts, n_cancels, n_errors, n_rewinds, n_openings, n_wrong;
static volatile int ending;

static uint32_t chance(uint32_t below) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(state >> 33) % below;
}

/* Counted as the kernel has them now, without memory of our own. */
static long resident_bytes(void) {
    char text[128];
    long pages = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    if (file && fgets(text, sizeof text, file)) sscanf(text, "%*d %ld", &pages);
    if (file) fclose(file);
    return pages * sysconf(_SC_PAGESIZE);
}

static long n_descriptors(void) {
    long n = -1; /* the folder's own */
    DIR *folder = opendir("/proc/self/fd");
    for (struct dirent *each; folder && (each = readdir(folder));) n += each->d_name[0] != '.';
    if (folder) closedir(folder);
    return n;
}

static void count(int status, int expected) {
    n_errors += status != ME_OK;
    if (status != expected) {
        n_wrong++;
        fprintf(stderr, "%s instead of %s\n", me_status_text(status), me_status_text(expected));
    }
}

static void *cancel_now_and_then(void *unused) {
    struct timespec pause = {0, 300000};
    for (; !ending; nanosleep(&pause, NULL)) me_cancel(session);
    return unused;
}

/* Generates up to n tokens; the status that ended it. */
static int generate(uint32_t n) {
    uint64_t draw = state;
    int32_t id;
    int status = ME_OK;
    int sampled = chance(2) == 0;
    while (n-- && status == ME_OK) {
        status = sampled ? me_sample(session, 0.8f, 40, 0.95f, &draw, &id)
                         : me_best(session, 1, &id, NULL);
        if (status == ME_OK) status = me_step(session, id, NULL);
        if (status != ME_OK) break;
        if (++n_tokens % n_every == 0)
            printf("%ld %ld %ld\n", n_tokens, resident_bytes(), n_descriptors());
        n_sampled += sampled;
    }
    return status;
}

static void ask_for_nonsense(void) {
    me_model *none;
    me_session *no_session;
    char why[128];
    int32_t outside = (int32_t)info.vocab_size;
    count(me_step(session, outside, NULL), ME_ERROR_ARGUMENT);
    count(me_step(session, -1, NULL), ME_ERROR_ARGUMENT);
    count(me_prefill(session, ids, 0, 0, NULL), ME_ERROR_ARGUMENT);
    count(me_rewind(session, me_position(session) + 1), ME_ERROR_ARGUMENT);
    count(me_open("/no/such/model", &none, why, sizeof why), ME_ERROR_FILE);
    count(me_open("/proc/self/exe", &none, why, sizeof why), ME_ERROR_FORMAT);
    me_model *model;
    count(me_open(model_path, &model, why, sizeof why), ME_OK);
    count(me_session_open(model, info.max_seq_len + 1, 1, &no_session, why, sizeof why),
          ME_ERROR_ARGUMENT);
    count(me_session_open(model, 16, N_THREADS, &no_session, why, sizeof why), ME_OK);
    me_session_close(no_session);
    me_close(model);
    n_openings++;
}

static void one_text(void) {
    uint32_t room = info.max_seq_len, n = 1 + chance(room / 2);
    for (uint32_t i = 0; i < n; i++) ids[i] = (int32_t)chance(info.vocab_size);
    me_reset(session);
    int status = me_prefill(session, ids, n, 1, NULL);
    n_texts++;
    if (status == ME_CANCELLED) {
        n_cancels++;
        return;
    }
    count(status, ME_OK);
    if (chance(4) == 0)
        count(generate(room), ME_ERROR_FULL); /* to the last place, and one more */
    else
        generate(1 + chance(room - n));
    if (chance(4) == 0) {
        n_rewinds++;
        count(me_rewind(session, n - 1), ME_OK);
        if (me_step(session, ids[n - 1], NULL) == ME_OK) generate(1 + chance(room - n));
    }
    if (chance(16) == 0) ask_for_nonsense();
}

int main(int argc, char **argv) {
    char why[256] = "";
    me_model *model;
    pthread_t canceller;
    if (argc != 5) return puts("usage: soak_library MODEL N_TOKENS EVERY SEED"), 2;
    model_path = argv[1];
    n_wanted = atol(argv[2]);
    n_every = atol(argv[3]);
    state = strtoull(argv[4], NULL, 10);
    if (me_open(argv[1], &model, why, sizeof why) || me_get_info(model, &info) ||
        info.max_seq_len > MAX_CONTEXT ||
        me_session_open(model, info.max_seq_len, N_THREADS, &session, why, sizeof why))
        return fprintf(stderr, "%s\n", why), 1;
    setvbuf(stdout, NULL, _IOLBF, 1024);
    pthread_create(&canceller, NULL, cancel_now_and_then, NULL);
    while (n_tokens < n_wanted) one_text();
    ending = 1;
    pthread_join(canceller, NULL);
    me_session_close(session);
    me_close(model);
    printf("texts %ld cancels %ld errors %ld rewinds %ld openings %ld sampled %ld wrong %ld\n",
           n_texts, n_cancels, n_errors, n_rewinds, n_openings, n_sampled, n_wrong);
    return n_wrong != 0;
}
