/* Sequences of ops on a GPU, kept as CUDA graphs: captured from the exec's stream, launched again by one call.
 *
 * A graph holds the addresses that its kernels were given. Scratch is among them, so a recording stands until scratch
 * has moved; everything else is the caller's, who knows what it refers to. */
#include "kernels/cuda/cuda.h"

#include <stdlib.h>

#define RECORDING "recording a CUDA graph (--cuda-graphs off does without)"

struct ls_recording {
    cudaGraphExec_t graph;
    const void *scratch; /* of the exec as it was recorded */
};

static ls_status begin(ls_exec *exec)
{
    ls_cuda *cuda = ls_cuda_of(exec);
    LS_TRY(exec->status);
    /* Of this thread's calls alone: others may have GPUs of their own. */
    if (ls_cuda_ok(exec, cudaStreamBeginCapture(cuda->stream, cudaStreamCaptureModeThreadLocal), RECORDING))
        cuda->recording = true;
    return exec->status;
}

static void forget(ls_exec *exec, ls_recording *recording)
{
    (void)exec;
    if (recording == NULL) return;
    if (recording->graph != NULL && cudaGraphExecDestroy(recording->graph) != cudaSuccess) (void)cudaGetLastError();
    free(recording);
}

static ls_recording *make(ls_exec *exec, cudaGraph_t graph)
{
    ls_recording *recording = calloc(1, sizeof *recording);
    if (recording == NULL) {
        exec->status = LS_FAIL(LS_NO_MEMORY, "cannot get memory for a recording");
        return NULL;
    }
    recording->scratch = ls_cuda_of(exec)->scratch;
    if (ls_cuda_ok(exec, cudaGraphInstantiate(&recording->graph, graph, 0), RECORDING)) return recording;
    recording->graph = NULL;
    forget(exec, recording);
    return NULL;
}

/* The capture is ended whatever has failed in it, so that the stream is of use again. */
static ls_status end(ls_exec *exec, ls_recording **out)
{
    ls_cuda *cuda = ls_cuda_of(exec);
    cudaGraph_t graph = NULL;
    *out = NULL;
    cuda->recording = false;
    (void)ls_cuda_ok(exec, cudaStreamEndCapture(cuda->stream, &graph), RECORDING);
    if (graph == NULL) return exec->status;
    if (exec->status == LS_OK) *out = make(exec, graph);
    if (cudaGraphDestroy(graph) != cudaSuccess) (void)cudaGetLastError();
    return exec->status;
}

static bool stands(const ls_exec *exec, const ls_recording *recording)
{
    return recording->scratch == ls_cuda_of(exec)->scratch;
}

static ls_status replay(ls_exec *exec, const ls_recording *recording)
{
    if (ls_cuda_live(exec))
        (void)ls_cuda_ok(exec, cudaGraphLaunch(recording->graph, ls_cuda_of(exec)->stream), "launching a CUDA graph");
    return exec->status;
}

const ls_exec_recorder ls_cuda_recorder = {
    .begin = begin, .end = end, .stands = stands, .replay = replay, .forget = forget};
