/* What the stand-ins of libraries call of the stand-in runtime (../cudart.cpp). */
#ifndef LS_TESTS_HOSTCUDA_STANDIN_STANDIN_H
#define LS_TESTS_HOSTCUDA_STANDIN_STANDIN_H

#include <cuda_runtime_api.h>
#include <stddef.h>

/* `work(argument)` runs in the stream's turn, not before; not 0 from it is a failure of the device. `argument` is
 * freed. Returns a cudaError_t. */
int hostcuda_enqueue(cudaStream_t stream, int (*work)(void *), void *argument);
/* The same for what other processes have a part in: asked until ready(argument) is not 0. */
int hostcuda_enqueue_when(cudaStream_t stream, int (*ready)(void *), int (*work)(void *), void *argument);
void hostcuda_progress(void);                      /* the device works on by itself, a little */
int hostcuda_is_live(const void *p, size_t bytes); /* within one allocation of device memory */
void hostcuda_library_reads(const void *p, size_t bytes, const char *what);
void hostcuda_library_writes(const void *p, size_t bytes);
void hostcuda_library_reports(const char *kind, const char *text);

#endif
