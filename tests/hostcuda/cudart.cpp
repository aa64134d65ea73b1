/* A stand-in for CUDA's runtime library: what the project calls of it, on the CPU.
 *
 * Streams are queues that run only when the host waits for them, interleaved at random or by demand, so that a missing
 * wait shows.
 * Device memory cannot be touched by the host except while the "device" runs, starts as NaN, and has gaps that nobody
 * may touch. The entry points of objects made by nvcc are here too, for programs that nvcc linked. */
#include "runtime.h"

#include <algorithm>
#include <chrono>
#include <deque>
#include <dlfcn.h>
#include <functional>
#include <map>
#include <memory>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <string>
#include <sys/mman.h>
#include <unistd.h>
#include <unordered_map>
#include <vector>

namespace hostcuda
{

/* ---- errors ------------------------------------------------------------------------------------------------------ */

static cudaError_t sticky; /* a failed kernel's: every later call gives it too */
static thread_local cudaError_t last_error;
static int calls_to_failure = -1;
static cudaError_t failure = cudaErrorUnknown; /* what the call then gives */

static cudaError_t result(cudaError_t status)
{
    if (status != cudaSuccess) last_error = status;
    return status;
}

/* What a call begins with: the sticky error, or the failure that a test asked for. */
static cudaError_t entry()
{
    if (sticky != cudaSuccess) return sticky;
    return calls_to_failure >= 0 && calls_to_failure-- == 0 ? failure : cudaSuccess;
}

/* ---- memory ------------------------------------------------------------------------------------------------------ */

char *arena;
size_t arena_bytes;
static size_t arena_used; /* never used beyond */
static bool arena_open;
static std::map<char *, size_t> live, pinned;
static size_t most_allocated;
static size_t waits, downloads;
static int capability = 90;
static size_t allocated, memory_limit = size_t{512} << 20;
static size_t pinned_now, most_pinned, pinned_limit = size_t{4} << 30;
static int devices = 1, current_device;
static std::vector<int> visible; /* which of the machine's GPUs they are, where that matters */
constexpr size_t PAGE = 4096;

static void prepare_arena()
{
    if (arena != nullptr) return;
    arena_bytes = size_t{4} << 30;
    arena =
        static_cast<char *>(mmap(nullptr, arena_bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
    ASAN_POISON_MEMORY_REGION(arena, arena_bytes);
}

/* Device memory can be touched in this object's scope. */
class Open
{
    const bool was;

  public:
    Open() : was(arena_open)
    {
        prepare_arena();
        if (!was && arena_used > 0) (void)mprotect(arena, arena_used, PROT_READ | PROT_WRITE);
        arena_open = true;
    }
    ~Open()
    {
        if (!was && arena_used > 0) (void)mprotect(arena, arena_used, PROT_NONE);
        arena_open = was;
    }
};

static bool is_device(const void *p)
{
    return reinterpret_cast<uintptr_t>(p) - reinterpret_cast<uintptr_t>(arena) < arena_bytes && arena != nullptr;
}

static bool within(const std::map<char *, size_t> &blocks, const void *p, size_t bytes)
{
    char *const at = static_cast<char *>(const_cast<void *>(p));
    auto next = blocks.upper_bound(at);
    if (next == blocks.begin()) return false;
    --next;
    return at + bytes <= next->first + next->second;
}

bool is_live(const void *p, size_t bytes) { return within(live, p, bytes); }

static cudaError_t allocate(void **out, size_t bytes)
{
    prepare_arena();
    *out = nullptr;
    if (live.empty()) arena_used = 0;
    const size_t room = (bytes + 256 + PAGE - 1) / PAGE * PAGE; /* ends with a gap */
    if (allocated + bytes > memory_limit || arena_used + room > arena_bytes) return cudaErrorMemoryAllocation;
    char *const p = arena + arena_used;
    (void)mprotect(p, room, PROT_READ | PROT_WRITE);
    ASAN_UNPOISON_MEMORY_REGION(p, bytes);
    memset(p, 0xff, bytes);
    if (!arena_open) (void)mprotect(p, room, PROT_NONE);
    arena_used += room;
    allocated += bytes;
    most_allocated = std::max(most_allocated, allocated);
    live[p] = bytes;
    check_device(p, bytes, true);
    *out = p;
    return cudaSuccess;
}

/* ---- streams ----------------------------------------------------------------------------------------------------- */

struct Event {
    bool timed = true, recorded = false, done = false;
    double milliseconds = 0; /* on the host's clock, when it was done */
};

struct Operation {
    std::function<cudaError_t()> run;
    std::shared_ptr<Event> wait, record;
    std::function<bool()> ready; /* of what other processes have to do with; asked again until it is true */
};

struct Stream {
    std::deque<Operation> queue;
    bool blocking = true; /* waits for the default stream, and that for it */
};

static Stream default_stream;
static std::vector<Stream *> streams{&default_stream};
static bool deferred = true;
static int streams_order = HOSTCUDA_STREAMS_RANDOM;
static uint64_t random_state = 88172645463325252ull;

static size_t random_below(size_t bound)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return static_cast<size_t>(random_state >> 33) % bound;
}

static Stream *stream_of(cudaStream_t stream)
{
    const bool is_default = stream == nullptr || stream == cudaStreamLegacy;
    return is_default ? &default_stream : reinterpret_cast<Stream *>(stream);
}

/* Whose queue holds the recording of `event`; NULL: nobody's. */
static Stream *recorder(const std::shared_ptr<Event> &event)
{
    const auto records = [&event](const Operation &operation) { return operation.record == event; };
    for (Stream *const stream : streams)
        if (std::any_of(stream->queue.begin(), stream->queue.end(), records)) return stream;
    return nullptr;
}

/* The one that must go on for `stream` to go on: itself, or who records the event that it waits for. */
static Stream *needed_for(Stream *stream)
{
    for (size_t hops = 0; stream != nullptr && !stream->queue.empty() && hops <= streams.size(); hops++) {
        const std::shared_ptr<Event> &event = stream->queue.front().wait;
        if (!event || event->done) break;
        stream = recorder(event);
    }
    return stream;
}

static bool can_run(const Stream *stream)
{
    if (stream->queue.empty()) return false;
    const Operation &first = stream->queue.front();
    return (!first.wait || first.wait->done) && (!first.ready || first.ready());
}

static bool waits_for_others(const Stream *stream) { return !stream->queue.empty() && stream->queue.front().ready; }

static void finish(Event *event)
{
    const auto now = std::chrono::steady_clock::now().time_since_epoch();
    event->milliseconds = std::chrono::duration<double, std::milli>(now).count();
    event->done = true;
}

static void run_first(Stream *stream)
{
    const Operation operation = stream->queue.front();
    if (operation.run && sticky == cudaSuccess) {
        const Open open;
        sticky = operation.run();
    }
    if (operation.record) finish(operation.record.get());
    stream->queue.pop_front();
}

/* Of those that can run. Late: nothing that the host's wait for `wanted` does not need. Early: all else first. */
static Stream *choose(const std::vector<Stream *> &ready, Stream *wanted)
{
    const size_t pick = random_below(ready.size());
    if (streams_order == HOSTCUDA_STREAMS_RANDOM) return ready[pick];
    Stream *const needed = needed_for(wanted);
    const bool can = std::find(ready.begin(), ready.end(), needed) != ready.end();
    if (streams_order == HOSTCUDA_STREAMS_LATE) return can ? needed : ready[pick];
    return ready[pick] == needed ? ready[(pick + 1) % ready.size()] : ready[pick];
}

/* Runs queued work, in an order of streams that a test chooses, until `done`: what `wanted` holds, NULL: all. */
static cudaError_t run_until(const std::function<bool()> &done, Stream *wanted)
{
    if (done()) return sticky;
    const Open open; /* once for all that runs now: it costs a walk through the pages */
    while (!done()) {
        std::vector<Stream *> ready;
        std::copy_if(streams.begin(), streams.end(), std::back_inserter(ready), can_run);
        if (ready.empty() && std::any_of(streams.begin(), streams.end(), waits_for_others)) {
            (void)usleep(50);
            continue;
        }
        if (ready.empty()) {
            report("stream-deadlock", "streams wait for events that cannot come");
            return sticky = cudaErrorLaunchFailure;
        }
        run_first(choose(ready, wanted));
    }
    return sticky;
}

static cudaError_t run_all()
{
    return run_until(
        [] { return std::all_of(streams.begin(), streams.end(), [](Stream *s) { return s->queue.empty(); }); },
        nullptr);
}

static cudaError_t run_stream(Stream *stream)
{
    return run_until([stream] { return stream->queue.empty(); }, stream);
}

static cudaError_t enqueue(Stream *stream, std::function<cudaError_t()> work)
{
    if (stream == &default_stream) {
        for (Stream *const other : streams)
            if (other != stream && other->blocking) (void)run_stream(other);
    } else if (stream->blocking) {
        (void)run_stream(&default_stream);
    }
    stream->queue.push_back({std::move(work), nullptr, nullptr, {}});
    return deferred ? sticky : run_stream(stream);
}

/* ---- copies ------------------------------------------------------------------------------------------------------ */

static cudaError_t copy_now(void *to, const void *from, size_t bytes)
{
    if ((is_device(to) && !is_live(to, bytes)) || (is_device(from) && !is_live(from, bytes))) {
        report("copy-bounds", "a copy of %zu bytes leaves its allocation", bytes);
        return cudaErrorInvalidValue;
    }
    if (is_device(from)) check_copy(from, bytes, "a copy");
    memcpy(to, from, bytes);
    if (is_device(to)) check_defined(to, bytes);
    return cudaSuccess;
}

static bool kind_fits(const void *to, const void *from, cudaMemcpyKind kind)
{
    if (kind == cudaMemcpyDefault) return true;
    const bool to_device = kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToDevice;
    const bool from_device = kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyDeviceToDevice;
    return to_device == is_device(to) && from_device == is_device(from);
}

static cudaError_t copy(void *to, const void *from, size_t bytes, cudaMemcpyKind kind, Stream *stream)
{
    /* Tests may hand kernels memory of the host, in place of the device's. */
    const bool host_only = !is_device(to) && !is_device(from);
    if (!host_only && !kind_fits(to, from, kind)) {
        report("copy-kind", "a copy's kind %d does not fit its pointers", static_cast<int>(kind));
        return cudaErrorInvalidValue;
    }
    if (!is_device(from) && !within(pinned, from, bytes)) { /* pageable: read at once */
        const auto staged = std::make_shared<std::string>(static_cast<const char *>(from), bytes);
        return enqueue(stream, [=] { return copy_now(to, staged->data(), bytes); });
    }
    const cudaError_t status = enqueue(stream, [=] { return copy_now(to, from, bytes); });
    downloads += !is_device(to);
    if (is_device(to) || within(pinned, to, bytes)) return status;
    waits++;
    return run_stream(stream);
}

static cudaError_t fill_now(void *to, int value, size_t bytes)
{
    if (!is_live(to, bytes)) {
        report("fill-bounds", "a fill of %zu bytes leaves its allocation", bytes);
        return cudaErrorInvalidValue;
    }
    memset(to, value, bytes);
    check_defined(to, bytes);
    return cudaSuccess;
}

/* ---- kernels ----------------------------------------------------------------------------------------------------- */

struct KernelEntry {
    void (*call)(void **);
    std::string name;
    size_t most_dynamic = 48 * 1024;
    std::vector<size_t> sizes;
};

static std::unordered_map<const void *, KernelEntry> &kernels()
{
    static std::unordered_map<const void *, KernelEntry> table; /* filled before main by static constructors */
    return table;
}

static std::unordered_map<std::string, const void *> &kernels_by_symbol()
{
    static std::unordered_map<std::string, const void *> table;
    return table;
}

static std::unordered_map<const void *, const void *> stubs; /* nvcc's host function of a kernel -> ours */

void register_kernel(const void *kernel, void (*call)(void **), const char *signature, const size_t *sizes, int count)
{
    KernelEntry entry;
    entry.call = call;
    entry.sizes.assign(sizes, sizes + count);
    const char *const name = strstr(signature, "K = ");
    entry.name = name != nullptr ? std::string(name + 4, strcspn(name + 4, ";]")) : "a kernel";
    Dl_info info;
    if (dladdr(kernel, &info) != 0 && info.dli_sname != nullptr && info.dli_saddr == kernel)
        kernels_by_symbol()[info.dli_sname] = kernel;
    kernels()[kernel] = entry;
}

static KernelEntry *find_kernel(const void *kernel)
{
    const auto stub = stubs.find(kernel);
    const auto found = kernels().find(stub != stubs.end() ? stub->second : kernel);
    return found != kernels().end() ? &found->second : nullptr;
}

static bool bad_configuration(dim3 grid, dim3 threads)
{
    const uint64_t count = static_cast<uint64_t>(threads.x) * threads.y * threads.z;
    return grid.x == 0 || grid.x > 0x7fffffffu || grid.y == 0 || grid.z == 0 || grid.y > 65535 || grid.z > 65535 ||
           count == 0 || count > MOST_THREADS || threads.z > 64;
}

static cudaError_t launch_kernel(const void *function, dim3 grid, dim3 threads, void **argument, size_t shared,
                                 Stream *stream)
{
    const KernelEntry *const kernel = find_kernel(function);
    if (kernel == nullptr) return cudaErrorInvalidDeviceFunction;
    if (bad_configuration(grid, threads)) return cudaErrorInvalidConfiguration;
    if (shared > kernel->most_dynamic) return cudaErrorInvalidValue;
    /* Arguments are copied at the launch, as the real one does. */
    const auto arguments = std::make_shared<std::vector<std::string>>();
    for (size_t i = 0; i < kernel->sizes.size(); i++)
        arguments->emplace_back(static_cast<const char *>(argument[i]), kernel->sizes[i]);
    const size_t most_shared = kernel->most_dynamic > 48 * 1024 ? MOST_SHARED : 48 * 1024;
    return enqueue(stream, [=] {
        alignas(16) static char constants[4096]; /* as many bytes of arguments as CUDA takes */
        std::vector<void *> pointers;
        size_t used = 0;
        for (const std::string &value : *arguments) {
            pointers.push_back(constants + used);
            memcpy(constants + used, value.data(), value.size());
            used += (value.size() + 15) / 16 * 16;
        }
        pointers.push_back(nullptr);
        return run_grid(kernel->call, pointers.data(), kernel->name.c_str(), grid, threads, shared, most_shared);
    });
}

} // namespace hostcuda

using namespace hostcuda;

#define ENTRY()                                                                                                        \
    do {                                                                                                               \
        const cudaError_t at_entry = entry();                                                                          \
        if (at_entry != cudaSuccess) return result(at_entry);                                                          \
    } while (0)

extern "C" {

/* ---- what tests steer -------------------------------------------------------------------------------------------- */

void hostcuda_set_deferred(int on, uint64_t seed)
{
    deferred = on != 0;
    random_state = 88172645463325252ull ^ (seed * 0x9E3779B97F4A7C15ull);
}
void hostcuda_set_streams(int order) { streams_order = order; }
void hostcuda_set_memory_limit(size_t bytes) { memory_limit = bytes; }
void hostcuda_set_pinned_limit(size_t bytes) { pinned_limit = bytes; }
void hostcuda_set_devices(int count) { devices = count; }
void hostcuda_set_visible(int number) { visible.push_back(number); }
int hostcuda_gpu(void)
{
    const auto index = static_cast<size_t>(current_device);
    return index < visible.size() ? visible[index] : current_device;
}
void hostcuda_fail_in(int calls) { calls_to_failure = calls; }
void hostcuda_set_failure(int error) { failure = static_cast<cudaError_t>(error); }
void hostcuda_set_capability(int version) { capability = version; }
size_t hostcuda_peak_bytes(void) { return most_allocated; }
size_t hostcuda_peak_pinned_bytes(void) { return most_pinned; }
size_t hostcuda_waits(void) { return waits; }
size_t hostcuda_downloads(void) { return downloads; }
void hostcuda_reset(void)
{
    sticky = last_error = cudaSuccess;
    calls_to_failure = -1;
    for (Stream *const stream : streams) stream->queue.clear();
}
size_t hostcuda_live_allocations(void) { return live.size() + pinned.size(); }

/* ---- devices ----------------------------------------------------------------------------------------------------- */

cudaError_t cudaGetDeviceCount(int *count)
{
    *count = devices;
    return devices > 0 ? cudaSuccess : result(cudaErrorNoDevice);
}
cudaError_t cudaSetDevice(int device)
{
    if (device < 0 || device >= devices) return result(cudaErrorInvalidDevice);
    current_device = device;
    return cudaSuccess;
}
cudaError_t cudaGetDevice(int *device)
{
    *device = current_device;
    return cudaSuccess;
}
cudaError_t cudaGetDeviceProperties(cudaDeviceProp *out, int device)
{
    if (device < 0 || device >= devices) return result(cudaErrorInvalidDevice);
    *out = cudaDeviceProp();
    (void)snprintf(out->name, sizeof out->name, "CPU stand-in");
    if (device < static_cast<int>(visible.size()))
        memcpy(out->uuid.bytes, &visible[static_cast<size_t>(device)], sizeof(int));
    out->major = capability / 10;
    out->minor = capability % 10;
    out->multiProcessorCount = 4;
    out->totalGlobalMem = memory_limit;
    out->sharedMemPerBlock = 48 * 1024;
    out->sharedMemPerBlockOptin = MOST_SHARED;
    out->warpSize = 32;
    out->maxThreadsPerBlock = MOST_THREADS;
    out->maxThreadsPerMultiProcessor = 2048;
    out->regsPerBlock = 65536;
    return cudaSuccess;
}
cudaError_t cudaDeviceGetAttribute(int *value, cudaDeviceAttr attribute, int device)
{
    if (device < 0 || device >= devices) return result(cudaErrorInvalidDevice);
    *value = attribute == cudaDevAttrMultiProcessorCount            ? 4
             : attribute == cudaDevAttrComputeCapabilityMajor       ? capability / 10
             : attribute == cudaDevAttrMaxSharedMemoryPerBlockOptin ? static_cast<int>(MOST_SHARED)
                                                                    : 0;
    return cudaSuccess;
}
cudaError_t cudaGetLastError(void)
{
    const cudaError_t status = last_error;
    last_error = cudaSuccess;
    return status;
}
cudaError_t cudaPeekAtLastError(void) { return last_error; }
const char *cudaGetErrorName(cudaError_t status)
{
    switch (status) {
    case cudaSuccess:
        return "cudaSuccess";
    case cudaErrorMemoryAllocation:
        return "cudaErrorMemoryAllocation";
    case cudaErrorInvalidValue:
        return "cudaErrorInvalidValue";
    case cudaErrorLaunchFailure:
        return "cudaErrorLaunchFailure";
    case cudaErrorInvalidConfiguration:
        return "cudaErrorInvalidConfiguration";
    default:
        return "cudaErrorUnknown";
    }
}
const char *cudaGetErrorString(cudaError_t status) { return cudaGetErrorName(status); }

/* ---- memory ------------------------------------------------------------------------------------------------------ */

cudaError_t cudaMalloc(void **out, size_t bytes)
{
    ENTRY();
    return result(allocate(out, bytes));
}
cudaError_t cudaFree(void *p)
{
    if (p == nullptr) return cudaSuccess;
    const auto found = live.find(static_cast<char *>(p));
    if (found == live.end()) return result(cudaErrorInvalidValue);
    (void)run_all();
    ASAN_POISON_MEMORY_REGION(p, found->second);
    check_device(p, found->second, false);
    allocated -= found->second;
    live.erase(found);
    return result(sticky);
}
cudaError_t cudaMemGetInfo(size_t *available, size_t *total)
{
    *available = memory_limit - allocated;
    *total = memory_limit;
    return cudaSuccess;
}
cudaError_t cudaHostAlloc(void **out, size_t bytes, unsigned)
{
    ENTRY();
    const size_t room = (bytes + 255) / 256 * 256;
    *out = pinned_now + bytes > pinned_limit ? nullptr : aligned_alloc(256, room);
    if (*out == nullptr) return result(cudaErrorMemoryAllocation);
    memset(*out, 0xff, room);
    pinned[static_cast<char *>(*out)] = bytes;
    pinned_now += bytes;
    most_pinned = std::max(most_pinned, pinned_now);
    return cudaSuccess;
}
cudaError_t cudaMallocHost(void **out, size_t bytes) { return cudaHostAlloc(out, bytes, 0); }
cudaError_t cudaFreeHost(void *p)
{
    if (p == nullptr) return cudaSuccess;
    const auto found = pinned.find(static_cast<char *>(p));
    if (found == pinned.end()) return result(cudaErrorInvalidValue);
    pinned_now -= found->second;
    pinned.erase(found);
    free(p);
    return cudaSuccess;
}
cudaError_t cudaPointerGetAttributes(cudaPointerAttributes *out, const void *p)
{
    ENTRY();
    *out = cudaPointerAttributes();
    out->type = is_live(p, 1)          ? cudaMemoryTypeDevice
                : within(pinned, p, 1) ? cudaMemoryTypeHost
                                       : cudaMemoryTypeUnregistered;
    return cudaSuccess;
}
cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, cudaMemcpyKind kind, cudaStream_t stream)
{
    ENTRY();
    return result(copy(to, from, bytes, kind, stream_of(stream)));
}
cudaError_t cudaMemcpy(void *to, const void *from, size_t bytes, cudaMemcpyKind kind)
{
    const cudaError_t status = cudaMemcpyAsync(to, from, bytes, kind, nullptr);
    return status != cudaSuccess ? status : cudaStreamSynchronize(nullptr);
}
cudaError_t cudaMemsetAsync(void *to, int value, size_t bytes, cudaStream_t stream)
{
    ENTRY();
    return result(enqueue(stream_of(stream), [=] { return fill_now(to, value, bytes); }));
}
cudaError_t cudaMemset(void *to, int value, size_t bytes) { return cudaMemsetAsync(to, value, bytes, nullptr); }

/* ---- streams and events ------------------------------------------------------------------------------------------ */

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *out, unsigned flags)
{
    ENTRY();
    Stream *const stream = new Stream;
    stream->blocking = (flags & cudaStreamNonBlocking) == 0;
    streams.push_back(stream);
    *out = reinterpret_cast<cudaStream_t>(stream);
    return cudaSuccess;
}
cudaError_t cudaStreamCreate(cudaStream_t *out) { return cudaStreamCreateWithFlags(out, 0); }
cudaError_t cudaStreamDestroy(cudaStream_t stream)
{
    Stream *const own = stream_of(stream);
    const cudaError_t status = run_stream(own);
    streams.erase(std::remove(streams.begin(), streams.end(), own), streams.end());
    delete own;
    return result(status);
}
cudaError_t cudaStreamSynchronize(cudaStream_t stream)
{
    ENTRY();
    waits += !stream_of(stream)->queue.empty();
    return result(run_stream(stream_of(stream)));
}
cudaError_t cudaDeviceSynchronize(void)
{
    ENTRY();
    waits++;
    return result(run_all());
}
cudaError_t cudaEventCreateWithFlags(cudaEvent_t *out, unsigned flags)
{
    ENTRY();
    auto *const event = new std::shared_ptr<Event>(new Event);
    (*event)->timed = (flags & cudaEventDisableTiming) == 0;
    *out = reinterpret_cast<cudaEvent_t>(event);
    return cudaSuccess;
}
cudaError_t cudaEventCreate(cudaEvent_t *out) { return cudaEventCreateWithFlags(out, 0); }
cudaError_t cudaEventDestroy(cudaEvent_t event)
{
    delete reinterpret_cast<std::shared_ptr<Event> *>(event);
    return cudaSuccess;
}
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream)
{
    ENTRY();
    auto &own = *reinterpret_cast<std::shared_ptr<Event> *>(event);
    const bool timed = own->timed;
    own = std::make_shared<Event>();
    own->timed = timed;
    own->recorded = true;
    Stream *const queue = stream_of(stream);
    if (queue->queue.empty())
        finish(own.get());
    else
        queue->queue.push_back({nullptr, nullptr, own, {}});
    return cudaSuccess;
}
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned)
{
    ENTRY();
    const auto own = *reinterpret_cast<std::shared_ptr<Event> *>(event);
    if (own->recorded && !own->done) stream_of(stream)->queue.push_back({nullptr, own, nullptr, {}});
    return cudaSuccess;
}
cudaError_t cudaEventSynchronize(cudaEvent_t event)
{
    const auto own = *reinterpret_cast<std::shared_ptr<Event> *>(event);
    waits += own->recorded && !own->done;
    return result(own->recorded ? run_until([own] { return own->done; }, recorder(own)) : cudaSuccess);
}
cudaError_t cudaEventQuery(cudaEvent_t event)
{
    const auto own = *reinterpret_cast<std::shared_ptr<Event> *>(event);
    return own->recorded && !own->done ? cudaErrorNotReady : cudaSuccess;
}
cudaError_t cudaEventElapsedTime(float *milliseconds, cudaEvent_t from, cudaEvent_t to)
{
    const Event &first = **reinterpret_cast<std::shared_ptr<Event> *>(from);
    const Event &last = **reinterpret_cast<std::shared_ptr<Event> *>(to);
    if (!first.timed || !last.timed || !first.recorded || !last.recorded) return result(cudaErrorInvalidResourceHandle);
    if (!first.done || !last.done) return result(cudaErrorNotReady);
    *milliseconds = static_cast<float>(last.milliseconds - first.milliseconds);
    return cudaSuccess;
}

/* ---- kernels ----------------------------------------------------------------------------------------------------- */

cudaError_t cudaFuncSetAttribute(const void *function, cudaFuncAttribute attribute, int value)
{
    KernelEntry *const kernel = find_kernel(function);
    if (kernel == nullptr) return result(cudaErrorInvalidDeviceFunction);
    if (attribute != cudaFuncAttributeMaxDynamicSharedMemorySize) return cudaSuccess;
    if (value < 0 || static_cast<size_t>(value) > MOST_SHARED) return result(cudaErrorInvalidValue);
    kernel->most_dynamic = std::max<size_t>(static_cast<size_t>(value), kernel->most_dynamic);
    return cudaSuccess;
}
cudaError_t cudaLaunchKernel(const void *function, dim3 grid, dim3 threads, void **argument, size_t shared,
                             cudaStream_t stream)
{
    ENTRY();
    return result(launch_kernel(function, grid, threads, argument, shared, stream_of(stream)));
}

/* Called by objects that nvcc made. */
void **__cudaRegisterFatBinary(void *)
{
    static void *handle;
    return &handle;
}
void __cudaRegisterFatBinaryEnd(void **) {}
void __cudaUnregisterFatBinary(void **) {}
char __cudaInitModule(void **) { return 1; }
void __cudaRegisterVar(void **, char *, char *, const char *, int, size_t, int, int) {}
void __cudaRegisterFunction(void **, const char *host_function, char *, const char *symbol, int, uint3 *, uint3 *,
                            dim3 *, dim3 *, int *)
{
    const auto found = kernels_by_symbol().find(symbol);
    if (found != kernels_by_symbol().end()) stubs[host_function] = found->second;
}

struct Configuration {
    dim3 grid, threads;
    size_t shared;
    cudaStream_t stream;
};
static std::vector<Configuration> configurations;
unsigned __cudaPushCallConfiguration(dim3 grid, dim3 threads, size_t shared, struct CUstream_st *stream)
{
    configurations.push_back({grid, threads, shared, stream});
    return 0;
}
cudaError_t __cudaPopCallConfiguration(dim3 *grid, dim3 *threads, size_t *shared, void *stream)
{
    const Configuration last = configurations.back();
    configurations.pop_back();
    *grid = last.grid;
    *threads = last.threads;
    *shared = last.shared;
    *static_cast<cudaStream_t *>(stream) = last.stream;
    return cudaSuccess;
}
cudaError_t __cudaGetKernel(cudaKernel_t *kernel, const void *function)
{
    *kernel = static_cast<cudaKernel_t>(const_cast<void *>(function));
    return cudaSuccess;
}
cudaError_t __cudaLaunchKernel(cudaKernel_t kernel, dim3 grid, dim3 threads, void **argument, size_t shared,
                               cudaStream_t stream)
{
    return cudaLaunchKernel(kernel, grid, threads, argument, shared, stream);
}

/* For stand-ins of other libraries: `work` runs in the stream's turn. */
int hostcuda_enqueue(cudaStream_t stream, int (*work)(void *), void *argument)
{
    if (entry() != cudaSuccess) return 1;
    return enqueue(stream_of(stream), [=] {
               const int failed = work(argument);
               free(argument);
               return failed ? cudaErrorLaunchFailure : cudaSuccess;
           }) != cudaSuccess;
}
/* The same for work that other processes have a part in: `ready` is asked, when all before it in the stream is done,
 * until it gives true. */
int hostcuda_enqueue_when(cudaStream_t stream, int (*ready)(void *), int (*work)(void *), void *argument)
{
    if (entry() != cudaSuccess) return 1;
    Operation operation;
    operation.run = [=] {
        const int failed = work(argument);
        free(argument);
        return failed ? cudaErrorLaunchFailure : cudaSuccess;
    };
    operation.ready = [=] { return ready(argument) != 0; };
    stream_of(stream)->queue.push_back(operation);
    return 0;
}
/* A piece of queued work, now and then: a device works on while the host waits for something else. */
void hostcuda_progress(void)
{
    if (in_kernel || sticky != cudaSuccess || random_below(4) > 0) return;
    if (std::all_of(streams.begin(), streams.end(), [](Stream *s) { return s->queue.empty(); })) return;
    const Open open;
    std::vector<Stream *> ready;
    std::copy_if(streams.begin(), streams.end(), std::back_inserter(ready), can_run);
    if (!ready.empty()) run_first(ready[random_below(ready.size())]);
}
int hostcuda_is_live(const void *p, size_t bytes) { return is_live(p, bytes); }
void hostcuda_library_reads(const void *p, size_t bytes, const char *what) { check_copy(p, bytes, what); }
void hostcuda_library_writes(const void *p, size_t bytes) { check_defined(p, bytes); }
void hostcuda_library_reports(const char *kind, const char *text) { report(kind, "%s", text); }
}
