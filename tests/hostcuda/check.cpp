/* The checker: finds races, reads of undefined memory and stray accesses of kernels from one run, whatever its order.
 *
 * Kernels are compiled with clang's -fsanitize=thread, which puts a call before each access to memory, and linked
 * without its runtime: the calls come here. Every two bytes of device and shared memory have a cell that knows their
 * last writer and readers by launch, block, barrier count and lane, which CUDA's rules order or not: barriers order a
 * block, __syncwarp the lanes of a warp, nothing but the end of a launch orders blocks. */
#include "runtime.h"

#include <algorithm>
#include <map>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <string>
#include <sys/mman.h>
#include <unistd.h>

extern char __start_hostcuda_builtin[], __stop_hostcuda_builtin[]; /* exec.cpp's built-in variables */
extern char __executable_start[], end[];

namespace hostcuda
{

/* Of two bytes; masks have a bit for each. */
struct Cell {
    uint32_t write_launch, write_block, write_epoch, write_place;
    uint32_t read_launch, read_block, read_epoch, read_place, read_lanes;
    uint16_t write_thread, write_clock, read_clock;
    uint8_t read_warp;
    uint8_t write_mask : 2, read_mask : 2, many_warps : 1, many_blocks : 1;
    uint8_t live : 2, defined : 2;
};

static Cell *device_cells, *shared_cells;
static int preemption;
static uint64_t random_state = 1;

static uint32_t random_below(uint32_t bound)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return static_cast<uint32_t>((random_state >> 33) % bound);
}

/* ---- cells ------------------------------------------------------------------------------------------------------- */

static Cell *make_cells(size_t bytes)
{
    void *const cells = mmap(nullptr, bytes / 2 * sizeof(Cell), PROT_READ | PROT_WRITE,
                             MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (cells == MAP_FAILED) {
        perror("hostcuda: cannot map the checker's memory");
        _Exit(2);
    }
    return static_cast<Cell *>(cells);
}

static bool is_shared(uintptr_t at)
{
    return shared_base != nullptr && at - reinterpret_cast<uintptr_t>(shared_base) < 2 * SHARED_SPAN;
}

static bool is_device(uintptr_t at)
{
    return arena != nullptr && at - reinterpret_cast<uintptr_t>(arena) < arena_bytes;
}

static Cell *cell_of(uintptr_t at)
{
    if (is_shared(at)) {
        if (shared_cells == nullptr) shared_cells = make_cells(2 * SHARED_SPAN);
        return shared_cells + (at - reinterpret_cast<uintptr_t>(shared_base)) / 2;
    }
    if (!is_device(at)) return nullptr;
    if (device_cells == nullptr) device_cells = make_cells(arena_bytes);
    return device_cells + (at - reinterpret_cast<uintptr_t>(arena)) / 2;
}

/* Calls work(cell, mask) for the cells of [p, p + bytes) until it returns false. */
template <class F> static void each_cell(const void *p, size_t bytes, F work)
{
    uintptr_t at = reinterpret_cast<uintptr_t>(p);
    const uintptr_t stop = at + bytes;
    Cell *cell = bytes > 0 ? cell_of(at) : nullptr;
    if (cell == nullptr) return;
    for (; at < stop; at = (at & ~uintptr_t{1}) + 2, cell++) {
        const int mask = at & 1 ? 2 : stop - at >= 2 ? 3 : 1;
        if (!work(*cell, static_cast<uint8_t>(mask))) return;
    }
}

void check_block_begins()
{
    if (shared_cells != nullptr) {
        memset(shared_cells, 0, SHARED_SPAN / 8 * sizeof(Cell)); /* a quarter: static arrays end at 48 KiB */
        memset(shared_cells + SHARED_SPAN / 2, 0, (block.dynamic_shared / 2 + 64) * sizeof(Cell));
    }
    memset(block.seen, 0, sizeof block.seen[0] * static_cast<size_t>(block.warps));
}

void check_launch_ends() {}

void check_shared(void *p, size_t bytes)
{
    each_cell(p, bytes, [](Cell &cell, uint8_t mask) {
        cell.live |= mask;
        cell.defined = static_cast<uint8_t>(cell.defined & ~mask);
        return true;
    });
}

void check_device(void *p, size_t bytes, bool live)
{
    each_cell(p, bytes, [=](Cell &cell, uint8_t mask) {
        cell.live = static_cast<uint8_t>(live ? cell.live | mask : cell.live & ~mask);
        cell.defined = static_cast<uint8_t>(cell.defined & ~mask);
        return true;
    });
}

void check_defined(const void *p, size_t bytes)
{
    each_cell(p, bytes, [](Cell &cell, uint8_t mask) {
        cell.defined |= mask;
        return true;
    });
}

void check_copy(const void *p, size_t bytes, const char *what)
{
    size_t undefined = 0;
    each_cell(p, bytes, [&](const Cell &cell, uint8_t mask) {
        if ((cell.defined & mask) != mask) undefined += 2;
        return true;
    });
    if (undefined > 0) report("undefined-copy", "%s of %zu bytes reads %zu that nobody wrote", what, bytes, undefined);
}

/* ---- order ------------------------------------------------------------------------------------------------------- */

/* Each lane learns what the others know, and that they came this far. */
void check_warp_sync(int warp, unsigned lanes)
{
    uint16_t all[32] = {};
    for (int l = 0; l < 32; l++) {
        if (!(lanes >> l & 1)) continue;
        for (int m = 0; m < 32; m++) all[m] = std::max(all[m], block.seen[warp][l][m]);
        all[l] = std::max(all[l], block.fiber[warp * 32 + l].clock);
    }
    for (int l = 0; l < 32; l++) {
        if (!(lanes >> l & 1)) continue;
        memcpy(block.seen[warp][l], all, sizeof all);
        block.fiber[warp * 32 + l].clock++;
    }
}

static bool has_seen(const Fiber *fiber, int lane, uint16_t clock)
{
    return block.seen[fiber->warp][fiber->lane][lane] >= clock;
}

static bool after_write(const Cell &cell, const Fiber *fiber)
{
    if (cell.write_block != static_cast<uint32_t>(block_number)) return false;
    if (cell.write_epoch < static_cast<uint32_t>(block.epoch) || cell.write_thread == fiber->id) return true;
    return cell.write_thread / 32 == fiber->warp && has_seen(fiber, cell.write_thread % 32, cell.write_clock);
}

static bool after_reads(const Cell &cell, const Fiber *fiber)
{
    if (cell.read_block != static_cast<uint32_t>(block_number) || cell.many_blocks) return false;
    if (cell.read_epoch < static_cast<uint32_t>(block.epoch)) return true;
    if (cell.many_warps || cell.read_warp != fiber->warp) return false;
    for (unsigned left = cell.read_lanes & ~(1u << fiber->lane); left != 0; left &= left - 1)
        if (!has_seen(fiber, __builtin_ctz(left), cell.read_clock)) return false;
    return true;
}

static void note_write(Cell &cell, uint8_t mask, const Fiber *fiber, uint32_t place)
{
    cell.write_launch = launch_number;
    cell.write_block = static_cast<uint32_t>(block_number);
    cell.write_epoch = static_cast<uint32_t>(block.epoch);
    cell.write_place = place;
    cell.write_thread = static_cast<uint16_t>(fiber->id);
    cell.write_clock = fiber->clock;
    cell.write_mask = mask & 3;
    cell.defined |= mask;
    cell.read_launch = 0;
}

static void note_read(Cell &cell, uint8_t mask, const Fiber *fiber, uint32_t place)
{
    const bool again = cell.read_launch == launch_number;
    const bool same_block = again && cell.read_block == static_cast<uint32_t>(block_number);
    if (same_block && cell.read_epoch == static_cast<uint32_t>(block.epoch)) {
        if (cell.read_warp != fiber->warp) {
            cell.many_warps = 1;
        } else {
            cell.read_lanes |= 1u << fiber->lane;
            cell.read_clock = std::max(cell.read_clock, fiber->clock);
        }
        cell.read_mask |= mask & 3;
        return;
    }
    cell.many_blocks = again && (cell.many_blocks || !same_block);
    cell.many_warps = 0;
    cell.read_launch = launch_number;
    cell.read_block = static_cast<uint32_t>(block_number);
    cell.read_epoch = static_cast<uint32_t>(block.epoch);
    cell.read_place = place;
    cell.read_lanes = 1u << fiber->lane;
    cell.read_clock = fiber->clock;
    cell.read_warp = static_cast<uint8_t>(fiber->warp);
    cell.read_mask = mask & 3;
}

/* ---- accesses ---------------------------------------------------------------------------------------------------- */

static uint32_t place_of(const void *caller)
{
    return static_cast<uint32_t>(reinterpret_cast<uintptr_t>(caller) - reinterpret_cast<uintptr_t>(__executable_start));
}

/* "rmsnorm.cu:83", by addr2line. */
static const char *source_line(uint32_t place)
{
    static std::map<uint32_t, std::string> known;
    std::string &text = known[place];
    if (!text.empty()) return text.c_str();
    char path[400];
    const ssize_t length = readlink("/proc/self/exe", path, sizeof path - 1);
    path[length > 0 ? length : 0] = '\0';
    char command[512], line[256] = "?";
    (void)snprintf(command, sizeof command, "addr2line -s -e '%s' %#zx", path,
                   reinterpret_cast<size_t>(__executable_start) + place - 1);
    if (FILE *const pipe = popen(command, "r")) {
        if (fgets(line, sizeof line, pipe) != nullptr) line[strcspn(line, " \n")] = '\0';
        (void)pclose(pipe);
    }
    text = line;
    return text.c_str();
}

/* False when something was reported, which is enough for one access. */
static bool check_cell(Cell &cell, uint8_t mask, Access access, bool shared, uint32_t place)
{
    const char *const what = access == WRITE ? "write" : "read", *const where = shared ? "shared" : "device";
    const Fiber *const fiber = current;
    if ((cell.live & mask) != mask) {
        report("out-of-bounds", "%s beyond an allocation of %s memory at %s", what, where, source_line(place));
        return false;
    }
    if (access == READ && (cell.defined & mask) != mask) {
        report("undefined", "read of %s memory that nobody wrote at %s", where, source_line(place));
        cell.defined |= mask;
        return false;
    }
    if (cell.write_launch == launch_number && (cell.write_mask & mask) != 0 && !after_write(cell, fiber)) {
        report("race", "write by thread %d of block %u at %s, then %s by thread %d of block %u at %s, of %s memory",
               cell.write_thread, cell.write_block, source_line(cell.write_place), what, fiber->id,
               static_cast<unsigned>(block_number), source_line(place), where);
        return false;
    }
    if (access == WRITE && cell.read_launch == launch_number && (cell.read_mask & mask) != 0 &&
        !after_reads(cell, fiber)) {
        report("race", "read in warp %d of block %u at %s, then write by thread %d of block %u at %s, of %s memory",
               cell.read_warp, cell.read_block, source_line(cell.read_place), fiber->id,
               static_cast<unsigned>(block_number), source_line(place), where);
        return false;
    }
    if (access == WRITE)
        note_write(cell, mask, fiber, place);
    else
        note_read(cell, mask, fiber, place);
    return true;
}

void check_access(const void *p, size_t bytes, Access access, bool counted, const void *caller)
{
    const bool was_in_kernel = in_kernel;
    in_kernel = false; /* our own traffic is not the kernel's */
    const uintptr_t at = reinterpret_cast<uintptr_t>(p);
    const bool shared = is_shared(at);
    const uint32_t place = place_of(caller);
    if (counted) count_access(at, bytes, access, shared, caller);
    if (bytes <= 16 && at % (bytes & -bytes) != 0)
        report("misaligned", "%zu-byte access at %s", bytes, source_line(place));
    if (!shared && !is_live(p, 1))
        report("out-of-bounds", "%s outside of every allocation at %s", access == WRITE ? "write" : "read",
               source_line(place));
    else
        each_cell(p, bytes, [=](Cell &cell, uint8_t mask) { return check_cell(cell, mask, access, shared, place); });
    in_kernel = was_in_kernel;
}

/* An access that the compiler announced. */
static void watch(const void *p, size_t bytes, Access access, const void *caller)
{
    if (!in_kernel || bytes == 0) return;
    const uintptr_t at = reinterpret_cast<uintptr_t>(p);
    if (at - reinterpret_cast<uintptr_t>(current->stack) < STACK) return; /* the thread's own */
    if (is_shared(at) || is_device(at)) {
        if (preemption > 0 && random_below(1024) < static_cast<uint32_t>(preemption)) let_others_run();
        check_access(p, bytes, access, true, caller);
        return;
    }
    const bool built_in = p >= __start_hostcuda_builtin && p < __stop_hostcuda_builtin;
    const bool constant = p >= __executable_start && p < end && access == READ;
    if ((built_in && access == READ) || constant) return;
    if (at - reinterpret_cast<uintptr_t>(stacks) < MOST_THREADS * (STACK + 4096))
        report("local", "access to another thread's local memory at %s", source_line(place_of(caller)));
    else
        report("host-memory", "%s of the host's memory at %s", access == WRITE ? "write" : "read",
               source_line(place_of(caller)));
}

} // namespace hostcuda

using namespace hostcuda;

#define CALLER __builtin_return_address(0)
#define WATCH(bytes)                                                                                                   \
    void __tsan_read##bytes(void *p) { watch(p, bytes, READ, CALLER); }                                                \
    void __tsan_write##bytes(void *p) { watch(p, bytes, WRITE, CALLER); }                                              \
    void __tsan_unaligned_read##bytes(void *p) { watch(p, bytes, READ, CALLER); }                                      \
    void __tsan_unaligned_write##bytes(void *p) { watch(p, bytes, WRITE, CALLER); }                                    \
    void __tsan_volatile_read##bytes(void *p) { watch(p, bytes, READ, CALLER); }                                       \
    void __tsan_volatile_write##bytes(void *p) { watch(p, bytes, WRITE, CALLER); }

extern "C" {
WATCH(1)
WATCH(2)
WATCH(4)
WATCH(8)
WATCH(16)
void __tsan_init(void) {}
void __tsan_func_entry(void *) {}
void __tsan_func_exit(void) {}
void __tsan_vptr_update(void **, void *) {}
void __tsan_vptr_read(void **) {}

/* Struct copies become calls of these, in instrumented code as elsewhere: linked with --wrap. */
void *__real_memcpy(void *, const void *, size_t);
void *__real_memmove(void *, const void *, size_t);
void *__real_memset(void *, int, size_t);
void *__wrap_memcpy(void *to, const void *from, size_t bytes)
{
    watch(from, bytes, READ, CALLER);
    watch(to, bytes, WRITE, CALLER);
    return __real_memcpy(to, from, bytes);
}
void *__wrap_memmove(void *to, const void *from, size_t bytes)
{
    watch(from, bytes, READ, CALLER);
    watch(to, bytes, WRITE, CALLER);
    return __real_memmove(to, from, bytes);
}
void *__wrap_memset(void *to, int value, size_t bytes)
{
    watch(to, bytes, WRITE, CALLER);
    return __real_memset(to, value, bytes);
}
void *__tsan_memcpy(void *to, const void *from, size_t bytes) { return __wrap_memcpy(to, from, bytes); }
void *__tsan_memmove(void *to, const void *from, size_t bytes) { return __wrap_memmove(to, from, bytes); }
void *__tsan_memset(void *to, int value, size_t bytes) { return __wrap_memset(to, value, bytes); }

void hostcuda_set_preemption(int per_1024) { preemption = per_1024; }
}
