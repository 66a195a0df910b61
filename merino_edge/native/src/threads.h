/* A team of threads that run the same function and meet at barriers: see threads.c. */
#ifndef ME_THREADS_H
#define ME_THREADS_H

#include <pthread.h>
#include <stdint.h>

/* What is written while others look lies in a cache line of its own. */
#define ME_OWN_LINE __attribute__((aligned(64)))

typedef struct {
    uint32_t n_threads, sleepers;
    ME_OWN_LINE uint32_t arrived;
    ME_OWN_LINE uint32_t generation; /* counts the meetings; what the waiting look at */
    ME_OWN_LINE pthread_mutex_t mutex;
    pthread_cond_t met;
} me_barrier;

typedef struct me_team me_team;
typedef void (*me_job)(void *data, uint32_t thread);

typedef struct {
    me_team *team;
    uint32_t index;
    pthread_t id;
} me_worker;

struct me_team {
    me_barrier barrier;
    me_job job; /* NULL: go home */
    void *data;
    uint32_t n_all;     /* threads of the team, the caller included */
    uint32_t n_threads; /* of them, those that run the job in hand: all, or the caller alone */
    me_worker *workers; /* n_all of them, the caller's memory; the first is the caller itself */
};

int me_team_start(me_team *team, me_worker *workers, uint32_t n_threads); /* 0, or what failed */
void me_team_stop(me_team *team);
/* Runs job(data, 0..n_threads - 1), the first on the caller's thread; returns when all are done. */
void me_team_run(me_team *team, me_job job, void *data);
/* Runs job(data, 0) on the caller's thread while the others wait on. */
void me_team_run_alone(me_team *team, me_job job, void *data);
void me_team_meet(me_team *team); /* inside a job: nobody goes on before all are here */
uint64_t me_now_ns(void);         /* a clock that only goes forward; no system call on Linux */

typedef struct {
    uint32_t begin, end;
} me_share;
/* The part of n tasks that one thread does: contiguous, sizes differ by one at most. */
static inline me_share me_share_of(uint32_t n, uint32_t thread, uint32_t n_threads) {
    me_share share = {(uint32_t)((uint64_t)n * thread / n_threads),
                      (uint32_t)((uint64_t)n * (thread + 1) / n_threads)};
    return share;
}

#endif
