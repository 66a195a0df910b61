/* In place of processors.c: a machine of eight, so that teams are tested which this one has no use for. */
#include "merino_edge.h"

uint32_t me_usable_threads(void) { return 8; }
