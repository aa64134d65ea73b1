/* The table of ops of one instruction-set variant. */
#include "kernels/cpu/variant.h"

extern void LS_CPU_NAME(matmul_bias)(ls_exec *exec, void *out, const void *a, const void *b, const void *bias,
                                     ls_dtype dtype, int64_t M, int64_t N, int64_t K, unsigned flags)
{
    ls_matmul_bias_cpu(exec, out, a, b, bias, dtype, M, N, K, flags);
}

const ls_backend LS_CPU_NAME(table);

/* oneDNN looks at the processor itself, so the matrix product is the same in every variant. */
void LS_CPU_NAME(matmul)(ls_exec *exec, void *out, ls_dtype out_dtype, const void *a, const void *b, ls_dtype dtype,
                         int64_t M, int64_t N, int64_t K, unsigned flags)
{
    ls_matmul_cpu(exec, out, out_dtype, a, b, dtype, M, N, K, flags);
}

const ls_backend LS_CPU_NAME(table) = {.name = "cpu",
#define LS_CPU_ENTRY(op) .op = LS_CPU_NAME(op),
                                       LS_OP_LIST(LS_CPU_ENTRY)
#undef LS_CPU_ENTRY
};
