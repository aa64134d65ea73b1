/* Softmax cross-entropy: one pass over a row finds maximum and sum together, a second one writes the gradient.
 *
 * The sum of exponentials is relative to the largest logit so far and rescaled when a larger one comes, which is soon
 * rare; lanes are joined in double. A NaN or an infinity among the logits makes loss and gradient NaN: the sum carries
 * it. With bf16 logits the exponentials are good to 2^-17, an error that their own rounding hides. */
#include "kernels/cpu/elementwise.h"
#include "kernels/cpu/variant.h"

#include <float.h>

#define GROUP 4 /* duos between two looks at the maximum */

typedef struct running {
    float most; /* starts at a finite number, so that a logit of -infinity adds 0 rather than NaN */
    vf sum;
} running;

LS_INLINE vf exp_of(vf x, ls_dtype dtype) { return dtype == LS_BF16 ? vf_exp_rough(x) : vf_exp(x); }

LS_INLINE void add_group(running *run, const duo *x, int duos, ls_dtype dtype)
{
    vf top = vf_max(x[0].a, x[0].b);
    for (int k = 1; k < duos; k++) top = vf_max(top, vf_max(x[k].a, x[k].b));
    if (vf_any_above(top, vf_set(run->most))) {
        const float most = vf_max_lane(vf_max(top, vf_set(run->most)));
        run->sum *= vf_exp(vf_set(run->most - most));
        run->most = most;
    }
    for (int k = 0; k < duos; k++) run->sum += exp_of(x[k].a - run->most, dtype) + exp_of(x[k].b - run->most, dtype);
}

LS_INLINE running scan_row(const void *logits, int64_t V, ls_dtype dtype)
{
    running run = {-FLT_MAX, {0}};
    duo x[GROUP];
    int64_t i = 0;
    for (; i + GROUP * 2 * VL <= V; i += GROUP * 2 * VL) {
        for (int k = 0; k < GROUP; k++) x[k] = duo_get(logits, i + k * 2 * VL, 2 * VL, 0.0f, dtype);
        add_group(&run, x, GROUP, dtype);
    }
    for (; i < V; i += 2 * VL) {
        x[0] = duo_get(logits, i, V - i < 2 * VL ? (int)(V - i) : 2 * VL, -INFINITY, dtype);
        add_group(&run, x, 1, dtype);
    }
    return run;
}

LS_INLINE void gradient_duo(void *logits, vf most, vf scale, ls_dtype dtype, int64_t i, int count)
{
    const duo x = duo_get(logits, i, count, 0.0f, dtype);
    const duo d = {exp_of(x.a - most, dtype) * scale, exp_of(x.b - most, dtype) * scale};
    duo_put(logits, i, count, d, dtype);
}

LS_INLINE void loss_row(float *loss, void *logits, int32_t target, float gradient_scale, int64_t V, ls_dtype dtype)
{
    if (target < 0) {
        *loss = 0.0f;
        if (gradient_scale != 0.0f) memset(logits, 0, (size_t)V * ls_dtype_size(dtype));
        return;
    }
    const running run = scan_row(logits, V, dtype);
    double sum = 0.0;
    for (int lane = 0; lane < VL; lane++) sum += (double)run.sum[lane];
    const double right = (double)vf_get(logits, target, 1, dtype)[0] - (double)run.most;
    *loss = (float)(log(sum) - right);
    if (gradient_scale == 0.0f) return;
    LS_EACH_DUO(0, V, gradient_duo, logits, vf_set(run.most), vf_set((float)((double)gradient_scale / sum)), dtype);
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
