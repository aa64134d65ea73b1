/* Execs on NVIDIA GPUs: opening the device, its memory, and failures in words. See cuda.h. */
#include "kernels/cuda/cuda.h"

#include "core/log.h"
#include "kernels/cuda/open.h"

#include <nvtx3/nvToolsExt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SCRATCH "the scratch of the kernels"
#define STAGING "the staging of copies"
#define STAGING_TOTAL ((size_t)LS_STAGING_PIECES * LS_STAGING_BYTES)
#define OPENING "opening the device"
#define ADVICE                                                                                                         \
    "lower training.micro_batch_size or data.sequence_length, or set training.recompute or optimizer.offload: moments"

/* ---- failures ---------------------------------------------------------------------------------------------------- */

bool ls_cuda_ok(ls_exec *exec, cudaError_t error, const char *what)
{
    if (error == cudaSuccess) return true;
    (void)cudaGetLastError(); /* it is reported here, once */
    if (exec->status != LS_OK) return false;
    if (error == cudaErrorMemoryAllocation)
        exec->status = LS_FAIL(LS_NO_MEMORY, "out of GPU memory while %s; " ADVICE, what);
    else
        exec->status = LS_FAIL(LS_DEVICE_FAILED, "the GPU failed while %s: %s (%s)", what, cudaGetErrorString(error),
                               cudaGetErrorName(error));
    return false;
}

void ls_cuda_range_begin(const char *name) { (void)nvtxRangePushA(name); }
void ls_cuda_range_end(void) { (void)nvtxRangePop(); }

bool ls_cuda_live(const ls_exec *exec) { return !ls_cuda_of(exec)->rehearsing && exec->status == LS_OK; }

/* ---- scratch ----------------------------------------------------------------------------------------------------- */

static void grow_scratch(ls_exec *exec, size_t bytes)
{
    ls_cuda *cuda = ls_cuda_of(exec);
    if (bytes <= cuda->scratch_bytes) return;
    if (cuda->recording) {
        exec->status =
            LS_FAIL(LS_INTERNAL, "an op that is recorded wants %zu bytes of scratch; it must run before", bytes);
        return;
    }
    /* Work that uses the old piece may still be under way. */
    if (!ls_cuda_ok(exec, cudaStreamSynchronize(cuda->stream), "running")) return;
    ls_exec_free(exec, cuda->scratch, cuda->scratch_bytes);
    cuda->scratch = NULL;
    cuda->scratch_bytes = 0;
    const ls_status status = ls_exec_allocate(exec, &cuda->scratch, bytes, SCRATCH);
    if (status == LS_OK)
        cuda->scratch_bytes = bytes;
    else if (exec->status == LS_OK)
        exec->status = status;
}

void *ls_cuda_scratch(ls_exec *exec, size_t bytes)
{
    ls_cuda *cuda = ls_cuda_of(exec);
    if (bytes > cuda->wanted) cuda->wanted = bytes;
    if (!ls_cuda_live(exec)) return NULL;
    grow_scratch(exec, bytes);
    return cuda->scratch;
}

/* ---- memory ------------------------------------------------------------------------------------------------------ */

static ls_status no_memory(const ls_cuda *cuda, size_t bytes, const char *what)
{
    const double mebi = 1048576.0;
    size_t free_bytes = 0, total = 0;
    if (cudaMemGetInfo(&free_bytes, &total) != cudaSuccess) (void)cudaGetLastError();
    return LS_FAIL(LS_NO_MEMORY, "out of GPU memory: %s needs %.0f MiB, %.0f of %.0f MiB are free; " ADVICE, what,
                   (double)bytes / mebi, (double)free_bytes / mebi, (double)cuda->total_bytes / mebi);
}

static ls_status allocate(ls_exec *exec, void **out, size_t bytes, const char *what)
{
    ls_cuda *cuda = ls_cuda_of(exec);
    *out = NULL;
    LS_TRY(exec->status);
    const cudaError_t error = cudaMalloc(out, bytes > 0 ? bytes : 1);
    if (error == cudaErrorMemoryAllocation) {
        (void)cudaGetLastError();
        return no_memory(cuda, bytes, what);
    }
    if (!ls_cuda_ok(exec, error, "taking memory")) return exec->status;
    if (!ls_cuda_ok(exec, cudaMemsetAsync(*out, 0, bytes, cuda->stream), "clearing memory")) {
        (void)cudaFree(*out);
        *out = NULL;
        return exec->status;
    }
    return LS_OK;
}

/* Waits until all queues are empty; the first failure. */
static cudaError_t drain(const ls_cuda *cuda)
{
    const cudaStream_t streams[] = {cuda->stream, cuda->uploads, cuda->downloads};
    cudaError_t first = cudaSuccess;
    for (int i = 0; i < LS_QUEUES; i++) {
        const cudaError_t error = streams[i] == NULL ? cudaSuccess : cudaStreamSynchronize(streams[i]);
        if (first == cudaSuccess) first = error;
    }
    return first;
}

static void release(ls_exec *exec, void *block, size_t bytes)
{
    (void)bytes;
    /* Work that uses the block may still be under way. After a failure both calls fail too, with nothing to add. */
    const cudaError_t waited = drain(ls_cuda_of(exec));
    if (cudaFree(block) != cudaSuccess || waited != cudaSuccess) (void)cudaGetLastError();
}

static ls_status allocate_pinned(ls_exec *exec, void **out, size_t bytes, const char *what)
{
    *out = NULL;
    LS_TRY(exec->status);
    const cudaError_t error = cudaHostAlloc(out, bytes > 0 ? bytes : 1, cudaHostAllocDefault);
    if (error == cudaErrorMemoryAllocation) {
        (void)cudaGetLastError();
        return LS_FAIL(LS_NO_MEMORY,
                       "cannot pin %.0f MiB of the host's memory for %s; optimizer.offload: none needs less of it",
                       (double)bytes / 1048576.0, what);
    }
    if (!ls_cuda_ok(exec, error, "pinning memory")) return exec->status;
    memset(*out, 0, bytes);
    return LS_OK;
}

static void release_pinned(ls_exec *exec, void *block, size_t bytes)
{
    (void)bytes;
    const cudaError_t waited = drain(ls_cuda_of(exec));
    if (cudaFreeHost(block) != cudaSuccess || waited != cudaSuccess) (void)cudaGetLastError();
}

static bool is_pinned(const void *block)
{
    struct cudaPointerAttributes about;
    if (cudaPointerGetAttributes(&about, block) == cudaSuccess) return about.type == cudaMemoryTypeHost;
    (void)cudaGetLastError();
    return false;
}

/* To or from pinned memory, when the device is done with it. */
static ls_status copy_pinned(ls_exec *exec, void *out, const void *in, size_t bytes)
{
    if (ls_cuda_ok(exec, drain(ls_cuda_of(exec)), "running")) memcpy(out, in, bytes);
    return exec->status;
}

/* The next piece of staging memory, once the copy that used it last is over. */
static unsigned char *take_piece(ls_exec *exec, int *piece)
{
    ls_cuda *cuda = ls_cuda_of(exec);
    *piece = cuda->next_piece;
    cuda->next_piece = (cuda->next_piece + 1) % LS_STAGING_PIECES;
    if (!ls_cuda_ok(exec, cudaEventSynchronize(cuda->staged[*piece]), "copying")) return NULL;
    return cuda->staging + (size_t)*piece * LS_STAGING_BYTES;
}

/* The host's calls would end up in the recording, or end it. */
static ls_status refuse_recording(ls_exec *exec)
{
    if (ls_cuda_of(exec)->recording && exec->status == LS_OK)
        exec->status = LS_FAIL(LS_INTERNAL, "ops are recorded: neither copies nor waits may be among them");
    return exec->status;
}

static ls_status upload(ls_exec *exec, void *device, const void *host, size_t bytes)
{
    ls_cuda *cuda = ls_cuda_of(exec);
    LS_TRY(refuse_recording(exec));
    if (cuda->rehearsing) return LS_OK;
    if (is_pinned(device)) return copy_pinned(exec, device, host, bytes);
    for (size_t at = 0; at < bytes; at += LS_STAGING_BYTES) {
        const size_t count = bytes - at < LS_STAGING_BYTES ? bytes - at : LS_STAGING_BYTES;
        int piece;
        unsigned char *staging = take_piece(exec, &piece);
        if (staging == NULL) return exec->status;
        memcpy(staging, (const unsigned char *)host + at, count);
        if (!ls_cuda_ok(
                exec,
                cudaMemcpyAsync((unsigned char *)device + at, staging, count, cudaMemcpyHostToDevice, cuda->stream),
                "copying to the device") ||
            !ls_cuda_ok(exec, cudaEventRecord(cuda->staged[piece], cuda->stream), "copying to the device"))
            return exec->status;
    }
    return LS_OK;
}

/* Several pieces are under way at a time: others arrive while the host empties one. */
static ls_status download(ls_exec *exec, void *host, const void *device, size_t bytes)
{
    ls_cuda *cuda = ls_cuda_of(exec);
    size_t arriving = 0, at = 0;
    int pieces[LS_STAGING_UNDER_WAY] = {0};
    LS_TRY(refuse_recording(exec));
    if (cuda->rehearsing) return LS_OK;
    if (is_pinned(device)) return copy_pinned(exec, host, device, bytes);
    for (size_t round = 0; arriving < bytes; round++) {
        for (; at < bytes && at - arriving < (size_t)LS_STAGING_UNDER_WAY * LS_STAGING_BYTES; at += LS_STAGING_BYTES) {
            const size_t count = bytes - at < LS_STAGING_BYTES ? bytes - at : LS_STAGING_BYTES;
            int *piece = &pieces[at / LS_STAGING_BYTES % LS_STAGING_UNDER_WAY];
            unsigned char *staging = take_piece(exec, piece);
            if (staging == NULL) return exec->status;
            if (!ls_cuda_ok(exec,
                            cudaMemcpyAsync(staging, (const unsigned char *)device + at, count, cudaMemcpyDeviceToHost,
                                            cuda->stream),
                            "copying from the device") ||
                !ls_cuda_ok(exec, cudaEventRecord(cuda->staged[*piece], cuda->stream), "copying from the device"))
                return exec->status;
        }
        const int piece = pieces[round % LS_STAGING_UNDER_WAY];
        const size_t count = bytes - arriving < LS_STAGING_BYTES ? bytes - arriving : LS_STAGING_BYTES;
        if (!ls_cuda_ok(exec, cudaEventSynchronize(cuda->staged[piece]), "running")) return exec->status;
        memcpy((unsigned char *)host + arriving, cuda->staging + (size_t)piece * LS_STAGING_BYTES, count);
        arriving += count;
    }
    return LS_OK;
}

static ls_status wait_for_ops(ls_exec *exec)
{
    const ls_cuda *cuda = ls_cuda_of(exec);
    LS_TRY(refuse_recording(exec));
    if (ls_cuda_live(exec)) (void)ls_cuda_ok(exec, drain(cuda), "running");
    return exec->status;
}

static ls_status copy(ls_exec *exec, void *out, const void *in, size_t bytes)
{
    ls_cuda *cuda = ls_cuda_of(exec);
    if (ls_cuda_live(exec))
        (void)ls_cuda_ok(exec, cudaMemcpyAsync(out, in, bytes, cudaMemcpyDeviceToDevice, cuda->stream), "copying");
    return exec->status;
}

static cudaStream_t stream_of(const ls_cuda *cuda, ls_exec_queue queue)
{
    return queue == LS_QUEUE_UPLOADS ? cuda->uploads : queue == LS_QUEUE_DOWNLOADS ? cuda->downloads : cuda->stream;
}

static void queue_copy(ls_exec *exec, ls_exec_queue queue, void *out, const void *in, size_t bytes)
{
    const enum cudaMemcpyKind kind = queue == LS_QUEUE_UPLOADS ? cudaMemcpyHostToDevice : cudaMemcpyDeviceToHost;
    if (ls_cuda_live(exec))
        (void)ls_cuda_ok(exec, cudaMemcpyAsync(out, in, bytes, kind, stream_of(ls_cuda_of(exec), queue)), "copying");
}

/* One event a queue is enough: a wait is for what was recorded last when it was issued. */
static void order(ls_exec *exec, ls_exec_queue earlier, ls_exec_queue later)
{
    const ls_cuda *cuda = ls_cuda_of(exec);
    if (ls_cuda_live(exec) &&
        ls_cuda_ok(exec, cudaEventRecord(cuda->passed[earlier], stream_of(cuda, earlier)), "copying"))
        (void)ls_cuda_ok(exec, cudaStreamWaitEvent(stream_of(cuda, later), cuda->passed[earlier], 0), "copying");
}

static void rehearse(ls_exec *exec, bool begin)
{
    ls_cuda *cuda = ls_cuda_of(exec);
    cuda->rehearsing = begin;
    if (!begin && exec->status == LS_OK) grow_scratch(exec, cuda->wanted);
}

static const ls_exec_memory cuda_memory = {.allocate = allocate,
                                           .release = release,
                                           .upload = upload,
                                           .download = download,
                                           .wait = wait_for_ops,
                                           .copy = copy,
                                           .rehearse = rehearse,
                                           .allocate_pinned = allocate_pinned,
                                           .release_pinned = release_pinned,
                                           .queue_copy = queue_copy,
                                           .order = order};

/* ---- opening ----------------------------------------------------------------------------------------------------- */

static ls_status check_driver(void)
{
    int driver = 0, runtime = 0;
    (void)cudaDriverGetVersion(&driver);
    (void)cudaRuntimeGetVersion(&runtime);
    (void)cudaGetLastError();
    if (driver == 0) return LS_FAIL(LS_UNSUPPORTED, "there is no NVIDIA driver on this machine; use device=cpu");
    /* Within a major version any driver runs any runtime. */
    if (driver / 1000 < runtime / 1000)
        return LS_FAIL(LS_UNSUPPORTED,
                       "the NVIDIA driver is for CUDA %d.%d, older than the CUDA %d.%d this program was built with; "
                       "update the driver or use device=cpu",
                       driver / 1000, driver % 1000 / 10, runtime / 1000, runtime % 1000 / 10);
    return LS_OK;
}

int ls_cuda_count(void)
{
    int count = 0;
    if (cudaGetDeviceCount(&count) != cudaSuccess) (void)cudaGetLastError();
    return count;
}

static ls_status check_index(int index)
{
    int count = 0;
    const char *visible = getenv("CUDA_VISIBLE_DEVICES");
    const cudaError_t error = cudaGetDeviceCount(&count);
    if (error == cudaErrorNoDevice || (error == cudaSuccess && count == 0)) {
        (void)cudaGetLastError();
        return LS_FAIL(LS_UNSUPPORTED, "no NVIDIA GPU is visible here%s%s; use device=cpu",
                       visible == NULL ? "" : " with CUDA_VISIBLE_DEVICES=", visible == NULL ? "" : visible);
    }
    if (error != cudaSuccess) {
        (void)cudaGetLastError();
        return LS_FAIL(LS_UNSUPPORTED, "the NVIDIA driver does not answer: %s; use device=cpu",
                       cudaGetErrorString(error));
    }
    if (index < 0 || index >= count)
        return LS_FAIL(LS_BAD_INPUT, "device_index %d is out of range: %d GPU%s visible, counted from 0", index, count,
                       count == 1 ? " is" : "s are");
    return LS_OK;
}

static ls_status check_architecture(ls_cuda *cuda)
{
    struct cudaDeviceProp properties;
    const cudaError_t error = cudaGetDeviceProperties(&properties, cuda->device);
    if (error != cudaSuccess)
        return LS_FAIL(LS_UNSUPPORTED, "GPU %d does not answer: %s", cuda->device, cudaGetErrorString(error));
    (void)snprintf(cuda->name, sizeof cuda->name, "%s", properties.name);
    cuda->total_bytes = properties.totalGlobalMem;
    memcpy(cuda->identity, properties.uuid.bytes, sizeof cuda->identity);
    if (10 * properties.major + properties.minor < LS_CUDA_OLDEST)
        return LS_FAIL(LS_UNSUPPORTED,
                       "%s has compute capability %d.%d; this program was built for %d.%d and later, so use device=cpu",
                       cuda->name, properties.major, properties.minor, LS_CUDA_OLDEST / 10, LS_CUDA_OLDEST % 10);
    return LS_OK;
}

static ls_status create_streams(ls_exec *exec)
{
    ls_cuda *cuda = ls_cuda_of(exec);
    cudaStream_t *const streams[] = {&cuda->stream, &cuda->uploads, &cuda->downloads};
    void *staging = NULL;
    if (!ls_cuda_ok(exec, cudaSetDevice(cuda->device), OPENING)) return exec->status;
    for (int i = 0; i < LS_QUEUES; i++)
        if (!ls_cuda_ok(exec, cudaStreamCreateWithFlags(streams[i], cudaStreamNonBlocking), OPENING) ||
            !ls_cuda_ok(exec, cudaEventCreateWithFlags(&cuda->passed[i], cudaEventDisableTiming), OPENING))
            return exec->status;
    LS_TRY(ls_exec_allocate_pinned(exec, &staging, STAGING_TOTAL, STAGING));
    cuda->staging = staging;
    for (int i = 0; i < LS_STAGING_PIECES; i++)
        if (!ls_cuda_ok(exec, cudaEventCreateWithFlags(&cuda->staged[i], cudaEventDisableTiming), OPENING))
            return exec->status;
    return LS_OK;
}

static void find_libraries(ls_exec *exec)
{
    ls_cuda *cuda = ls_cuda_of(exec);
    char reason[160] = "", version[40];
    cuda->matmul = ls_cuda_matmul_create(reason, sizeof reason);
    if (cuda->matmul == NULL)
        ls_log_warning("no cuBLASLt (%s): matrix products run on built-in kernels, which are slower", reason);
    cuda->attention = ls_cuda_attention_create(cuda->stream, reason, sizeof reason);
    if (cuda->attention == NULL) {
        ls_log_warning("no cuDNN (%s): attention runs on built-in kernels", reason);
        (void)snprintf(version, sizeof version, "no cuDNN");
    } else {
        ls_cuda_attention_version(cuda->attention, version, sizeof version);
    }
    (void)snprintf(cuda->libraries, sizeof cuda->libraries, "%s, %s", cuda->matmul != NULL ? "cuBLASLt" : "no cuBLASLt",
                   version);
}

ls_status ls_cuda_open(ls_exec *exec, int index)
{
    LS_TRY(check_driver());
    LS_TRY(check_index(index));
    ls_cuda *cuda = calloc(1, sizeof *cuda);
    if (cuda == NULL) return LS_FAIL(LS_NO_MEMORY, "cannot get memory for a device");
    cuda->device = index;
    exec->state = cuda;
    exec->memory = &cuda_memory;
    exec->timer = &ls_cuda_timer;
    exec->recorder = &ls_cuda_recorder;
    exec->ops = ls_backend_cuda();
    ls_status status = check_architecture(cuda);
    if (status == LS_OK) status = create_streams(exec);
    if (status == LS_OK)
        find_libraries(exec);
    else
        ls_cuda_close(exec);
    return status;
}

/* ---- planning ---------------------------------------------------------------------------------------------------- */

static void plan_rehearse(ls_exec *exec, bool begin)
{
    ls_cuda *cuda = ls_cuda_of(exec);
    if (begin || cuda->wanted <= cuda->scratch_bytes) return;
    ls_exec_free(exec, cuda->scratch, cuda->scratch_bytes);
    cuda->scratch_bytes = cuda->wanted;
    (void)ls_exec_allocate(exec, &cuda->scratch, cuda->wanted, SCRATCH);
}

ls_status ls_cuda_plan(ls_exec *exec)
{
    ls_cuda *cuda = calloc(1, sizeof *cuda);
    if (cuda == NULL) return LS_FAIL(LS_NO_MEMORY, "cannot get memory for a plan");
    cuda->rehearsing = true;
    (void)snprintf(cuda->name, sizeof cuda->name, "a GPU");
    cuda->plan_memory = ls_exec_plan_memory;
    cuda->plan_memory.rehearse = plan_rehearse;
    cuda->plan_memory.allocate_pinned = ls_exec_plan_memory.allocate;
    cuda->plan_memory.release_pinned = ls_exec_plan_memory.release;
    cuda->plan_memory.queue_copy = queue_copy;
    cuda->plan_memory.order = order;
    exec->state = cuda;
    exec->memory = &cuda->plan_memory;
    exec->ops = ls_backend_cuda();
    void *staging;
    return ls_exec_allocate_pinned(exec, &staging, STAGING_TOTAL, STAGING);
}

void ls_cuda_close(ls_exec *exec)
{
    ls_cuda *cuda = ls_cuda_of(exec);
    if (cuda == NULL) return;
    if (exec->memory == &cuda->plan_memory) {
        free(cuda);
        exec->state = NULL;
        return;
    }
    (void)drain(cuda);
    ls_cuda_attention_destroy(cuda->attention);
    ls_cuda_matmul_destroy(cuda->matmul);
    ls_exec_free(exec, cuda->scratch, cuda->scratch_bytes);
    ls_cuda_timer_close(cuda);
    for (int i = 0; i < LS_STAGING_PIECES; i++)
        if (cuda->staged[i] != NULL) (void)cudaEventDestroy(cuda->staged[i]);
    ls_exec_free_pinned(exec, cuda->staging, STAGING_TOTAL);
    for (int i = 0; i < LS_QUEUES; i++) {
        if (cuda->passed[i] != NULL) (void)cudaEventDestroy(cuda->passed[i]);
        if (stream_of(cuda, (ls_exec_queue)i) != NULL) (void)cudaStreamDestroy(stream_of(cuda, (ls_exec_queue)i));
    }
    (void)cudaGetLastError();
    free(cuda);
    exec->state = NULL;
}

void ls_cuda_describe(const ls_exec *exec, char *text, size_t size)
{
    const ls_cuda *cuda = ls_cuda_of(exec);
    (void)snprintf(text, size, "%s, cuda kernels, %s", cuda->name, cuda->libraries);
}
