/* SwiGLU: the gate through silu(x) = x / (1 + e^-x), times the up projection; each element on its own. */
#include "kernels/cpu/elementwise.h"
#include "kernels/cpu/variant.h"

/* e^-x; clamped where 1 + e^-x has long become e^-x, which vf_exp_rough asks for. */
LS_INLINE vf exp_minus(vf x, ls_dtype dtype)
{
    return dtype == LS_BF16 ? vf_exp_rough(vf_min(vf_set(88.0f), -x)) : vf_exp(-x);
}

LS_INLINE vf forward_vector(vf gate, vf up, ls_dtype dtype) { return gate * up / (1.0f + exp_minus(gate, dtype)); }

LS_INLINE void forward_duo(void *out, const void *gate, const void *up, ls_dtype dtype, int64_t i, int count)
{
    duo_prefetch(gate, i, dtype);
    duo_prefetch(up, i, dtype);
    const duo g = duo_get(gate, i, count, 0.0f, dtype), u = duo_get(up, i, count, 0.0f, dtype);
    const duo y = {forward_vector(g.a, u.a, dtype), forward_vector(g.b, u.b, dtype)};
    duo_put(out, i, count, y, dtype);
}

LS_INLINE void forward_row(void *out, const void *gate_up, int64_t F, ls_dtype dtype)
{
    LS_EACH_DUO(0, F, forward_duo, out, gate_up, element(gate_up, F, dtype), dtype);
}

void LS_CPU_NAME(swiglu_forward)(ls_exec *exec, void *out, const void *gate_up, ls_dtype dtype, int64_t R, int64_t F)
{
    LS_PARALLEL_FOR(
        threads_for(exec, R * F * 6), r, R,
        LS_BY_DTYPE(dtype, forward_row, element_out(out, r * F, dtype), element(gate_up, 2 * r * F, dtype), F));
}

typedef struct gradient {
    vf dgate, dup, out;
} gradient;

/* silu(g) = g s with s = 1 / (1 + e^-g), so d silu / dg = s + g s (1 - s). */
LS_INLINE gradient backward_vector(vf dout, vf gate, vf up, ls_dtype dtype)
{
    const vf s = 1.0f / (1.0f + exp_minus(gate, dtype)), silu = gate * s;
    return (gradient){dout * up * vf_fma(silu, 1.0f - s, s), dout * silu, silu * up};
}

/* Everything is read before anything is written: out may be dout and dgate may be gate. */
LS_INLINE void backward_duo(void *dgate, void *dup, void *out, const void *dout, const void *gate, const void *up,
                            ls_dtype dtype, int64_t i, int count)
{
    duo_prefetch(gate, i, dtype);
    duo_prefetch(up, i, dtype);
    duo_prefetch(dout, i, dtype);
    const duo g = duo_get(gate, i, count, 0.0f, dtype), u = duo_get(up, i, count, 0.0f, dtype);
    const duo dy = duo_get(dout, i, count, 0.0f, dtype);
    const gradient a = backward_vector(dy.a, g.a, u.a, dtype), b = backward_vector(dy.b, g.b, u.b, dtype);
    duo_put(dgate, i, count, (duo){a.dgate, b.dgate}, dtype);
    duo_put(dup, i, count, (duo){a.dup, b.dup}, dtype);
    if (out != NULL) duo_put(out, i, count, (duo){a.out, b.out}, dtype);
}

LS_INLINE void backward_row(void *dgate_up, void *out, const void *dout, const void *gate_up, int64_t F, ls_dtype dtype)
{
    LS_EACH_DUO(0, F, backward_duo, dgate_up, element_out(dgate_up, F, dtype), out, dout, gate_up,
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
