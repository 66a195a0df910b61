/* Changes model files for fuzz_model.c, knowing how their head is made.
 *
 * Nearly every flipped bit of a head is refused by the first comparison that meets it, and the code
 * behind is never tried. So half of the changes are made to the architecture, and the head is
 * then written anew, in order, as merino_edge/formats/native_file.py describes it: such a file
 * opens and runs. The other half damages words, bytes and lengths. */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t max_size);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned seed);

enum { HEADER_WORDS = 16, CONFIG_WORDS = 16, ENTRY_WORDS = 8, MAX_BLOCKS = 6, MAX_TENSORS = 300 };
enum { VOCAB, LENGTH, EMBED, NORM, EPS, POSITION, BASE, ACTIVATION, GATED, BIAS, FFN_BIAS, TIED,
       POST, NO_FINAL_NORM, PARALLEL };
enum { D_MODEL, N_HEAD, N_KV_HEAD, HEAD_DIM, D_FF, DEPTH, JOINT_IN, N_ROTATED };

typedef struct {
    uint32_t kind, n_out, n_in, zero;
    uint64_t offset, n_bytes;
} tensor;

static struct {
    uint32_t config[CONFIG_WORDS], blocks[MAX_BLOCKS][ENTRY_WORDS], n_blocks;
    tensor tensors[MAX_TENSORS];
    uint32_t kinds[MAX_TENSORS], n_tensors;
} head;

static uint32_t state;

static uint32_t below(uint32_t n) {
    state = state * 1664525u + 1013904223u;
    return (state >> 8) % n;
}

static uint32_t word_at(const uint8_t *data, size_t place) {
    uint32_t word;
    memcpy(&word, data + place, 4);
    return word;
}

static uint32_t smaller(uint32_t a, uint32_t b) { return a < b ? a : b; }

/* The head of a file that may be damaged: what does not fit is left out. */
static void parse(const uint8_t *data, size_t size) {
    size_t table = word_at(data, 28), room = (size - 128) / 32;
    memcpy(head.config, data + 64, sizeof head.config);
    head.n_blocks = smaller(word_at(data, 20), smaller((uint32_t)room, MAX_BLOCKS));
    memcpy(head.blocks, data + 128, head.n_blocks * sizeof head.blocks[0]);
    for (uint32_t i = 0; i < MAX_TENSORS; i++) {
        size_t place = table + i * sizeof(tensor);
        head.kinds[i] = place + 4 <= size ? word_at(data, place) : below(3);
    }
}

static uint32_t pick(const uint32_t *values, uint32_t n) { return values[below(n)]; }

static void change_config(void) {
    static const uint32_t EMBEDS[] = {1, 12, 16, 24, 33, 48};
    uint32_t *c = head.config;
    switch (below(9)) {
    case 0: c[VOCAB] = 1 + below(70); break;
    case 1: c[LENGTH] = 1 + below(160); break;
    case 2: c[EMBED] = pick(EMBEDS, 6); break;
    case 3: c[NORM] ^= 1; break;
    case 4: c[POSITION] ^= 1; break;
    case 5: c[ACTIVATION] = below(4); break;
    case 6: c[NO_FINAL_NORM] ^= 1; break;
    case 7: c[POST] = below(2), c[PARALLEL] = !c[POST] && below(2); break;
    default: c[GATED + below(4)] ^= 1; break;
    }
}

static void change_block(uint32_t *b) {
    static const uint32_t DIMS[] = {1, 2, 6, 8, 16, 20, 33, 64};
    switch (below(5)) {
    case 0: b[HEAD_DIM] = pick(DIMS, 8); break;
    case 1: b[N_KV_HEAD] = 1 + below(3), b[N_HEAD] = b[N_KV_HEAD] * (1 + below(6)); break;
    case 2: b[D_FF] = 1 + below(100); break;
    case 3: b[N_ROTATED] = 2 * below(b[HEAD_DIM] / 2 + 1); break;
    default: b[DEPTH] = 1 + below(4); break;
    }
    b[D_MODEL] = b[N_HEAD] * b[HEAD_DIM];
}

static void change_architecture(void) {
    uint32_t which = below(head.n_blocks + 2);
    if (which < head.n_blocks) change_block(head.blocks[which]);
    else if (which == head.n_blocks) change_config();
    else if (below(2) && head.n_blocks > 1) head.n_blocks--;
    else if (head.n_blocks < MAX_BLOCKS)
        memcpy(head.blocks[head.n_blocks], head.blocks[below(head.n_blocks)], sizeof head.blocks[0]),
            head.n_blocks++;
}

static uint64_t tensor_bytes(const tensor *t) {
    uint64_t blocks = (uint64_t)((t->n_out + 15) / 16) * ((t->n_in + 31) / 32);
    if (t->kind == 0) return (uint64_t)t->n_out * t->n_in * 4;
    return blocks * (t->kind == 1 ? 512 + 32 : 256 + 64);
}

static void add(uint32_t n_out, uint32_t n_in, int is_matrix) {
    uint32_t i = head.n_tensors;
    if (i == MAX_TENSORS) return;
    tensor t = {is_matrix ? head.kinds[i] % 3 : 0, n_out, n_in, 0, 0, 0};
    t.n_bytes = tensor_bytes(&t);
    head.tensors[head.n_tensors++] = t;
}

static void add_linear(uint32_t n_out, uint32_t n_in, uint32_t bias) {
    add(n_out, n_in, 1);
    if (bias) add(1, n_out, 0);
}

static void add_norm(uint32_t width) {
    add(1, width, 0);
    if (head.config[NORM] == 0) add(1, width, 0);
}

static void add_block(uint32_t *b, uint32_t width_before) {
    const uint32_t *c = head.config;
    b[JOINT_IN] = b[D_MODEL] == width_before ? 0 : width_before;
    if (b[JOINT_IN]) add(b[D_MODEL], b[JOINT_IN], 1);
    add_linear((b[N_HEAD] + 2 * b[N_KV_HEAD]) * b[HEAD_DIM], b[D_MODEL], c[BIAS]);
    add_linear(b[D_MODEL], b[D_MODEL], c[BIAS]);
    add_linear(b[D_FF] * (1 + c[GATED]), b[D_MODEL], c[FFN_BIAS]);
    add_linear(b[D_MODEL], b[D_FF], c[FFN_BIAS]);
    for (uint32_t i = 0; i < 2 * b[DEPTH] && head.n_tensors < MAX_TENSORS; i++) add_norm(b[D_MODEL]);
}

/* All tensors of the architecture, in their order. */
static void list_tensors(void) {
    const uint32_t *c = head.config;
    uint32_t width = c[EMBED];
    head.n_tensors = 0;
    add(c[VOCAB], c[EMBED], 1);
    if (c[POSITION] == 0) add(c[LENGTH], head.blocks[0][D_MODEL], 0);
    for (uint32_t i = 0; i < head.n_blocks; width = head.blocks[i++][D_MODEL])
        add_block(head.blocks[i], width);
    if (!c[NO_FINAL_NORM]) add_norm(width);
    if (width != c[EMBED]) add(c[EMBED], width, 1);
    if (!c[TIED]) add(c[VOCAB], c[EMBED], 1);
}

/* The oldest version that knows this; rotated channels that cannot be are none. */
static char version(void) {
    const uint32_t *c = head.config;
    uint32_t later = c[POST] | c[NO_FINAL_NORM] | c[PARALLEL];
    for (uint32_t i = 0; i < head.n_blocks; i++) {
        uint32_t *b = head.blocks[i];
        if (c[POSITION] == 0 || b[N_ROTATED] >= b[HEAD_DIM]) b[N_ROTATED] = 0;
        later |= b[N_ROTATED];
    }
    return later ? 3 : 2;
}

/* Places the tensors behind each other, from the start again where the file may not grow; the file
 * ends with its last tensor's last byte. */
static size_t place_tensors(uint64_t begin, size_t max_size) {
    uint64_t at = begin, end = begin;
    for (uint32_t i = 0; i < head.n_tensors; i++) {
        tensor *t = &head.tensors[i];
        if (at + t->n_bytes > max_size) at = begin;
        t->offset = at;
        if (at + t->n_bytes <= max_size && at + t->n_bytes > end) end = at + t->n_bytes;
        at = (at + t->n_bytes + 63) / 64 * 64;
    }
    return (size_t)end;
}

/* Writes a file of the architecture over the old one, whose numbers stay where they were. */
static size_t write_file(uint8_t *data, size_t size, size_t max_size) {
    uint32_t table = 128 + 32 * head.n_blocks;
    list_tensors();
    uint32_t table_end = table + head.n_tensors * (uint32_t)sizeof(tensor);
    uint64_t begin = (table_end + 4095) / 4096 * 4096;
    if (begin > max_size) return size;
    uint64_t end = place_tensors(begin, max_size);
    for (size_t i = size; i < end; i++) data[i] = data[size / 2 + i % (size - size / 2)];
    uint32_t header[HEADER_WORDS] = {0, 0, (uint32_t)end, 0, 64, head.n_blocks, head.n_tensors,
                                     table, (uint32_t)begin};
    const char magic[8] = {'M', 'E', 'R', 'I', 'N', 'O', 0, version()};
    memcpy(header, magic, 8);
    memcpy(data, header, sizeof header);
    memcpy(data + 64, head.config, sizeof head.config);
    memcpy(data + 128, head.blocks, head.n_blocks * sizeof head.blocks[0]);
    memcpy(data + table, head.tensors, head.n_tensors * sizeof(tensor));
    return (size_t)end;
}

static size_t change_and_rewrite(uint8_t *data, size_t size, size_t max_size) {
    parse(data, size);
    if (head.n_blocks == 0) return size;
    if (below(4) == 0)
        for (uint32_t i = 0, every = 1 + below(8); i < MAX_TENSORS; i++)
            head.kinds[i] = below(every) ? head.kinds[i] : below(3);
    else
        change_architecture();
    return write_file(data, size, max_size);
}

/* A word of the head becomes one that a reader may trip over. */
static size_t damage_word(uint8_t *data, size_t size) {
    static const uint32_t WORDS[] = {0, 1, 2, 31, 64, 0xffff, 0x10000, 0x7fffffff, 0x80000000,
                                     0xfffffff0, 0xffffffff, 0x7f800000, 0x7fc00000};
    size_t end = word_at(data, 28) + (size_t)word_at(data, 24) * sizeof(tensor);
    size_t place = below((uint32_t)(end < size && end >= 128 ? end : 128) / 4) * 4;
    uint32_t old = word_at(data, place), changed;
    switch (below(4)) {
    case 0: changed = old + 1 - below(3); break;
    case 1: changed = word_at(data, below((uint32_t)size / 4) * 4); break;
    default: changed = pick(WORDS, 13); break;
    }
    memcpy(data + place, &changed, 4);
    return size;
}

/* Another length; most of the time the file states it. */
static size_t change_length(uint8_t *data, size_t size, size_t max_size) {
    size_t changed = below(2) ? size - below(200) % size : below((uint32_t)max_size) + 1;
    if (changed > max_size) changed = max_size;
    if (changed > size) memset(data + size, 0, changed - size);
    uint64_t stated = changed;
    if (changed >= 16 && below(4)) memcpy(data + 8, &stated, sizeof stated);
    return changed;
}

static size_t damage_data(uint8_t *data, size_t size) {
    size_t begin = word_at(data, 32);
    if (begin >= size) begin = 128;
    LLVMFuzzerMutate(data + begin, size - begin, size - begin);
    return size;
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned seed) {
    state = seed;
    if (size <= 192) return LLVMFuzzerMutate(data, size, max_size);
    switch (below(8)) {
    case 0: return LLVMFuzzerMutate(data, size, max_size);
    case 1: return change_length(data, size, max_size);
    case 2: return damage_data(data, size);
    case 3: return damage_word(data, size);
    default: return change_and_rewrite(data, size, max_size);
    }
}
