/* The guard for a machine that is busy with other work.
 *
 * Threads that meet some hundred times a step wait for the slowest each time: where another process
 * holds a processor, two threads are slower than one (seen: 14 ms a step, one thread 4.5, two on a
 * quiet machine 2.7). What a step computes does not depend on who runs it, so any may be tried.
 *
 * The states are team and alone, each as it is or in a trial of the other. Who runs is watched in
 * windows of 8 steps, and after a window the other is tried: by the team only if something is wrong,
 * which is a step longer than one thread's at its last trial, or twice the team's own before; and once
 * at first, to have these. By one thread always, since only that shows that the load has gone. A trial
 * is lost as soon as it is half a usual step behind, and then the next comes after twice as many steps;
 * it is won by 8 steps. So trials cost a hundredth of the time, and a quiet machine has one, of one
 * step. */
#include "pace.h"

enum { WINDOW = 8, MAX_PATIENCE = 256 };

int me_pace_alone(const me_pace *p) { return p->alone != p->trial; }

static int is_well(const me_pace *p) { return !p->alone && p->usual_ns < p->limit_ns; }

static uint64_t smaller(uint64_t a, uint64_t b) { return a < b ? a : b; }

static void begin_window(me_pace *p) {
    p->n_steps = 0;
    p->spent_ns = p->longest_ns = 0;
}

static void end_window(me_pace *p) {
    p->usual_ns = (p->spent_ns - p->longest_ns) / (WINDOW - 1); /* one hiccup is no load */
    p->n_waited += WINDOW;
    if (is_well(p)) {
        p->n_waited = p->patience = 0;
        p->limit_ns = smaller(p->limit_ns, 2 * p->usual_ns);
    } else {
        p->trial = p->n_waited >= p->patience;
    }
    begin_window(p);
}

static void end_trial(me_pace *p, int won) {
    if (won) {
        p->alone = !p->alone;
        p->patience = 0;
    } else {
        if (!p->alone) p->limit_ns = p->spent_ns / p->n_steps;
        p->patience = p->patience ? 2 * p->patience : 2 * WINDOW;
        if (p->patience > MAX_PATIENCE) p->patience = MAX_PATIENCE;
    }
    p->trial = p->n_waited = 0;
    begin_window(p);
}

void me_pace_note(me_pace *p, uint64_t step_ns) {
    p->n_steps++;
    p->spent_ns += step_ns;
    if (step_ns > p->longest_ns) p->longest_ns = step_ns;
    if (p->trial && p->spent_ns >= p->n_steps * p->usual_ns + p->usual_ns / 2)
        end_trial(p, 0);
    else if (p->trial && p->n_steps == WINDOW)
        end_trial(p, 1);
    else if (p->n_steps == WINDOW)
        end_window(p);
}

void me_pace_run(me_pace *p, me_team *team, me_job job, void *data) {
    uint64_t began_ns = me_now_ns();
    if (team->n_all == 1 || me_pace_alone(p))
        me_team_run_alone(team, job, data);
    else
        me_team_run(team, job, data);
    me_pace_note(p, me_now_ns() - began_ns);
}
