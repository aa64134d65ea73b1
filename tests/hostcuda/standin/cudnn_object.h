/* Inside the stand-in of cuDNN: descriptors as cudnn.c keeps them, and what cudnn_run.c asks of them. */
#ifndef LS_TESTS_HOSTCUDA_STANDIN_CUDNN_OBJECT_H
#define LS_TESTS_HOSTCUDA_STANDIN_CUDNN_OBJECT_H

#include "standin.h"

#include <cudnn.h>
#include <stdbool.h>
#include <stdint.h>

enum { ATTRIBUTES = 16, WORKSPACE = 256 };

typedef struct attribute {
    int name;
    int64_t count;
    size_t size; /* of one */
    void *values;
} attribute;

typedef struct object {
    int type;
    bool finished;
    int count;
    attribute attributes[ATTRIBUTES];
    const struct object *graph; /* of an engine's configuration */
} object;

struct cudnnContext {
    cudaStream_t stream;
};

const attribute *attribute_of(const object *of, int name);         /* NULL: not set */
const object *object_of(const object *of, int name);               /* likewise */
int64_t integer_of(const object *of, int name, int64_t otherwise); /* of any width */

#endif
