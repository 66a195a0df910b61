/* Streams text: stream_text model.merino pieces.bin N_TOKENS ID...
 *
 * Both files lie in a bundle for the native decoder; the ids are the prompt's tokens. Writes what
 * follows, the likeliest token each time, until N_TOKENS or a token that ends a text. Turning text
 * into ids takes the tokenizer; turning ids into text takes pieces.bin, a table of bytes.
 */
#include <merino_edge.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* "PIECES\0\1"; how many tokens, end tokens, bytes of text; 0; the end tokens; where the bytes of
 * each token begin, and where those of the last one end; the text. 250,000 tokens fit. */
static uint32_t table[1 << 20];

static int read_table(const char *path) {
    FILE *file = fopen(path, "rb");
    size_t size = file ? fread(table, 1, sizeof table, file) : 0;
    if (file) fclose(file);
    return size > 24 && !memcmp(table, "PIECES\0\1", 8) &&
           size == 4 * (7 + (size_t)table[2] + table[3]) + table[4];
}

/* Writes the bytes of a token; 0 if it ends the text. */
static int write_piece(uint32_t id) {
    const uint32_t *ends = table + 6, *starts = ends + table[3], *text = starts + table[2] + 1;
    for (uint32_t i = 0; i < table[3]; i++)
        if (ends[i] == id) return 0;
    if (id < table[2])
        fwrite((const char *)text + starts[id], 1, starts[id + 1] - starts[id], stdout);
    return !fflush(stdout);
}

int main(int argc, char **argv) {
    static int32_t ids[4096];
    char why[256] = "the table of pieces cannot be read, or is damaged";
    me_model *model;
    me_session *session;
    if (argc < 5) return puts("usage: stream_text model.merino pieces.bin N_TOKENS ID..."), 2;
    uint32_t n = 0, n_tokens = (uint32_t)atoi(argv[3]);
    for (; n < 4096 && (int)n + 4 < argc; n++) ids[n] = atoi(argv[4 + n]);
    if (!read_table(argv[2]) || me_open(argv[1], &model, why, sizeof why) ||
        me_session_open(model, n + n_tokens, 4, &session, why, sizeof why))
        return fprintf(stderr, "%s\n", why), 1;
    int32_t id, status = me_prefill(session, ids, n, 1, NULL);
    while (!status && n_tokens-- && !(status = me_best(session, 1, &id, NULL)))
        if (!write_piece((uint32_t)id) || (status = me_step(session, id, NULL))) break;
    if (status) fprintf(stderr, "%s\n", me_status_text(status));
    me_session_close(session);
    me_close(model);
    return status;
}
