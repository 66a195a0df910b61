/* Opening a model, and what can be said of it. */
#include <stdlib.h>

#include "file.h"
#include "kernels.h"

uint32_t me_abi_version(void) { return ME_ABI_VERSION; }

const char *me_status_text(int status) {
    static const char *const TEXTS[] = {
        "done", "the file cannot be read", "the file is not a model, or it is damaged",
        "out of memory", "an argument is out of range", "the context is full", "cancelled",
        "the system refused",
    };
    return status < 0 || status > ME_ERROR_SYSTEM ? "unknown status" : TEXTS[status];
}

int me_open(const char *path, me_model **model, char *message, size_t message_bytes) {
    me_message to = {message, message_bytes};
    if (!path || !model) return me_fail(&to, ME_ERROR_ARGUMENT, "a path and a place are needed");
    *model = NULL;
    me_model *opened = calloc(1, sizeof *opened);
    if (!opened) return me_fail(&to, ME_ERROR_MEMORY, "out of memory");
    int status = me_file_open(opened, path, &to);
    if (status == ME_OK)
        *model = opened;
    else
        me_close(opened);
    return status;
}

void me_close(me_model *model) {
    if (!model) return;
    me_file_close(model);
    free(model);
}

int me_get_info(const me_model *model, me_info *info) {
    if (!model || !info) return ME_ERROR_ARGUMENT;
    info->vocab_size = model->config.vocab_size;
    info->max_seq_len = model->config.max_seq_len;
    info->n_layers = model->n_layers;
    info->n_blocks = model->n_blocks;
    info->file_bytes = model->file_bytes;
    info->kernels = me_kernels_in_use()->name;
    return ME_OK;
}
