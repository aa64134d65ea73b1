/* Embedding rows out of the table, and their gradients back into it.
 *
 * Backward gives every thread a range of columns of all rows: rows add up in their order whatever the tokens are, and
 * the work is even however often a token repeats. */
#include "kernels/cpu/elementwise.h"
#include "kernels/cpu/variant.h"

#define COLUMNS_LEAST 64 /* a thread's share: below some cache lines a row, the memory's latency shows */

LS_INLINE void expand_vector(float *out, const void *weight, ls_dtype dtype, int64_t i, int lanes)
{
    vf_put(out, i, lanes, vf_get(weight, i, lanes, dtype), LS_F32);
}

LS_INLINE void expand_row(float *out, const void *weight, int64_t C, ls_dtype dtype)
{
    LS_EACH_VECTOR(0, C, expand_vector, out, weight, dtype);
}

void LS_CPU_NAME(embedding_forward)(ls_exec *exec, float *out, const int32_t *token, const void *weight, ls_dtype dtype,
                                    int64_t R, int64_t V, int64_t C)
{
    (void)V;
    LS_PARALLEL_FOR(threads_for(exec, R * C * 6), r, R,
                    LS_BY_DTYPE(dtype, expand_row, out + r * C, element(weight, token[r] * C, dtype), C));
}

LS_INLINE void add_vector(float *dweight, const float *dout, int64_t i, int lanes)
{
    vf_put(dweight, i, lanes, vf_get(dweight, i, lanes, LS_F32) + vf_get(dout, i, lanes, LS_F32), LS_F32);
}

static void add_columns(float *dweight, const float *dout, const int32_t *token, int64_t R, int64_t C, int64_t begin,
                        int64_t end)
{
    for (int64_t r = 0; r < R; r++) LS_EACH_VECTOR(begin, end, add_vector, dweight + token[r] * C, dout + r * C);
}

void LS_CPU_NAME(embedding_backward)(ls_exec *exec, float *dweight, const float *dout, const int32_t *token, int64_t R,
                                     int64_t V, int64_t C)
{
    (void)V;
    const int threads = threads_for(exec, R * C * 12);
    int64_t shares = (C + COLUMNS_LEAST - 1) / COLUMNS_LEAST;
    if (shares > threads) shares = threads;
    LS_PARALLEL_FOR(threads, p, shares, {
        const int64_t begin = C / VL * p / shares * VL;
        add_columns(dweight, dout, token, R, C, begin, p + 1 == shares ? C : C / VL * (p + 1) / shares * VL);
    });
}
