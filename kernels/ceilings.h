/* What this machine can do at best, measured: the yardsticks that throughput is reported against. */
#ifndef LS_KERNELS_CEILINGS_H
#define LS_KERNELS_CEILINGS_H

#include "kernels/exec.h"

typedef struct ls_matmul_probe ls_matmul_probe;

/* The product whose speed serves as the ceiling: the fastest of a few large shapes for this compute type. Creating the
 * probe tries them (about half a second on two cores). */
ls_status ls_matmul_probe_create(ls_matmul_probe **out, ls_exec *exec, ls_dtype dtype);
void ls_matmul_probe_destroy(ls_matmul_probe *probe);
/* Runs it once more; returns floating-point operations per second. */
double ls_matmul_probe_run(ls_matmul_probe *probe);
/* The best seen by this probe so far. */
double ls_matmul_probe_best(const ls_matmul_probe *probe);

/* Reads a block once with all threads; returns bytes per second. Large against the caches, or it measures those. */
double ls_read_bandwidth(const ls_exec *exec, const void *block, size_t bytes);
/* Bytes per second, read and written, of copies within the device: what takes the read bandwidth's place on GPUs. The
 * contents of the block, from ls_exec_allocate, are lost. */
double ls_copy_bandwidth(ls_exec *exec, void *block, size_t bytes);

#endif
