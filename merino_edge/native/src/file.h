/* The model file: see file.c. */
#ifndef ME_FILE_H
#define ME_FILE_H

#include "model.h"

typedef struct {
    char *text;
    size_t n_bytes;
} me_message;

/* Writes the sentence and gives the status back. */
#if defined(__GNUC__)
__attribute__((format(printf, 3, 4)))
#endif
int me_fail(me_message *message, int status, const char *format, ...);
int me_file_open(me_model *model, const char *path, me_message *message); /* fills a zeroed model */
void me_file_close(me_model *model); /* also after a failed opening */

#endif
