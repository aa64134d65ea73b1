/* Attention over whole sequences on GPUs: which implementation takes a call, and cuDNN's plans.
 *
 * cuDNN takes bf16 with heads of 8 to 128 elements, a multiple of 8, whose plan keeps within the workspace set aside;
 * its backward sums without atomics, for which it stores scores, so long contexts go to the built-in kernels, as all
 * else does. A plan is compiled when its shape is met first (about a second) and kept: shapes differ in the number of
 * survivors. */
#include "kernels/cuda/cuda.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/sdpa.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define HIDDEN_SCORE (-1e30f)

typedef struct kept_plan {
    ls_sdpa_plan plan;
    struct kept_plan *next;
} kept_plan;

struct ls_cuda_attention {
    ls_cudnn cudnn;
    cudnnHandle_t handle;
    kept_plan *plans;
};

/* ---- the library ------------------------------------------------------------------------------------------------- */

ls_cuda_attention *ls_cuda_attention_create(cudaStream_t stream, char *reason, size_t reason_size)
{
    ls_cuda_attention *attention = calloc(1, sizeof *attention);
    if (attention == NULL) {
        (void)snprintf(reason, reason_size, "no memory");
        return NULL;
    }
    if (!ls_cudnn_load(&attention->cudnn, reason, reason_size)) {
        free(attention);
        return NULL;
    }
    cudnnStatus_t status = attention->cudnn.cudnnCreate(&attention->handle);
    if (status == CUDNN_STATUS_SUCCESS) status = attention->cudnn.cudnnSetStream(attention->handle, stream);
    if (status == CUDNN_STATUS_SUCCESS) return attention;
    (void)snprintf(reason, reason_size, "%s", attention->cudnn.cudnnGetErrorString(status));
    ls_cuda_attention_destroy(attention);
    return NULL;
}

void ls_cuda_attention_destroy(ls_cuda_attention *attention)
{
    if (attention == NULL) return;
    while (attention->plans != NULL) {
        kept_plan *const old = attention->plans;
        attention->plans = old->next;
        ls_sdpa_plan_destroy(&old->plan, &attention->cudnn);
        free(old);
    }
    if (attention->handle != NULL) (void)attention->cudnn.cudnnDestroy(attention->handle);
    ls_cudnn_unload(&attention->cudnn);
    free(attention);
}

void ls_cuda_attention_version(const ls_cuda_attention *attention, char *text, size_t size)
{
    const size_t version = attention->cudnn.cudnnGetVersion();
    (void)snprintf(text, size, "cuDNN %zu.%zu.%zu", version / 10000, version / 100 % 100, version % 100);
}

/* ---- plans ------------------------------------------------------------------------------------------------------- */

static bool suits(const ls_exec *exec, const ls_sdpa_shape *shape, ls_dtype dtype)
{
    return exec->attention != LS_ATTENTION_BUILTIN && dtype == LS_BF16 && shape->D % 8 == 0 && shape->D <= 128 &&
           shape->n > 0 && shape->T > 0;
}

static bool aligned(const void *pointer) { return (uintptr_t)pointer % 16 == 0; }

static bool same_shape(const ls_sdpa_shape *a, const ls_sdpa_shape *b)
{
    return a->n == b->n && a->T == b->T && a->H == b->H && a->G == b->G && a->D == b->D &&
           a->documents == b->documents && a->backward == b->backward;
}

/* NULL where cuDNN does not take the shape within its workspace. */
static const ls_sdpa_plan *plan_for(ls_cuda_attention *attention, const ls_sdpa_shape *shape)
{
    kept_plan *kept = attention->plans;
    while (kept != NULL && !same_shape(&kept->plan.shape, shape)) kept = kept->next;
    if (kept == NULL) {
        kept = calloc(1, sizeof *kept);
        if (kept == NULL) return NULL;
        ls_sdpa_plan_make(&kept->plan, &attention->cudnn, shape, attention->handle, NULL);
        kept->next = attention->plans;
        attention->plans = kept;
    }
    const bool usable = kept->plan.found && kept->plan.workspace_bytes >= 0 &&
                        (size_t)kept->plan.workspace_bytes <= ls_sdpa_workspace_bound(shape);
    return usable ? &kept->plan : NULL;
}

/* ---- running ----------------------------------------------------------------------------------------------------- */

/* Pointers of a call by number of tensor; NULL: not part of it. */
typedef struct call {
    void *tensor[LS_SDPA_TENSORS];
    float scale, hidden;
} call;

static call call_of(const void *qkv, const void *out, const float *lse, float scale, const ls_sdpa_shape *shape)
{
    unsigned char *q = (unsigned char *)(uintptr_t)qkv;
    const size_t head = (size_t)shape->D * 2;
    call result = {.scale = scale, .hidden = HIDDEN_SCORE};
    result.tensor[LS_SDPA_Q] = q;
    result.tensor[LS_SDPA_K] = q + (size_t)shape->H * head;
    result.tensor[LS_SDPA_V] = q + (size_t)(shape->H + shape->G) * head;
    result.tensor[LS_SDPA_OUT] = (void *)(uintptr_t)out;
    result.tensor[LS_SDPA_LSE] = (void *)(uintptr_t)lse;
    return result;
}

/* first_key of the survivors, [n,T], behind the workspace. Rows of 32 bits move as an embedding's do. */
static const int32_t *gather_first_key(ls_exec *exec, const ls_sdpa_shape *shape, const int32_t *first_key,
                                       const int32_t *sample, unsigned char *scratch)
{
    if (first_key == NULL || sample == NULL) return first_key;
    void *const list = scratch + (ls_sdpa_workspace_bound(shape) + 255) / 256 * 256;
    (void)ls_cuda_ok(exec,
                     ls_launch_embedding_forward(ls_cuda_of(exec)->stream, list, sample, first_key, LS_F32, shape->n,
                                                 INT32_MAX, shape->T),
                     "gathering documents");
    return list;
}

static cudnnStatus_t execute(const ls_cuda_attention *attention, const ls_sdpa_plan *plan, const call *with,
                             void *workspace)
{
    const ls_cudnn *cudnn = &attention->cudnn;
    void *pointers[LS_SDPA_TENSORS];
    int64_t numbers[LS_SDPA_TENSORS], count = 0;
    for (int64_t i = LS_SDPA_Q; i < LS_SDPA_TENSORS; i++) {
        if (with->tensor[i] == NULL) continue;
        pointers[count] = with->tensor[i];
        numbers[count++] = i;
    }
    cudnnBackendDescriptor_t pack = NULL;
    cudnnStatus_t status = cudnn->cudnnBackendCreateDescriptor(CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR, &pack);
    if (status != CUDNN_STATUS_SUCCESS) return status;
    status = cudnn->cudnnBackendSetAttribute(pack, CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, CUDNN_TYPE_VOID_PTR, count,
                                             (const void *)pointers);
    if (status == CUDNN_STATUS_SUCCESS)
        status =
            cudnn->cudnnBackendSetAttribute(pack, CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, CUDNN_TYPE_INT64, count, numbers);
    if (status == CUDNN_STATUS_SUCCESS)
        status = cudnn->cudnnBackendSetAttribute(pack, CUDNN_ATTR_VARIANT_PACK_WORKSPACE, CUDNN_TYPE_VOID_PTR, 1,
                                                 (const void *)&workspace);
    if (status == CUDNN_STATUS_SUCCESS) status = cudnn->cudnnBackendFinalize(pack);
    if (status == CUDNN_STATUS_SUCCESS) status = cudnn->cudnnBackendExecute(attention->handle, plan->plan, pack);
    (void)cudnn->cudnnBackendDestroyDescriptor(pack);
    return status;
}

static void run_plan(ls_exec *exec, const ls_sdpa_plan *plan, call *with, const int32_t *first_key,
                     const int32_t *sample, void *scratch)
{
    const ls_cuda_attention *attention = ls_cuda_of(exec)->attention;
    const ls_sdpa_shape *shape = &plan->shape;
    const int32_t *keys = gather_first_key(exec, shape, first_key, sample, scratch);
    if (shape->backward) with->tensor[LS_SDPA_K_TURNED] = with->tensor[LS_SDPA_K];
    with->tensor[LS_SDPA_SCALE] = &with->scale;
    with->tensor[LS_SDPA_HIDDEN] = &with->hidden;
    with->tensor[LS_SDPA_FIRST_KEY] = (void *)(uintptr_t)keys;
    const cudnnStatus_t status = execute(attention, plan, with, scratch);
    if (status != CUDNN_STATUS_SUCCESS && exec->status == LS_OK)
        exec->status =
            LS_FAIL(status == CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED ? LS_NO_MEMORY : LS_DEVICE_FAILED,
                    "cuDNN failed at attention of %lld samples of %lld positions: %s", (long long)shape->n,
                    (long long)shape->T, attention->cudnn.cudnnGetErrorString(status));
}

/* Scratch of a call: what either implementation wants. */
static void *take_scratch(ls_exec *exec, const ls_sdpa_shape *shape, ls_dtype dtype)
{
    const size_t builtin = shape->backward ? ls_attention_backward_scratch_bytes(shape->n, shape->T, shape->H) : 0;
    const size_t cudnn = !suits(exec, shape, dtype) ? 0
                                                    : (ls_sdpa_workspace_bound(shape) + 255) / 256 * 256 +
                                                          sizeof(int32_t) * (size_t)(shape->n * shape->T);
    return ls_cuda_scratch(exec, builtin > cudnn ? builtin : cudnn);
}

/* ---- the ops ----------------------------------------------------------------------------------------------------- */

void ls_attention_forward_cuda(ls_exec *exec, void *out, float *lse, const void *qkv, const int32_t *first_key,
                               const int32_t *sample, ls_dtype dtype, float scale, int64_t n, int64_t T, int64_t H,
                               int64_t G, int64_t D)
{
    ls_cuda *cuda = ls_cuda_of(exec);
    const ls_sdpa_shape shape = {.n = n, .T = T, .H = H, .G = G, .D = D, .documents = first_key != NULL};
    void *const scratch = take_scratch(exec, &shape, dtype);
    if (!ls_cuda_live(exec)) return;
    if (cuda->attention != NULL && suits(exec, &shape, dtype) && aligned(qkv) && aligned(out)) {
        const ls_sdpa_plan *plan = plan_for(cuda->attention, &shape);
        call with = call_of(qkv, out, lse, scale, &shape);
        if (plan != NULL) {
            run_plan(exec, plan, &with, first_key, sample, scratch);
            return;
        }
    }
    (void)ls_cuda_ok(
        exec, ls_launch_attention_forward(cuda->stream, out, lse, qkv, first_key, sample, dtype, scale, n, T, H, G, D),
        "attention_forward");
}

void ls_attention_backward_cuda(ls_exec *exec, void *dqkv, const void *dout, const void *qkv, const void *out,
                                const float *lse, const int32_t *first_key, const int32_t *sample, ls_dtype dtype,
                                float scale, int64_t n, int64_t T, int64_t H, int64_t G, int64_t D)
{
    ls_cuda *cuda = ls_cuda_of(exec);
    const ls_sdpa_shape shape = {
        .n = n, .T = T, .H = H, .G = G, .D = D, .documents = first_key != NULL, .backward = true};
    void *const scratch = take_scratch(exec, &shape, dtype);
    if (!ls_cuda_live(exec)) return;
    if (cuda->attention != NULL && suits(exec, &shape, dtype) && aligned(qkv) && aligned(out) && aligned(dout) &&
        aligned(dqkv)) {
        const ls_sdpa_plan *plan = plan_for(cuda->attention, &shape);
        call with = call_of(qkv, out, lse, scale, &shape);
        const call gradients = call_of(dqkv, dout, NULL, scale, &shape);
        with.tensor[LS_SDPA_DOUT] = gradients.tensor[LS_SDPA_OUT];
        with.tensor[LS_SDPA_DQ] = gradients.tensor[LS_SDPA_Q];
        with.tensor[LS_SDPA_DK] = gradients.tensor[LS_SDPA_K];
        with.tensor[LS_SDPA_DV] = gradients.tensor[LS_SDPA_V];
        if (plan != NULL) {
            run_plan(exec, plan, &with, first_key, sample, scratch);
            return;
        }
    }
    (void)ls_cuda_ok(exec,
                     ls_launch_attention_backward(cuda->stream, dqkv, dout, qkv, out, lse, first_key, sample, dtype,
                                                  scale, n, T, H, G, D, scratch),
                     "attention_backward");
}
