/* Softmax cross-entropy with its gradient in place, the definition. */
#include "kernels/ref/ref.h"

#include <math.h>

/* log sum_v exp(logits[first + v]); a NaN among them is not lost to the maximum's comparison. */
static double log_sum_exp(const void *logits, int64_t first, ls_dtype dtype, int64_t V)
{
    double largest = -INFINITY, sum = 0.0;
    for (int64_t v = 0; v < V; v++) largest = fmax(largest, ls_ref_get(logits, dtype, first + v));
    for (int64_t v = 0; v < V; v++) sum += exp(ls_ref_get(logits, dtype, first + v) - largest);
    return largest + log(sum);
}

void ls_cross_entropy_ref(ls_exec *exec, float *loss, void *logits, const int32_t *target, ls_dtype dtype,
                          float gradient_scale, int64_t R, int64_t V)
{
    (void)exec;
    for (int64_t r = 0; r < R; r++) {
        const int ignored = target[r] < 0;
        const double lse = ignored ? 0.0 : log_sum_exp(logits, r * V, dtype, V);
        loss[r] = ignored ? 0.0f : (float)(lse - ls_ref_get(logits, dtype, r * V + target[r]));
        if (gradient_scale == 0.0f) continue;
        for (int64_t v = 0; v < V; v++) {
            const double p = ignored ? 0.0 : exp(ls_ref_get(logits, dtype, r * V + v) - lse);
            ls_ref_set(logits, dtype, r * V + v, (double)gradient_scale * (p - (v == target[r] ? 1.0 : 0.0)));
        }
    }
}
