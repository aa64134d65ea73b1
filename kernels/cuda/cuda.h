/* What the C files of the CUDA backend share: the state behind an exec on a GPU.
 *
 * Ops go into one stream in the order they are called, copies of ls_exec_queue_copy into two others. Failures of calls
 * and, later, of kernels become the exec's sticky status, in words. Nothing here is global: two execs on two GPUs live
 * side by side. */
#ifndef LS_KERNELS_CUDA_CUDA_H
#define LS_KERNELS_CUDA_CUDA_H

#include "kernels/exec.h"

#include <cuda_runtime_api.h>

typedef struct ls_cuda_matmul ls_cuda_matmul;       /* matmul.c: cuBLASLt and its plans */
typedef struct ls_cuda_attention ls_cuda_attention; /* attention.c: cuDNN and its plans */

/* Many pieces, so that the index lists of a step's micro-batches find one without waiting. */
enum { LS_STAGING_PIECES = 64, LS_STAGING_BYTES = 256 << 10, LS_STAGING_UNDER_WAY = 8 };

typedef struct ls_cuda {
    int device;
    cudaStream_t stream;             /* of ops */
    cudaStream_t uploads, downloads; /* the GPU has an engine for either direction */
    cudaEvent_t passed[LS_QUEUES];   /* by the queue, when another was last told to wait for it */
    size_t total_bytes;              /* of the GPU's memory */
    unsigned char identity[16];      /* no other GPU anywhere has the same */
    char name[256];                  /* "NVIDIA H100 80GB HBM3" */
    char libraries[160];

    /* Pinned memory through which copies pass in pieces, so that an upload returns before it has arrived. */
    unsigned char *staging;                /* [LS_STAGING_PIECES][LS_STAGING_BYTES] */
    cudaEvent_t staged[LS_STAGING_PIECES]; /* the copy out of, or into, the piece is over */
    int next_piece;

    /* One piece of memory for whatever an op needs while it runs. */
    void *scratch;
    size_t scratch_bytes;
    bool rehearsing; /* ops only tell what scratch they want, and that it is `wanted` at most */
    size_t wanted;
    bool recording; /* ops are captured, not run: scratch stays where it is */

    ls_exec_memory plan_memory; /* of an exec that only plans */

    cudaEvent_t *marks; /* [mark_count] of a profile (timer.c) */
    int64_t mark_count;

    ls_cuda_matmul *matmul;       /* NULL: no cuBLASLt here, the built-in product serves */
    ls_cuda_attention *attention; /* NULL: no cuDNN here, the built-in attention serves */
} ls_cuda;

static inline ls_cuda *ls_cuda_of(const ls_exec *exec) { return exec->state; }

/* Turns a failed call into the exec's sticky status; `what` names what was being done. True when it succeeded. */
bool ls_cuda_ok(ls_exec *exec, cudaError_t error, const char *what);
/* At least `bytes` of scratch for the op being issued, 256-byte aligned; NULL when there is none, with the exec's
 * status set, or while rehearsing. Grows only when an op comes that was not rehearsed. */
void *ls_cuda_scratch(ls_exec *exec, size_t bytes);
/* True when the op shall issue its work: not rehearsing, and nothing has failed before. */
bool ls_cuda_live(const ls_exec *exec);

/* A named range around the issue of an op, for profilers that listen to NVTX; nothing otherwise. */
void ls_cuda_range_begin(const char *name);
void ls_cuda_range_end(void);

extern const ls_exec_recorder ls_cuda_recorder; /* recorder.c */
extern const ls_exec_timer ls_cuda_timer;       /* timer.c */
void ls_cuda_timer_close(ls_cuda *cuda);

/* matmul.c. NULL with `reason` where cuBLASLt is not to be had. */
ls_cuda_matmul *ls_cuda_matmul_create(char *reason, size_t reason_size);
void ls_cuda_matmul_destroy(ls_cuda_matmul *matmul);
ls_matmul_op ls_matmul_cuda;
ls_matmul_bias_op ls_matmul_bias_cuda;

/* attention.c, the same for cuDNN. */
ls_cuda_attention *ls_cuda_attention_create(cudaStream_t stream, char *reason, size_t reason_size);
void ls_cuda_attention_destroy(ls_cuda_attention *attention);
void ls_cuda_attention_version(const ls_cuda_attention *attention, char *text, size_t size); /* "cuDNN 9.19.0" */
ls_attention_forward_op ls_attention_forward_cuda;
ls_attention_backward_op ls_attention_backward_cuda;

#endif
