/* Connects, asks, and listens until the server is gone; says what became of it. */
#include "merino_edge_client.h"

#include <stdio.h>

static mec_client client;

int main(int argc, char **argv) {
    mec_options options = MEC_DEFAULTS;
    mec_event event;
    int status = argc == 2 ? mec_open(&client, argv[1], 2000) : MEC_ERROR_ARGUMENT;
    printf(status == MEC_OK ? "opened\n" : "not opened: %s\n", client.why);
    if (status != MEC_OK) return 0;
    options.temperature = 0.5;
    options.stop = "\"\n";
    mec_generate(&client, 1, "a \"prompt\"\n", &options);
    do {
        status = mec_next(&client, &event, 2000);
        if (status == MEC_OK)
            printf("%d %.*s %s\n", (int)event.kind, (int)event.text_bytes, event.text, event.code);
    } while (status == MEC_OK || status == MEC_ERROR_PROTOCOL);
    printf("%d: %s\n", status, client.why);
    mec_close(&client);
    return 0;
}
