/* A stand-in for cuBLASLt: the calls that kernels/cuda/matmul.c makes, computed on the CPU and strict about misuse:
 * shapes that do not fit, an algorithm of another problem, pointers less aligned than was promised, workspaces that are
 * too small, memory that is not the device's. Not exact about speed or about the order of sums. */
#include "standin.h"

#include <cublasLt.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { WORKSPACE = 4096, OPERANDS = 3 };

typedef struct operation {
    int32_t compute, transpose[2]; /* of the first and the second operand */
    int32_t epilogue, bias_type;
    const void *bias; /* [rows of the result] */
} operation;

typedef struct layout {
    int32_t type;
    uint64_t rows, cols;
    int64_t ld;
} layout;

typedef struct preference {
    uint64_t workspace;
    uint32_t reductions, alignment[4]; /* A, B, C, D */
} preference;

/* What an algorithm was found for: kept in its opaque words. */
typedef struct found {
    uint64_t problem;
    uint32_t workspace, alignment[OPERANDS];
} found;

typedef struct job {
    operation how;
    layout a, b, out;
    const void *first, *second;
    void *result;
    float alpha, beta;
} job;

static size_t element(int32_t type) { return type == CUDA_R_32F ? 4 : type == CUDA_R_16BF ? 2 : 0; }

static size_t span(const layout *l)
{
    return ((size_t)(l->cols - 1) * (size_t)l->ld + (size_t)l->rows) * element(l->type);
}

static uint64_t mix(uint64_t hash, uint64_t value) { return (hash ^ value) * 0x100000001b3u; }

static uint64_t problem_of(const operation *how, const layout *a, const layout *b, const layout *out)
{
    const layout *const all[] = {a, b, out};
    uint64_t hash = 0xcbf29ce484222325u;
    for (int i = 0; i < OPERANDS; i++) {
        hash = mix(hash, (uint64_t)all[i]->type);
        hash = mix(hash, all[i]->rows);
        hash = mix(hash, all[i]->cols);
        hash = mix(hash, (uint64_t)all[i]->ld);
    }
    return mix(mix(hash, (uint64_t)how->transpose[0] * 2 + (uint64_t)how->transpose[1]), (uint64_t)how->epilogue);
}

static cublasStatus_t check(const operation *how, const layout *a, const layout *b, const layout *c, const layout *out)
{
    const uint64_t m = how->transpose[0] ? a->cols : a->rows, k = how->transpose[0] ? a->rows : a->cols;
    const uint64_t n = how->transpose[1] ? b->rows : b->cols, inner = how->transpose[1] ? b->cols : b->rows;
    if (k != inner || out->rows != m || out->cols != n || memcmp(c, out, sizeof *c) != 0)
        return CUBLAS_STATUS_INVALID_VALUE;
    if (a->type != b->type || (a->type == CUDA_R_32F && out->type != CUDA_R_32F)) return CUBLAS_STATUS_NOT_SUPPORTED;
    if (how->compute != CUBLAS_COMPUTE_32F && !(how->compute == CUBLAS_COMPUTE_32F_FAST_TF32 && a->type == CUDA_R_32F))
        return CUBLAS_STATUS_NOT_SUPPORTED;
    if (how->epilogue != CUBLASLT_EPILOGUE_DEFAULT &&
        (how->epilogue != CUBLASLT_EPILOGUE_BIAS || how->bias_type != out->type || how->bias == NULL))
        return CUBLAS_STATUS_NOT_SUPPORTED;
    return CUBLAS_STATUS_SUCCESS;
}

/* ---- numbers ----------------------------------------------------------------------------------------------------- */

static float load(const void *from, int32_t type, size_t i)
{
    if (type == CUDA_R_32F) return ((const float *)from)[i];
    const uint32_t bits = (uint32_t)((const uint16_t *)from)[i] << 16;
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static void store(void *to, int32_t type, size_t i, float value)
{
    uint32_t bits;
    if (type == CUDA_R_32F) {
        ((float *)to)[i] = value;
        return;
    }
    memcpy(&bits, &value, sizeof bits);
    if ((bits & 0x7fffffffu) > 0x7f800000u)
        bits |= 0x400000u;
    else
        bits += 0x7fffu + (bits >> 16 & 1u);
    ((uint16_t *)to)[i] = (uint16_t)(bits >> 16);
}

/* out[x,y] of the product, `x` along rows of the first operand. */
static float dot(const float *x, const float *y, uint64_t k)
{
    float sum = 0.0f;
    for (uint64_t i = 0; i < k; i++) sum += x[i] * y[i];
    return sum;
}

/* A copy [count][k] in which the summed index runs fastest. */
static float *gather(const void *from, const layout *l, int turned, uint64_t count, uint64_t k)
{
    float *copy = malloc(sizeof *copy * (size_t)(count * k));
    if (copy == NULL) return NULL;
    for (uint64_t i = 0; i < count; i++)
        for (uint64_t p = 0; p < k; p++) {
            const size_t at = turned ? (size_t)p + (size_t)i * (size_t)l->ld : (size_t)i + (size_t)p * (size_t)l->ld;
            copy[i * k + p] = load(from, l->type, at);
        }
    return copy;
}

static int live(const void *p, const layout *l, const char *what)
{
    if (hostcuda_is_live(p, span(l))) return 1;
    hostcuda_library_reports("library-bounds", what);
    return 0;
}

static void read_columns(const void *p, const layout *l, const char *what)
{
    for (uint64_t c = 0; c < l->cols; c++)
        hostcuda_library_reads((const char *)p + (size_t)c * (size_t)l->ld * element(l->type),
                               (size_t)l->rows * element(l->type), what);
}

static int run(void *argument)
{
    const job *j = argument;
    const uint64_t m = j->out.rows, n = j->out.cols, k = j->how.transpose[0] ? j->a.rows : j->a.cols;
    if (!live(j->first, &j->a, "cuBLASLt's A") || !live(j->second, &j->b, "cuBLASLt's B") ||
        !live(j->result, &j->out, "cuBLASLt's D"))
        return 1;
    read_columns(j->first, &j->a, "cuBLASLt's A");
    read_columns(j->second, &j->b, "cuBLASLt's B");
    if (j->beta != 0.0f) read_columns(j->result, &j->out, "cuBLASLt's C");
    const layout bias = {.type = j->how.bias_type, .rows = m, .cols = 1, .ld = (int64_t)m};
    if (j->how.epilogue == CUBLASLT_EPILOGUE_BIAS) {
        if (!live(j->how.bias, &bias, "cuBLASLt's bias")) return 1;
        read_columns(j->how.bias, &bias, "cuBLASLt's bias");
    }
    float *x = gather(j->first, &j->a, j->how.transpose[0], m, k);
    float *y = gather(j->second, &j->b, !j->how.transpose[1], n, k);
    const int failed = x == NULL || y == NULL;
    for (uint64_t c = 0; c < n && !failed; c++) {
        for (uint64_t r = 0; r < m; r++) {
            const size_t at = (size_t)r + (size_t)c * (size_t)j->out.ld;
            float value = j->alpha * dot(x + r * k, y + c * k, k);
            if (j->beta != 0.0f) value += j->beta * load(j->result, j->out.type, at);
            if (j->how.epilogue == CUBLASLT_EPILOGUE_BIAS) value += load(j->how.bias, bias.type, (size_t)r);
            store(j->result, j->out.type, at, value);
        }
        hostcuda_library_writes((char *)j->result + (size_t)c * (size_t)j->out.ld * element(j->out.type),
                                (size_t)m * element(j->out.type));
    }
    free(x);
    free(y);
    return failed;
}

/* ---- the library's calls ----------------------------------------------------------------------------------------- */

cublasStatus_t cublasLtCreate(cublasLtHandle_t *handle)
{
    *handle = malloc(1);
    return *handle == NULL ? CUBLAS_STATUS_ALLOC_FAILED : CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtDestroy(cublasLtHandle_t handle)
{
    free(handle);
    return CUBLAS_STATUS_SUCCESS;
}

const char *cublasLtGetStatusString(cublasStatus_t status)
{
    return status == CUBLAS_STATUS_SUCCESS ? "success" : "a failure of the stand-in";
}

static cublasStatus_t make(void **out, const void *content, size_t bytes)
{
    *out = malloc(bytes);
    if (*out == NULL) return CUBLAS_STATUS_ALLOC_FAILED;
    memcpy(*out, content, bytes);
    return CUBLAS_STATUS_SUCCESS;
}

typedef struct attribute {
    int name;
    void *to;
    size_t size;
} attribute;

static cublasStatus_t set(const attribute *known, size_t count, int name, const void *value, size_t size)
{
    for (size_t i = 0; i < count; i++) {
        if (known[i].name != name) continue;
        if (known[i].size != size) return CUBLAS_STATUS_INVALID_VALUE;
        memcpy(known[i].to, value, size);
        return CUBLAS_STATUS_SUCCESS;
    }
    return CUBLAS_STATUS_NOT_SUPPORTED;
}

cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t *out, cublasComputeType_t compute, cudaDataType_t scale)
{
    const operation made = {.compute = compute, .epilogue = CUBLASLT_EPILOGUE_DEFAULT, .bias_type = -1};
    return scale == CUDA_R_32F ? make((void **)out, &made, sizeof made) : CUBLAS_STATUS_NOT_SUPPORTED;
}

cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t old)
{
    free(old);
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t desc, cublasLtMatmulDescAttributes_t name,
                                              const void *value, size_t size)
{
    operation *how = (operation *)desc;
    const attribute known[] = {
        {CUBLASLT_MATMUL_DESC_TRANSA, &how->transpose[0], sizeof how->transpose[0]},
        {CUBLASLT_MATMUL_DESC_TRANSB, &how->transpose[1], sizeof how->transpose[1]},
        {CUBLASLT_MATMUL_DESC_EPILOGUE, &how->epilogue, sizeof how->epilogue},
        {CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, &how->bias_type, sizeof how->bias_type},
        {CUBLASLT_MATMUL_DESC_BIAS_POINTER, &how->bias, sizeof how->bias},
    };
    return set(known, sizeof known / sizeof known[0], (int)name, value, size);
}

cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t *out, cudaDataType_t type, uint64_t rows,
                                          uint64_t cols, int64_t ld)
{
    const layout made = {.type = (int32_t)type, .rows = rows, .cols = cols, .ld = ld};
    if (rows == 0 || cols == 0 || ld < (int64_t)rows || element((int32_t)type) == 0) return CUBLAS_STATUS_INVALID_VALUE;
    return make((void **)out, &made, sizeof made);
}

cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t old)
{
    free(old);
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t *out)
{
    const preference made = {.alignment = {256, 256, 256, 256}};
    return make((void **)out, &made, sizeof made);
}

cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t old)
{
    free(old);
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t desc,
                                                    cublasLtMatmulPreferenceAttributes_t name, const void *value,
                                                    size_t size)
{
    preference *wanted = (preference *)desc;
    const attribute known[] = {
        {CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &wanted->workspace, sizeof wanted->workspace},
        {CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, &wanted->reductions, sizeof wanted->reductions},
        {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, &wanted->alignment[0], sizeof wanted->alignment[0]},
        {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, &wanted->alignment[1], sizeof wanted->alignment[1]},
        {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, &wanted->alignment[2], sizeof wanted->alignment[2]},
        {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, &wanted->alignment[3], sizeof wanted->alignment[3]},
    };
    return set(known, sizeof known / sizeof known[0], (int)name, value, size);
}

cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t handle, cublasLtMatmulDesc_t desc,
                                              cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                                              cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
                                              cublasLtMatmulPreference_t wish, int wanted,
                                              cublasLtMatmulHeuristicResult_t *results, int *count)
{
    const preference *wanted_by = (const preference *)wish;
    const cublasStatus_t status =
        check((const operation *)desc, (const layout *)a, (const layout *)b, (const layout *)c, (const layout *)d);
    *count = 0;
    if (status != CUBLAS_STATUS_SUCCESS || handle == NULL || wanted < 1) return status;
    const found algorithm = {
        .problem = problem_of((const operation *)desc, (const layout *)a, (const layout *)b, (const layout *)d),
        .workspace = wanted_by->workspace >= WORKSPACE ? WORKSPACE : 0,
        .alignment = {wanted_by->alignment[0], wanted_by->alignment[1], wanted_by->alignment[3]}};
    memset(results, 0, sizeof *results);
    memcpy(results->algo.data, &algorithm, sizeof algorithm);
    results->workspaceSize = algorithm.workspace;
    results->state = CUBLAS_STATUS_SUCCESS;
    *count = 1;
    return CUBLAS_STATUS_SUCCESS;
}

static cublasStatus_t misuse(const char *text)
{
    hostcuda_library_reports("library-misuse", text);
    return CUBLAS_STATUS_INVALID_VALUE;
}

cublasStatus_t cublasLtMatmul(cublasLtHandle_t handle, cublasLtMatmulDesc_t desc, const void *alpha, const void *A,
                              cublasLtMatrixLayout_t a, const void *B, cublasLtMatrixLayout_t b, const void *beta,
                              const void *C, cublasLtMatrixLayout_t c, void *D, cublasLtMatrixLayout_t d,
                              const cublasLtMatmulAlgo_t *algo, void *workspace, size_t workspace_bytes,
                              cudaStream_t stream)
{
    const operation *how = (const operation *)desc;
    const layout *la = (const layout *)a, *lb = (const layout *)b, *ld = (const layout *)d;
    const void *const pointers[OPERANDS] = {A, B, D};
    found algorithm;
    const cublasStatus_t status = check(how, la, lb, (const layout *)c, ld);
    if (status != CUBLAS_STATUS_SUCCESS) return status;
    if (handle == NULL || C != D || algo == NULL) return misuse("cuBLASLt is called in a way that this does not know");
    memcpy(&algorithm, algo->data, sizeof algorithm);
    if (algorithm.problem != problem_of(how, la, lb, ld)) return misuse("an algorithm was found for another problem");
    if (algorithm.workspace > workspace_bytes ||
        (algorithm.workspace > 0 && !hostcuda_is_live(workspace, algorithm.workspace)))
        return misuse("the workspace is smaller than the algorithm's");
    for (int i = 0; i < OPERANDS; i++)
        if ((uintptr_t)pointers[i] % algorithm.alignment[i] != 0)
            return misuse("a pointer is less aligned than promised");
    job *j = malloc(sizeof *j);
    if (j == NULL) return CUBLAS_STATUS_ALLOC_FAILED;
    *j = (job){*how, *la, *lb, *ld, A, B, D, *(const float *)alpha, *(const float *)beta};
    const int error = hostcuda_enqueue(stream, run, j);
    if (error == cudaErrorMemoryAllocation) return CUBLAS_STATUS_ALLOC_FAILED;
    return error != cudaSuccess ? CUBLAS_STATUS_EXECUTION_FAILED : CUBLAS_STATUS_SUCCESS;
}
