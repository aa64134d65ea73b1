/* Attention as a cuDNN operation graph, forward and backward, over the rotated qkv of a block.
 *
 * The graph is the textbook's: a product, scale, masks from generated indices, softmax by maximum and sum (or,
 * backward, from what forward left), a product; cuDNN fuses it into one flash-style kernel. Heads of q, k and v are
 * read where they lie in qkv [n,T,(H+2G)*D], by strides. Nothing here runs on a GPU: a plan can be made for a device
 * that is only described, which is how the tests ask the library whether it takes a graph. */
#ifndef LS_KERNELS_CUDA_SDPA_H
#define LS_KERNELS_CUDA_SDPA_H

#include "kernels/cuda/library.h"

#include <cudnn.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* X(function) */
#define LS_CUDNN_LIST(X)                                                                                               \
    X(cudnnCreate)                                                                                                     \
    X(cudnnDestroy)                                                                                                    \
    X(cudnnSetStream)                                                                                                  \
    X(cudnnGetVersion)                                                                                                 \
    X(cudnnGetErrorString)                                                                                             \
    X(cudnnBackendCreateDescriptor)                                                                                    \
    X(cudnnBackendDestroyDescriptor)                                                                                   \
    X(cudnnBackendSetAttribute)                                                                                        \
    X(cudnnBackendGetAttribute)                                                                                        \
    X(cudnnBackendFinalize)                                                                                            \
    X(cudnnBackendExecute)

/* The functions of a library that is found at run time. */
typedef struct ls_cudnn {
    void *library;
    LS_CUDNN_LIST(LS_LIBRARY_FIELD)
} ls_cudnn;

/* False with `reason` where the library is not to be had. */
bool ls_cudnn_load(ls_cudnn *out, char *reason, size_t reason_size);
void ls_cudnn_unload(ls_cudnn *cudnn);

/* Sizes are those of kernels/tensor.h. */
typedef struct ls_sdpa_shape {
    int64_t n, T, H, G, D;
    bool documents; /* keys before first_key[n,T] are hidden too */
    bool backward;
} ls_sdpa_shape;

/* Tensors that a call supplies. The three of heads are [n,T,heads*D] in rows of (H+2G)*D elements. */
enum {
    LS_SDPA_Q = 1,
    LS_SDPA_K,
    LS_SDPA_V,
    LS_SDPA_OUT,       /* [n,T,H*D] */
    LS_SDPA_LSE,       /* fp32 [n,H,T] */
    LS_SDPA_SCALE,     /* fp32 on the host */
    LS_SDPA_HIDDEN,    /* fp32 on the host: what hidden scores become */
    LS_SDPA_FIRST_KEY, /* int32 [n,T] */
    LS_SDPA_DOUT,      /* [n,T,H*D] */
    LS_SDPA_DQ,
    LS_SDPA_DK,
    LS_SDPA_DV,
    LS_SDPA_K_TURNED, /* k again: backward reads it in two orders */
    LS_SDPA_TENSORS
};

enum { LS_SDPA_DESCRIPTORS = 160 };

typedef struct ls_sdpa_plan {
    ls_sdpa_shape shape;
    cudnnBackendDescriptor_t made[LS_SDPA_DESCRIPTORS]; /* all, to be destroyed in reverse */
    int count;
    cudnnStatus_t status; /* of the first call that failed */
    const char *what;     /* which that was */
    cudnnBackendDescriptor_t plan;
    int64_t workspace_bytes;
    bool found; /* false: cuDNN does not take it */
} ls_sdpa_plan;

enum { LS_SDPA_MOST_WORKSPACE = 256 << 20 }; /* bytes; where cuDNN's own frontend draws the line too */

/* What to set aside for any plan of the shape: all that cuDNN has been seen to ask for, up to the most there is. A
 * function of sizes alone, so that memory is known before a device is. Plans that want more are not used. */
size_t ls_sdpa_workspace_bound(const ls_sdpa_shape *shape);

/* Makes the plan for `handle`, or for the device that the finalized descriptor `properties` speaks of (handle NULL). */
void ls_sdpa_plan_make(ls_sdpa_plan *out, const ls_cudnn *cudnn, const ls_sdpa_shape *shape, cudnnHandle_t handle,
                       cudnnBackendDescriptor_t properties);
void ls_sdpa_plan_destroy(ls_sdpa_plan *plan, const ls_cudnn *cudnn);

#endif
