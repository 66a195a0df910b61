/* Threads that wait the way a decoder needs: microseconds by spinning, longer by sleeping.
 *
 * One primitive does all: a barrier. Within a step the threads meet some hundred times, a fraction
 * of a microsecond apart, and no system call would be fast enough; between steps the workers wait
 * at the same barrier for the caller, and after a while they sleep. Who sleeps is counted: the last
 * to arrive makes a system call only if somebody does. The counter and the generation are
 * sequentially consistent, so a sleeper either sees the new generation or is seen. */
#define _POSIX_C_SOURCE 200809L
#include "threads.h"

/* Some 20 us. Then sleep, rather than sched_yield: with more threads than processors a yield gives
 * the whole time slice away, while the scheduler lets one that is woken run soon. */
enum { SPINS = 1000 };

static uint32_t read_counter(const uint32_t *counter) {
    return __atomic_load_n(counter, __ATOMIC_SEQ_CST);
}

static void relax(void) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

static void sleep_until_met(me_barrier *b, uint32_t generation) {
    pthread_mutex_lock(&b->mutex);
    __atomic_add_fetch(&b->sleepers, 1, __ATOMIC_SEQ_CST);
    while (read_counter(&b->generation) == generation) pthread_cond_wait(&b->met, &b->mutex);
    __atomic_sub_fetch(&b->sleepers, 1, __ATOMIC_SEQ_CST);
    pthread_mutex_unlock(&b->mutex);
}

static void wait_for(me_barrier *b, uint32_t generation) {
    for (int i = 0; i < SPINS; i++) {
        if (read_counter(&b->generation) != generation) return;
        relax();
    }
    sleep_until_met(b, generation);
}

static void meet(me_barrier *b) {
    uint32_t generation = read_counter(&b->generation);
    if (__atomic_add_fetch(&b->arrived, 1, __ATOMIC_SEQ_CST) != b->n_threads) {
        wait_for(b, generation);
        return;
    }
    __atomic_store_n(&b->arrived, 0, __ATOMIC_SEQ_CST);
    /* not a store: QEMU 7.2 lets the load below pass an aarch64 store-release, and a sleeper is lost */
    __atomic_add_fetch(&b->generation, 1, __ATOMIC_SEQ_CST);
    if (read_counter(&b->sleepers) == 0) return;
    pthread_mutex_lock(&b->mutex);
    pthread_cond_broadcast(&b->met);
    pthread_mutex_unlock(&b->mutex);
}

void me_team_meet(me_team *team) {
    if (team->n_threads > 1) meet(&team->barrier);
}

static void *work(void *argument) {
    me_worker *worker = argument;
    me_team *team = worker->team;
    for (;;) {
        me_team_meet(team);
        if (!team->job) return NULL;
        team->job(team->data, worker->index);
        me_team_meet(team);
    }
}

void me_team_run(me_team *team, me_job job, void *data) {
    team->job = job;
    team->data = data;
    me_team_meet(team);
    job(data, 0);
    me_team_meet(team);
}

void me_team_stop(me_team *team) {
    team->job = NULL;
    if (team->n_started) meet(&team->barrier);
    for (uint32_t i = 1; i <= team->n_started; i++) pthread_join(team->workers[i].id, NULL);
    pthread_cond_destroy(&team->barrier.met);
    pthread_mutex_destroy(&team->barrier.mutex);
}

int me_team_start(me_team *team, me_worker *workers, uint32_t n_threads) {
    int error = 0;
    team->n_threads = team->barrier.n_threads = n_threads;
    team->workers = workers;
    pthread_mutex_init(&team->barrier.mutex, NULL);
    pthread_cond_init(&team->barrier.met, NULL);
    while (!error && team->n_started + 1 < n_threads) {
        me_worker *worker = &workers[team->n_started + 1];
        worker->team = team;
        worker->index = team->n_started + 1;
        error = pthread_create(&worker->id, NULL, work, worker);
        if (!error) team->n_started++;
    }
    if (!error) return 0;
    team->barrier.n_threads = team->n_started + 1; /* those that wait go home */
    me_team_stop(team);
    return error;
}
