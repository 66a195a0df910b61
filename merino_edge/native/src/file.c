/* Opens a model file and believes nothing in it.
 *
 * Every size and offset is compared with what the sizes before it demand, and with the file's
 * length, before anything is read through it; afterwards no other code checks again. The numbers
 * are bounded first, so that no product below can overflow 64 bits. */
#define _POSIX_C_SOURCE 200809L
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "file.h"

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "the model file is used in place, and it is little-endian"
#endif

enum {
    HEADER_BYTES = 64, CONFIG_BYTES = 64, BLOCK_BYTES = 32, TENSOR_BYTES = 32,
    MAX_WIDTH = 1 << 16, MAX_ROWS = 1 << 24, MAX_LAYERS = 1 << 14
};
static const char MAGIC[7] = {'M', 'E', 'R', 'I', 'N', 'O', 0}; /* and the version */
enum { OLDEST = 2, NEWEST = 3 };

typedef struct {
    char magic[7];
    uint8_t version;
    uint64_t file_bytes;
    uint32_t config_offset, n_blocks, n_tensors, tensor_table_offset;
    uint64_t data_offset;
    uint8_t zero[24];
} file_header;

typedef struct {
    uint32_t d_model, n_head, n_kv_head, head_dim, d_ff, depth, joint_in, n_rotated;
} block_entry;

typedef struct {
    uint32_t kind, n_out, n_in, zero;
    uint64_t offset, n_bytes;
} tensor_entry;

/* Walks the tensor table in the order of the architecture; the first failure stays. */
typedef struct {
    me_model *model;
    file_header header;
    uint32_t next;
    me_message *message;
    int status;
} reader;

int me_fail(me_message *message, int status, const char *format, ...) {
    va_list arguments;
    if (message->text && message->n_bytes) {
        va_start(arguments, format);
        vsnprintf(message->text, message->n_bytes, format, arguments);
        va_end(arguments);
    }
    return status;
}

static int fail(reader *r, const char *what) {
    if (r->status == ME_OK)
        r->status = me_fail(r->message, ME_ERROR_FORMAT, "the model file is damaged: %s", what);
    return r->status;
}

static void check(reader *r, int holds, const char *what) {
    if (!holds) fail(r, what);
}

static int map_file(me_model *m, const char *path, me_message *message) {
    struct stat info;
    int file = open(path, O_RDONLY);
    if (file < 0) return me_fail(message, ME_ERROR_FILE, "%s: %s", path, strerror(errno));
    if (fstat(file, &info) != 0 || !S_ISREG(info.st_mode)) {
        close(file);
        return me_fail(message, ME_ERROR_FILE, "%s is not a file", path);
    }
    if (info.st_size < HEADER_BYTES + CONFIG_BYTES) {
        close(file);
        return me_fail(message, ME_ERROR_FORMAT, "%s is too short for a model", path);
    }
    m->file_bytes = (uint64_t)info.st_size;
    m->map = mmap(NULL, (size_t)info.st_size, PROT_READ, MAP_SHARED, file, 0);
    close(file);
    if (m->map != MAP_FAILED) return ME_OK;
    m->map = NULL;
    return me_fail(message, ME_ERROR_FILE, "%s cannot be mapped: %s", path, strerror(errno));
}

static int read_header(reader *r) {
    file_header *h = &r->header;
    memcpy(h, r->model->map, sizeof *h);
    if (memcmp(h->magic, MAGIC, sizeof MAGIC) != 0 || h->version < OLDEST || h->version > NEWEST)
        return r->status = me_fail(r->message, ME_ERROR_FORMAT,
                                   "not a model file of version %d to %d", OLDEST, NEWEST);
    uint64_t blocks_end = HEADER_BYTES + CONFIG_BYTES + (uint64_t)h->n_blocks * BLOCK_BYTES;
    uint64_t table_end = (uint64_t)h->tensor_table_offset + (uint64_t)h->n_tensors * TENSOR_BYTES;
    check(r, h->file_bytes == r->model->file_bytes, "its length is not the one it states");
    check(r, h->config_offset == HEADER_BYTES, "config_offset");
    check(r, h->n_blocks >= 1 && h->n_blocks <= MAX_LAYERS, "n_blocks");
    check(r, h->tensor_table_offset >= blocks_end, "tensor_table_offset");
    check(r, table_end <= h->data_offset && h->data_offset <= h->file_bytes, "data_offset");
    check(r, h->data_offset % 4096 == 0, "data_offset is not a multiple of 4096");
    return r->status;
}

static int within(uint32_t value, uint32_t low, uint32_t high) {
    return value >= low && value <= high;
}

static int read_config(reader *r) {
    me_config *c = &r->model->config;
    memcpy(c, r->model->map + HEADER_BYTES, sizeof *c);
    check(r, within(c->vocab_size, 1, MAX_ROWS), "vocab_size");
    check(r, within(c->max_seq_len, 1, MAX_ROWS), "max_seq_len");
    check(r, within(c->embed_dim, 1, MAX_WIDTH), "embed_dim");
    check(r, c->norm <= ME_RMSNORM, "norm");
    check(r, isfinite(c->norm_eps) && c->norm_eps >= 0, "norm_eps");
    check(r, c->position <= ME_ROPE, "position");
    check(r, isfinite(c->rope_base) && c->rope_base > 0, "rope_base");
    check(r, c->activation <= ME_SILU, "activation");
    check(r, c->gated_ffn <= 1 && c->attention_bias <= 1 && c->ffn_bias <= 1, "a flag");
    check(r, c->tie_embeddings <= 1, "tie_embeddings");
    check(r, c->norm_place <= ME_POST, "norm_place");
    check(r, c->no_final_norm <= 1, "no_final_norm");
    check(r, c->parallel_residual <= (c->norm_place == ME_PRE), "parallel_residual");
    check(r, c->zero == 0, "the end of the config");
    check(r, r->header.version > 2 || !(c->norm_place | c->no_final_norm | c->parallel_residual),
          "version 2 does not know this");
    return r->status;
}

/* 0 stands for the whole head, which is all that version 2 knows. */
static void set_rotated(reader *r, me_block *b, uint32_t n_rotated) {
    uint32_t most = r->model->config.position == ME_ROPE && r->header.version > 2 ? b->head_dim : 1;
    check(r, n_rotated % 2 == 0 && n_rotated < most, "n_rotated");
    b->n_rotated = n_rotated ? n_rotated : b->head_dim;
}

static void check_block(reader *r, const me_block *b, uint32_t width_before) {
    check(r, within(b->d_model, 1, MAX_WIDTH), "d_model");
    check(r, within(b->n_head, 1, b->d_model), "n_head");
    check(r, (uint64_t)b->n_head * b->head_dim == b->d_model, "head_dim");
    check(r, within(b->n_kv_head, 1, b->n_head), "n_kv_head");
    check(r, b->n_kv_head && b->n_head % b->n_kv_head == 0, "n_kv_head divides n_head");
    check(r, within(b->d_ff, 1, MAX_WIDTH), "d_ff");
    check(r, within(b->depth, 1, MAX_LAYERS), "depth");
    check(r, r->model->config.position != ME_ROPE || b->head_dim % 2 == 0, "head_dim is odd");
    check(r, b->joint_in == (width_before == b->d_model ? 0 : width_before), "joint_in");
}

static uint32_t larger(uint32_t a, uint32_t b) { return a > b ? a : b; }

static void widen(me_model *m, const me_block *b) {
    uint32_t qkv = (b->n_head + 2 * b->n_kv_head) * b->head_dim;
    uint32_t up = b->d_ff * (1 + m->config.gated_ffn);
    m->max_width = larger(m->max_width, b->d_model);
    m->max_row = larger(m->max_row, larger(m->max_width, larger(qkv, up)));
    m->max_half = larger(m->max_half, b->n_rotated / 2);
    m->max_kv_head = larger(m->max_kv_head, b->n_kv_head);
    m->max_queries = larger(m->max_queries, b->n_head / b->n_kv_head);
    m->max_group = larger(m->max_group, b->d_model / b->n_kv_head);
    m->cache_row += (uint64_t)b->depth * b->n_kv_head * b->head_dim;
}

static int read_blocks(reader *r) {
    me_model *m = r->model;
    const uint8_t *table = m->map + HEADER_BYTES + CONFIG_BYTES;
    uint32_t width = m->config.embed_dim;
    m->n_blocks = r->header.n_blocks;
    m->max_width = width;
    m->blocks = calloc(m->n_blocks, sizeof *m->blocks);
    if (!m->blocks) return r->status = me_fail(r->message, ME_ERROR_MEMORY, "out of memory");
    for (uint32_t i = 0; i < m->n_blocks && r->status == ME_OK; i++) {
        block_entry e;
        memcpy(&e, table + (size_t)i * sizeof e, sizeof e);
        me_block *b = &m->blocks[i];
        b->d_model = e.d_model, b->n_head = e.n_head, b->n_kv_head = e.n_kv_head;
        b->head_dim = e.head_dim, b->d_ff = e.d_ff, b->depth = e.depth, b->joint_in = e.joint_in;
        check_block(r, b, width);
        set_rotated(r, b, e.n_rotated);
        if (r->status != ME_OK) break;
        widen(m, b);
        width = b->d_model;
        m->n_layers += b->depth;
        check(r, m->n_layers <= MAX_LAYERS, "too many layers");
    }
    return r->status;
}

static uint64_t matrix_bytes(const me_matrix *m) {
    uint64_t blocks = (uint64_t)m->n_panels * m->n_blocks; /* of 16 rows x 32 columns */
    if (m->kind == ME_F32) return (uint64_t)m->n_out * m->n_in * sizeof(float);
    if (m->kind == ME_Q8) return blocks * (512 + ME_PANEL * sizeof(uint16_t));
    return blocks * (256 + 2 * ME_PANEL * sizeof(uint16_t));
}

static void take(reader *r, uint32_t n_out, uint32_t n_in, me_matrix *matrix) {
    tensor_entry e;
    if (r->status != ME_OK) return;
    if (r->next == r->header.n_tensors) {
        fail(r, "a tensor is missing");
        return;
    }
    const uint8_t *map = r->model->map;
    memcpy(&e, map + r->header.tensor_table_offset + (size_t)r->next++ * sizeof e, sizeof e);
    matrix->kind = e.kind, matrix->n_out = n_out, matrix->n_in = n_in;
    matrix->n_panels = (n_out + ME_PANEL - 1) / ME_PANEL;
    matrix->n_blocks = (n_in + ME_COLUMNS - 1) / ME_COLUMNS;
    check(r, e.n_out == n_out && e.n_in == n_in, "a tensor has another shape");
    check(r, e.kind <= ME_Q4, "a tensor of an unknown kind");
    check(r, e.n_bytes == matrix_bytes(matrix), "a tensor has another length");
    check(r, e.offset % 64 == 0 && e.offset >= r->header.data_offset, "a tensor's offset");
    check(r, e.offset <= r->model->file_bytes && e.n_bytes <= r->model->file_bytes - e.offset,
          "a tensor ends behind the file");
    if (r->status != ME_OK) return;
    matrix->rows = (const float *)(const void *)(map + e.offset);
    matrix->quants = map + e.offset;
    if (e.kind == ME_F32) return;
    r->model->half_cache = 1;
    uint64_t n_scales = (uint64_t)matrix->n_panels * matrix->n_blocks * ME_PANEL;
    const uint16_t *end = (const void *)(map + e.offset + e.n_bytes);
    if (e.kind == ME_Q4) matrix->minimums = end -= n_scales;
    matrix->scales = end - n_scales;
}

static const float *take_floats(reader *r, uint32_t n_out, uint32_t n_in) {
    me_matrix matrix = {0};
    take(r, n_out, n_in, &matrix);
    check(r, matrix.kind == ME_F32, "a vector is not float32");
    return matrix.rows;
}

static void take_norm(reader *r, uint32_t width, me_norm *norm) {
    norm->weight = take_floats(r, 1, width);
    norm->bias = r->model->config.norm == ME_LAYERNORM ? take_floats(r, 1, width) : NULL;
}

static void take_linear(reader *r, uint32_t n_out, uint32_t n_in, uint32_t bias, me_linear *l) {
    take(r, n_out, n_in, &l->weight);
    l->bias = bias ? take_floats(r, 1, n_out) : NULL;
}

static void take_block(reader *r, me_block *b, me_norm *norms) {
    const me_config *c = &r->model->config;
    uint32_t qkv = (b->n_head + 2 * b->n_kv_head) * b->head_dim;
    if (b->joint_in) take(r, b->d_model, b->joint_in, &b->joint);
    take_linear(r, qkv, b->d_model, c->attention_bias, &b->qkv);
    take_linear(r, b->d_model, b->d_model, c->attention_bias, &b->out);
    take_linear(r, b->d_ff * (1 + c->gated_ffn), b->d_model, c->ffn_bias, &b->up);
    take_linear(r, b->d_model, b->d_ff, c->ffn_bias, &b->down);
    b->norms = norms;
    for (uint32_t i = 0; i < 2 * b->depth; i++) take_norm(r, b->d_model, &b->norms[i]);
}

/* The order is that of weight_shapes in merino_edge/formats/weights.py. */
static int read_tensors(reader *r) {
    me_model *m = r->model;
    const me_config *c = &m->config;
    uint32_t last = m->blocks[m->n_blocks - 1].d_model;
    me_norm *norms = m->norms = calloc((size_t)2 * m->n_layers, sizeof *norms);
    if (!norms) return r->status = me_fail(r->message, ME_ERROR_MEMORY, "out of memory");
    take(r, c->vocab_size, c->embed_dim, &m->embed);
    if (c->position == ME_LEARNED)
        m->pos_embed = take_floats(r, c->max_seq_len, m->blocks[0].d_model);
    for (uint32_t i = 0; i < m->n_blocks; norms += 2 * m->blocks[i++].depth)
        take_block(r, &m->blocks[i], norms);
    if (!c->no_final_norm) take_norm(r, last, &m->final_norm);
    if (last != c->embed_dim) take(r, c->embed_dim, last, &m->head_joint);
    m->head = m->embed;
    if (!c->tie_embeddings) take(r, c->vocab_size, c->embed_dim, &m->head);
    check(r, r->next == r->header.n_tensors, "it has more tensors than its architecture");
    return r->status;
}

int me_file_open(me_model *m, const char *path, me_message *message) {
    reader r = {m, {{0}, 0, 0, 0, 0, 0, 0, 0, {0}}, 0, message, ME_OK};
    int status = map_file(m, path, message);
    if (status != ME_OK) return status;
    if (read_header(&r) == ME_OK && read_config(&r) == ME_OK && read_blocks(&r) == ME_OK)
        read_tensors(&r);
    return r.status;
}

void me_file_close(me_model *m) {
    if (m->map) munmap((void *)(uintptr_t)m->map, (size_t)m->file_bytes);
    free(m->blocks);
    free(m->norms);
}
