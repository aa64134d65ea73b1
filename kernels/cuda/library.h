/* Libraries that are looked for when a device is opened, not when the program starts: where one is absent the program
 * runs without it and says what is lost. */
#ifndef LS_KERNELS_CUDA_LIBRARY_H
#define LS_KERNELS_CUDA_LIBRARY_H

#include <stdbool.h>
#include <stddef.h>

/* A field of a struct for a function of a list X(function). */
#define LS_LIBRARY_FIELD(function) __typeof__(function) *function;

typedef struct ls_library_function {
    const char *name;
    void *place; /* where its address goes: a pointer to a function */
} ls_library_function;

/* Opens `file` ("libcudnn.so.9") and finds its functions. On failure returns NULL, `reason` says in a few words why,
 * and no place must be used. */
void *ls_library_open(const char *file, const ls_library_function *functions, int count, char *reason,
                      size_t reason_size);
void ls_library_close(void *library);

#endif
