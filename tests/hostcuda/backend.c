#include "backend.h"

#include "kernels/cuda/launch.h"
#include "runtime.h"

/* Device memory for one call's scratch; NULL for 0 bytes. */
static void *scratch(ls_exec *exec, size_t bytes)
{
    void *block = NULL;
    if (bytes > 0 && cudaMalloc(&block, bytes) != cudaSuccess && exec->status == LS_OK)
        exec->status = LS_FAIL(LS_NO_MEMORY, "no scratch of %zu bytes", bytes);
    return block;
}

/* One thread's turn after the other, in the exec's schedule. */
static void begin(const ls_exec *exec)
{
    const hostcuda_way *const way = exec->state;
    hostcuda_set_schedule(way->schedule, way->seed);
    hostcuda_set_noise(way->noise);
}

static void finish(ls_exec *exec, cudaError_t status, void *block)
{
    if (status == cudaSuccess) status = cudaStreamSynchronize(NULL);
    if (status != cudaSuccess && exec->status == LS_OK)
        exec->status = LS_FAIL(LS_INTERNAL, "a launch failed: %s", cudaGetErrorName(status));
    if (hostcuda_reports() > 0 && exec->status == LS_OK)
        exec->status = LS_FAIL(LS_INTERNAL, "%s", hostcuda_first_report());
    (void)cudaFree(block);
}

#define LAUNCH(launcher, ...)                                                                                          \
    do {                                                                                                               \
        begin(exec);                                                                                                   \
        finish(exec, launcher(NULL, __VA_ARGS__), NULL);                                                               \
    } while (0)
#define LAUNCH_WITH(bytes, launcher, ...)                                                                              \
    do {                                                                                                               \
        begin(exec);                                                                                                   \
        void *const block = scratch(exec, bytes);                                                                      \
        finish(exec, launcher(NULL, __VA_ARGS__, block), block);                                                       \
    } while (0)

static void matmul(ls_exec *exec, void *out, ls_dtype out_dtype, const void *a, const void *b, ls_dtype dtype,
                   int64_t M, int64_t N, int64_t K, unsigned flags)
{
    LAUNCH(ls_launch_matmul, out, out_dtype, a, b, dtype, M, N, K, flags);
}

static void matmul_rows(ls_exec *exec, void *out, ls_dtype out_dtype, const void *x, const void *weight, ls_dtype dtype,
                        int64_t R, int64_t N, int64_t K)
{
    LAUNCH(ls_launch_matmul_rows, out, out_dtype, x, weight, dtype, R, N, K);
}

static void bias_add(ls_exec *exec, void *x, const void *bias, ls_dtype dtype, int64_t R, int64_t N)
{
    LAUNCH(ls_launch_bias_add, x, bias, dtype, R, N);
}

static void bias_backward(ls_exec *exec, float *dbias, const void *dout, ls_dtype dtype, int64_t R, int64_t N)
{
    LAUNCH_WITH(ls_bias_backward_scratch_bytes(R, N), ls_launch_bias_backward, dbias, dout, dtype, R, N);
}

static void embedding_forward(ls_exec *exec, float *out, const int32_t *token, const void *weight, ls_dtype dtype,
                              int64_t R, int64_t V, int64_t C)
{
    LAUNCH(ls_launch_embedding_forward, out, token, weight, dtype, R, V, C);
}

static void embedding_backward(ls_exec *exec, float *dweight, const float *dout, const int32_t *token, int64_t R,
                               int64_t V, int64_t C)
{
    LAUNCH_WITH(ls_embedding_backward_scratch_bytes(R), ls_launch_embedding_backward, dweight, dout, token, R, V, C);
}

static void rmsnorm_forward(ls_exec *exec, void *out, float *rstd, const float *residual, const int32_t *slot,
                            const void *weight, ls_dtype dtype, int64_t n, int64_t T, int64_t C, float epsilon)
{
    LAUNCH(ls_launch_rmsnorm_forward, out, rstd, residual, slot, weight, dtype, n, T, C, epsilon);
}

static void rmsnorm_backward(ls_exec *exec, float *dresidual, float *dweight, const void *dout, const float *residual,
                             const int32_t *slot, const int32_t *sample, const float *rstd, const void *weight,
                             ls_dtype dtype, int64_t n, int64_t T, int64_t C)
{
    LAUNCH_WITH(ls_rmsnorm_backward_scratch_bytes(n, T, C), ls_launch_rmsnorm_backward, dresidual, dweight, dout,
                residual, slot, sample, rstd, weight, dtype, n, T, C);
}

static void residual_add(ls_exec *exec, float *residual, const int32_t *out_slot, const int32_t *in_slot, const void *y,
                         ls_dtype dtype, float scale, int64_t n, int64_t T, int64_t C)
{
    LAUNCH(ls_launch_residual_add, residual, out_slot, in_slot, y, dtype, scale, n, T, C);
}

static void gather_cast(ls_exec *exec, void *out, const float *x, const int32_t *slot, ls_dtype dtype, float scale,
                        int64_t n, int64_t T, int64_t C)
{
    LAUNCH(ls_launch_gather_cast, out, x, slot, dtype, scale, n, T, C);
}

static void rope(ls_exec *exec, void *qkv, const float *cos_table, const float *sin_table, const int32_t *position,
                 const int32_t *sample, ls_dtype dtype, int inverse, int64_t n, int64_t T, int64_t H, int64_t G,
                 int64_t D)
{
    LAUNCH(ls_launch_rope, qkv, cos_table, sin_table, position, sample, dtype, inverse, n, T, H, G, D);
}

static void attention_forward(ls_exec *exec, void *out, float *lse, const void *qkv, const int32_t *first_key,
                              const int32_t *sample, ls_dtype dtype, float scale, int64_t n, int64_t T, int64_t H,
                              int64_t G, int64_t D)
{
    LAUNCH(ls_launch_attention_forward, out, lse, qkv, first_key, sample, dtype, scale, n, T, H, G, D);
}

static void attention_backward(ls_exec *exec, void *dqkv, const void *dout, const void *qkv, const void *out,
                               const float *lse, const int32_t *first_key, const int32_t *sample, ls_dtype dtype,
                               float scale, int64_t n, int64_t T, int64_t H, int64_t G, int64_t D)
{
    LAUNCH_WITH(ls_attention_backward_scratch_bytes(n, T, H), ls_launch_attention_backward, dqkv, dout, qkv, out, lse,
                first_key, sample, dtype, scale, n, T, H, G, D);
}

static void rope_append(ls_exec *exec, void *qkv, void *key_cache, void *value_cache, const float *cos_table,
                        const float *sin_table, ls_dtype dtype, int64_t start, int64_t R, int64_t H, int64_t G,
                        int64_t D, int64_t capacity)
{
    LAUNCH(ls_launch_rope_append, qkv, key_cache, value_cache, cos_table, sin_table, dtype, start, R, H, G, D,
           capacity);
}

static void attention_cached(ls_exec *exec, void *out, const void *qkv, const void *key_cache, const void *value_cache,
                             ls_dtype dtype, float scale, int64_t start, int64_t R, int64_t H, int64_t G, int64_t D,
                             int64_t capacity)
{
    LAUNCH_WITH(ls_attention_cached_scratch_bytes(start + R, R, H, D), ls_launch_attention_cached, out, qkv, key_cache,
                value_cache, dtype, scale, start, R, H, G, D, capacity);
}

static void swiglu_forward(ls_exec *exec, void *out, const void *gate_up, ls_dtype dtype, int64_t R, int64_t F)
{
    LAUNCH(ls_launch_swiglu_forward, out, gate_up, dtype, R, F);
}

static void swiglu_backward(ls_exec *exec, void *dgate_up, void *out, const void *dout, const void *gate_up,
                            ls_dtype dtype, int64_t R, int64_t F)
{
    LAUNCH(ls_launch_swiglu_backward, dgate_up, out, dout, gate_up, dtype, R, F);
}

static void cross_entropy(ls_exec *exec, float *loss, void *logits, const int32_t *target, ls_dtype dtype,
                          float gradient_scale, int64_t R, int64_t V)
{
    LAUNCH(ls_launch_cross_entropy, loss, logits, target, dtype, gradient_scale, R, V);
}

static void adamw(ls_exec *exec, float *weight, float *m, float *v, float *gradient, void *weight_out, ls_dtype dtype,
                  const ls_adamw_step *step, int64_t count)
{
    LAUNCH(ls_launch_adamw, weight, m, v, gradient, weight_out, dtype, step, count);
}

static void sum_of_squares(ls_exec *exec, double *out, const float *x, int64_t count)
{
    LAUNCH_WITH(ls_sum_of_squares_scratch_bytes(count), ls_launch_sum_of_squares, out, x, count);
}

static void convert(ls_exec *exec, void *out, ls_dtype out_dtype, const void *x, ls_dtype dtype, int64_t count)
{
    LAUNCH(ls_launch_convert, out, out_dtype, x, dtype, count);
}

const ls_backend *hostcuda_backend(void)
{
    static const ls_backend backend = {.name = "cuda on the CPU",
#define ENTRY(op) .op = op,
                                       LS_OP_LIST(ENTRY)
#undef ENTRY
    };
    return &backend;
}

ls_exec hostcuda_exec(hostcuda_way *way)
{
    ls_exec exec;
    LS_ASSERT(ls_exec_create(&exec, LS_DEVICE_REFERENCE, 1) == LS_OK);
    exec.ops = hostcuda_backend();
    exec.state = way;
    return exec;
}
