/* The ops of kernels/ops.h on a GPU: each issues its launcher (launch.h) into the exec's stream, with scratch where
 * sums run in two stages. Products and attention have files of their own. */
#include "kernels/cuda/cuda.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/open.h"

/* Issues a launcher; a launch that fails is the exec's failure. */
#define ISSUE(op, ...)                                                                                                 \
    do {                                                                                                               \
        if (!ls_cuda_live(exec)) break;                                                                                \
        ls_cuda_range_begin(#op);                                                                                      \
        (void)ls_cuda_ok(exec, ls_launch_##op(ls_cuda_of(exec)->stream, __VA_ARGS__), #op);                            \
        ls_cuda_range_end();                                                                                           \
    } while (0)
/* The same with `bytes` of scratch as its last argument. */
#define ISSUE_WITH_SCRATCH(op, bytes, ...)                                                                             \
    do {                                                                                                               \
        void *const scratch = ls_cuda_scratch(exec, bytes);                                                            \
        ISSUE(op, __VA_ARGS__, scratch);                                                                               \
    } while (0)

static void bias_add(ls_exec *exec, void *x, const void *bias, ls_dtype dtype, int64_t R, int64_t N)
{
    ISSUE(bias_add, x, bias, dtype, R, N);
}

static void bias_backward(ls_exec *exec, float *dbias, const void *dout, ls_dtype dtype, int64_t R, int64_t N)
{
    ISSUE_WITH_SCRATCH(bias_backward, ls_bias_backward_scratch_bytes(R, N), dbias, dout, dtype, R, N);
}

static void matmul_rows(ls_exec *exec, void *out, ls_dtype out_dtype, const void *x, const void *weight, ls_dtype dtype,
                        int64_t R, int64_t N, int64_t K)
{
    ISSUE(matmul_rows, out, out_dtype, x, weight, dtype, R, N, K);
}

static void embedding_forward(ls_exec *exec, float *out, const int32_t *token, const void *weight, ls_dtype dtype,
                              int64_t R, int64_t V, int64_t C)
{
    ISSUE(embedding_forward, out, token, weight, dtype, R, V, C);
}

static void embedding_backward(ls_exec *exec, float *dweight, const float *dout, const int32_t *token, int64_t R,
                               int64_t V, int64_t C)
{
    ISSUE_WITH_SCRATCH(embedding_backward, ls_embedding_backward_scratch_bytes(R), dweight, dout, token, R, V, C);
}

static void rmsnorm_forward(ls_exec *exec, void *out, float *rstd, const float *residual, const int32_t *slot,
                            const void *weight, ls_dtype dtype, int64_t n, int64_t T, int64_t C, float epsilon)
{
    ISSUE(rmsnorm_forward, out, rstd, residual, slot, weight, dtype, n, T, C, epsilon);
}

static void rmsnorm_backward(ls_exec *exec, float *dresidual, float *dweight, const void *dout, const float *residual,
                             const int32_t *slot, const int32_t *sample, const float *rstd, const void *weight,
                             ls_dtype dtype, int64_t n, int64_t T, int64_t C)
{
    ISSUE_WITH_SCRATCH(rmsnorm_backward, ls_rmsnorm_backward_scratch_bytes(n, T, C), dresidual, dweight, dout, residual,
                       slot, sample, rstd, weight, dtype, n, T, C);
}

static void residual_add(ls_exec *exec, float *residual, const int32_t *out_slot, const int32_t *in_slot, const void *y,
                         ls_dtype dtype, float scale, int64_t n, int64_t T, int64_t C)
{
    ISSUE(residual_add, residual, out_slot, in_slot, y, dtype, scale, n, T, C);
}

static void residual_add_rmsnorm(ls_exec *exec, float *residual, void *out, float *rstd, const int32_t *out_slot,
                                 const int32_t *in_slot, const void *y, const void *weight, ls_dtype dtype, float scale,
                                 int64_t n, int64_t T, int64_t C, float epsilon)
{
    ISSUE(residual_add_rmsnorm, residual, out, rstd, out_slot, in_slot, y, weight, dtype, scale, n, T, C, epsilon);
}

static void gather_cast(ls_exec *exec, void *out, const float *x, const int32_t *slot, ls_dtype dtype, float scale,
                        int64_t n, int64_t T, int64_t C)
{
    ISSUE(gather_cast, out, x, slot, dtype, scale, n, T, C);
}

static void rope(ls_exec *exec, void *qkv, const float *cos_table, const float *sin_table, const int32_t *position,
                 const int32_t *sample, ls_dtype dtype, int inverse, int64_t n, int64_t T, int64_t H, int64_t G,
                 int64_t D)
{
    ISSUE(rope, qkv, cos_table, sin_table, position, sample, dtype, inverse, n, T, H, G, D);
}

static void rope_append(ls_exec *exec, void *qkv, void *key_cache, void *value_cache, const float *cos_table,
                        const float *sin_table, ls_dtype dtype, const int32_t *base, int64_t start, int64_t R,
                        int64_t H, int64_t G, int64_t D, int64_t capacity)
{
    ISSUE(rope_append, qkv, key_cache, value_cache, cos_table, sin_table, dtype, base, start, R, H, G, D, capacity);
}

static void attention_cached(ls_exec *exec, void *out, const void *qkv, const void *key_cache, const void *value_cache,
                             ls_dtype dtype, float scale, const int32_t *base, int64_t start, int64_t R, int64_t H,
                             int64_t G, int64_t D, int64_t capacity)
{
    const int64_t positions = base == NULL ? start + R : capacity;
    ISSUE_WITH_SCRATCH(attention_cached, ls_attention_cached_scratch_bytes(positions, R, H, D), out, qkv, key_cache,
                       value_cache, dtype, scale, base, start, R, H, G, D, capacity);
}

static void draft_token(ls_exec *exec, ls_round *round, double *q, const float *logits, const ls_sampling *sampling,
                        double confidence, int32_t end_of_text, int64_t V)
{
    ISSUE(draft_token, round, q, logits, sampling, confidence, end_of_text, V);
}

static void accept_drafts(ls_exec *exec, ls_round *round, const double *q, const float *logits,
                          const ls_sampling *sampling, int64_t first, int64_t R, int64_t V)
{
    ISSUE_WITH_SCRATCH(accept_drafts, ls_accept_drafts_scratch_bytes(R, V), round, q, logits, sampling, first, R, V);
}

static void swiglu_forward(ls_exec *exec, void *out, const void *gate_up, ls_dtype dtype, int64_t R, int64_t F)
{
    ISSUE(swiglu_forward, out, gate_up, dtype, R, F);
}

static void swiglu_backward(ls_exec *exec, void *dgate_up, void *out, const void *dout, const void *gate_up,
                            ls_dtype dtype, int64_t R, int64_t F)
{
    ISSUE(swiglu_backward, dgate_up, out, dout, gate_up, dtype, R, F);
}

static void cross_entropy(ls_exec *exec, float *loss, void *logits, const int32_t *target, ls_dtype dtype,
                          float gradient_scale, int64_t R, int64_t V)
{
    ISSUE(cross_entropy, loss, logits, target, dtype, gradient_scale, R, V);
}

static void adamw(ls_exec *exec, float *weight, float *m, float *v, float *gradient, void *weight_out, ls_dtype dtype,
                  const ls_adamw_step *step, int64_t count)
{
    ISSUE(adamw, weight, m, v, gradient, weight_out, dtype, step, count);
}

static void sum_of_squares(ls_exec *exec, double *out, const float *x, int64_t count)
{
    ISSUE_WITH_SCRATCH(sum_of_squares, ls_sum_of_squares_scratch_bytes(count), out, x, count);
}

static void row_sums(ls_exec *exec, double *out, const float *x, int64_t R, int64_t N)
{
    ISSUE(row_sums, out, x, R, N);
}

static void convert(ls_exec *exec, void *out, ls_dtype out_dtype, const void *x, ls_dtype dtype, int64_t count)
{
    ISSUE(convert, out, out_dtype, x, dtype, count);
}

const ls_backend *ls_backend_cuda(void)
{
    static const ls_backend backend = {
        .name = "cuda",
        .matmul = ls_matmul_cuda,
        .matmul_bias = ls_matmul_bias_cuda,
        .attention_forward = ls_attention_forward_cuda,
        .attention_backward = ls_attention_backward_cuda,
        .bias_add = bias_add,
        .bias_backward = bias_backward,
        .matmul_rows = matmul_rows,
        .embedding_forward = embedding_forward,
        .embedding_backward = embedding_backward,
        .rmsnorm_forward = rmsnorm_forward,
        .rmsnorm_backward = rmsnorm_backward,
        .residual_add = residual_add,
        .residual_add_rmsnorm = residual_add_rmsnorm,
        .gather_cast = gather_cast,
        .rope = rope,
        .rope_append = rope_append,
        .attention_cached = attention_cached,
        .draft_token = draft_token,
        .accept_drafts = accept_drafts,
        .swiglu_forward = swiglu_forward,
        .swiglu_backward = swiglu_backward,
        .cross_entropy = cross_entropy,
        .adamw = adamw,
        .sum_of_squares = sum_of_squares,
        .row_sums = row_sums,
        .convert = convert,
    };
    return &backend;
}
