/* Embedding, the definition. */
#include "kernels/ref/ref.h"

void ls_embedding_forward_ref(ls_exec *exec, float *out, const int32_t *token, const void *weight, ls_dtype dtype,
                              int64_t R, int64_t V, int64_t C)
{
    (void)exec, (void)V;
    for (int64_t r = 0; r < R; r++)
        for (int64_t c = 0; c < C; c++) out[r * C + c] = (float)ls_ref_get(weight, dtype, token[r] * C + c);
}

void ls_embedding_backward_ref(ls_exec *exec, float *dweight, const float *dout, const int32_t *token, int64_t R,
                               int64_t V, int64_t C)
{
    (void)exec, (void)V;
    for (int64_t r = 0; r < R; r++)
        for (int64_t c = 0; c < C; c++) dweight[token[r] * C + c] += dout[r * C + c];
}
