/* How many processors a process may use: see processors.c. */
#ifndef ME_PROCESSORS_H
#define ME_PROCESSORS_H

#include <stdint.h>

/* What the CPU quota of this process's cgroups comes to in processors, rounded up; UINT32_MAX
 * without one. root: "" for this machine's /proc and /sys, or the folder of a recorded tree. */
uint32_t me_quota_processors(const char *root);

#endif
