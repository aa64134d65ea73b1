/* The ways in which this machine can run an op: the instruction-set variants of the cpu backend. Tests of another
 * backend put theirs in this file's place. */
#include "kernel_check.h"

#include <stdlib.h>

void open_ways(ways *out, int threads)
{
    static const char *const variants[] = {"avx2", "avx512", "avx512bf16"};
    *out = (ways){.count = 0};
    for (size_t v = 0; v < sizeof variants / sizeof variants[0]; v++) {
        assert_int_equal(setenv("LAYERSKIP_CPU_VARIANT", variants[v], 1), 0);
        ls_exec *const exec = &out->exec[out->count];
        assert_int_equal(ls_exec_create(exec, LS_DEVICE_CPU, threads), LS_OK);
        /* A variant beyond the processor falls back to its best, which is here already, or comes last. */
        bool known = false;
        for (int i = 0; i < out->count; i++) known = known || out->exec[i].ops == exec->ops;
        if (known)
            ls_exec_destroy(exec);
        else
            out->name[out->count++] = variants[v];
    }
    assert_int_equal(unsetenv("LAYERSKIP_CPU_VARIANT"), 0);
    if (getenv("LAYERSKIP_TEST_CUDA") == NULL) return; /* scripts/gpu-check asks for it */
    assert_int_equal(ls_exec_create(&out->exec[out->count], LS_DEVICE_CUDA, threads), LS_OK);
    out->name[out->count++] = "cuda";
}

void close_ways(ways *all)
{
    for (int i = 0; i < all->count; i++) ls_exec_destroy(&all->exec[i]);
    all->count = 0;
}

double most_flop(void) { return 6e8; }
