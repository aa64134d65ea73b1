/* See sdpa.h. The letters of sizes are kernels/tensor.h's; scores are [n,H,T,T], rows of queries by columns of keys. */
#include "kernels/cuda/sdpa.h"

#include <string.h>

typedef cudnnBackendDescriptor_t descriptor;

enum { MOST_OPERATIONS = 40, MOST_CONFIGURATIONS = 8 };

/* A graph under construction: failures stick to the plan, so that calls need no checks. */
typedef struct builder {
    const ls_cudnn *cudnn;
    ls_sdpa_plan *plan;
    descriptor operations[MOST_OPERATIONS];
    int count;
    int64_t next_virtual; /* number of the next tensor that only lives inside */
    int64_t n, T, H, G, D;
} builder;

typedef struct dims {
    int64_t size[4], stride[4];
} dims;

/* ---- the library ------------------------------------------------------------------------------------------------- */

bool ls_cudnn_load(ls_cudnn *out, char *reason, size_t reason_size)
{
#define PLACE(function) {#function, &out->function},
    const ls_library_function functions[] = {LS_CUDNN_LIST(PLACE)};
#undef PLACE
    const int count = (int)(sizeof functions / sizeof functions[0]);
    out->library = ls_library_open("libcudnn.so.9", functions, count, reason, reason_size);
    return out->library != NULL;
}

void ls_cudnn_unload(ls_cudnn *cudnn) { ls_library_close(cudnn->library); }

/* ---- descriptors ------------------------------------------------------------------------------------------------- */

static void note(ls_sdpa_plan *plan, cudnnStatus_t status, const char *what)
{
    if (plan->status != CUDNN_STATUS_SUCCESS || status == CUDNN_STATUS_SUCCESS) return;
    plan->status = status;
    plan->what = what;
}

static descriptor make(builder *b, cudnnBackendDescriptorType_t type)
{
    ls_sdpa_plan *plan = b->plan;
    descriptor made = NULL;
    if (plan->count == LS_SDPA_DESCRIPTORS) note(plan, CUDNN_STATUS_ALLOC_FAILED, "too many descriptors");
    if (plan->status != CUDNN_STATUS_SUCCESS) return NULL;
    note(plan, b->cudnn->cudnnBackendCreateDescriptor(type, &made), "creating a descriptor");
    if (plan->status == CUDNN_STATUS_SUCCESS) plan->made[plan->count++] = made;
    return made;
}

static void set(const builder *b, descriptor of, cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type,
                int64_t count, const void *values)
{
    if (b->plan->status == CUDNN_STATUS_SUCCESS)
        note(b->plan, b->cudnn->cudnnBackendSetAttribute(of, name, type, count, values), "setting an attribute");
}

static void refer(const builder *b, descriptor of, cudnnBackendAttributeName_t name, descriptor other)
{
    if (other != NULL) set(b, of, name, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, (const void *)&other);
}

static void finish(const builder *b, descriptor made, const char *what)
{
    if (b->plan->status == CUDNN_STATUS_SUCCESS) note(b->plan, b->cudnn->cudnnBackendFinalize(made), what);
}

static descriptor tensor(builder *b, int64_t number, cudnnDataType_t type, dims shape, bool inside, bool by_value)
{
    const descriptor made = make(b, CUDNN_BACKEND_TENSOR_DESCRIPTOR);
    const int64_t alignment = 16;
    set(b, made, CUDNN_ATTR_TENSOR_DATA_TYPE, CUDNN_TYPE_DATA_TYPE, 1, &type);
    set(b, made, CUDNN_ATTR_TENSOR_DIMENSIONS, CUDNN_TYPE_INT64, 4, shape.size);
    set(b, made, CUDNN_ATTR_TENSOR_STRIDES, CUDNN_TYPE_INT64, 4, shape.stride);
    set(b, made, CUDNN_ATTR_TENSOR_UNIQUE_ID, CUDNN_TYPE_INT64, 1, &number);
    set(b, made, CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, CUDNN_TYPE_INT64, 1, &alignment);
    set(b, made, CUDNN_ATTR_TENSOR_IS_VIRTUAL, CUDNN_TYPE_BOOLEAN, 1, &inside);
    if (by_value) set(b, made, CUDNN_ATTR_TENSOR_IS_BY_VALUE, CUDNN_TYPE_BOOLEAN, 1, &by_value);
    finish(b, made, "a tensor");
    return made;
}

static descriptor outer(builder *b, int64_t number, cudnnDataType_t type, dims shape)
{
    return tensor(b, number, type, shape, false, false);
}

static descriptor inner(builder *b, cudnnDataType_t type, dims shape)
{
    return tensor(b, b->next_virtual++, type, shape, true, false);
}

/* ---- operations -------------------------------------------------------------------------------------------------- */

static void add(builder *b, descriptor operation, const char *what)
{
    finish(b, operation, what);
    if (b->count == MOST_OPERATIONS)
        note(b->plan, CUDNN_STATUS_ALLOC_FAILED, "too many operations");
    else
        b->operations[b->count++] = operation;
}

/* out = x y */
static descriptor product(builder *b, descriptor x, descriptor y, descriptor out)
{
    const cudnnDataType_t type = CUDNN_DATA_FLOAT;
    const descriptor how = make(b, CUDNN_BACKEND_MATMUL_DESCRIPTOR);
    set(b, how, CUDNN_ATTR_MATMUL_COMP_TYPE, CUDNN_TYPE_DATA_TYPE, 1, &type);
    finish(b, how, "a product");
    const descriptor made = make(b, CUDNN_BACKEND_OPERATION_MATMUL_DESCRIPTOR);
    refer(b, made, CUDNN_ATTR_OPERATION_MATMUL_ADESC, x);
    refer(b, made, CUDNN_ATTR_OPERATION_MATMUL_BDESC, y);
    refer(b, made, CUDNN_ATTR_OPERATION_MATMUL_CDESC, out);
    refer(b, made, CUDNN_ATTR_OPERATION_MATMUL_DESC, how);
    add(b, made, "a product's operation");
    return out;
}

/* out = mode(x), mode(x, y) or mode(x, y, chooser), element by element; axis: of a generated index, else -1. */
static descriptor pointwise(builder *b, cudnnPointwiseMode_t mode, descriptor x, descriptor y, descriptor chooser,
                            descriptor out, int64_t axis)
{
    const cudnnDataType_t type = CUDNN_DATA_FLOAT;
    const descriptor how = make(b, CUDNN_BACKEND_POINTWISE_DESCRIPTOR);
    set(b, how, CUDNN_ATTR_POINTWISE_MODE, CUDNN_TYPE_POINTWISE_MODE, 1, &mode);
    set(b, how, CUDNN_ATTR_POINTWISE_MATH_PREC, CUDNN_TYPE_DATA_TYPE, 1, &type);
    if (axis >= 0) set(b, how, CUDNN_ATTR_POINTWISE_AXIS, CUDNN_TYPE_INT64, 1, &axis);
    finish(b, how, "an elementwise function");
    const descriptor made = make(b, CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR);
    refer(b, made, CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR, how);
    refer(b, made, CUDNN_ATTR_OPERATION_POINTWISE_XDESC, x);
    refer(b, made, CUDNN_ATTR_OPERATION_POINTWISE_BDESC, y);
    refer(b, made, CUDNN_ATTR_OPERATION_POINTWISE_TDESC, chooser);
    refer(b, made, CUDNN_ATTR_OPERATION_POINTWISE_YDESC, out);
    add(b, made, "an elementwise operation");
    return out;
}

static descriptor binary(builder *b, cudnnPointwiseMode_t mode, descriptor x, descriptor y, descriptor out)
{
    return pointwise(b, mode, x, y, NULL, out, -1);
}

/* Sums or maximizes x along the axes in which `out` has size 1 (or fewer heads). */
static descriptor reduce(builder *b, cudnnReduceTensorOp_t operator, descriptor x, descriptor out)
{
    const cudnnDataType_t type = CUDNN_DATA_FLOAT;
    const descriptor how = make(b, CUDNN_BACKEND_REDUCTION_DESCRIPTOR);
    set(b, how, CUDNN_ATTR_REDUCTION_COMP_TYPE, CUDNN_TYPE_DATA_TYPE, 1, &type);
    set(b, how, CUDNN_ATTR_REDUCTION_OPERATOR, CUDNN_TYPE_REDUCTION_OPERATOR_TYPE, 1, &operator);
    finish(b, how, "a reduction");
    const descriptor made = make(b, CUDNN_BACKEND_OPERATION_REDUCTION_DESCRIPTOR);
    refer(b, made, CUDNN_ATTR_OPERATION_REDUCTION_XDESC, x);
    refer(b, made, CUDNN_ATTR_OPERATION_REDUCTION_YDESC, out);
    refer(b, made, CUDNN_ATTR_OPERATION_REDUCTION_DESC, how);
    add(b, made, "a reduction's operation");
    return out;
}

/* The same elements under other sizes and strides. */
static descriptor reshape(builder *b, descriptor x, descriptor out)
{
    const descriptor made = make(b, CUDNN_BACKEND_OPERATION_RESHAPE_DESCRIPTOR);
    refer(b, made, CUDNN_ATTR_OPERATION_RESHAPE_XDESC, x);
    refer(b, made, CUDNN_ATTR_OPERATION_RESHAPE_YDESC, out);
    add(b, made, "a reshape");
    return out;
}

/* ---- shapes ------------------------------------------------------------------------------------------------------ */

static int64_t row(const builder *b) { return (b->H + 2 * b->G) * b->D; } /* elements of a row of qkv */

/* [n,heads,T,D] in rows of `stride` elements, a position each. */
static dims heads_of(const builder *b, int64_t heads, int64_t stride)
{
    return (dims){{b->n, heads, b->T, b->D}, {b->T * stride, b->D, stride, 1}};
}

static dims turned(dims shape)
{
    const dims result = {{shape.size[0], shape.size[1], shape.size[3], shape.size[2]},
                         {shape.stride[0], shape.stride[1], shape.stride[3], shape.stride[2]}};
    return result;
}

static dims packed(int64_t a, int64_t c, int64_t d, int64_t e)
{
    return (dims){{a, c, d, e}, {c * d * e, d * e, e, 1}};
}

static dims scores(const builder *b) { return packed(b->n, b->H, b->T, b->T); }
static dims of_rows(const builder *b) { return packed(b->n, b->H, b->T, 1); }

/* ---- graphs ------------------------------------------------------------------------------------------------------ */

/* scale * q k^T, hidden where a key comes after its query, or before first_key. */
static descriptor masked_scores(builder *b, descriptor q, descriptor k_turned)
{
    const cudnnDataType_t f32 = CUDNN_DATA_FLOAT, i32 = CUDNN_DATA_INT32, boolean = CUDNN_DATA_BOOLEAN;
    const descriptor scale = tensor(b, LS_SDPA_SCALE, f32, packed(1, 1, 1, 1), false, true);
    const descriptor hidden = tensor(b, LS_SDPA_HIDDEN, f32, packed(1, 1, 1, 1), false, true);
    descriptor s = product(b, q, k_turned, inner(b, f32, scores(b)));
    s = binary(b, CUDNN_POINTWISE_MUL, s, scale, inner(b, f32, scores(b)));
    const descriptor query = pointwise(b, CUDNN_POINTWISE_GEN_INDEX, s, NULL, NULL, inner(b, i32, scores(b)), 2);
    const descriptor key = pointwise(b, CUDNN_POINTWISE_GEN_INDEX, s, NULL, NULL, inner(b, i32, scores(b)), 3);
    descriptor seen = binary(b, CUDNN_POINTWISE_CMP_GE, query, key, inner(b, boolean, scores(b)));
    s = pointwise(b, CUDNN_POINTWISE_BINARY_SELECT, s, hidden, seen, inner(b, f32, scores(b)), -1);
    if (b->plan->shape.documents) {
        const descriptor first = outer(b, LS_SDPA_FIRST_KEY, i32, packed(b->n, 1, b->T, 1));
        seen = binary(b, CUDNN_POINTWISE_CMP_GE, key, first, inner(b, boolean, scores(b)));
        s = pointwise(b, CUDNN_POINTWISE_BINARY_SELECT, s, hidden, seen, inner(b, f32, scores(b)), -1);
    }
    return s;
}

/* p = softmax(s), lse = log sum exp s, out = p v */
static void build_forward(builder *b)
{
    const cudnnDataType_t f32 = CUDNN_DATA_FLOAT, half = CUDNN_DATA_BFLOAT16;
    const descriptor q = outer(b, LS_SDPA_Q, half, heads_of(b, b->H, row(b)));
    const descriptor k = outer(b, LS_SDPA_K, half, turned(heads_of(b, b->G, row(b))));
    const descriptor v = outer(b, LS_SDPA_V, half, heads_of(b, b->G, row(b)));
    const descriptor out = outer(b, LS_SDPA_OUT, half, heads_of(b, b->H, b->H * b->D));
    const descriptor lse = outer(b, LS_SDPA_LSE, f32, of_rows(b));
    const descriptor s = masked_scores(b, q, k);
    const descriptor most = reduce(b, CUDNN_REDUCE_TENSOR_MAX, s, inner(b, f32, of_rows(b)));
    const descriptor below = binary(b, CUDNN_POINTWISE_SUB, s, most, inner(b, f32, scores(b)));
    const descriptor e = pointwise(b, CUDNN_POINTWISE_EXP, below, NULL, NULL, inner(b, f32, scores(b)), -1);
    const descriptor sum = reduce(b, CUDNN_REDUCE_TENSOR_ADD, e, inner(b, f32, of_rows(b)));
    const descriptor log = pointwise(b, CUDNN_POINTWISE_LOG, sum, NULL, NULL, inner(b, f32, of_rows(b)), -1);
    (void)binary(b, CUDNN_POINTWISE_ADD, most, log, lse);
    const descriptor p = binary(b, CUDNN_POINTWISE_DIV, e, sum, inner(b, half, scores(b)));
    (void)product(b, p, v, out);
}

/* Where a gradient of k or v lands before the heads of a group add up: each query head's own, or `out` itself. */
static descriptor group_gradient(builder *b, descriptor out)
{
    return b->H == b->G ? out : inner(b, CUDNN_DATA_FLOAT, packed(b->n, b->H, b->T, b->D));
}

static void gather_group(builder *b, descriptor own, descriptor out)
{
    if (own != out) (void)reduce(b, CUDNN_REDUCE_TENSOR_ADD, own, out);
}

/* With p = exp(s - lse) and ds = scale * p * (dout v^T - sum(dout * out)):
 *   dv = p^T dout,  dq = ds k,  dk = ds^T q;  heads of a group add up in dk and dv. */
static void build_backward(builder *b)
{
    const cudnnDataType_t f32 = CUDNN_DATA_FLOAT, half = CUDNN_DATA_BFLOAT16;
    const dims own = heads_of(b, b->H, row(b)), shared = heads_of(b, b->G, row(b));
    const dims outs = heads_of(b, b->H, b->H * b->D);
    const descriptor q = outer(b, LS_SDPA_Q, half, own), out = outer(b, LS_SDPA_OUT, half, outs);
    const descriptor k = outer(b, LS_SDPA_K, half, shared), v_turned = outer(b, LS_SDPA_V, half, turned(shared));
    const descriptor dout = outer(b, LS_SDPA_DOUT, half, outs), lse = outer(b, LS_SDPA_LSE, f32, of_rows(b));
    const descriptor dq = outer(b, LS_SDPA_DQ, half, own);
    const descriptor dk = outer(b, LS_SDPA_DK, half, shared), dv = outer(b, LS_SDPA_DV, half, shared);

    descriptor x = binary(b, CUDNN_POINTWISE_MUL, dout, out, inner(b, f32, packed(b->n, b->H, b->T, b->D)));
    const descriptor sum = reduce(b, CUDNN_REDUCE_TENSOR_ADD, x, inner(b, f32, of_rows(b)));
    const descriptor k_turned = outer(b, LS_SDPA_K_TURNED, half, turned(shared));
    x = binary(b, CUDNN_POINTWISE_SUB, masked_scores(b, q, k_turned), lse, inner(b, f32, scores(b)));
    const descriptor p = pointwise(b, CUDNN_POINTWISE_EXP, x, NULL, NULL, inner(b, f32, scores(b)), -1);
    const descriptor p_turned = reshape(b, p, inner(b, half, turned(scores(b))));
    gather_group(b, product(b, p_turned, dout, group_gradient(b, dv)), dv);
    x = product(b, dout, v_turned, inner(b, f32, scores(b)));
    x = binary(b, CUDNN_POINTWISE_SUB, x, sum, inner(b, f32, scores(b)));
    x = binary(b, CUDNN_POINTWISE_MUL, x, p, inner(b, f32, scores(b)));
    const descriptor scale = tensor(b, LS_SDPA_SCALE, f32, packed(1, 1, 1, 1), false, true);
    const descriptor ds = binary(b, CUDNN_POINTWISE_MUL, x, scale, inner(b, half, scores(b)));
    (void)product(b, ds, k, dq);
    const descriptor ds_turned = reshape(b, ds, inner(b, half, turned(scores(b))));
    gather_group(b, product(b, ds_turned, q, group_gradient(b, dk)), dk);
}

/* Backward stores p and its gradient, T padded to the kernel's tiles, and the gradients of k and v of every head. */
size_t ls_sdpa_workspace_bound(const ls_sdpa_shape *shape)
{
    const double padded = (double)((shape->T + 127) / 128 * 128), heads = (double)shape->n * (double)shape->H;
    const double backward = heads * padded * (6.0 * padded + 16.0 * (double)shape->D + 16.0);
    const double wanted = 1048576.0 + (shape->backward ? backward : 16.0 * heads * padded);
    return wanted < (double)LS_SDPA_MOST_WORKSPACE ? (size_t)wanted : (size_t)LS_SDPA_MOST_WORKSPACE;
}

/* ---- plans ------------------------------------------------------------------------------------------------------- */

static descriptor finish_graph(builder *b, cudnnHandle_t handle)
{
    const descriptor graph = make(b, CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR);
    set(b, graph, CUDNN_ATTR_OPERATIONGRAPH_OPS, CUDNN_TYPE_BACKEND_DESCRIPTOR, b->count, (const void *)b->operations);
    if (handle != NULL) set(b, graph, CUDNN_ATTR_OPERATIONGRAPH_HANDLE, CUDNN_TYPE_HANDLE, 1, (const void *)&handle);
    finish(b, graph, "the graph");
    return graph;
}

/* The first engine that compiles. */
static void choose(builder *b, descriptor configuration, cudnnHandle_t handle, descriptor properties)
{
    ls_sdpa_plan *plan = b->plan;
    const descriptor made = make(b, CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR);
    int64_t count = 0;
    refer(b, made, CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, configuration);
    if (handle != NULL) set(b, made, CUDNN_ATTR_EXECUTION_PLAN_HANDLE, CUDNN_TYPE_HANDLE, 1, (const void *)&handle);
    if (properties != NULL) refer(b, made, CUDNN_ATTR_EXECUTION_PLAN_DEVICEPROP, properties);
    if (plan->status != CUDNN_STATUS_SUCCESS || b->cudnn->cudnnBackendFinalize(made) != CUDNN_STATUS_SUCCESS) return;
    if (b->cudnn->cudnnBackendGetAttribute(made, CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE, CUDNN_TYPE_INT64, 1, &count,
                                           &plan->workspace_bytes) != CUDNN_STATUS_SUCCESS)
        return;
    plan->plan = made;
    plan->found = true;
}

static void search(builder *b, descriptor graph, cudnnHandle_t handle, descriptor properties)
{
    const cudnnBackendHeurMode_t mode = CUDNN_HEUR_MODE_A;
    const descriptor heuristics = make(b, CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR);
    descriptor found[MOST_CONFIGURATIONS];
    int64_t count = 0;
    refer(b, heuristics, CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, graph);
    set(b, heuristics, CUDNN_ATTR_ENGINEHEUR_MODE, CUDNN_TYPE_HEUR_MODE, 1, &mode);
    if (properties != NULL) refer(b, heuristics, CUDNN_ATTR_ENGINEHEUR_DEVICEPROP, properties);
    finish(b, heuristics, "looking for engines");
    for (int i = 0; i < MOST_CONFIGURATIONS; i++) found[i] = make(b, CUDNN_BACKEND_ENGINECFG_DESCRIPTOR);
    if (b->plan->status != CUDNN_STATUS_SUCCESS) return;
    note(b->plan,
         b->cudnn->cudnnBackendGetAttribute(heuristics, CUDNN_ATTR_ENGINEHEUR_RESULTS, CUDNN_TYPE_BACKEND_DESCRIPTOR,
                                            MOST_CONFIGURATIONS, &count, (void *)found),
         "listing engines");
    for (int64_t i = 0; i < count && i < MOST_CONFIGURATIONS && !b->plan->found; i++)
        choose(b, found[i], handle, properties);
}

void ls_sdpa_plan_make(ls_sdpa_plan *out, const ls_cudnn *cudnn, const ls_sdpa_shape *shape, cudnnHandle_t handle,
                       cudnnBackendDescriptor_t properties)
{
    memset(out, 0, sizeof *out);
    out->shape = *shape;
    out->what = "no engine takes it";
    builder b = {.cudnn = cudnn,
                 .plan = out,
                 .next_virtual = LS_SDPA_TENSORS,
                 .n = shape->n,
                 .T = shape->T,
                 .H = shape->H,
                 .G = shape->G,
                 .D = shape->D};
    if (shape->backward)
        build_backward(&b);
    else
        build_forward(&b);
    const descriptor graph = finish_graph(&b, handle);
    search(&b, graph, handle, properties);
}

void ls_sdpa_plan_destroy(ls_sdpa_plan *plan, const ls_cudnn *cudnn)
{
    while (plan->count > 0) (void)cudnn->cudnnBackendDestroyDescriptor(plan->made[--plan->count]);
    memset(plan, 0, sizeof *plan);
}
