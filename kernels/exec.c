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

#include <omp.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MAX_THREADS = 1024 };

const char *const ls_device_names[] = {"reference", "cpu", NULL};

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

static const ls_exec_memory host_memory = {.host = true,
                                           .allocate = host_allocate,
                                           .release = host_release,
                                           .upload = host_upload,
                                           .download = host_download,
                                           .wait = host_wait};

/* ---- the exec ---------------------------------------------------------------------------------------------------- */

ls_status ls_exec_create(ls_exec *out, ls_device device, int threads)
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
    *exec = (ls_exec){0};
}

ls_status ls_exec_allocate(ls_exec *exec, void **out, size_t bytes, const char *what)
{
    return exec->memory->allocate(exec, out, bytes, what);
}

void ls_exec_free(ls_exec *exec, void *block, size_t bytes)
{
    if (block != NULL) exec->memory->release(exec, block, bytes);
}

ls_status ls_exec_upload(ls_exec *exec, void *device, const void *host, size_t bytes)
{
    return exec->memory->upload(exec, device, host, bytes);
}

ls_status ls_exec_download(ls_exec *exec, void *host, const void *device, size_t bytes)
{
    return exec->memory->download(exec, host, device, bytes);
}

ls_status ls_exec_status(ls_exec *exec) { return exec->memory->wait(exec); }

ls_status ls_exec_failed(const ls_exec *exec) { return exec->status; }

bool ls_exec_has_fast_bf16(const ls_exec *exec)
{
    if (exec->device == LS_DEVICE_REFERENCE) return false;
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
    static _Thread_local char text[256];
    char name[128];
    processor_name(name, sizeof name);
    (void)snprintf(text, sizeof text, "%s, %s kernels, %d thread%s", name, exec->ops->name, exec->threads,
                   exec->threads == 1 ? "" : "s");
    return text;
}
