/* The product's own binding of ops to launchers, kernels/cuda/ops.c, with a ground of its own below: each op is waited
 * for, in the order of threads that the exec wants, and has scratch of exactly the size that it asked for. */
#include "backend.h"

#include "runtime.h"

static hostcuda_way *way_of(const ls_exec *exec) { return exec->state; }

static bool live(const ls_exec *exec)
{
    const hostcuda_way *const way = way_of(exec);
    hostcuda_set_schedule(way->schedule, way->seed);
    hostcuda_set_noise(way->noise);
    return true;
}

static void *scratch_of(ls_exec *exec, size_t bytes)
{
    void *block = NULL;
    if (bytes > 0 && cudaMalloc(&block, bytes) != cudaSuccess && exec->status == LS_OK)
        exec->status = LS_FAIL(LS_NO_MEMORY, "no scratch of %zu bytes", bytes);
    return way_of(exec)->cuda.scratch = block;
}

static bool ok(ls_exec *exec, cudaError_t status, const char *op)
{
    if (status == cudaSuccess) status = cudaStreamSynchronize(NULL);
    if (status != cudaSuccess && exec->status == LS_OK)
        exec->status = LS_FAIL(LS_INTERNAL, "%s failed: %s", op, cudaGetErrorName(status));
    if (hostcuda_reports() > 0 && exec->status == LS_OK)
        exec->status = LS_FAIL(LS_INTERNAL, "%s", hostcuda_first_report());
    (void)cudaFree(way_of(exec)->cuda.scratch);
    way_of(exec)->cuda.scratch = NULL;
    return exec->status == LS_OK;
}

static ls_matmul_op matmul_built_in;
static ls_matmul_bias_op matmul_bias_built_in;
static ls_attention_forward_op attention_forward_built_in;
static ls_attention_backward_op attention_backward_built_in;

#define ls_cuda_live live
#define ls_cuda_scratch scratch_of
#define ls_cuda_ok ok
#define ls_cuda_range_begin(name) ((void)(name))
#define ls_cuda_range_end() ((void)0)
#define ls_matmul_cuda matmul_built_in
#define ls_matmul_bias_cuda matmul_bias_built_in
#define ls_attention_forward_cuda attention_forward_built_in
#define ls_attention_backward_cuda attention_backward_built_in
#define ls_backend_cuda hostcuda_backend
#include "kernels/cuda/ops.c" /* NOLINT(bugprone-suspicious-include): its static functions, over the names above */

static void matmul_built_in(ls_exec *exec, void *out, ls_dtype out_dtype, const void *a, const void *b, ls_dtype dtype,
                            int64_t M, int64_t N, int64_t K, unsigned flags)
{
    ISSUE(matmul, out, out_dtype, a, b, dtype, M, N, K, flags);
}

static void matmul_bias_built_in(ls_exec *exec, void *out, const void *a, const void *b, const void *bias,
                                 ls_dtype dtype, int64_t M, int64_t N, int64_t K, unsigned flags)
{
    ISSUE(matmul_bias, out, a, b, bias, dtype, M, N, K, flags);
}

static void attention_forward_built_in(ls_exec *exec, void *out, float *lse, const void *qkv, const int32_t *first_key,
                                       const int32_t *sample, ls_dtype dtype, float scale, int64_t n, int64_t T,
                                       int64_t H, int64_t G, int64_t D)
{
    ISSUE(attention_forward, out, lse, qkv, first_key, sample, dtype, scale, n, T, H, G, D);
}

static void attention_backward_built_in(ls_exec *exec, void *dqkv, const void *dout, const void *qkv, const void *out,
                                        const float *lse, const int32_t *first_key, const int32_t *sample,
                                        ls_dtype dtype, float scale, int64_t n, int64_t T, int64_t H, int64_t G,
                                        int64_t D)
{
    ISSUE_WITH_SCRATCH(attention_backward, ls_attention_backward_scratch_bytes(n, T, H), dqkv, dout, qkv, out, lse,
                       first_key, sample, dtype, scale, n, T, H, G, D);
}

ls_exec hostcuda_exec(hostcuda_way *way)
{
    ls_exec exec;
    LS_ASSERT(ls_exec_create(&exec, LS_DEVICE_REFERENCE, 1) == LS_OK);
    exec.ops = hostcuda_backend();
    exec.state = way;
    return exec;
}
