/* Threads that wait the way a decoder needs: microseconds by spinning, longer by sleeping.
 *
 * One primitive does all: a barrier. Within a step the threads meet some hundred times, a fraction
 * of a microsecond apart, and no system call would be fast enough; between steps the workers wait
 * at the same barrier for the caller, and after a while they sleep. Who sleeps is counted: the last
 * to arrive makes a system call only if somebody does. The counter and the generation are
 * sequentially consistent, so a sleeper either sees the new generation or is seen. */
#define _POSIX_C_SOURCE 200809L
#include "threads.h"

#include <time.h>

/* How long a thread spins before it sleeps, looking at the clock now and then: a processor's way to
 * relax takes 1 to 140 cycles. Then sleep, rather than sched_yield: with more threads than
 * processors a yield gives the whole time slice away, while the scheduler lets one that is woken
 * run soon. */
#ifndef ME_SPIN_NS
#define ME_SPIN_NS 20000
#endif
enum { SPIN_NS = ME_SPIN_NS, LOOKS_A_CLOCK = 64 };

uint64_t me_now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

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

static int spin_until_met(const me_barrier *b, uint32_t generation) {
    uint64_t end_ns = 0;
    for (;;) {
        for (int i = 0; i < LOOKS_A_CLOCK; i++) {
            if (read_counter(&b->generation) != generation) return 1;
            relax();
        }
        uint64_t now_ns = me_now_ns();
        if (end_ns == 0) end_ns = now_ns + SPIN_NS;
        if (now_ns >= end_ns) return 0;
    }
}

static void sleep_until_met(me_barrier *b, uint32_t generation) {
    pthread_mutex_lock(&b->mutex);
    __atomic_add_fetch(&b->sleepers, 1, __ATOMIC_SEQ_CST);
    while (read_counter(&b->generation) == generation) pthread_cond_wait(&b->met, &b->mutex);
    __atomic_sub_fetch(&b->sleepers, 1, __ATOMIC_SEQ_CST);
    pthread_mutex_unlock(&b->mutex);
}

static void wake_sleepers(me_barrier *b) {
    pthread_mutex_lock(&b->mutex); /* who saw the old generation under it sleeps by now */
    pthread_mutex_unlock(&b->mutex);
    pthread_cond_broadcast(&b->met); /* unlocked: who wakes up need not wait once more */
}

static void meet(me_barrier *b) {
    uint32_t generation = read_counter(&b->generation);
    if (__atomic_add_fetch(&b->arrived, 1, __ATOMIC_SEQ_CST) != read_counter(&b->n_threads)) {
        if (!spin_until_met(b, generation)) sleep_until_met(b, generation);
        return;
    }
    __atomic_store_n(&b->arrived, 0, __ATOMIC_SEQ_CST);
    /* not a store: QEMU 7.2 lets the load below pass an aarch64 store-release, and a sleeper is lost */
    __atomic_add_fetch(&b->generation, 1, __ATOMIC_SEQ_CST);
    if (read_counter(&b->sleepers)) wake_sleepers(b);
}

void me_team_meet(me_team *team) {
    if (team->n_threads > 1) meet(&team->barrier);
}

/* Workers meet at the barrier itself: between jobs n_threads is the caller's to change. */
static void *work(void *argument) {
    me_worker *worker = argument;
    me_team *team = worker->team;
    for (;;) {
        meet(&team->barrier);
        if (!team->job) return NULL;
        team->job(team->data, worker->index);
        meet(&team->barrier);
    }
}

void me_team_run_alone(me_team *team, me_job job, void *data) {
    team->n_threads = 1;
    job(data, 0);
}

void me_team_run(me_team *team, me_job job, void *data) {
    team->job = job;
    team->data = data;
    team->n_threads = team->n_all;
    me_team_meet(team);
    job(data, 0);
    me_team_meet(team);
}

/* Sends home those that have been started: n_all, with the caller. */
void me_team_stop(me_team *team) {
    team->job = NULL;
    if (team->n_all > 1) meet(&team->barrier);
    for (uint32_t i = 1; i < team->n_all; i++) pthread_join(team->workers[i].id, NULL);
    pthread_cond_destroy(&team->barrier.met);
    pthread_mutex_destroy(&team->barrier.mutex);
}

int me_team_start(me_team *team, me_worker *workers, uint32_t n_threads) {
    int error = 0;
    team->barrier.n_threads = n_threads;
    team->workers = workers;
    pthread_mutex_init(&team->barrier.mutex, NULL);
    pthread_cond_init(&team->barrier.met, NULL);
    for (team->n_all = 1; !error && team->n_all < n_threads; team->n_all += !error) {
        me_worker *worker = &workers[team->n_all];
        worker->team = team;
        worker->index = team->n_all;
        error = pthread_create(&worker->id, NULL, work, worker);
    }
    if (!error) return 0;
    __atomic_store_n(&team->barrier.n_threads, team->n_all, __ATOMIC_SEQ_CST);
    me_team_stop(team); /* those that wait go home */
    return error;
}
