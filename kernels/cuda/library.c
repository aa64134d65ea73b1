/* See library.h. */
#include "kernels/cuda/library.h"

#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

void *ls_library_open(const char *file, const ls_library_function *functions, int count, char *reason,
                      size_t reason_size)
{
    void *library = dlopen(file, RTLD_NOW | RTLD_LOCAL);
    if (library == NULL) {
        const char *message = dlerror();
        (void)snprintf(reason, reason_size, "%s", message == NULL ? "it cannot be opened" : message);
        return NULL;
    }
    for (int i = 0; i < count; i++) {
        void *const found = dlsym(library, functions[i].name);
        /* C has no cast between object and function pointers; POSIX says that their bytes are alike. */
        memcpy(functions[i].place, &found, sizeof found);
        if (found != NULL) continue;
        (void)snprintf(reason, reason_size, "%s lacks the function %s", file, functions[i].name);
        (void)dlclose(library);
        return NULL;
    }
    return library;
}

void ls_library_close(void *library)
{
    if (library != NULL) (void)dlclose(library);
}
