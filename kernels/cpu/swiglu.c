/* SwiGLU: the gate through silu(x) = x / (1 + e^-x), times the up projection; each element on its own. */
#include "kernels/cpu/elementwise.h"
#include "kernels/cpu/variant.h"

LS_INLINE vf sigmoid(vf x) { return 1.0f / (1.0f + vf_exp(-x)); }

LS_INLINE void forward_vector(void *out, const void *gate, const void *up, ls_dtype dtype, int64_t i, int lanes)
{
    const vf g = vf_get(gate, i, lanes, dtype);
    vf_put(out, i, lanes, g * sigmoid(g) * vf_get(up, i, lanes, dtype), dtype);
}

LS_INLINE void forward_row(void *out, const void *gate_up, int64_t F, ls_dtype dtype)
{
    LS_EACH_VECTOR(0, F, forward_vector, out, gate_up, element(gate_up, F, dtype), dtype);
}

void LS_CPU_NAME(swiglu_forward)(ls_exec *exec, void *out, const void *gate_up, ls_dtype dtype, int64_t R, int64_t F)
{
    LS_PARALLEL_FOR(
        threads_for(exec, R * F * 6), r, R,
        LS_BY_DTYPE(dtype, forward_row, element_out(out, r * F, dtype), element(gate_up, 2 * r * F, dtype), F));
}

/* silu(g) = g s with s = sigmoid(g), so d silu / dg = s + g s (1 - s). Everything is read before anything is written:
 * out may be dout and dgate may be gate. */
LS_INLINE void backward_vector(void *dgate, void *dup, void *out, const void *dout, const void *gate, const void *up,
                               ls_dtype dtype, int64_t i, int lanes)
{
    const vf g = vf_get(gate, i, lanes, dtype), u = vf_get(up, i, lanes, dtype), dy = vf_get(dout, i, lanes, dtype);
    const vf s = sigmoid(g), silu = g * s;
    vf_put(dgate, i, lanes, dy * u * vf_fma(silu, 1.0f - s, s), dtype);
    vf_put(dup, i, lanes, dy * silu, dtype);
    if (out != NULL) vf_put(out, i, lanes, silu * u, dtype);
}

LS_INLINE void backward_row(void *dgate_up, void *out, const void *dout, const void *gate_up, int64_t F, ls_dtype dtype)
{
    LS_EACH_VECTOR(0, F, backward_vector, dgate_up, element_out(dgate_up, F, dtype), out, dout, gate_up,
                   element(gate_up, F, dtype), dtype);
}

void LS_CPU_NAME(swiglu_backward)(ls_exec *exec, void *dgate_up, void *out, const void *dout, const void *gate_up,
                                  ls_dtype dtype, int64_t R, int64_t F)
{
    LS_PARALLEL_FOR(threads_for(exec, R * F * 12), r, R,
                    LS_BY_DTYPE(dtype, backward_row, element_out(dgate_up, 2 * r * F, dtype),
                                out == NULL ? NULL : element_out(out, r * F, dtype), element(dout, r * F, dtype),
                                element(gate_up, 2 * r * F, dtype), F));
}
