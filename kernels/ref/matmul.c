/* Matrix products, the definition. */
#include "kernels/ref/ref.h"

/* bias NULL: none. */
static void multiply(void *out, ls_dtype out_dtype, const void *a, const void *b, const void *bias, ls_dtype dtype,
                     int64_t M, int64_t N, int64_t K, unsigned flags)
{
    const int64_t a_row = flags & LS_TRANSPOSE_A ? 1 : K, a_column = flags & LS_TRANSPOSE_A ? M : 1;
    const int64_t b_row = flags & LS_TRANSPOSE_B ? 1 : N, b_column = flags & LS_TRANSPOSE_B ? K : 1;
#pragma omp parallel for
    for (int64_t m = 0; m < M; m++)
        for (int64_t n = 0; n < N; n++) {
            double sum = bias == NULL ? 0.0 : ls_ref_get(bias, dtype, n);
            for (int64_t k = 0; k < K; k++)
                sum += ls_ref_get(a, dtype, m * a_row + k * a_column) * ls_ref_get(b, dtype, k * b_row + n * b_column);
            if (flags & LS_ACCUMULATE) sum += ls_ref_get(out, out_dtype, m * N + n);
            ls_ref_set(out, out_dtype, m * N + n, sum);
        }
}

void ls_matmul_ref(ls_exec *exec, void *out, ls_dtype out_dtype, const void *a, const void *b, ls_dtype dtype,
                   int64_t M, int64_t N, int64_t K, unsigned flags)
{
    (void)exec;
    multiply(out, out_dtype, a, b, NULL, dtype, M, N, K, flags);
}

void ls_matmul_bias_ref(ls_exec *exec, void *out, const void *a, const void *b, const void *bias, ls_dtype dtype,
                        int64_t M, int64_t N, int64_t K, unsigned flags)
{
    (void)exec;
    multiply(out, dtype, a, b, bias, dtype, M, N, K, flags);
}

void ls_matmul_rows_ref(ls_exec *exec, void *out, ls_dtype out_dtype, const void *x, const void *weight, ls_dtype dtype,
                        int64_t R, int64_t N, int64_t K)
{
    ls_matmul_ref(exec, out, out_dtype, x, weight, dtype, R, N, K, LS_TRANSPOSE_B);
}
