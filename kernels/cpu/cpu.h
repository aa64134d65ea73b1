/* What the cpu backend keeps behind exec->state: product plans and scratch memory. */
#ifndef LS_KERNELS_CPU_CPU_H
#define LS_KERNELS_CPU_CPU_H

#include "core/memory.h"
#include "kernels/exec.h"

/* Frees exec->state; ls_exec_destroy calls it for LS_DEVICE_CPU. NULL state is fine. */
void ls_cpu_state_destroy(ls_exec *exec);

/* Scratch of at least `bytes`, 64-byte aligned, for one thread of a parallel region (0 <= thread < exec->threads). It
 * keeps its largest size and lives until the exec is destroyed; contents are undefined. NULL and a sticky failure when
 * memory is out. Call it from within the parallel region for the own thread, or outside of one for any. */
void *ls_cpu_scratch(ls_exec *exec, int thread, size_t bytes);

#endif
