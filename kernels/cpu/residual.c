/* The residual stream: adding a block's output back, and taking rows out in the compute type. */
#include "kernels/cpu/elementwise.h"
#include "kernels/cpu/variant.h"

LS_INLINE void add_vector(float *out, const float *in, const void *y, vf scale, ls_dtype dtype, int64_t i, int lanes)
{
    vf_put(out, i, lanes, vf_fma(scale, vf_get(y, i, lanes, dtype), vf_get(in, i, lanes, LS_F32)), LS_F32);
}

LS_INLINE void add_row(float *out, const float *in, const void *y, float scale, int64_t C, ls_dtype dtype)
{
    LS_EACH_VECTOR(0, C, add_vector, out, in, y, vf_set(scale), dtype);
}

void LS_CPU_NAME(residual_add)(ls_exec *exec, float *residual, const int32_t *out_slot, const int32_t *in_slot,
                               const void *y, ls_dtype dtype, float scale, int64_t n, int64_t T, int64_t C)
{
    LS_PARALLEL_FOR(threads_for(exec, n * T * C * 10), r, n * T,
                    LS_BY_DTYPE(dtype, add_row, residual + (out_slot[r / T] * T + r % T) * C,
                                residual + (in_slot[r / T] * T + r % T) * C, element(y, r * C, dtype), scale, C));
}

LS_INLINE void cast_vector(void *out, const float *x, vf scale, ls_dtype dtype, int64_t i, int lanes)
{
    vf_put(out, i, lanes, scale * vf_get(x, i, lanes, LS_F32), dtype);
}

LS_INLINE void cast_row(void *out, const float *x, float scale, int64_t C, ls_dtype dtype)
{
    LS_EACH_VECTOR(0, C, cast_vector, out, x, vf_set(scale), dtype);
}

void LS_CPU_NAME(gather_cast)(ls_exec *exec, void *out, const float *x, const int32_t *slot, ls_dtype dtype,
                              float scale, int64_t n, int64_t T, int64_t C)
{
    LS_PARALLEL_FOR(
        threads_for(exec, n * T * C * 6), r, n * T,
        LS_BY_DTYPE(dtype, cast_row, element_out(out, r * C, dtype), x + (slot[r / T] * T + r % T) * C, scale, C));
}
