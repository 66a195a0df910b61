/* Whether a step is faster by the whole team or by one thread alone: see pace.c. */
#ifndef ME_PACE_H
#define ME_PACE_H

#include "threads.h"

/* For steps of one kind, whose durations can be compared. All zeros is a new one. */
typedef struct {
    uint32_t alone;      /* who runs: one thread, or the team */
    uint32_t trial;      /* whether the other one is being tried */
    uint32_t patience;   /* steps before the next trial */
    uint32_t n_waited;   /* steps since the last trial, or since all was well */
    uint32_t n_steps;    /* in this window, or in this trial */
    uint64_t spent_ns;   /* by those steps */
    uint64_t longest_ns; /* the longest of them */
    uint64_t usual_ns;   /* a step in the last window */
    uint64_t limit_ns;   /* what a step of the team may take; 0: one thread was never tried */
} me_pace;

int me_pace_alone(const me_pace *pace);             /* is the next step for one thread? */
void me_pace_note(me_pace *pace, uint64_t step_ns); /* it took so long */
/* Runs a job by who is faster, and notes how long it took. */
void me_pace_run(me_pace *pace, me_team *team, me_job job, void *data);

#endif
