/* The program with memory that the host may not touch, as a device's is: linked in front of ls_exec_create_on.
 *
 * Whatever ls_exec_allocate gives lies in one region without any access, opened while an op or a copy runs. A host that
 * reads or writes it dies by SIGSEGV, and an op that is handed a pointer of the host's aborts. Memory comes filled with
 * zeros, as the contract says. The ops are the real exec's. */
#include "kernels/exec.h"
#include "kernels/op_calls.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define REGION ((size_t)64 << 30)
#define PAGE ((size_t)4096)

/* One exec at a time. */
static struct {
    unsigned char *base;
    size_t used;
    const ls_backend *ops;
    ls_backend guarded;
    unsigned long long calls;
} remote;

static void set_access(int protection)
{
    if (remote.used > 0 && mprotect(remote.base, remote.used, protection) != 0) abort();
}

static void open_memory(void)
{
    remote.calls++;
    set_access(PROT_READ | PROT_WRITE);
}

static void close_memory(void) { set_access(PROT_NONE); }

static void must_be_remote(const char *op, const void *const *pointers)
{
    for (int i = 0; pointers[i] != (const void *)&remote; i++) {
        const unsigned char *const at = pointers[i];
        if (at == NULL || (at >= remote.base && at < remote.base + remote.used)) continue;
        (void)fprintf(stderr, "%s: its pointer %d is memory of the host\n", op, i);
        abort();
    }
}

/* ---- memory ------------------------------------------------------------------------------------------------------ */

static ls_status allocate(ls_exec *exec, void **out, size_t bytes, const char *what)
{
    (void)exec;
    const size_t room = (bytes + PAGE) / PAGE * PAGE;
    if (room > REGION - remote.used) return LS_FAIL(LS_NO_MEMORY, "no memory for %s", what);
    *out = remote.base + remote.used;
    remote.used += room;
    return LS_OK;
}

static void release(ls_exec *exec, void *block, size_t bytes)
{
    (void)exec;
    if (madvise(block, bytes, MADV_DONTNEED) != 0) abort();
}

static ls_status copy(const void *device, size_t bytes, void *out, const void *in)
{
    must_be_remote("copy", (const void *const[]){bytes == 0 ? NULL : device, &remote});
    open_memory();
    if (bytes > 0) memcpy(out, in, bytes);
    close_memory();
    return LS_OK;
}

static ls_status upload(ls_exec *exec, void *device, const void *host, size_t bytes)
{
    (void)exec;
    return copy(device, bytes, device, host);
}

static ls_status download(ls_exec *exec, void *host, const void *device, size_t bytes)
{
    (void)exec;
    return copy(device, bytes, host, device);
}

static ls_status copy_within(ls_exec *exec, void *out, const void *in, size_t bytes)
{
    (void)exec;
    return copy(out, bytes, out, in);
}

static ls_status wait_for_ops(ls_exec *exec) { return exec->status; }

static const ls_exec_memory remote_memory = {.allocate = allocate,
                                             .release = release,
                                             .upload = upload,
                                             .download = download,
                                             .wait = wait_for_ops,
                                             .copy = copy_within};

/* ---- ops --------------------------------------------------------------------------------------------------------- */

#define BARE(...) __VA_ARGS__
#define WRAP(op, parameters, arguments, pointers)                                                                      \
    static void op parameters                                                                                          \
    {                                                                                                                  \
        must_be_remote(#op, (const void *const[]){BARE pointers, &remote});                                            \
        open_memory();                                                                                                 \
        remote.ops->op arguments;                                                                                      \
        close_memory();                                                                                                \
    }

LS_OP_CALLS(WRAP)

/* ---- the exec ---------------------------------------------------------------------------------------------------- */

/* The linker's names (--wrap): the first takes the place of ls_exec_create_on, the second is the real one. */
ls_status __wrap_ls_exec_create_on(ls_exec *out, ls_device device, int index, int threads);
ls_status __real_ls_exec_create_on(ls_exec *out, ls_device device, int index, int threads);

ls_status __wrap_ls_exec_create_on(ls_exec *out, ls_device device, int index, int threads)
{
    LS_TRY(__real_ls_exec_create_on(out, device, index, threads));
    if (remote.base == NULL) {
        remote.base = mmap(NULL, REGION, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (remote.base == MAP_FAILED) abort();
    }
    remote.ops = out->ops;
    remote.guarded = (ls_backend){.name = out->ops->name,
#define REMOTE_OP(op) .op = op,
                                  LS_OP_LIST(REMOTE_OP)
#undef REMOTE_OP
    };
    out->ops = &remote.guarded;
    out->memory = &remote_memory;
    return LS_OK;
}

/* So that a test sees that the program did run on this memory. */
__attribute__((destructor)) static void report(void)
{
    if (remote.calls > 0) (void)fprintf(stderr, "remote memory opened %llu times\n", remote.calls);
}
