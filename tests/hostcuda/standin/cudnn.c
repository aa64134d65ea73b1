/* A stand-in for cuDNN's graph API: keeps descriptors and holds callers to the rules of finalizing. What a plan does is
 * cudnn_run.c's. */
#include "cudnn_object.h"

#include <stdlib.h>
#include <string.h>

/* ---- descriptors ------------------------------------------------------------------------------------------------- */

static size_t size_of(cudnnBackendAttributeType_t type)
{
    switch (type) {
    case CUDNN_TYPE_BOOLEAN:
        return sizeof(bool);
    case CUDNN_TYPE_CHAR:
        return 1;
    case CUDNN_TYPE_INT64:
    case CUDNN_TYPE_DOUBLE:
        return 8;
    case CUDNN_TYPE_HANDLE:
    case CUDNN_TYPE_VOID_PTR:
    case CUDNN_TYPE_BACKEND_DESCRIPTOR:
        return sizeof(void *);
    default:
        return 4;
    }
}

const attribute *attribute_of(const object *of, int name)
{
    for (int i = 0; i < of->count; i++)
        if (of->attributes[i].name == name) return &of->attributes[i];
    return NULL;
}

const object *object_of(const object *of, int name)
{
    const attribute *found = attribute_of(of, name);
    const object *result = NULL;
    if (found != NULL) memcpy((void *)&result, found->values, sizeof(void *));
    return result;
}

int64_t integer_of(const object *of, int name, int64_t otherwise)
{
    const attribute *found = attribute_of(of, name);
    int32_t narrow;
    int64_t wide;
    if (found == NULL) return otherwise;
    if (found->size == 1) return *(const unsigned char *)found->values;
    if (found->size == 4) return memcpy(&narrow, found->values, 4), narrow;
    return memcpy(&wide, found->values, 8), wide;
}

const char *cudnnGetErrorString(cudnnStatus_t status)
{
    return status == CUDNN_STATUS_SUCCESS ? "success" : "a failure of the stand-in";
}

size_t cudnnGetVersion(void) { return CUDNN_VERSION; }

cudnnStatus_t cudnnCreate(cudnnHandle_t *handle)
{
    *handle = calloc(1, sizeof **handle);
    return *handle == NULL ? CUDNN_STATUS_ALLOC_FAILED : CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnDestroy(cudnnHandle_t handle)
{
    free(handle);
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnSetStream(cudnnHandle_t handle, cudaStream_t stream)
{
    handle->stream = stream;
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnBackendCreateDescriptor(cudnnBackendDescriptorType_t type, cudnnBackendDescriptor_t *out)
{
    object *made = calloc(1, sizeof *made);
    *out = made;
    if (made == NULL) return CUDNN_STATUS_ALLOC_FAILED;
    made->type = (int)type;
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnBackendDestroyDescriptor(cudnnBackendDescriptor_t old)
{
    object *self = old;
    for (int i = 0; i < self->count; i++) free(self->attributes[i].values);
    free(self);
    return CUDNN_STATUS_SUCCESS;
}

static cudnnStatus_t put(object *to, int name, size_t size, int64_t count, const void *values)
{
    attribute *slot = NULL;
    for (int i = 0; i < to->count; i++)
        if (to->attributes[i].name == name) slot = &to->attributes[i];
    if (slot == NULL && to->count == ATTRIBUTES) return CUDNN_STATUS_BAD_PARAM;
    if (slot == NULL) slot = &to->attributes[to->count++];
    void *copy = malloc(size * (size_t)count + 1);
    if (copy == NULL) return CUDNN_STATUS_ALLOC_FAILED;
    memcpy(copy, values, size * (size_t)count);
    free(slot->values);
    *slot = (attribute){name, count, size, copy};
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnBackendSetAttribute(cudnnBackendDescriptor_t of, cudnnBackendAttributeName_t name,
                                       cudnnBackendAttributeType_t type, int64_t count, const void *values)
{
    object *self = of;
    if (self->finished) return CUDNN_STATUS_BAD_PARAM;
    if (type == CUDNN_TYPE_BACKEND_DESCRIPTOR)
        for (int64_t i = 0; i < count; i++) {
            const object *other = ((const object *const *)values)[i];
            if (other == NULL || !other->finished) return CUDNN_STATUS_BAD_PARAM;
        }
    return put(self, (int)name, size_of(type), count, values);
}

/* What a descriptor must have been told, ended by -1. */
static const int *needs(int type)
{
    static const int tensor[] = {CUDNN_ATTR_TENSOR_DATA_TYPE,      CUDNN_ATTR_TENSOR_DIMENSIONS,
                                 CUDNN_ATTR_TENSOR_STRIDES,        CUDNN_ATTR_TENSOR_UNIQUE_ID,
                                 CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, -1};
    static const int matmul[] = {CUDNN_ATTR_OPERATION_MATMUL_ADESC, CUDNN_ATTR_OPERATION_MATMUL_BDESC,
                                 CUDNN_ATTR_OPERATION_MATMUL_CDESC, CUDNN_ATTR_OPERATION_MATMUL_DESC, -1};
    static const int pointwise[] = {CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR, CUDNN_ATTR_OPERATION_POINTWISE_XDESC,
                                    CUDNN_ATTR_OPERATION_POINTWISE_YDESC, -1};
    static const int reduction[] = {CUDNN_ATTR_OPERATION_REDUCTION_XDESC, CUDNN_ATTR_OPERATION_REDUCTION_YDESC,
                                    CUDNN_ATTR_OPERATION_REDUCTION_DESC, -1};
    static const int graph[] = {CUDNN_ATTR_OPERATIONGRAPH_OPS, CUDNN_ATTR_OPERATIONGRAPH_HANDLE, -1};
    static const int plan[] = {CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, CUDNN_ATTR_EXECUTION_PLAN_HANDLE, -1};
    static const int pack[] = {CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, -1};
    static const int nothing[] = {-1};
    switch (type) {
    case CUDNN_BACKEND_TENSOR_DESCRIPTOR:
        return tensor;
    case CUDNN_BACKEND_OPERATION_MATMUL_DESCRIPTOR:
        return matmul;
    case CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR:
        return pointwise;
    case CUDNN_BACKEND_OPERATION_REDUCTION_DESCRIPTOR:
        return reduction;
    case CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR:
        return graph;
    case CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR:
        return plan;
    case CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR:
        return pack;
    default:
        return nothing;
    }
}

cudnnStatus_t cudnnBackendFinalize(cudnnBackendDescriptor_t of)
{
    object *self = of;
    if (self->finished) return CUDNN_STATUS_BAD_PARAM;
    for (const int *name = needs(self->type); *name >= 0; name++)
        if (attribute_of(self, *name) == NULL) return CUDNN_STATUS_BAD_PARAM;
    const int64_t workspace = WORKSPACE;
    if (self->type == CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR &&
        put(self, CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE, sizeof workspace, 1, &workspace) != CUDNN_STATUS_SUCCESS)
        return CUDNN_STATUS_ALLOC_FAILED;
    self->finished = true;
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnBackendGetAttribute(cudnnBackendDescriptor_t of, cudnnBackendAttributeName_t name,
                                       cudnnBackendAttributeType_t type, int64_t wanted, int64_t *count, void *values)
{
    const object *self = of;
    if (!self->finished) return CUDNN_STATUS_BAD_PARAM;
    if (name == CUDNN_ATTR_ENGINEHEUR_RESULTS) { /* one configuration, which takes anything */
        object *configuration = NULL;
        *count = 1;
        if (wanted < 1) return CUDNN_STATUS_SUCCESS;
        memcpy((void *)&configuration, values, sizeof(void *));
        configuration->graph = object_of(self, CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH);
        configuration->finished = true;
        return CUDNN_STATUS_SUCCESS;
    }
    const attribute *found = attribute_of(self, (int)name);
    if (found == NULL || found->size != size_of(type)) return CUDNN_STATUS_BAD_PARAM;
    *count = found->count;
    memcpy(values, found->values, found->size * (size_t)(wanted < found->count ? wanted : found->count));
    return CUDNN_STATUS_SUCCESS;
}
