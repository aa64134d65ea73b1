/* SwiGLU, the definition. */
#include "kernels/ref/ref.h"

#include <math.h>

static double sigmoid(double x) { return 1.0 / (1.0 + exp(-x)); }

void ls_swiglu_forward_ref(ls_exec *exec, void *out, const void *gate_up, ls_dtype dtype, int64_t R, int64_t F)
{
    (void)exec;
    for (int64_t r = 0; r < R; r++)
        for (int64_t i = 0; i < F; i++) {
            const double gate = ls_ref_get(gate_up, dtype, r * 2 * F + i);
            const double up = ls_ref_get(gate_up, dtype, r * 2 * F + F + i);
            ls_ref_set(out, dtype, r * F + i, gate * sigmoid(gate) * up);
        }
}

void ls_swiglu_backward_ref(ls_exec *exec, void *dgate_up, void *out, const void *dout, const void *gate_up,
                            ls_dtype dtype, int64_t R, int64_t F)
{
    (void)exec;
    for (int64_t r = 0; r < R; r++)
        for (int64_t i = 0; i < F; i++) {
            const double gate = ls_ref_get(gate_up, dtype, r * 2 * F + i);
            const double up = ls_ref_get(gate_up, dtype, r * 2 * F + F + i);
            const double d = ls_ref_get(dout, dtype, r * F + i);
            const double s = sigmoid(gate);
            ls_ref_set(dgate_up, dtype, r * 2 * F + i, d * up * s * (1.0 + gate * (1.0 - s)));
            ls_ref_set(dgate_up, dtype, r * 2 * F + F + i, d * gate * s);
            if (out != NULL) ls_ref_set(out, dtype, r * F + i, gate * s * up);
        }
}
