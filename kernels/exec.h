/* Where ops run: a device, its table of ops, and its memory.
 *
 * Callers write  exec->ops->rmsnorm_forward(exec, ...).  One exec a process is usual. */
#ifndef LS_KERNELS_EXEC_H
#define LS_KERNELS_EXEC_H

#include "core/status.h"
#include "kernels/ops.h"

#include <stdbool.h>

typedef enum ls_device {
    LS_DEVICE_REFERENCE = 0, /* plain C, double accumulation: slow, the definition */
    LS_DEVICE_CPU = 1,       /* oneDNN and hand-vectorised kernels */
} ls_device;

/* "reference", "cpu"; NULL-terminated, in enum order (a config choice list). */
extern const char *const ls_device_names[];

typedef struct ls_backend {
    const char *name;
#define LS_OP_FIELD(op) ls_##op##_op *op;
    LS_OP_LIST(LS_OP_FIELD)
#undef LS_OP_FIELD
} ls_backend;

/* How a device's memory is had and reached; the functions below call these. */
typedef struct ls_exec_memory {
    bool host; /* it is the process's own memory: copies are memcpy, and the host may look */
    ls_status (*allocate)(ls_exec *exec, void **out, size_t bytes, const char *what);
    void (*release)(ls_exec *exec, void *block, size_t bytes);
    ls_status (*upload)(ls_exec *exec, void *device, const void *host, size_t bytes);
    ls_status (*download)(ls_exec *exec, void *host, const void *device, size_t bytes);
    ls_status (*wait)(ls_exec *exec);
} ls_exec_memory;

struct ls_exec {
    const ls_backend *ops;
    const ls_exec_memory *memory;
    ls_device device;
    int threads;
    void *state;      /* the backend's own: plans, scratch */
    ls_status status; /* first failure of an op, sticky */
};

/* threads 0: as many as the machine offers this process. `threads` of them are used by every op. Ops of one exec are
 * called from one host thread at a time. */
ls_status ls_exec_create(ls_exec *out, ls_device device, int threads);
void ls_exec_destroy(ls_exec *exec);

/* Zeroed memory that the ops of this exec can use. The host reaches it by the two copies below alone. */
ls_status ls_exec_allocate(ls_exec *exec, void **out, size_t bytes, const char *what);
void ls_exec_free(ls_exec *exec, void *block, size_t bytes);
/* Copies, ordered after the ops issued so far. The host's memory is any, and the caller's again on return; an upload
 * may still be on its way then, a download has arrived. */
ls_status ls_exec_upload(ls_exec *exec, void *device, const void *host, size_t bytes);
ls_status ls_exec_download(ls_exec *exec, void *host, const void *device, size_t bytes);
ls_status ls_exec_status(ls_exec *exec);       /* waits for the ops issued so far; the sticky failure, if any */
ls_status ls_exec_failed(const ls_exec *exec); /* the sticky failure known so far, without waiting */

/* True where the processor multiplies bf16 natively, so that precision auto means bf16. */
bool ls_exec_has_fast_bf16(const ls_exec *exec);
/* One line on the processor and the instruction set in use, for logs and reports. */
const char *ls_exec_describe(const ls_exec *exec);

const ls_backend *ls_backend_ref(void);
const ls_backend *ls_backend_cpu(void); /* the best variant for the running processor */
bool ls_backend_cpu_runs_here(void);    /* false where the processor lacks what even the least variant needs */

#endif
