/* Chooses the instruction-set variant for the running processor, once.
 *
 * LAYERSKIP_CPU_VARIANT=avx2|avx512|avx512bf16 asks for a lesser one (tests; a machine is never driven beyond what it
 * has). */
#include "kernels/cpu/variant.h"

#include <stdlib.h>
#include <string.h>

#if defined(__x86_64__)

extern const ls_backend ls_table_cpu_avx2, ls_table_cpu_avx512, ls_table_cpu_avx512bf16;

static bool has_avx512(void)
{
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
}

const ls_backend *ls_backend_cpu(void)
{
    static const char *const names[] = {"avx2", "avx512", "avx512bf16"};
    static const ls_backend *const tables[] = {&ls_table_cpu_avx2, &ls_table_cpu_avx512, &ls_table_cpu_avx512bf16};
    int best = 0;
    if (has_avx512()) best = __builtin_cpu_supports("avx512bf16") ? 2 : 1;
    const char *asked = getenv("LAYERSKIP_CPU_VARIANT");
    for (int i = 0; asked != NULL && i < best; i++)
        if (strcmp(asked, names[i]) == 0) return tables[i];
    return tables[best];
}

bool ls_backend_cpu_runs_here(void) { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }

#else

extern const ls_backend ls_table_cpu_generic;

const ls_backend *ls_backend_cpu(void) { return &ls_table_cpu_generic; }

bool ls_backend_cpu_runs_here(void) { return true; }

#endif
