/* Damages a model file in many ways; each must be refused with a sentence, or run to its end.
 *
 *     damaged_files MODEL SCRATCH N
 *
 * Bytes are changed where structure is (everything before the data) and files are cut short. What
 * still opens is a model with other numbers: it reads some tokens with two threads. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "merino_edge.h"

static uint32_t state = 7;
static uint32_t random_bits(void) { return (state = state * 1664525u + 1013904223u) >> 8; }

static uint8_t *read_all(const char *path, size_t *n) {
    FILE *file = fopen(path, "rb");
    if (!file || fseek(file, 0, SEEK_END)) exit(2);
    *n = (size_t)ftell(file);
    uint8_t *bytes = malloc(*n);
    rewind(file);
    if (!bytes || fread(bytes, 1, *n, file) != *n) exit(2);
    fclose(file);
    return bytes;
}

static void write_all(const char *path, const uint8_t *bytes, size_t n) {
    FILE *file = fopen(path, "wb");
    if (!file || fwrite(bytes, 1, n, file) != n || fclose(file)) exit(2);
}

/* Words that a reader may trip over, or a random one. */
static uint32_t word(uint32_t old) {
    static const uint32_t WORDS[] = {0, 1, 2, 0x7fffffff, 0x80000000, 0xffffffff, 0x10000, 64};
    uint32_t pick = random_bits() % 12;
    if (pick < 8) return WORDS[pick];
    return pick < 10 ? old + 1 - 2 * (pick & 1) : random_bits();
}

static void damage(uint8_t *bytes, size_t n_structure) {
    for (uint32_t i = 0, n = 1 + random_bits() % 2; i < n; i++) {
        size_t place = random_bits() % (n_structure / 4) * 4;
        uint32_t old, changed;
        memcpy(&old, bytes + place, 4);
        changed = word(old);
        memcpy(bytes + place, &changed, 4);
    }
}

static int run(const char *path) {
    const int32_t ids[] = {0, 1, 2, 3, 4};
    char message[200] = "";
    me_model *model;
    me_session *session;
    int32_t best;
    int status = me_open(path, &model, message, sizeof message);
    if (status != ME_OK) return message[0] ? status : -1;
    if (me_session_open(model, 8, 2, &session, message, sizeof message) == ME_OK) {
        me_prefill(session, ids, 5, 1, NULL);
        me_best(session, 1, &best, NULL);
        me_session_close(session);
    }
    me_close(model);
    return ME_OK;
}

int main(int argc, char **argv) {
    size_t n, n_structure = 0;
    int n_refused = 0, n_ran = 0;
    if (argc != 4) return 2;
    uint8_t *bytes = read_all(argv[1], &n), *copy = malloc(n);
    while (n_structure < 4096 && n_structure < n) n_structure += 4;
    while (n_structure > 4 && !memcmp(bytes + n_structure - 4, "\0\0\0", 4)) n_structure -= 4;
    for (int i = 0; i < atoi(argv[3]); i++) {
        memcpy(copy, bytes, n);
        int cut = i % 8 == 0;
        if (!cut) damage(copy, n_structure);
        write_all(argv[2], copy, cut ? random_bits() % n : n);
        int status = run(argv[2]);
        if (status < 0 || (cut && status == ME_OK)) return 1;
        n_refused += status != ME_OK;
        n_ran += status == ME_OK;
    }
    printf("%d refused, %d ran\n", n_refused, n_ran);
    free(bytes);
    free(copy);
    return n_refused == 0 || n_ran == 0 || run(argv[1]) != ME_OK;
}
