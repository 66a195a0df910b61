/* Teams of 1 to 6 threads on whatever processors there are: nobody passes a meeting early.
 *
 *     team_check          rounds of work; every thread sees what all have written before they met
 *     team_check starved  memory for some threads only: starting says so, and those started end
 */
#define _POSIX_C_SOURCE 200809L
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "../../merino_edge/native/src/threads.h"

enum { MOST = 6, N_JOBS = 60, N_MEETINGS = 20 };

typedef struct {
    me_team team;
    me_worker workers[64];
    uint32_t cells[MOST]; /* how often each thread has written: plain, so that a race is seen */
    uint32_t n_early[MOST];
} table;

static void take_turns(void *data, uint32_t thread) {
    table *t = data;
    for (int i = 0; i < N_MEETINGS; i++) {
        t->cells[thread]++;
        me_team_meet(&t->team);
        for (uint32_t other = 0; other < t->team.n_threads; other++)
            t->n_early[thread] += t->cells[other] != t->cells[thread];
        me_team_meet(&t->team);
    }
}

static int check(uint32_t n_threads) {
    table *t;
    uint32_t n_early = 0;
    if (posix_memalign((void **)&t, 64, sizeof *t)) return 0;
    memset(t, 0, sizeof *t);
    if (me_team_start(&t->team, t->workers, n_threads)) return 0;
    for (int i = 0; i < N_JOBS; i++) {
        if (i % 3 == 2) {
            me_team_run_alone(&t->team, take_turns, t);
            for (uint32_t other = 1; other < n_threads; other++) t->cells[other] = t->cells[0];
        } else {
            me_team_run(&t->team, take_turns, t);
        }
    }
    me_team_stop(&t->team);
    for (uint32_t i = 0; i < n_threads; i++) n_early += t->n_early[i];
    int kept = n_early == 0 && t->cells[0] == N_JOBS * N_MEETINGS;
    free(t);
    return kept;
}

/* 64 stacks of 8 MiB do not fit into 100 MiB. */
static int check_starved(void) {
    static table t;
    struct rlimit memory = {100u << 20, 100u << 20};
    return setrlimit(RLIMIT_AS, &memory) == 0 && me_team_start(&t.team, t.workers, 64) != 0 &&
           t.team.n_all > 1;
}

int main(int argc, char **argv) {
    if (argc > 1 && !strcmp(argv[1], "starved")) return !check_starved();
    for (uint32_t n_threads = 1; n_threads <= MOST; n_threads++)
        if (!check(n_threads)) return printf("broken with %u threads\n", n_threads), 1;
    return 0;
}
