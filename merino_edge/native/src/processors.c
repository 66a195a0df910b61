/* How many processors this process may use: the machine's, less what it is kept from.
 *
 * Two things keep it: an affinity (taskset, a container's set of processors), and a quota of
 * processor time, which containers give through cgroups. With half the machine's time on all of its
 * processors, threads for all of them would be stopped together for half of every 100 ms.
 *
 * /proc/self/cgroup says which groups the process is in, one a line, "id:controllers:path": version 2
 * is the line without controllers, version 1 has one for "cpu". A group's quota binds all groups
 * below it, so each is looked at up to the root. Within a container the path may be the host's,
 * whose folders are not there: what is missing limits nothing, and the root is the container's own.
 */
#ifdef __linux__
#define _GNU_SOURCE /* sched_getaffinity */
#include <sched.h>
#else
#define _POSIX_C_SOURCE 200809L
#endif
#include "processors.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "merino_edge.h"

enum { PATH_BYTES = 1024 };

static uint32_t smaller(uint32_t a, uint32_t b) { return a < b ? a : b; }

/* Reads n whole numbers from a small file, "max" as 0; gives whether they were there. */
static int read_numbers(const char *folder, const char *name, long long *numbers, int n) {
    char path[PATH_BYTES], word[32];
    int n_read = 0;
    if (snprintf(path, sizeof path, "%s/%s", folder, name) >= PATH_BYTES) return 0;
    FILE *file = fopen(path, "r");
    if (!file) return 0;
    while (n_read < n && fscanf(file, "%31s", word) == 1) numbers[n_read++] = strtoll(word, NULL, 10);
    fclose(file);
    return n_read == n;
}

static uint32_t quota_of_group(const char *folder) {
    long long time[2]; /* quota and period, in microseconds */
    if (!read_numbers(folder, "cpu.max", time, 2) &&
        !(read_numbers(folder, "cpu.cfs_quota_us", &time[0], 1) &&
          read_numbers(folder, "cpu.cfs_period_us", &time[1], 1)))
        return UINT32_MAX;
    if (time[0] <= 0 || time[1] <= 0 || time[0] / time[1] >= UINT32_MAX) return UINT32_MAX;
    return (uint32_t)(time[0] / time[1] + (time[0] % time[1] != 0));
}

/* The least quota of a group and those above it, where its hierarchy is mounted. */
static uint32_t quota_of_path(const char *root, const char *mount, const char *path) {
    char folder[PATH_BYTES];
    uint32_t least = UINT32_MAX;
    int n_above = snprintf(folder, sizeof folder, "%s/sys/fs/cgroup%s", root, mount);
    if ((size_t)n_above + strlen(path) >= PATH_BYTES) return least;
    strcpy(folder + n_above, path);
    for (char *last = folder; last; last = strrchr(folder + n_above, '/')) {
        if (last != folder) *last = '\0';
        least = smaller(least, quota_of_group(folder));
    }
    return least;
}

static int has_cpu(const char *controllers) {
    for (const char *at = controllers; (at = strstr(at, "cpu")); at++)
        if ((at == controllers || at[-1] == ',') && (at[3] == '\0' || at[3] == ',')) return 1;
    return 0;
}

/* One line of /proc/self/cgroup, "id:controllers:path". */
static uint32_t quota_of_line(const char *root, char *line) {
    char mount[PATH_BYTES];
    char *controllers = strchr(line, ':');
    char *path = controllers ? strchr(++controllers, ':') : NULL;
    if (!path) return UINT32_MAX;
    *path++ = '\0';
    path[strcspn(path, "\n")] = '\0';
    if (*controllers == '\0') return quota_of_path(root, "", path);
    if (!has_cpu(controllers)) return UINT32_MAX;
    snprintf(mount, sizeof mount, "/%s", controllers); /* or mounted under one name of several */
    return smaller(quota_of_path(root, mount, path), quota_of_path(root, "/cpu", path));
}

uint32_t me_quota_processors(const char *root) {
    char line[PATH_BYTES];
    uint32_t least = UINT32_MAX;
    if (snprintf(line, sizeof line, "%s/proc/self/cgroup", root) >= PATH_BYTES) return least;
    FILE *file = fopen(line, "r");
    if (!file) return least;
    while (fgets(line, sizeof line, file)) least = smaller(least, quota_of_line(root, line));
    fclose(file);
    return least;
}

static uint32_t allowed_processors(void) {
#ifdef __linux__
    unsigned long set[128]; /* 8192 processors: the call fails where there could be more */
    memset(set, 0, sizeof set);
    if (sched_getaffinity(0, sizeof set, (cpu_set_t *)(void *)set) == 0) {
        uint32_t n = 0;
        for (size_t i = 0; i < sizeof set / sizeof *set; i++)
            n += (uint32_t)__builtin_popcountl(set[i]);
        return n;
    }
#endif
    long n = sysconf(_SC_NPROCESSORS_ONLN);
    return n > 0 ? (uint32_t)n : 1;
}

uint32_t me_usable_threads(void) {
    uint32_t n = smaller(allowed_processors(), me_quota_processors(""));
    return smaller(n ? n : 1, ME_MAX_THREADS);
}
