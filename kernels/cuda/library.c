/* See library.h. */
#include "kernels/cuda/library.h"

#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

void *ls_library_open(const char *file, const char *const *names, void **functions, int count, char *reason,
                      size_t reason_size)
{
    memset(functions, 0, sizeof *functions * (size_t)count);
    void *library = dlopen(file, RTLD_NOW | RTLD_LOCAL);
    if (library == NULL) {
        const char *message = dlerror();
        (void)snprintf(reason, reason_size, "%s", message == NULL ? "it cannot be opened" : message);
        return NULL;
    }
    for (int i = 0; i < count; i++) {
        functions[i] = dlsym(library, names[i]);
        if (functions[i] != NULL) continue;
        (void)snprintf(reason, reason_size, "%s lacks the function %s", file, names[i]);
        memset(functions, 0, sizeof *functions * (size_t)count);
        (void)dlclose(library);
        return NULL;
    }
    return library;
}

void ls_library_close(void *library)
{
    if (library != NULL) (void)dlclose(library);
}
