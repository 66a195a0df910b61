/* A plugin for QEMU's user-mode emulation: how often each translated block ran, between two marks.
 *
 *     qemu-aarch64 -plugin libinstructions.so,mark=0x401234,out=blocks.txt PROGRAM
 *
 * A block is a stretch of instructions that ends with a branch. The program calls the function at
 * the marked address before and after what is to be counted; the first call sets all counts to
 * zero, the second writes a line for each block: address, instructions, times it ran. One thread.
 *
 * QEMU is distributed without the header of its plugins, so what is used of the documented
 * interface (version 1: QEMU 4.2 to 8) is declared here. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef uint64_t qemu_plugin_id_t;
struct qemu_plugin_tb;
void qemu_plugin_register_vcpu_tb_trans_cb(qemu_plugin_id_t id,
                                           void (*translated)(qemu_plugin_id_t,
                                                              struct qemu_plugin_tb *));
void qemu_plugin_register_vcpu_tb_exec_cb(struct qemu_plugin_tb *block,
                                          void (*executed)(unsigned, void *), int flags, void *data);
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *block);
uint64_t qemu_plugin_tb_vaddr(const struct qemu_plugin_tb *block);

__attribute__((visibility("default"))) int qemu_plugin_version = 1;
__attribute__((visibility("default"))) int qemu_plugin_install(qemu_plugin_id_t id,
                                                               const void *info, int argc,
                                                               char **argv);

typedef struct counted {
    struct counted *next;
    uint64_t address, n_instructions, n_runs;
} counted;

static counted *blocks;
static uint64_t mark;
static const char *out;
static int n_marks;

static void write_counts(void) {
    FILE *file = fopen(out, "w");
    if (!file) return;
    for (counted *b = blocks; b; b = b->next)
        if (b->n_runs)
            fprintf(file, "%" PRIx64 " %" PRIu64 " %" PRIu64 "\n", b->address, b->n_instructions,
                    b->n_runs);
    fclose(file);
}

static void executed(unsigned processor, void *data) {
    counted *block = data;
    (void)processor;
    block->n_runs++;
    if (block->address != mark) return;
    if (++n_marks == 2) write_counts();
    for (counted *b = blocks; b; b = b->next) b->n_runs = 0;
}

/* The same code may be translated again; its counts are then two lines of the file. */
static void translated(qemu_plugin_id_t id, struct qemu_plugin_tb *block) {
    counted *b = calloc(1, sizeof *b);
    (void)id;
    if (!b) abort();
    b->address = qemu_plugin_tb_vaddr(block);
    b->n_instructions = qemu_plugin_tb_n_insns(block);
    b->next = blocks;
    blocks = b;
    qemu_plugin_register_vcpu_tb_exec_cb(block, executed, 0, b);
}

int qemu_plugin_install(qemu_plugin_id_t id, const void *info, int argc, char **argv) {
    (void)info;
    for (int i = 0; i < argc; i++) {
        if (strncmp(argv[i], "mark=", 5) == 0) mark = strtoull(argv[i] + 5, NULL, 0);
        if (strncmp(argv[i], "out=", 4) == 0) out = argv[i] + 4;
    }
    if (!mark || !out) return 1;
    qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
    return 0;
}
