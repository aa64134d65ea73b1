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
