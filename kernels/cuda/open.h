/* What kernels/exec.c calls of the CUDA backend, in programs that are built with it. Needs no CUDA header. */
#ifndef LS_KERNELS_CUDA_OPEN_H
#define LS_KERNELS_CUDA_OPEN_H

#include "kernels/exec.h"

/* Opens GPU number `index` of those that are visible. Refuses, in one sentence: no driver, a driver older than the
 * runtime, no GPU, an index out of range, a GPU older than LS_CUDA_OLDEST. */
ls_status ls_cuda_open(ls_exec *exec, int index);
int ls_cuda_count(void); /* visible GPUs; 0 also where there is no driver */
/* An exec that never touches a GPU: it counts what would be allocated, and its ops can only be rehearsed. */
ls_status ls_cuda_plan(ls_exec *exec);
void ls_cuda_close(ls_exec *exec);
void ls_cuda_describe(const ls_exec *exec, char *text, size_t size);

const ls_backend *ls_backend_cuda(void);

#endif
