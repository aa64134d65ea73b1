/* Executes a plan of the stand-in for cuDNN: interprets the operation graph in fp32, rounding at every tensor to that
 * tensor's type. What kernels/cuda/sdpa.c builds is what it knows: products (heads of the second operand may be
 * shared), elementwise functions, reductions, reshapes. */
#include "cudnn_object.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { TENSORS = 96, RANK = 4 };

/* ---- tensors of an execution ------------------------------------------------------------------------------------- */

typedef struct tensor {
    const object *descriptor;
    int64_t number, size[RANK], stride[RANK], elements;
    int type;
    bool inside;
    float *values; /* [elements] in order of indices; NULL: not known so far */
} tensor;

typedef struct execution {
    const object *graph;
    int64_t numbers[TENSORS];
    void *pointers[TENSORS];
    float by_value[TENSORS]; /* what pointers of the host held at the call */
    int given;
    void *workspace;
    tensor tensors[TENSORS];
    int count;
    bool failed;
} execution;

static void fail(execution *e, const char *why)
{
    hostcuda_library_reports("cudnn", why);
    e->failed = true;
}

static float rounded(float value, int type)
{
    uint32_t bits;
    if (type == CUDNN_DATA_BOOLEAN) return value != 0.0f ? 1.0f : 0.0f;
    if (type != CUDNN_DATA_BFLOAT16) return value;
    memcpy(&bits, &value, sizeof bits);
    if ((bits & 0x7fffffffu) > 0x7f800000u) return value;
    bits = (bits + 0x7fffu + (bits >> 16 & 1u)) & 0xffff0000u;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static size_t element_size(int type) { return type == CUDNN_DATA_BFLOAT16 ? 2 : 4; }

/* Walks indices in order; false at the end. */
static bool next(const tensor *t, int64_t *index)
{
    for (int i = RANK - 1; i >= 0; i--) {
        if (++index[i] < t->size[i]) return true;
        index[i] = 0;
    }
    return false;
}

static size_t span(const tensor *t)
{
    int64_t last = 0;
    for (int i = 0; i < RANK; i++) last += (t->size[i] - 1) * t->stride[i];
    return (size_t)(last + 1) * element_size(t->type);
}

static int64_t place(const tensor *t, const int64_t *index)
{
    int64_t at = 0;
    for (int i = 0; i < RANK; i++) at += index[i] * t->stride[i];
    return at;
}

/* The value at an index, where a size of 1 serves all, and fewer heads serve neighbouring ones. */
static float value_at(const tensor *t, const int64_t *index, const int64_t *of)
{
    int64_t at = 0;
    for (int i = 0; i < RANK; i++) {
        const int64_t here = t->size[i] == of[i] ? index[i] : index[i] / (of[i] / t->size[i]);
        at = at * t->size[i] + here;
    }
    return t->values[at];
}

static int given(const execution *e, int64_t number)
{
    for (int i = 0; i < e->given; i++)
        if (e->numbers[i] == number) return i;
    return -1;
}

static void read_memory(execution *e, tensor *t)
{
    const int i = given(e, t->number);
    if (i < 0) {
        fail(e, "a tensor is missing from the variant pack");
        return;
    }
    if (integer_of(t->descriptor, CUDNN_ATTR_TENSOR_IS_BY_VALUE, 0) != 0) {
        t->values[0] = e->by_value[i];
        return;
    }
    if (!hostcuda_is_live(e->pointers[i], span(t))) {
        fail(e, "a tensor leaves its allocation");
        return;
    }
    int64_t index[RANK] = {0}, k = 0;
    do {
        const int64_t at = place(t, index);
        const char *from = (const char *)e->pointers[i] + (size_t)at * element_size(t->type);
        hostcuda_library_reads(from, element_size(t->type), "cuDNN's input");
        uint32_t bits = 0;
        memcpy((char *)&bits + (4 - element_size(t->type)), from, element_size(t->type));
        if (t->type == CUDNN_DATA_INT32)
            t->values[k++] = (float)(int32_t)bits;
        else
            memcpy(&t->values[k++], &bits, sizeof bits);
    } while (next(t, index));
}

static void write_memory(execution *e, const tensor *t)
{
    const int i = given(e, t->number);
    if (i < 0 || !hostcuda_is_live(e->pointers[i], span(t))) {
        fail(e, "an output is not in the variant pack or leaves its allocation");
        return;
    }
    int64_t index[RANK] = {0}, k = 0;
    do {
        char *to = (char *)e->pointers[i] + (size_t)place(t, index) * element_size(t->type);
        uint32_t bits;
        memcpy(&bits, &t->values[k++], sizeof bits);
        memcpy(to, (const char *)&bits + (4 - element_size(t->type)), element_size(t->type));
        hostcuda_library_writes(to, element_size(t->type));
    } while (next(t, index));
}

static tensor *tensor_of(execution *e, const object *descriptor)
{
    for (int i = 0; i < e->count; i++)
        if (e->tensors[i].descriptor == descriptor) return &e->tensors[i];
    if (e->count == TENSORS) {
        fail(e, "too many tensors");
        return NULL;
    }
    tensor *t = &e->tensors[e->count++];
    *t = (tensor){.descriptor = descriptor,
                  .number = integer_of(descriptor, CUDNN_ATTR_TENSOR_UNIQUE_ID, -1),
                  .elements = 1,
                  .type = (int)integer_of(descriptor, CUDNN_ATTR_TENSOR_DATA_TYPE, -1),
                  .inside = integer_of(descriptor, CUDNN_ATTR_TENSOR_IS_VIRTUAL, 0) != 0};
    memcpy(t->size, attribute_of(descriptor, CUDNN_ATTR_TENSOR_DIMENSIONS)->values, sizeof t->size);
    memcpy(t->stride, attribute_of(descriptor, CUDNN_ATTR_TENSOR_STRIDES)->values, sizeof t->stride);
    for (int i = 0; i < RANK; i++) t->elements *= t->size[i];
    return t;
}

/* An operand, read from memory where it stands there; NULL when nothing has computed it so far. */
static const tensor *input(execution *e, const object *descriptor)
{
    tensor *t = descriptor == NULL ? NULL : tensor_of(e, descriptor);
    if (t == NULL || t->values != NULL) return t;
    if (t->inside) return NULL;
    t->values = calloc((size_t)t->elements, sizeof *t->values);
    if (t->values == NULL)
        fail(e, "no memory");
    else
        read_memory(e, t);
    return t;
}

static tensor *output(execution *e, const object *descriptor)
{
    tensor *t = tensor_of(e, descriptor);
    if (t == NULL) return NULL;
    t->values = calloc((size_t)t->elements, sizeof *t->values);
    if (t->values == NULL) fail(e, "no memory");
    return t->values == NULL ? NULL : t;
}

static void deliver(execution *e, tensor *t)
{
    for (int64_t i = 0; i < t->elements; i++) t->values[i] = rounded(t->values[i], t->type);
    if (!t->inside) write_memory(e, t);
}

/* ---- operations: true when done, false when an operand is not known so far ------------------------------------------
 */

static bool product(execution *e, const object *operation)
{
    const tensor *x = input(e, object_of(operation, CUDNN_ATTR_OPERATION_MATMUL_ADESC));
    const tensor *y = input(e, object_of(operation, CUDNN_ATTR_OPERATION_MATMUL_BDESC));
    if (x == NULL || y == NULL) return false;
    tensor *out = output(e, object_of(operation, CUDNN_ATTR_OPERATION_MATMUL_CDESC));
    if (out == NULL) return true;
    if (x->size[3] != y->size[2] || out->size[2] != x->size[2] || out->size[3] != y->size[3]) {
        fail(e, "the sizes of a product do not fit");
        return true;
    }
    const int64_t of_x[RANK] = {out->size[0], out->size[1], x->size[2], x->size[3]};
    const int64_t of_y[RANK] = {out->size[0], out->size[1], y->size[2], y->size[3]};
    int64_t index[RANK] = {0}, k = 0;
    do {
        float sum = 0.0f;
        for (int64_t i = 0; i < x->size[3]; i++) {
            const int64_t at_x[RANK] = {index[0], index[1], index[2], i},
                          at_y[RANK] = {index[0], index[1], i, index[3]};
            sum += value_at(x, at_x, of_x) * value_at(y, at_y, of_y);
        }
        out->values[k++] = sum;
    } while (next(out, index));
    deliver(e, out);
    return true;
}

static float apply(execution *e, int64_t mode, float x, float y, float chooser, int64_t index)
{
    switch (mode) {
    case CUDNN_POINTWISE_MUL:
        return x * y;
    case CUDNN_POINTWISE_ADD:
        return x + y;
    case CUDNN_POINTWISE_SUB:
        return x - y;
    case CUDNN_POINTWISE_DIV:
        return x / y;
    case CUDNN_POINTWISE_EXP:
        return expf(x);
    case CUDNN_POINTWISE_LOG:
        return logf(x);
    case CUDNN_POINTWISE_IDENTITY:
        return x;
    case CUDNN_POINTWISE_GEN_INDEX:
        return (float)index;
    case CUDNN_POINTWISE_CMP_GE:
        return x >= y ? 1.0f : 0.0f;
    case CUDNN_POINTWISE_BINARY_SELECT:
        return chooser != 0.0f ? x : y;
    default:
        fail(e, "an elementwise function that the stand-in lacks");
        return 0.0f;
    }
}

static bool elementwise(execution *e, const object *operation)
{
    const object *how = object_of(operation, CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR);
    const object *second = object_of(operation, CUDNN_ATTR_OPERATION_POINTWISE_BDESC);
    const object *third = object_of(operation, CUDNN_ATTR_OPERATION_POINTWISE_TDESC);
    const tensor *x = input(e, object_of(operation, CUDNN_ATTR_OPERATION_POINTWISE_XDESC));
    const tensor *y = input(e, second), *chooser = input(e, third);
    if (x == NULL || (second != NULL && y == NULL) || (third != NULL && chooser == NULL)) return false;
    tensor *out = output(e, object_of(operation, CUDNN_ATTR_OPERATION_POINTWISE_YDESC));
    if (out == NULL) return true;
    const int64_t mode = integer_of(how, CUDNN_ATTR_POINTWISE_MODE, -1);
    const int64_t axis = integer_of(how, CUDNN_ATTR_POINTWISE_AXIS, 0);
    int64_t index[RANK] = {0}, k = 0;
    do {
        const float a = value_at(x, index, out->size), b = y == NULL ? 0.0f : value_at(y, index, out->size);
        const float c = chooser == NULL ? 0.0f : value_at(chooser, index, out->size);
        out->values[k++] = apply(e, mode, a, b, c, index[axis]);
    } while (next(out, index));
    deliver(e, out);
    return true;
}

static bool reduction(execution *e, const object *operation)
{
    const object *how = object_of(operation, CUDNN_ATTR_OPERATION_REDUCTION_DESC);
    const tensor *x = input(e, object_of(operation, CUDNN_ATTR_OPERATION_REDUCTION_XDESC));
    if (x == NULL) return false;
    tensor *out = output(e, object_of(operation, CUDNN_ATTR_OPERATION_REDUCTION_YDESC));
    if (out == NULL) return true;
    const bool largest = integer_of(how, CUDNN_ATTR_REDUCTION_OPERATOR, -1) == CUDNN_REDUCE_TENSOR_MAX;
    for (int64_t i = 0; i < out->elements && largest; i++) out->values[i] = -INFINITY;
    int64_t index[RANK] = {0}, k = 0;
    do {
        int64_t at = 0;
        for (int i = 0; i < RANK; i++) at = at * out->size[i] + index[i] / (x->size[i] / out->size[i]);
        const float value = x->values[k++];
        out->values[at] = largest ? fmaxf(out->values[at], value) : out->values[at] + value;
    } while (next(x, index));
    deliver(e, out);
    return true;
}

/* The same memory under other sizes and strides. */
static bool reshape(execution *e, const object *operation)
{
    const tensor *x = input(e, object_of(operation, CUDNN_ATTR_OPERATION_RESHAPE_XDESC));
    if (x == NULL) return false;
    tensor *out = output(e, object_of(operation, CUDNN_ATTR_OPERATION_RESHAPE_YDESC));
    float *memory = calloc((size_t)x->elements, sizeof *memory);
    if (out == NULL || memory == NULL || out->elements != x->elements) {
        fail(e, "a reshape changes the number of elements, or there is no memory");
    } else {
        int64_t index[RANK] = {0}, k = 0;
        do memory[place(x, index)] = x->values[k++];
        while (next(x, index));
        k = 0;
        do out->values[k++] = memory[place(out, index)];
        while (next(out, index));
        deliver(e, out);
    }
    free(memory);
    return true;
}

static bool evaluate(execution *e, const object *operation)
{
    switch (operation->type) {
    case CUDNN_BACKEND_OPERATION_MATMUL_DESCRIPTOR:
        return product(e, operation);
    case CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR:
        return elementwise(e, operation);
    case CUDNN_BACKEND_OPERATION_REDUCTION_DESCRIPTOR:
        return reduction(e, operation);
    case CUDNN_BACKEND_OPERATION_RESHAPE_DESCRIPTOR:
        return reshape(e, operation);
    default:
        fail(e, "an operation that the stand-in lacks");
        return true;
    }
}

static int run(void *argument)
{
    execution *e = argument;
    const attribute *operations = attribute_of(e->graph, CUDNN_ATTR_OPERATIONGRAPH_OPS);
    const object *const *list = operations->values;
    bool *done = calloc((size_t)operations->count, sizeof *done);
    if (!hostcuda_is_live(e->workspace, WORKSPACE))
        fail(e, "the workspace is smaller than the plan's");
    else
        memset(e->workspace, 0xff, WORKSPACE); /* engines scribble there */
    for (int64_t left = operations->count; left > 0 && !e->failed && done != NULL;) {
        const int64_t before = left;
        for (int64_t i = 0; i < operations->count && !e->failed; i++)
            if (!done[i] && evaluate(e, list[i])) {
                done[i] = true;
                left--;
            }
        if (left == before) fail(e, "the graph has a cycle, or an input that nothing makes");
    }
    for (int i = 0; i < e->count; i++) free(e->tensors[i].values);
    free(done);
    return e->failed ? 1 : 0;
}

/* Values that stand in the host's memory are read at the call. */
static void take_values(execution *e)
{
    const attribute *operations = attribute_of(e->graph, CUDNN_ATTR_OPERATIONGRAPH_OPS);
    const object *const *list = operations->values;
    for (int64_t i = 0; i < operations->count; i++)
        for (int a = 0; a < list[i]->count; a++) {
            const object *const other = object_of(list[i], list[i]->attributes[a].name);
            if (list[i]->attributes[a].size != sizeof(void *) || other == NULL ||
                other->type != CUDNN_BACKEND_TENSOR_DESCRIPTOR ||
                integer_of(other, CUDNN_ATTR_TENSOR_IS_BY_VALUE, 0) == 0)
                continue;
            const int at = given(e, integer_of(other, CUDNN_ATTR_TENSOR_UNIQUE_ID, -1));
            if (at >= 0) memcpy(&e->by_value[at], e->pointers[at], sizeof(float));
        }
}

cudnnStatus_t cudnnBackendExecute(cudnnHandle_t handle, cudnnBackendDescriptor_t of, cudnnBackendDescriptor_t with)
{
    const object *plan = of, *pack = with;
    if (!plan->finished || !pack->finished) return CUDNN_STATUS_BAD_PARAM;
    const attribute *numbers = attribute_of(pack, CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS);
    const attribute *pointers = attribute_of(pack, CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS);
    const attribute *workspace = attribute_of(pack, CUDNN_ATTR_VARIANT_PACK_WORKSPACE);
    if (numbers->count != pointers->count || numbers->count > TENSORS || workspace == NULL)
        return CUDNN_STATUS_BAD_PARAM;
    execution *e = calloc(1, sizeof *e);
    if (e == NULL) return CUDNN_STATUS_ALLOC_FAILED;
    e->graph = object_of(plan, CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG)->graph;
    e->given = (int)numbers->count;
    memcpy(e->numbers, numbers->values, sizeof(int64_t) * (size_t)numbers->count);
    memcpy((void *)e->pointers, pointers->values, sizeof(void *) * (size_t)pointers->count);
    memcpy((void *)&e->workspace, workspace->values, sizeof(void *));
    take_values(e);
    const int error = hostcuda_enqueue(handle->stream, run, e);
    if (error == cudaErrorMemoryAllocation) return CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED;
    return error != cudaSuccess ? CUDNN_STATUS_EXECUTION_FAILED : CUDNN_STATUS_SUCCESS;
}
