/* Sums and conversions over flat blocks, the definition. */
#include "kernels/ref/ref.h"

void ls_sum_of_squares_ref(ls_exec *exec, double *out, const float *x, int64_t count)
{
    (void)exec;
    double sum = 0.0;
    for (int64_t i = 0; i < count; i++) sum += (double)x[i] * (double)x[i];
    *out = sum;
}

void ls_row_sums_ref(ls_exec *exec, double *out, const float *x, int64_t R, int64_t N)
{
    (void)exec;
    for (int64_t r = 0; r < R; r++) {
        double sum = 0.0;
        for (int64_t n = 0; n < N; n++) sum += (double)x[r * N + n];
        out[r] = sum;
    }
}

void ls_convert_ref(ls_exec *exec, void *out, ls_dtype out_dtype, const void *x, ls_dtype dtype, int64_t count)
{
    (void)exec;
    for (int64_t i = 0; i < count; i++) ls_ref_set(out, out_dtype, i, ls_ref_get(x, dtype, i));
}
