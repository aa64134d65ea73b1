/* Bias of a linear layer: added to rows, and its gradient summed over them.
 *
 * The gradient is summed over fixed blocks of rows, each in a buffer of its own, then over the blocks in order, so it
 * does not depend on threads. */
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/elementwise.h"
#include "kernels/cpu/variant.h"

#define BLOCKS_MOST 128
#define BLOCK_ROWS_LEAST 32

LS_INLINE void add_vector(void *x, const void *bias, ls_dtype dtype, int64_t i, int lanes)
{
    vf_put(x, i, lanes, vf_get(x, i, lanes, dtype) + vf_get(bias, i, lanes, dtype), dtype);
}

LS_INLINE void add_row(void *x, const void *bias, int64_t N, ls_dtype dtype)
{
    LS_EACH_VECTOR(0, N, add_vector, x, bias, dtype);
}

void LS_CPU_NAME(bias_add)(ls_exec *exec, void *x, const void *bias, ls_dtype dtype, int64_t R, int64_t N)
{
    LS_PARALLEL_FOR(threads_for(exec, 2 * R * N * (int64_t)ls_dtype_size(dtype)), r, R,
                    LS_BY_DTYPE(dtype, add_row, element_out(x, r * N, dtype), bias, N));
}

LS_INLINE void sum_vector(float *sum, const void *row, ls_dtype dtype, int64_t i, int lanes)
{
    vf_put(sum, i, lanes, vf_get(sum, i, lanes, LS_F32) + vf_get(row, i, lanes, dtype), LS_F32);
}

LS_INLINE void sum_row(float *sum, const void *row, int64_t N, ls_dtype dtype)
{
    LS_EACH_VECTOR(0, N, sum_vector, sum, row, dtype);
}

void LS_CPU_NAME(bias_backward)(ls_exec *exec, float *dbias, const void *dout, ls_dtype dtype, int64_t R, int64_t N)
{
    if (R == 0 || N == 0) return;
    int64_t blocks = (R + BLOCK_ROWS_LEAST - 1) / BLOCK_ROWS_LEAST;
    if (blocks > BLOCKS_MOST) blocks = BLOCKS_MOST;
    float *const partial = ls_cpu_scratch(exec, 0, (size_t)(blocks * N) * sizeof *partial);
    if (partial == NULL) return;
    LS_PARALLEL_FOR(threads_for(exec, R * N * (int64_t)ls_dtype_size(dtype)), block, blocks, {
        float *const sum = partial + block * N;
        memset(sum, 0, sizeof(float) * (size_t)N);
        for (int64_t r = R * block / blocks; r < R * (block + 1) / blocks; r++)
            LS_BY_DTYPE(dtype, sum_row, sum, element(dout, r * N, dtype), N);
    });
    for (int64_t block = 0; block < blocks; block++) sum_row(dbias, partial + block * N, N, LS_F32);
}
