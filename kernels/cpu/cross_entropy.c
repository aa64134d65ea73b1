/* Softmax cross-entropy: one pass over a row finds maximum and sum together, a second one writes the gradient.
 *
 * Each lane keeps its own running maximum and the sum of exponentials relative to it, rescaled once every eight vectors
 * (an eighth of an exponential a vector, cheaper than a pass for the maximum); lanes are joined in double. A NaN or
 * an infinity among the logits makes loss and gradient NaN: the sum carries it. */
#include "kernels/cpu/elementwise.h"
#include "kernels/cpu/variant.h"

#include <float.h>

#define GROUP 8 /* vectors between two rescalings */

typedef struct running {
    vf most; /* starts at a finite number, so that a logit of -infinity adds 0 rather than NaN */
    vf sum;
} running;

LS_INLINE void add_group(running *run, const vf *x, int vectors)
{
    vf most = run->most;
    for (int k = 0; k < vectors; k++) most = vf_max(most, x[k]);
    vf sum = run->sum * vf_exp(run->most - most);
    for (int k = 0; k < vectors; k++) sum += vf_exp(x[k] - most);
    run->most = most;
    run->sum = sum;
}

LS_INLINE running scan_row(const void *logits, int64_t V, ls_dtype dtype)
{
    running run = {vf_set(-FLT_MAX), {0}};
    vf x[GROUP];
    int64_t i = 0;
    for (; i + GROUP * VL <= V; i += GROUP * VL) {
        for (int k = 0; k < GROUP; k++) x[k] = vf_get(logits, i + k * VL, VL, dtype);
        add_group(&run, x, GROUP);
    }
    for (; i < V; i += VL) {
        const int lanes = vector_lanes(V - i);
        x[0] = vf_select(vf_first(lanes), vf_get(logits, i, lanes, dtype), vf_set(-INFINITY));
        add_group(&run, x, 1);
    }
    return run;
}

LS_INLINE void gradient_vector(void *logits, vf most, vf scale, ls_dtype dtype, int64_t i, int lanes)
{
    vf_put(logits, i, lanes, vf_exp(vf_get(logits, i, lanes, dtype) - most) * scale, dtype);
}

LS_INLINE void loss_row(float *loss, void *logits, int32_t target, float gradient_scale, int64_t V, ls_dtype dtype)
{
    if (target < 0) {
        *loss = 0.0f;
        if (gradient_scale != 0.0f) memset(logits, 0, (size_t)V * ls_dtype_size(dtype));
        return;
    }
    const running run = scan_row(logits, V, dtype);
    const float most = vf_max_lane(run.most);
    const vf share = run.sum * vf_exp(run.most - most);
    double sum = 0.0;
    for (int lane = 0; lane < VL; lane++) sum += (double)share[lane];
    const double right = (double)vf_get(logits, target, 1, dtype)[0] - (double)most;
    *loss = (float)(log(sum) - right);
    if (gradient_scale == 0.0f) return;
    LS_EACH_VECTOR(0, V, gradient_vector, logits, vf_set(most), vf_set((float)((double)gradient_scale / sum)), dtype);
    const double slope = (double)gradient_scale * (exp(right) / sum - 1.0);
    vf_put(logits, target, 1, vf_set((float)slope), dtype);
}

void LS_CPU_NAME(cross_entropy)(ls_exec *exec, float *loss, void *logits, const int32_t *target, ls_dtype dtype,
                                float gradient_scale, int64_t R, int64_t V)
{
    const int64_t width = V * (int64_t)ls_dtype_size(dtype);
    LS_PARALLEL_FOR(threads_for(exec, R * width), r, R,
                    LS_BY_DTYPE(dtype, loss_row, loss + r, (char *)logits + r * width, target[r], gradient_scale, V));
}
