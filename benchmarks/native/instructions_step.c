/* One decode step behind a past, between two marks: what instructions_plugin.c counts.
 *
 *     instructions_step MODEL PAST */
#include <stdio.h>
#include <stdlib.h>

#include "merino_edge.h"

void instructions_mark(void);
__attribute__((noinline)) void instructions_mark(void) { __asm__ volatile(""); }

static int fail(const char *message) {
    fprintf(stderr, "%s\n", message);
    return 1;
}

int main(int argc, char **argv) {
    char message[200] = "";
    me_model *model;
    me_session *session;
    me_info info;
    int32_t next;
    if (argc != 3) return 2;
    uint32_t past = (uint32_t)atoi(argv[2]);
    if (me_open(argv[1], &model, message, sizeof message) != ME_OK) return fail(message);
    if (me_get_info(model, &info) != ME_OK) return fail(message);
    if (me_session_open(model, past + 2, 1, &session, message, sizeof message) != ME_OK)
        return fail(message);
    int32_t *ids = malloc((past + 1) * sizeof *ids);
    if (!ids) return fail("out of memory");
    for (uint32_t i = 0; i < past; i++) ids[i] = (int32_t)(i * 7919 % info.vocab_size);
    if (me_prefill(session, ids, past, 1, NULL) != ME_OK) return fail("the past cannot be read");
    free(ids);
    if (me_best(session, 1, &next, NULL) != ME_OK) return fail("no best token");
    instructions_mark();
    if (me_step(session, next, NULL) != ME_OK || me_best(session, 1, &next, NULL) != ME_OK)
        return fail("the step failed");
    instructions_mark();
    printf("%s\n", info.kernels);
    me_session_close(session);
    me_close(model);
    return 0;
}
