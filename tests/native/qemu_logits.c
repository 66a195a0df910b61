/* Prints what a model says, digit for digit, so that two machines can be compared.
 *
 *     qemu_logits MODEL N_GREEDY ID...
 *
 * A line names the kernels; then each line is the logits of one token as hexadecimal floats: those
 * of all ids, read together, and of N_GREEDY tokens chosen by the largest logit. */
#include <stdio.h>
#include <stdlib.h>

#include "merino_edge.h"

enum { MOST = 64 };

static void print_rows(const float *logits, uint32_t n, uint32_t vocab_size) {
    for (uint32_t row = 0; row < n; row++)
        for (uint32_t i = 0; i < vocab_size; i++)
            printf("%a%c", logits[(size_t)row * vocab_size + i], i + 1 < vocab_size ? ' ' : '\n');
}

int main(int argc, char **argv) {
    char message[200] = "";
    me_model *model;
    me_session *session;
    me_info info;
    int32_t ids[MOST], next;
    uint32_t n = (uint32_t)argc - 3;
    if (argc < 4 || n > MOST) return 2;
    for (uint32_t i = 0; i < n; i++) ids[i] = atoi(argv[3 + i]);
    if (me_open(argv[1], &model, message, sizeof message) != ME_OK ||
        me_get_info(model, &info) != ME_OK ||
        me_session_open(model, info.max_seq_len, 1, &session, message, sizeof message) != ME_OK) {
        fprintf(stderr, "%s\n", message);
        return 1;
    }
    float *logits = malloc(sizeof *logits * n * info.vocab_size);
    printf("%s\n", info.kernels);
    if (!logits || me_prefill(session, ids, n, n, logits) != ME_OK) return 1;
    print_rows(logits, n, info.vocab_size);
    for (int i = atoi(argv[2]); i > 0; i--) {
        if (me_best(session, 1, &next, NULL) != ME_OK) return 1;
        if (me_step(session, next, logits) != ME_OK) return 1;
        print_rows(logits, 1, info.vocab_size);
    }
    free(logits);
    me_session_close(session);
    me_close(model);
    return 0;
}
