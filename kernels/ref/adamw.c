/* AdamW over flat blocks, the definition. */
#include "kernels/ref/ref.h"

#include <math.h>

void ls_adamw_ref(ls_exec *exec, float *weight, float *m, float *v, float *gradient, void *weight_out, ls_dtype dtype,
                  const ls_adamw_step *step, int64_t count)
{
    (void)exec;
    const double b1 = (double)step->beta1, b2 = (double)step->beta2;
    for (int64_t i = 0; i < count; i++) {
        const double g = (double)step->gradient_scale * (double)gradient[i];
        const double new_m = b1 * (double)m[i] + (1.0 - b1) * g;
        const double new_v = b2 * (double)v[i] + (1.0 - b2) * g * g;
        const double direction = new_m / (double)step->bias_correction1 /
                                 (sqrt(new_v / (double)step->bias_correction2) + (double)step->epsilon);
        const double w = (double)weight[i];
        const double new_w = w - (double)step->learning_rate * (direction + (double)step->weight_decay * w);
        m[i] = (float)new_m;
        v[i] = (float)new_v;
        weight[i] = (float)new_w;
        gradient[i] = 0.0f;
        if (weight_out != NULL) ls_ref_set(weight_out, dtype, i, new_w);
    }
}
