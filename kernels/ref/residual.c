/* The residual stream, the definition. */
#include "kernels/ref/ref.h"

void ls_residual_add_ref(ls_exec *exec, float *residual, const int32_t *out_slot, const int32_t *in_slot, const void *y,
                         ls_dtype dtype, float scale, int64_t n, int64_t T, int64_t C)
{
    (void)exec;
    const int64_t slab = T * C;
    for (int64_t j = 0; j < n; j++)
        for (int64_t i = 0; i < slab; i++)
            residual[out_slot[j] * slab + i] =
                (float)((double)residual[in_slot[j] * slab + i] + (double)scale * ls_ref_get(y, dtype, j * slab + i));
}

void ls_gather_cast_ref(ls_exec *exec, void *out, const float *x, const int32_t *slot, ls_dtype dtype, float scale,
                        int64_t n, int64_t T, int64_t C)
{
    (void)exec;
    const int64_t slab = T * C;
    for (int64_t j = 0; j < n; j++)
        for (int64_t i = 0; i < slab; i++)
            ls_ref_set(out, dtype, j * slab + i, (double)scale * (double)x[slot[j] * slab + i]);
}

void ls_residual_add_rmsnorm_ref(ls_exec *exec, float *residual, void *out, float *rstd, const int32_t *out_slot,
                                 const int32_t *in_slot, const void *y, const void *weight, ls_dtype dtype, float scale,
                                 int64_t n, int64_t T, int64_t C, float epsilon)
{
    ls_residual_add_ref(exec, residual, out_slot, in_slot, y, dtype, scale, n, T, C);
    ls_rmsnorm_forward_ref(exec, out, rstd, residual, out_slot, weight, dtype, n, T, C, epsilon);
}
