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
    LS_DEVICE_CUDA = 2,      /* NVIDIA GPUs, where the program is built with CUDA */
} ls_device;

/* "reference", "cpu", "cuda"; NULL-terminated, in enum order (a config choice list). */
extern const char *const ls_device_names[];

/* Who computes attention over whole sequences on a GPU. */
typedef enum ls_attention_choice {
    LS_ATTENTION_AUTO = 0,    /* cuDNN where it is there and takes the case, else the built-in kernels */
    LS_ATTENTION_CUDNN = 1,   /* the same, and a warning where cuDNN is not there */
    LS_ATTENTION_BUILTIN = 2, /* the built-in kernels */
} ls_attention_choice;

/* "auto", "cudnn", "builtin"; NULL-terminated. */
extern const char *const ls_attention_names[];

typedef struct ls_backend {
    const char *name;
#define LS_OP_FIELD(op) ls_##op##_op *op;
    LS_OP_LIST(LS_OP_FIELD)
#undef LS_OP_FIELD
} ls_backend;

/* What a device works on side by side: ops with the ordinary copies, and the copies of ls_exec_queue_copy in either
 * direction. Each queue keeps its order; ls_exec_order makes one wait for another. */
typedef enum ls_exec_queue { LS_QUEUE_OPS = 0, LS_QUEUE_UPLOADS, LS_QUEUE_DOWNLOADS, LS_QUEUES } ls_exec_queue;

/* How a device's memory is had and reached; the functions below call these. */
typedef struct ls_exec_memory {
    bool host; /* it is the process's own memory: copies are memcpy, and the host may look */
    ls_status (*allocate)(ls_exec *exec, void **out, size_t bytes, const char *what);
    void (*release)(ls_exec *exec, void *block, size_t bytes);
    ls_status (*upload)(ls_exec *exec, void *device, const void *host, size_t bytes);
    ls_status (*download)(ls_exec *exec, void *host, const void *device, size_t bytes);
    ls_status (*wait)(ls_exec *exec);
    ls_status (*copy)(ls_exec *exec, void *out, const void *in, size_t bytes); /* within the device */
    void (*rehearse)(ls_exec *exec, bool begin);                               /* may be NULL */
    /* Of devices that copy while ops run; NULL elsewhere. */
    ls_status (*allocate_pinned)(ls_exec *exec, void **out, size_t bytes, const char *what);
    void (*release_pinned)(ls_exec *exec, void *block, size_t bytes);
    void (*queue_copy)(ls_exec *exec, ls_exec_queue queue, void *out, const void *in, size_t bytes);
    void (*order)(ls_exec *exec, ls_exec_queue earlier, ls_exec_queue later);
} ls_exec_memory;

/* How a device that works behind the host's back tells the time of its ops. Marks are numbered from 0. */
typedef struct ls_exec_timer {
    ls_status (*create)(ls_exec *exec, int64_t marks); /* once; they go with the exec */
    void (*mark)(ls_exec *exec, int64_t index);        /* notes when the ops issued so far are over, without waiting */
    ls_status (*between)(ls_exec *exec, int64_t from, int64_t to, double *seconds); /* both must be over */
} ls_exec_timer;

/* How a device keeps a sequence of ops and issues it again in one go. Between begin and end nothing runs, and nothing
 * but ops may be called; all of them must have run before at these sizes. What a recording refers to must stay where it
 * is: the device says whether its own part does, the rest is the caller's. */
typedef struct ls_recording ls_recording;
typedef struct ls_exec_recorder {
    ls_status (*begin)(ls_exec *exec);
    ls_status (*end)(ls_exec *exec, ls_recording **out); /* NULL after a failure, which is sticky as an op's */
    bool (*stands)(const ls_exec *exec, const ls_recording *recording);
    ls_status (*replay)(ls_exec *exec, const ls_recording *recording); /* ordered as an op, without waiting */
    void (*forget)(ls_exec *exec, ls_recording *recording);            /* NULL is allowed; before the exec goes */
} ls_exec_recorder;

/* One block that is allocated, for who asks what memory is for. */
typedef struct ls_exec_block {
    const char *what;
    size_t bytes;
    bool pinned; /* in the host's memory */
} ls_exec_block;

enum { LS_EXEC_BLOCKS = 32 };

struct ls_exec {
    const ls_backend *ops;
    const ls_exec_memory *memory;
    const ls_exec_timer *timer;       /* NULL: ops are over when they return */
    const ls_exec_recorder *recorder; /* NULL: this device records nothing, or is not to */
    struct ls_profile *profile;       /* NULL: nobody asks how long ops take (kernels/profile.h) */
    ls_device device;
    int threads;
    bool tf32; /* GPUs may multiply fp32 in TF32, which keeps ten bits; false unless asked for */
    ls_attention_choice attention;
    void *state;      /* the backend's own: plans, scratch */
    ls_status status; /* first failure of an op, sticky */

    size_t bytes, peak_bytes; /* allocated now, and at most so far */
    size_t pinned_bytes;      /* of the host's memory */
    ls_exec_block blocks[LS_EXEC_BLOCKS];
    int block_count; /* the last one of a kind stands for all that found no room */
};

/* threads 0: as many as the machine offers this process. `threads` of them are used by every op. Ops of one exec are
 * called from one host thread at a time. */
ls_status ls_exec_create(ls_exec *out, ls_device device, int threads);
/* The same on GPU number `index` of those that are visible; ls_exec_create takes the first. */
ls_status ls_exec_create_on(ls_exec *out, ls_device device, int index, int threads);
int ls_exec_device_count(ls_device device); /* GPUs that are visible; 1 of the others */
/* An exec that allocates nothing and counts what would be: models, optimizers, training and decoding can be made on it,
 * not run. */
ls_status ls_exec_create_plan(ls_exec *out, ls_device device);
void ls_exec_destroy(ls_exec *exec);

/* Zeroed memory that the ops of this exec can use. The host reaches it by the two copies below alone. */
ls_status ls_exec_allocate(ls_exec *exec, void **out, size_t bytes, const char *what);
void ls_exec_free(ls_exec *exec, void *block, size_t bytes);
/* Copies, ordered after the ops issued so far. The host's memory is any, and the caller's again on return; an upload
 * may still be on its way then, a download has arrived. */
ls_status ls_exec_upload(ls_exec *exec, void *device, const void *host, size_t bytes);
ls_status ls_exec_download(ls_exec *exec, void *host, const void *device, size_t bytes);
/* Within the device, ordered as the ops are. */
ls_status ls_exec_copy(ls_exec *exec, void *out, const void *in, size_t bytes);
void ls_exec_clear(ls_exec *exec, float *out, int64_t count); /* an op that writes zeros */

/* True where copies can run beside the ops; elsewhere the four functions below must not be called. */
bool ls_exec_has_queues(const ls_exec *exec);
/* Zeroed memory of the host that the device copies from and to by itself. The host reaches it as it reaches the
 * device's, by upload and download, which wait for the copies that are on their way; ops cannot use it. */
ls_status ls_exec_allocate_pinned(ls_exec *exec, void **out, size_t bytes, const char *what);
void ls_exec_free_pinned(ls_exec *exec, void *block, size_t bytes);
/* Issues a copy between pinned memory and the device's into LS_QUEUE_UPLOADS or LS_QUEUE_DOWNLOADS. */
void ls_exec_queue_copy(ls_exec *exec, ls_exec_queue queue, void *out, const void *in, size_t bytes);
/* What is issued to `later` from now on begins when all that is in `earlier` so far is over. The host does not wait. */
void ls_exec_order(ls_exec *exec, ls_exec_queue earlier, ls_exec_queue later);

/* Between begin and end ops do nothing but tell the device what scratch they need, which it then sets aside; copies do
 * nothing. False where the device has no use for it: ops would run as ever, so leave the rehearsal out. */
bool ls_exec_rehearse_begin(ls_exec *exec);
ls_status ls_exec_rehearse_end(ls_exec *exec);
ls_status ls_exec_status(ls_exec *exec);       /* waits for all issued so far; the sticky failure, if any */
ls_status ls_exec_failed(const ls_exec *exec); /* the sticky failure known so far, without waiting */

/* "13.0, architectures 80 90 100", what the CUDA backend was built with; NULL: this program has none. */
const char *ls_exec_cuda_build(void);
/* True where the processor multiplies bf16 natively, so that precision auto means bf16. */
bool ls_exec_has_fast_bf16(const ls_exec *exec);
/* One line on the processor and the instruction set in use, for logs and reports. */
const char *ls_exec_describe(const ls_exec *exec);

extern const ls_exec_memory ls_exec_plan_memory; /* what ls_exec_create_plan gives an exec */

const ls_backend *ls_backend_ref(void);
const ls_backend *ls_backend_cpu(void); /* the best variant for the running processor */
bool ls_backend_cpu_runs_here(void);    /* false where the processor lacks what even the least variant needs */

#endif
