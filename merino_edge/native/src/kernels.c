/* Which kernels this processor has, asked once; best first. */
#include <string.h>

#include "kernels.h"

#if defined(ME_HAS_NEONDOT) && defined(__linux__)
#include <sys/auxv.h>
#endif

static const me_kernels *chosen; /* only me_use_kernels sets it */

static int always(void) { return 1; }

#if defined(__x86_64__)
static int has_avx2(void) {
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}
#endif
#if defined(ME_HAS_VNNI)
static int has_vnni(void) {
    return __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vnni");
}
#endif
#if defined(ME_HAS_NEONDOT)
static int has_dot(void) {
#if defined(__linux__)
    return (getauxval(AT_HWCAP) >> 20 & 1) != 0; /* HWCAP_ASIMDDP; old headers do not name it */
#else
    return 0;
#endif
}
#endif

static const struct {
    const me_kernels *kernels;
    int (*supported)(void);
} SETS[] = {
#if defined(ME_HAS_VNNI)
    {&me_kernels_avx512vnni, has_vnni},
#endif
#if defined(__x86_64__)
    {&me_kernels_avx2, has_avx2},
#endif
#if defined(ME_HAS_NEONDOT)
    {&me_kernels_neondot, has_dot},
#endif
#if defined(__aarch64__)
    {&me_kernels_neon, always},
#endif
    {&me_kernels_plain, always},
};

const me_kernels *me_kernels_named(const char *name) {
    for (size_t i = 0; i < sizeof SETS / sizeof *SETS; i++)
        if ((!name || strcmp(name, SETS[i].kernels->name) == 0) && SETS[i].supported())
            return SETS[i].kernels;
    return NULL;
}

const me_kernels *me_kernels_in_use(void) {
    const me_kernels *kernels = __atomic_load_n(&chosen, __ATOMIC_ACQUIRE);
    return kernels ? kernels : me_kernels_named(NULL);
}

int me_use_kernels(const char *name) {
    const me_kernels *kernels = me_kernels_named(name);
    if (!kernels) return ME_ERROR_ARGUMENT;
    __atomic_store_n(&chosen, kernels, __ATOMIC_RELEASE);
    return ME_OK;
}
