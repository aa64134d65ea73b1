/* Bias of a linear layer, the definition. */
#include "kernels/ref/ref.h"

void ls_bias_add_ref(ls_exec *exec, void *x, const void *bias, ls_dtype dtype, int64_t R, int64_t N)
{
    (void)exec;
    for (int64_t r = 0; r < R; r++)
        for (int64_t i = 0; i < N; i++)
            ls_ref_set(x, dtype, r * N + i, ls_ref_get(x, dtype, r * N + i) + ls_ref_get(bias, dtype, i));
}

void ls_bias_backward_ref(ls_exec *exec, float *dbias, const void *dout, ls_dtype dtype, int64_t R, int64_t N)
{
    (void)exec;
    for (int64_t i = 0; i < N; i++) {
        double sum = (double)dbias[i];
        for (int64_t r = 0; r < R; r++) sum += ls_ref_get(dout, dtype, r * N + i);
        dbias[i] = (float)sum;
    }
}
