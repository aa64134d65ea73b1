/* Matrix products on GPUs by cuBLASLt, with what it needs to know of a shape kept: descriptors, layouts, algorithm.
 *
 * cuBLASLt thinks in columns. A row-major [rows, cols] matrix is a column-major [cols, rows] one, so
 *   out[M,N] = A[M,K] B[K,N]   is asked for as   out'[N,M] = B'[N,K] A'[K,M]
 * with b as its first operand. A shape that it has no algorithm for, and a machine without the library, get the
 * built-in product. A bias is added where the product is stored (the bias epilogue): a pass over the result less. The
 * library has no epilogue for what else follows a product here. Sums are fp32; partial sums are added up in fp32 too
 * and in a fixed order, so equal calls give equal bits. */
#include "kernels/cuda/cuda.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/library.h"

#include <cublasLt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TEXT_OF(number) #number
#define LIBRARY_OF(version) "libcublasLt.so." TEXT_OF(version)
#define LIBRARY LIBRARY_OF(CUBLAS_VER_MAJOR) /* whose headers this is built with */
#define WORKSPACE ((size_t)32 << 20)         /* what cuBLAS itself takes on an H100 */
#define BUCKETS 1024
#define BIAS 0x100u       /* beside the flags of a product: it has one */
#define BIAS_ALIGNMENT 16 /* below that the built-in product takes it */

/* X(function) */
#define FUNCTION_LIST(X)                                                                                               \
    X(cublasLtCreate)                                                                                                  \
    X(cublasLtDestroy)                                                                                                 \
    X(cublasLtGetStatusString)                                                                                         \
    X(cublasLtMatmul)                                                                                                  \
    X(cublasLtMatmulAlgoGetHeuristic)                                                                                  \
    X(cublasLtMatmulDescCreate)                                                                                        \
    X(cublasLtMatmulDescDestroy)                                                                                       \
    X(cublasLtMatmulDescSetAttribute)                                                                                  \
    X(cublasLtMatmulPreferenceCreate)                                                                                  \
    X(cublasLtMatmulPreferenceDestroy)                                                                                 \
    X(cublasLtMatmulPreferenceSetAttribute)                                                                            \
    X(cublasLtMatrixLayoutCreate)                                                                                      \
    X(cublasLtMatrixLayoutDestroy)

/* All that a plan depends on. */
typedef struct plan_key {
    int64_t M, N, K;
    uint32_t alignment[3]; /* of a, b, out in bytes, at most 256 */
    uint32_t flags;
    uint32_t types; /* dtype, out_dtype, tf32 */
    uint32_t zero;  /* no padding whose bytes are not set */
} plan_key;

typedef struct plan {
    plan_key key;
    struct plan *next;
    cublasLtMatmulDesc_t operation;
    cublasLtMatrixLayout_t first, second, out; /* first operand: b */
    cublasLtMatmulAlgo_t algorithm;
    bool found; /* false: cuBLASLt has nothing for it */
} plan;

struct ls_cuda_matmul {
    void *library;
    FUNCTION_LIST(LS_LIBRARY_FIELD)
    cublasLtHandle_t handle;
    plan *plans[BUCKETS];
};

/* ---- the library ------------------------------------------------------------------------------------------------- */

ls_cuda_matmul *ls_cuda_matmul_create(char *reason, size_t reason_size)
{
    ls_cuda_matmul *matmul = calloc(1, sizeof *matmul);
    if (matmul == NULL) {
        (void)snprintf(reason, reason_size, "no memory");
        return NULL;
    }
#define PLACE(function) {#function, &matmul->function},
    const ls_library_function functions[] = {FUNCTION_LIST(PLACE)};
#undef PLACE
    const int count = (int)(sizeof functions / sizeof functions[0]);
    matmul->library = ls_library_open(LIBRARY, functions, count, reason, reason_size);
    if (matmul->library == NULL) {
        free(matmul);
        return NULL;
    }
    const cublasStatus_t status = matmul->cublasLtCreate(&matmul->handle);
    if (status == CUBLAS_STATUS_SUCCESS) return matmul;
    (void)snprintf(reason, reason_size, "%s", matmul->cublasLtGetStatusString(status));
    ls_cuda_matmul_destroy(matmul);
    return NULL;
}

static void destroy_plan(const ls_cuda_matmul *lt, plan *old)
{
    if (old->operation != NULL) (void)lt->cublasLtMatmulDescDestroy(old->operation);
    if (old->first != NULL) (void)lt->cublasLtMatrixLayoutDestroy(old->first);
    if (old->second != NULL) (void)lt->cublasLtMatrixLayoutDestroy(old->second);
    if (old->out != NULL) (void)lt->cublasLtMatrixLayoutDestroy(old->out);
    free(old);
}

void ls_cuda_matmul_destroy(ls_cuda_matmul *lt)
{
    if (lt == NULL) return;
    for (int i = 0; i < BUCKETS; i++)
        while (lt->plans[i] != NULL) {
            plan *const old = lt->plans[i];
            lt->plans[i] = old->next;
            destroy_plan(lt, old);
        }
    if (lt->handle != NULL) (void)lt->cublasLtDestroy(lt->handle);
    ls_library_close(lt->library);
    free(lt);
}

/* ---- plans ------------------------------------------------------------------------------------------------------- */

static uint32_t alignment_of(const void *pointer)
{
    const uintptr_t bits = (uintptr_t)pointer | 256u;
    return (uint32_t)(bits & (~bits + 1u)); /* the lowest bit that is set */
}

static uint32_t bucket_of(const plan_key *key)
{
    const unsigned char *byte = (const unsigned char *)key;
    uint32_t hash = 2166136261u; /* FNV-1a */
    for (size_t i = 0; i < sizeof *key; i++) hash = (hash ^ byte[i]) * 16777619u;
    return hash % BUCKETS;
}

static cudaDataType_t data_type(ls_dtype dtype) { return dtype == LS_F32 ? CUDA_R_32F : CUDA_R_16BF; }

static cublasStatus_t describe_bias(const ls_cuda_matmul *lt, const plan *new, ls_dtype dtype)
{
    const cublasLtEpilogue_t epilogue = CUBLASLT_EPILOGUE_BIAS;
    const int32_t type = (int32_t)data_type(dtype);
    const cublasStatus_t status =
        lt->cublasLtMatmulDescSetAttribute(new->operation, CUBLASLT_MATMUL_DESC_EPILOGUE, &epilogue, sizeof epilogue);
    if (status != CUBLAS_STATUS_SUCCESS) return status;
    return lt->cublasLtMatmulDescSetAttribute(new->operation, CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, &type, sizeof type);
}

static cublasStatus_t point_to_bias(const ls_cuda_matmul *lt, const plan *known, const void *bias)
{
    return lt->cublasLtMatmulDescSetAttribute(known->operation, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &bias, sizeof bias);
}

static cublasStatus_t describe(const ls_cuda_matmul *lt, plan *new, ls_dtype dtype, ls_dtype out_dtype, bool tf32)
{
    const plan_key *key = &new->key;
    const bool a_turned = (key->flags & LS_TRANSPOSE_A) != 0, b_turned = (key->flags & LS_TRANSPOSE_B) != 0;
    const uint64_t M = (uint64_t)key->M, N = (uint64_t)key->N, K = (uint64_t)key->K;
    const cublasOperation_t first = b_turned ? CUBLAS_OP_T : CUBLAS_OP_N, second = a_turned ? CUBLAS_OP_T : CUBLAS_OP_N;
    const cublasComputeType_t compute = dtype == LS_F32 && tf32 ? CUBLAS_COMPUTE_32F_FAST_TF32 : CUBLAS_COMPUTE_32F;
    cublasStatus_t status = lt->cublasLtMatmulDescCreate(&new->operation, compute, CUDA_R_32F);
    if (status == CUBLAS_STATUS_SUCCESS)
        status = lt->cublasLtMatmulDescSetAttribute(new->operation, CUBLASLT_MATMUL_DESC_TRANSA, &first, sizeof first);
    if (status == CUBLAS_STATUS_SUCCESS)
        status =
            lt->cublasLtMatmulDescSetAttribute(new->operation, CUBLASLT_MATMUL_DESC_TRANSB, &second, sizeof second);
    if (status == CUBLAS_STATUS_SUCCESS) /* b stands as [K,N], or [N,K] when transposed */
        status = b_turned ? lt->cublasLtMatrixLayoutCreate(&new->first, data_type(dtype), K, N, (int64_t)K)
                          : lt->cublasLtMatrixLayoutCreate(&new->first, data_type(dtype), N, K, (int64_t)N);
    if (status == CUBLAS_STATUS_SUCCESS) /* a stands as [M,K], or [K,M] when transposed */
        status = a_turned ? lt->cublasLtMatrixLayoutCreate(&new->second, data_type(dtype), M, K, (int64_t)M)
                          : lt->cublasLtMatrixLayoutCreate(&new->second, data_type(dtype), K, M, (int64_t)K);
    if (status == CUBLAS_STATUS_SUCCESS)
        status = lt->cublasLtMatrixLayoutCreate(&new->out, data_type(out_dtype), N, M, (int64_t)N);
    if (status == CUBLAS_STATUS_SUCCESS && key->flags & BIAS) status = describe_bias(lt, new, dtype);
    return status;
}

static cublasStatus_t limit_search(const ls_cuda_matmul *lt, cublasLtMatmulPreference_t preference, const plan_key *key)
{
    const uint64_t workspace = WORKSPACE;
    const uint32_t reductions = CUBLASLT_REDUCTION_SCHEME_NONE | CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE;
    const struct {
        cublasLtMatmulPreferenceAttributes_t name;
        const void *value;
        size_t size;
    } attributes[] = {
        {CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &workspace, sizeof workspace},
        {CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, &reductions, sizeof reductions},
        {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, &key->alignment[1], sizeof key->alignment[1]},
        {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, &key->alignment[0], sizeof key->alignment[0]},
        {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, &key->alignment[2], sizeof key->alignment[2]},
        {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, &key->alignment[2], sizeof key->alignment[2]},
    };
    cublasStatus_t status = CUBLAS_STATUS_SUCCESS;
    for (size_t i = 0; i < sizeof attributes / sizeof attributes[0] && status == CUBLAS_STATUS_SUCCESS; i++)
        status = lt->cublasLtMatmulPreferenceSetAttribute(preference, attributes[i].name, attributes[i].value,
                                                          attributes[i].size);
    return status;
}

static bool search(const ls_cuda_matmul *lt, plan *new)
{
    cublasLtMatmulPreference_t preference = NULL;
    cublasLtMatmulHeuristicResult_t best;
    int count = 0;
    if (lt->cublasLtMatmulPreferenceCreate(&preference) != CUBLAS_STATUS_SUCCESS) return false;
    cublasStatus_t status = limit_search(lt, preference, &new->key);
    if (status == CUBLAS_STATUS_SUCCESS)
        status = lt->cublasLtMatmulAlgoGetHeuristic(lt->handle, new->operation, new->first, new->second, new->out,
                                                    new->out, preference, 1, &best, &count);
    (void)lt->cublasLtMatmulPreferenceDestroy(preference);
    if (status != CUBLAS_STATUS_SUCCESS || count < 1 || best.state != CUBLAS_STATUS_SUCCESS) return false;
    new->algorithm = best.algo;
    return true;
}

/* The plan for `key`, made when it is met first; NULL without memory for it. The search is told a bias's address,
 * which every call sets anew. */
static const plan *plan_for(ls_cuda_matmul *lt, const plan_key *key, ls_dtype dtype, ls_dtype out_dtype, bool tf32,
                            const void *bias)
{
    plan **const bucket = &lt->plans[bucket_of(key)];
    for (const plan *known = *bucket; known != NULL; known = known->next)
        if (memcmp(&known->key, key, sizeof *key) == 0) return known;
    plan *new = calloc(1, sizeof *new);
    if (new == NULL) return NULL;
    new->key = *key;
    new->found = describe(lt, new, dtype, out_dtype, tf32) == CUBLAS_STATUS_SUCCESS &&
                 (bias == NULL || point_to_bias(lt, new, bias) == CUBLAS_STATUS_SUCCESS) && search(lt, new);
    new->next = *bucket;
    *bucket = new;
    return new;
}

/* ---- the op ------------------------------------------------------------------------------------------------------ */

static void run_plan(ls_exec *exec, const plan *known, void *out, const void *a, const void *b, const void *bias)
{
    const ls_cuda *cuda = ls_cuda_of(exec);
    const ls_cuda_matmul *lt = cuda->matmul;
    const float alpha = 1.0f, beta = known->key.flags & LS_ACCUMULATE ? 1.0f : 0.0f;
    void *const workspace = ls_cuda_scratch(exec, WORKSPACE);
    if (!ls_cuda_live(exec)) return;
    cublasStatus_t status = bias == NULL ? CUBLAS_STATUS_SUCCESS : point_to_bias(lt, known, bias);
    if (status == CUBLAS_STATUS_SUCCESS)
        status = lt->cublasLtMatmul(lt->handle, known->operation, &alpha, b, known->first, a, known->second, &beta, out,
                                    known->out, out, known->out, &known->algorithm, workspace, WORKSPACE, cuda->stream);
    if (status != CUBLAS_STATUS_SUCCESS && exec->status == LS_OK)
        exec->status = LS_FAIL(status == CUBLAS_STATUS_ALLOC_FAILED ? LS_NO_MEMORY : LS_DEVICE_FAILED,
                               "cuBLASLt failed at a product of %lld x %lld x %lld: %s", (long long)known->key.M,
                               (long long)known->key.N, (long long)known->key.K, lt->cublasLtGetStatusString(status));
}

/* The product of nothing: zeros, or the bias. */
static void store_empty_sums(ls_exec *exec, void *out, ls_dtype out_dtype, const void *bias, int64_t M, int64_t N)
{
    const cudaStream_t stream = ls_cuda_of(exec)->stream;
    const size_t bytes = (size_t)(M * N) * ls_dtype_size(out_dtype);
    if (!ls_cuda_ok(exec, cudaMemsetAsync(out, 0, bytes, stream), "clearing memory") || bias == NULL) return;
    (void)ls_cuda_ok(exec, ls_launch_bias_add(stream, out, bias, out_dtype, M, N), "bias_add");
}

/* bias NULL: none. */
static void multiply(ls_exec *exec, void *out, ls_dtype out_dtype, const void *a, const void *b, const void *bias,
                     ls_dtype dtype, int64_t M, int64_t N, int64_t K, unsigned flags)
{
    ls_cuda *cuda = ls_cuda_of(exec);
    if (cuda->matmul != NULL || cuda->rehearsing) (void)ls_cuda_scratch(exec, WORKSPACE);
    if (M == 0 || N == 0 || (K == 0 && flags & LS_ACCUMULATE) || !ls_cuda_live(exec)) return;
    if (K == 0) {
        store_empty_sums(exec, out, out_dtype, bias, M, N);
        return;
    }
    const plan_key key = {.M = M,
                          .N = N,
                          .K = K,
                          .alignment = {alignment_of(a), alignment_of(b), alignment_of(out)},
                          .flags = flags | (bias == NULL ? 0u : BIAS),
                          .types = (uint32_t)dtype | (uint32_t)out_dtype << 1 | (uint32_t)exec->tf32 << 2};
    const bool library = cuda->matmul != NULL && (bias == NULL || alignment_of(bias) >= BIAS_ALIGNMENT);
    const plan *known = library ? plan_for(cuda->matmul, &key, dtype, out_dtype, exec->tf32, bias) : NULL;
    ls_cuda_range_begin("matmul");
    if (known != NULL && known->found)
        run_plan(exec, known, out, a, b, bias);
    else if (bias == NULL)
        (void)ls_cuda_ok(exec, ls_launch_matmul(cuda->stream, out, out_dtype, a, b, dtype, M, N, K, flags), "matmul");
    else
        (void)ls_cuda_ok(exec, ls_launch_matmul_bias(cuda->stream, out, a, b, bias, dtype, M, N, K, flags),
                         "matmul_bias");
    ls_cuda_range_end();
}

void ls_matmul_cuda(ls_exec *exec, void *out, ls_dtype out_dtype, const void *a, const void *b, ls_dtype dtype,
                    int64_t M, int64_t N, int64_t K, unsigned flags)
{
    multiply(exec, out, out_dtype, a, b, NULL, dtype, M, N, K, flags);
}

void ls_matmul_bias_cuda(ls_exec *exec, void *out, const void *a, const void *b, const void *bias, ls_dtype dtype,
                         int64_t M, int64_t N, int64_t K, unsigned flags)
{
    multiply(exec, out, dtype, a, b, bias, dtype, M, N, K, flags);
}
