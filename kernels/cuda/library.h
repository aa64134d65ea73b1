/* Libraries that are looked for when a device is opened, not when the program starts: where one is absent the program
 * runs without it and says what is lost. */
#ifndef LS_KERNELS_CUDA_LIBRARY_H
#define LS_KERNELS_CUDA_LIBRARY_H

#include <stdbool.h>
#include <stddef.h>

/* Opens `file` ("libcudnn.so.9") and fills functions[i] with the function names[i], i < count. On failure returns NULL
 * and `reason` says in a few words why; functions are then all NULL. The handle is kept open for good by the caller. */
void *ls_library_open(const char *file, const char *const *names, void **functions, int count, char *reason,
                      size_t reason_size);
void ls_library_close(void *library);

#endif
