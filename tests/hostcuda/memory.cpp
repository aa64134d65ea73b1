/* Memory of the stand-in device: the host cannot touch it except while the "device" runs, it starts as NaN, and has
 * gaps that nobody may touch. */
#include "device.h"

#include <algorithm>
#include <map>
#include <stdlib.h>
#include <string.h>
#include <string>
#include <sys/mman.h>

namespace hostcuda
{

/* ---- allocations ------------------------------------------------------------------------------------------------- */

char *arena;
size_t arena_bytes;
static size_t arena_used; /* never used beyond */
static bool arena_open;
static std::map<char *, size_t> live, pinned;
static size_t most_allocated;
static size_t allocated;
size_t memory_limit = size_t{512} << 20;
static size_t pinned_now, most_pinned, pinned_limit = size_t{4} << 30;
static size_t downloads;
constexpr size_t PAGE = 4096;

static void prepare_arena()
{
    if (arena != nullptr) return;
    arena_bytes = size_t{4} << 30;
    arena =
        static_cast<char *>(mmap(nullptr, arena_bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
    ASAN_POISON_MEMORY_REGION(arena, arena_bytes);
}

Open::Open() : was(arena_open)
{
    prepare_arena();
    if (!was && arena_used > 0) (void)mprotect(arena, arena_used, PROT_READ | PROT_WRITE);
    arena_open = true;
}

Open::~Open()
{
    if (!was && arena_used > 0) (void)mprotect(arena, arena_used, PROT_NONE);
    arena_open = was;
}

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
    const bool from_host = !is_device(from) && !within(pinned, from, bytes); /* pageable */
    const bool to_host = !is_device(to) && !within(pinned, to, bytes);
    if (stream->capture && (from_host || to_host)) return forbid("a copy of the host's pageable memory");
    if (from_host) { /* read at once */
        const auto staged = std::make_shared<std::string>(static_cast<const char *>(from), bytes);
        return enqueue(stream, [=] { return copy_now(to, staged->data(), bytes); });
    }
    const cudaError_t status = enqueue(stream, [=] {
        downloads += !is_device(to);
        return copy_now(to, from, bytes);
    });
    if (!to_host) return status;
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

} // namespace hostcuda

using namespace hostcuda;

extern "C" {

/* ---- what tests steer -------------------------------------------------------------------------------------------- */

void hostcuda_set_memory_limit(size_t bytes) { memory_limit = bytes; }
void hostcuda_set_pinned_limit(size_t bytes) { pinned_limit = bytes; }
size_t hostcuda_peak_bytes(void) { return most_allocated; }
size_t hostcuda_peak_pinned_bytes(void) { return most_pinned; }
size_t hostcuda_live_allocations(void) { return live.size() + pinned.size() + hostcuda_graphs(); }
size_t hostcuda_downloads(void) { return downloads; }
int hostcuda_is_live(const void *p, size_t bytes) { return is_live(p, bytes); }
void hostcuda_library_reads(const void *p, size_t bytes, const char *what) { check_copy(p, bytes, what); }
void hostcuda_library_writes(const void *p, size_t bytes) { check_defined(p, bytes); }

/* ---- calls ------------------------------------------------------------------------------------------------------- */

cudaError_t cudaMalloc(void **out, size_t bytes)
{
    ENTRY_UNCAPTURED();
    return result(allocate(out, bytes));
}
cudaError_t cudaFree(void *p)
{
    if (p == nullptr) return cudaSuccess;
    if (capturing()) return result(forbid(__func__));
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
    ENTRY_UNCAPTURED();
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
    if (capturing()) return result(forbid(__func__));
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
    ENTRY_UNCAPTURED();
    const cudaError_t status = cudaMemcpyAsync(to, from, bytes, kind, nullptr);
    return status != cudaSuccess ? status : cudaStreamSynchronize(nullptr);
}
cudaError_t cudaMemsetAsync(void *to, int value, size_t bytes, cudaStream_t stream)
{
    ENTRY();
    return result(enqueue(stream_of(stream), [=] { return fill_now(to, value, bytes); }));
}
cudaError_t cudaMemset(void *to, int value, size_t bytes) { return cudaMemsetAsync(to, value, bytes, nullptr); }
}
