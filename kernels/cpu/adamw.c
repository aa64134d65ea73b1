/* AdamW over flat blocks in one pass: what is read of an element is written back while it is at hand. */
#include "kernels/cpu/elementwise.h"
#include "kernels/cpu/variant.h"

typedef struct coefficients {
    vf gradient_scale, beta1, beta2, keep1, keep2; /* keep = 1 - beta */
    vf rate, unbias1, unbias2, epsilon, decay;     /* unbias = 1 / bias correction */
} coefficients;

static coefficients coefficients_of(const ls_adamw_step *step)
{
    return (coefficients){
        .gradient_scale = vf_set(step->gradient_scale),
        .beta1 = vf_set(step->beta1),
        .beta2 = vf_set(step->beta2),
        .keep1 = vf_set(1.0f - step->beta1),
        .keep2 = vf_set(1.0f - step->beta2),
        .rate = vf_set(step->learning_rate),
        .unbias1 = vf_set(1.0f / step->bias_correction1),
        .unbias2 = vf_set(1.0f / step->bias_correction2),
        .epsilon = vf_set(step->epsilon),
        .decay = vf_set(step->weight_decay),
    };
}

LS_INLINE void step_vector(float *weight, float *m, float *v, float *gradient, void *weight_out, const coefficients *c,
                           ls_dtype dtype, int64_t i, int lanes)
{
    const vf g = vf_get(gradient, i, lanes, LS_F32) * c->gradient_scale, w = vf_get(weight, i, lanes, LS_F32);
    const vf mean = vf_fma(c->beta1, vf_get(m, i, lanes, LS_F32), c->keep1 * g);
    const vf square = vf_fma(c->beta2, vf_get(v, i, lanes, LS_F32), c->keep2 * g * g);
    const vf size = vf_sqrt(square * c->unbias2) + c->epsilon;
    const vf step = vf_fma(c->decay, w, mean * c->unbias1 / size);
    const vf moved = vf_fma(-c->rate, step, w);
    vf_put(m, i, lanes, mean, LS_F32);
    vf_put(v, i, lanes, square, LS_F32);
    vf_put(gradient, i, lanes, vf_set(0.0f), LS_F32);
    vf_put(weight, i, lanes, moved, LS_F32);
    if (weight_out != NULL) vf_put(weight_out, i, lanes, moved, dtype);
}

LS_INLINE void step_block(float *weight, float *m, float *v, float *gradient, void *weight_out, const coefficients *c,
                          int64_t begin, int64_t end, ls_dtype dtype)
{
    const coefficients local = *c;
    LS_EACH_VECTOR(begin, end, step_vector, weight, m, v, gradient, weight_out, &local, dtype);
}

void LS_CPU_NAME(adamw)(ls_exec *exec, float *weight, float *m, float *v, float *gradient, void *weight_out,
                        ls_dtype dtype, const ls_adamw_step *step, int64_t count)
{
    const coefficients c = coefficients_of(step);
    LS_PARALLEL_FOR(threads_for(exec, count * 34), block, flat_blocks(count),
                    LS_BY_DTYPE(dtype, step_block, weight, m, v, gradient, weight_out, &c, block * FLAT_BLOCK,
                                flat_end(block, count)));
}
