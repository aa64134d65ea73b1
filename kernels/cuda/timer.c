/* Moments in the stream of a GPU, for kernels/profile.c: events with timing. Recording one waits for nothing. */
#include "kernels/cuda/cuda.h"

#include <stdlib.h>

static ls_status create(ls_exec *exec, int64_t marks)
{
    ls_cuda *cuda = ls_cuda_of(exec);
    cuda->marks = calloc((size_t)marks, sizeof(cudaEvent_t));
    if (cuda->marks == NULL) return LS_FAIL(LS_NO_MEMORY, "cannot get memory for a profile");
    for (; cuda->mark_count < marks; cuda->mark_count++)
        if (!ls_cuda_ok(exec, cudaEventCreate(&cuda->marks[cuda->mark_count]), "preparing a profile"))
            return exec->status;
    return LS_OK;
}

static void mark(ls_exec *exec, int64_t index)
{
    ls_cuda *cuda = ls_cuda_of(exec);
    if (ls_cuda_live(exec)) (void)ls_cuda_ok(exec, cudaEventRecord(cuda->marks[index], cuda->stream), "timing ops");
}

static ls_status between(ls_exec *exec, int64_t from, int64_t to, double *seconds)
{
    const ls_cuda *cuda = ls_cuda_of(exec);
    float milliseconds = 0.0f;
    LS_TRY(exec->status);
    if (ls_cuda_ok(exec, cudaEventElapsedTime(&milliseconds, cuda->marks[from], cuda->marks[to]), "timing ops"))
        *seconds = (double)milliseconds * 1e-3;
    return exec->status;
}

void ls_cuda_timer_close(ls_cuda *cuda)
{
    for (int64_t i = 0; i < cuda->mark_count; i++) (void)cudaEventDestroy(cuda->marks[i]);
    free(cuda->marks);
}

const ls_exec_timer ls_cuda_timer = {.create = create, .mark = mark, .between = between};
