/* Devices, threads and memory behind ls_exec.
 *
 * Threads are OpenMP's, one team that every op uses whole. Decoding opens hundreds of parallel regions a token, so the
 * team must still be awake when the next region comes. Both common runtimes do what we want when left alone: libgomp
 * spins for some milliseconds after a region and then sleeps, but only while its threads do not outnumber the
 * processors; libomp waits 200 ms. So OMP_WAIT_POLICY is left to the user. Two things would cost that: regions of
 * changing size (libgomp ends the threads that a smaller team does not need and starts them anew), and regions opened
 * from a second host thread (a second team). */
#include "kernels/exec.h"

#include "core/memory.h"
#include "kernels/cpu/cpu.h"
#include "kernels/cuda/open.h"

#include <omp.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MAX_THREADS = 1024 };

const char *const ls_device_names[] = {"reference", "cpu", "cuda", NULL};

const char *const ls_attention_names[] = {"auto", "cudnn", "builtin", NULL};

/* Processors that the scheduler lets this process use: fewer than the machine has under taskset, Slurm or a cpuset. */
static int offered_processors(void)
{
    for (size_t count = 1024; count <= 65536; count *= 4) {
        cpu_set_t *const set = CPU_ALLOC(count);
        if (set == NULL) break;
        const size_t bytes = CPU_ALLOC_SIZE(count);
        const int failed = sched_getaffinity(0, bytes, set);
        const int processors = failed ? 0 : CPU_COUNT_S(bytes, set);
        CPU_FREE(set);
        if (!failed && processors > 0) return processors < MAX_THREADS ? processors : MAX_THREADS;
    }
    const long online = sysconf(_SC_NPROCESSORS_ONLN);
    return online < 1 ? 1 : online > MAX_THREADS ? MAX_THREADS : (int)online;
}

/* ---- the process's own memory ------------------------------------------------------------------------------------ */

static ls_status host_allocate(ls_exec *exec, void **out, size_t bytes, const char *what)
{
    (void)exec;
    return ls_memory_map(out, bytes, what);
}

static void host_release(ls_exec *exec, void *block, size_t bytes)
{
    (void)exec;
    ls_memory_unmap(block, bytes);
}

static ls_status host_copy(void *out, const void *in, size_t bytes)
{
    if (bytes > 0) memcpy(out, in, bytes);
    return LS_OK;
}

static ls_status host_upload(ls_exec *exec, void *device, const void *host, size_t bytes)
{
    (void)exec;
    return host_copy(device, host, bytes);
}

static ls_status host_download(ls_exec *exec, void *host, const void *device, size_t bytes)
{
    (void)exec;
    return host_copy(host, device, bytes);
}

static ls_status host_wait(ls_exec *exec) { return exec->status; }

static ls_status host_copy_within(ls_exec *exec, void *out, const void *in, size_t bytes)
{
    (void)exec;
    return host_copy(out, in, bytes);
}

static const ls_exec_memory host_memory = {.host = true,
                                           .allocate = host_allocate,
                                           .release = host_release,
                                           .upload = host_upload,
                                           .download = host_download,
                                           .wait = host_wait,
                                           .copy = host_copy_within};

/* ---- counting only ----------------------------------------------------------------------------------------------- */

/* Addresses that nobody follows, but that differ. */
static ls_status plan_allocate(ls_exec *exec, void **out, size_t bytes, const char *what)
{
    (void)bytes;
    (void)what;
    *out = (void *)(((uintptr_t)1 << 46) + exec->bytes + 4096);
    return LS_OK;
}

static void plan_release(ls_exec *exec, void *block, size_t bytes)
{
    (void)exec;
    (void)block;
    (void)bytes;
}

static ls_status plan_upload(ls_exec *exec, void *device, const void *host, size_t bytes)
{
    (void)exec;
    (void)device;
    (void)host;
    (void)bytes;
    return LS_OK;
}

static ls_status plan_download(ls_exec *exec, void *host, const void *device, size_t bytes)
{
    (void)exec;
    (void)device;
    if (bytes > 0) memset(host, 0, bytes);
    return LS_OK;
}

const ls_exec_memory ls_exec_plan_memory = {.allocate = plan_allocate,
                                            .release = plan_release,
                                            .upload = plan_upload,
                                            .download = plan_download,
                                            .wait = host_wait,
                                            .copy = plan_upload};

/* ---- the exec ---------------------------------------------------------------------------------------------------- */

static ls_status open_cuda(ls_exec *exec, int index, bool plan)
{
#ifdef LS_CUDA
    return plan ? ls_cuda_plan(exec) : ls_cuda_open(exec, index);
#else
    (void)exec;
    (void)index;
    (void)plan;
    return LS_FAIL(LS_UNSUPPORTED, "this program was built without CUDA; use device=cpu, or build it where nvcc is");
#endif
}

int ls_exec_device_count(ls_device device)
{
    if (device != LS_DEVICE_CUDA) return 1;
#ifdef LS_CUDA
    return ls_cuda_count();
#else
    return 0;
#endif
}

ls_status ls_exec_create(ls_exec *out, ls_device device, int threads)
{
    return ls_exec_create_on(out, device, 0, threads);
}

ls_status ls_exec_create_plan(ls_exec *out, ls_device device)
{
    *out = (ls_exec){.device = device, .memory = &ls_exec_plan_memory, .threads = 1};
    if (device == LS_DEVICE_CUDA) return open_cuda(out, 0, true);
    out->ops = device == LS_DEVICE_CPU ? ls_backend_cpu() : ls_backend_ref();
    return LS_OK;
}

ls_status ls_exec_create_on(ls_exec *out, ls_device device, int index, int threads)
{
    *out = (ls_exec){.device = device, .memory = &host_memory};
    if (threads < 0 || threads > MAX_THREADS)
        return LS_FAIL(LS_BAD_INPUT, "the number of threads must be 0 (all processors) to %d, not %d", MAX_THREADS,
                       threads);
    if (device == LS_DEVICE_CPU && !ls_backend_cpu_runs_here())
        return LS_FAIL(LS_UNSUPPORTED, "this processor lacks AVX2 and FMA; device \"reference\" runs anywhere, slowly");
    switch (device) {
    case LS_DEVICE_REFERENCE:
        out->ops = ls_backend_ref();
        break;
    case LS_DEVICE_CPU:
        out->ops = ls_backend_cpu();
        break;
    case LS_DEVICE_CUDA:
        LS_TRY(open_cuda(out, index, false));
        break;
    }
    if (out->ops == NULL) return LS_FAIL(LS_UNSUPPORTED, "no kernels for device number %d here", (int)device);
    out->threads = threads > 0 ? threads : offered_processors();
    omp_set_dynamic(0);
    omp_set_num_threads(out->threads);
    return LS_OK;
}

void ls_exec_destroy(ls_exec *exec)
{
    if (exec->device == LS_DEVICE_CPU) ls_cpu_state_destroy(exec);
#ifdef LS_CUDA
    if (exec->device == LS_DEVICE_CUDA) ls_cuda_close(exec);
#endif
    *exec = (ls_exec){0};
}

/* The last block of a kind of memory, whose line those without room share; NULL: there is none. */
static ls_exec_block *last_block(ls_exec *exec, bool pinned)
{
    for (int i = exec->block_count - 1; i >= 0; i--)
        if (exec->blocks[i].pinned == pinned) return &exec->blocks[i];
    return NULL;
}

static void remember_block(ls_exec *exec, ls_exec_block block)
{
    ls_exec_block *last = last_block(exec, block.pinned);
    if (exec->block_count < LS_EXEC_BLOCKS)
        exec->blocks[exec->block_count++] = block;
    else if (last != NULL)
        *last = (ls_exec_block){"other blocks", last->bytes + block.bytes, block.pinned};
}

ls_status ls_exec_allocate(ls_exec *exec, void **out, size_t bytes, const char *what)
{
    LS_TRY(exec->memory->allocate(exec, out, bytes, what));
    exec->bytes += bytes;
    if (exec->bytes > exec->peak_bytes) exec->peak_bytes = exec->bytes;
    remember_block(exec, (ls_exec_block){what, bytes, false});
    return LS_OK;
}

/* Forgets a block of that size, the newest first; one that shares the last line only makes that smaller. */
static void forget_block(ls_exec *exec, size_t bytes, bool pinned)
{
    int i = exec->block_count - 1;
    while (i >= 0 && (exec->blocks[i].bytes != bytes || exec->blocks[i].pinned != pinned)) i--;
    if (i < 0) {
        ls_exec_block *last = last_block(exec, pinned);
        if (last != NULL) last->bytes -= bytes;
        return;
    }
    exec->block_count--;
    memmove(&exec->blocks[i], &exec->blocks[i + 1], sizeof exec->blocks[0] * (size_t)(exec->block_count - i));
}

void ls_exec_free(ls_exec *exec, void *block, size_t bytes)
{
    if (block == NULL) return;
    exec->memory->release(exec, block, bytes);
    exec->bytes -= bytes;
    forget_block(exec, bytes, false);
}

bool ls_exec_has_queues(const ls_exec *exec) { return exec->memory->order != NULL; }

ls_status ls_exec_allocate_pinned(ls_exec *exec, void **out, size_t bytes, const char *what)
{
    LS_TRY(exec->memory->allocate_pinned(exec, out, bytes, what));
    exec->pinned_bytes += bytes;
    remember_block(exec, (ls_exec_block){what, bytes, true});
    return LS_OK;
}

void ls_exec_free_pinned(ls_exec *exec, void *block, size_t bytes)
{
    if (block == NULL) return;
    exec->memory->release_pinned(exec, block, bytes);
    exec->pinned_bytes -= bytes;
    forget_block(exec, bytes, true);
}

void ls_exec_queue_copy(ls_exec *exec, ls_exec_queue queue, void *out, const void *in, size_t bytes)
{
    exec->memory->queue_copy(exec, queue, out, in, bytes);
}

void ls_exec_order(ls_exec *exec, ls_exec_queue earlier, ls_exec_queue later)
{
    exec->memory->order(exec, earlier, later);
}

ls_status ls_exec_upload(ls_exec *exec, void *device, const void *host, size_t bytes)
{
    return exec->memory->upload(exec, device, host, bytes);
}

ls_status ls_exec_download(ls_exec *exec, void *host, const void *device, size_t bytes)
{
    return exec->memory->download(exec, host, device, bytes);
}

ls_status ls_exec_copy(ls_exec *exec, void *out, const void *in, size_t bytes)
{
    return exec->memory->copy(exec, out, in, bytes);
}

/* A product over an empty inner size is the contract's way to write zeros. */
void ls_exec_clear(ls_exec *exec, float *out, int64_t count)
{
    if (count > 0) exec->ops->matmul(exec, out, LS_F32, out, out, LS_F32, 1, count, 0, 0);
}

bool ls_exec_rehearse_begin(ls_exec *exec)
{
    if (exec->memory->rehearse == NULL) return false;
    exec->memory->rehearse(exec, true);
    return true;
}

ls_status ls_exec_rehearse_end(ls_exec *exec)
{
    exec->memory->rehearse(exec, false);
    return exec->status;
}

ls_status ls_exec_status(ls_exec *exec) { return exec->memory->wait(exec); }

ls_status ls_exec_failed(const ls_exec *exec) { return exec->status; }

const char *ls_exec_cuda_build(void)
{
#ifdef LS_CUDA
    return LS_CUDA_BUILD;
#else
    return NULL;
#endif
}

bool ls_exec_has_fast_bf16(const ls_exec *exec)
{
    if (exec->device == LS_DEVICE_REFERENCE) return false;
    if (exec->device == LS_DEVICE_CUDA) return true;
#if defined(__x86_64__)
    /* Every processor with AMX has AVX512_BF16 too; the builtin also asks whether the system saves the registers. */
    return __builtin_cpu_supports("avx512bf16") != 0;
#else
    return false;
#endif
}

/* The processor's name as Linux tells it, "unknown processor" elsewhere. */
static void processor_name(char *name, size_t size)
{
    (void)snprintf(name, size, "unknown processor");
    FILE *const file = fopen("/proc/cpuinfo", "re");
    if (file == NULL) return;
    char line[256];
    while (fgets(line, sizeof line, file) != NULL) {
        const char *const value = strchr(line, ':');
        if (strncmp(line, "model name", 10) != 0 || value == NULL) continue;
        line[strcspn(line, "\n")] = '\0';
        (void)snprintf(name, size, "%s", value + 1 + strspn(value + 1, " "));
        break;
    }
    (void)fclose(file);
}

const char *ls_exec_describe(const ls_exec *exec)
{
    static _Thread_local char text[448];
#ifdef LS_CUDA
    if (exec->device == LS_DEVICE_CUDA) {
        ls_cuda_describe(exec, text, sizeof text);
        return text;
    }
#endif
    char name[128];
    processor_name(name, sizeof name);
    (void)snprintf(text, sizeof text, "%s, %s kernels, %d thread%s", name, exec->ops->name, exec->threads,
                   exec->threads == 1 ? "" : "s");
    return text;
}
