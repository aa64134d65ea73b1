/* RMSNorm with gather, the definition. */
#include "kernels/ref/ref.h"

#include <math.h>

void ls_rmsnorm_forward_ref(ls_exec *exec, void *out, float *rstd, const float *residual, const int32_t *slot,
                            const void *weight, ls_dtype dtype, int64_t n, int64_t T, int64_t C, float epsilon)
{
    (void)exec;
    for (int64_t j = 0; j < n; j++)
        for (int64_t t = 0; t < T; t++) {
            const int64_t row = j * T + t;
            const float *const x = residual + (slot[j] * T + t) * C;
            double squares = 0.0;
            for (int64_t c = 0; c < C; c++) squares += (double)x[c] * (double)x[c];
            const double scale = 1.0 / sqrt(squares / (double)C + (double)epsilon);
            if (rstd != NULL) rstd[row] = (float)scale;
            for (int64_t c = 0; c < C; c++)
                ls_ref_set(out, dtype, row * C + c, (double)x[c] * scale * ls_ref_get(weight, dtype, c));
        }
}

/* One row:  dx += rstd * (h - x * rstd^2 * mean(h * x)),  h = dout * weight.  `first` is the row's place in dout. */
static void row_backward(float *dx, const void *dout, int64_t first, const float *x, const void *weight, ls_dtype dtype,
                         double rstd, int64_t C)
{
    double mean = 0.0;
    for (int64_t c = 0; c < C; c++)
        mean += ls_ref_get(dout, dtype, first + c) * ls_ref_get(weight, dtype, c) * (double)x[c];
    mean /= (double)C;
    for (int64_t c = 0; c < C; c++) {
        const double h = ls_ref_get(dout, dtype, first + c) * ls_ref_get(weight, dtype, c);
        dx[c] = (float)((double)dx[c] + rstd * (h - (double)x[c] * rstd * rstd * mean));
    }
}

void ls_rmsnorm_backward_ref(ls_exec *exec, float *dresidual, float *dweight, const void *dout, const float *residual,
                             const int32_t *slot, const int32_t *sample, const float *rstd, const void *weight,
                             ls_dtype dtype, int64_t n, int64_t T, int64_t C)
{
    (void)exec;
    for (int64_t j = 0; j < n; j++)
        for (int64_t t = 0; t < T; t++)
            row_backward(dresidual + (sample[j] * T + t) * C, dout, (j * T + t) * C, residual + (slot[j] * T + t) * C,
                         weight, dtype, (double)rstd[j * T + t], C);
    for (int64_t c = 0; c < C; c++) {
        double sum = 0.0;
        for (int64_t row = 0; row < n * T; row++) {
            const float *const x = residual + (slot[row / T] * T + row % T) * C;
            sum += ls_ref_get(dout, dtype, row * C + c) * (double)x[c] * (double)rstd[row];
        }
        dweight[c] = (float)((double)dweight[c] + sum);
    }
}
