/* Runs a grid on the CPU: every CUDA thread is a fiber, blocks run one after the other in the schedule's order.
 *
 * A fiber gives way at barriers and warp collectives alone (and, under the checker, before accesses to memory), so one
 * schedule is one interleaving that CUDA allows. Threads that wait for what cannot come are reported, not waited for.
 */
#include "hostcuda.h"
#include "runtime.h"

#include <map>
#include <set>
#include <stdarg.h>
#include <stdio.h>
#include <string>
#include <sys/mman.h>
#include <utility>
#include <vector>

/* A section of their own lets the checker tell them from other memory of the host. */
#define BUILT_IN __attribute__((section("hostcuda_builtin")))
BUILT_IN uint3 threadIdx = {0, 0, 0};
BUILT_IN uint3 blockIdx = {0, 0, 0};
BUILT_IN dim3 blockDim(1, 1, 1);
BUILT_IN dim3 gridDim(1, 1, 1);

namespace hostcuda
{

Block block;
Fiber *current;
bool in_kernel;
const char *kernel_name = "?";
uint32_t launch_number;
uint64_t block_number;
char *shared_base, *dynamic_base, *stacks;

static Fiber host;                               /* what runs the fibers */
[[maybe_unused]] static size_t host_stack_bytes; /* of use to the address sanitizer */
static void (*kernel_call)(void **);
static void **kernel_argument;
static bool fatal;

static int schedule, noisy;
static uint64_t random_state = 0x9E3779B97F4A7C15ull;
static uint32_t random_below(uint32_t bound)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return static_cast<uint32_t>((random_state >> 33) % bound);
}

/* ---- reports ----------------------------------------------------------------------------------------------------- */

static int reports;
static std::string first_report;

void report(const char *kind, const char *format, ...)
{
    const bool was_in_kernel = in_kernel;
    in_kernel = false; /* what we do here is not the kernel's doing */
    char text[1024];
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    if (reports++ == 0) first_report = std::string(kind) + ": " + text;
    static std::set<std::string> printed;
    if (printed.size() < 40 && printed.insert(std::string(kind) + kernel_name + text).second)
        (void)fprintf(stderr, "hostcuda: %s in %s, block (%u,%u,%u) thread (%u,%u,%u): %s\n", kind, kernel_name,
                      blockIdx.x, blockIdx.y, blockIdx.z, threadIdx.x, threadIdx.y, threadIdx.z, text);
    in_kernel = was_in_kernel;
}

/* ---- the queue of threads that can run --------------------------------------------------------------------------- */

static uint16_t queue[2 * MOST_THREADS];
static unsigned queue_head, queue_tail;

static uint16_t &queue_at(unsigned i) { return queue[i % (2 * MOST_THREADS)]; }
static void make_ready(int id)
{
    block.fiber[id].state = Fiber::READY;
    queue_at(queue_tail++) = static_cast<uint16_t>(id);
}

/* -1 when there is none. */
static int next_ready()
{
    if (queue_head == queue_tail) return -1;
    if (schedule == HOSTCUDA_REVERSE) return queue_at(--queue_tail);
    if (schedule == HOSTCUDA_RANDOM)
        std::swap(queue_at(queue_head), queue_at(queue_head + random_below(queue_tail - queue_head)));
    return queue_at(queue_head++);
}

/* ---- fibers ------------------------------------------------------------------------------------------------------ */

extern "C" void hostcuda_switch(void **save, void *to);
#if defined(__x86_64__)
asm(".text\n.globl hostcuda_switch\n.type hostcuda_switch,@function\nhostcuda_switch:\n"
    "pushq %rbp\npushq %rbx\npushq %r12\npushq %r13\npushq %r14\npushq %r15\n"
    "movq %rsp,(%rdi)\nmovq %rsi,%rsp\n"
    "popq %r15\npopq %r14\npopq %r13\npopq %r12\npopq %rbx\npopq %rbp\nret\n"
    ".size hostcuda_switch,.-hostcuda_switch\n");
/* The first switch returns into `entry` with rsp % 16 == 8, as a call would; a return address of 0 ends backtraces. */
static void *first_frame(char *stack, void (*entry)())
{
    uintptr_t *top = reinterpret_cast<uintptr_t *>(stack + STACK);
    *--top = 0;
    *--top = reinterpret_cast<uintptr_t>(entry);
    for (int i = 0; i < 6; i++) *--top = 0;
    return top;
}
#elif defined(__aarch64__)
asm(".text\n.globl hostcuda_switch\n.type hostcuda_switch,%function\nhostcuda_switch:\n"
    "sub sp,sp,#160\nstp x19,x20,[sp]\nstp x21,x22,[sp,#16]\nstp x23,x24,[sp,#32]\nstp x25,x26,[sp,#48]\n"
    "stp x27,x28,[sp,#64]\nstp x29,x30,[sp,#80]\nstp d8,d9,[sp,#96]\nstp d10,d11,[sp,#112]\n"
    "stp d12,d13,[sp,#128]\nstp d14,d15,[sp,#144]\n"
    "mov x9,sp\nstr x9,[x0]\nmov sp,x1\n"
    "ldp x19,x20,[sp]\nldp x21,x22,[sp,#16]\nldp x23,x24,[sp,#32]\nldp x25,x26,[sp,#48]\nldp x27,x28,[sp,#64]\n"
    "ldp x29,x30,[sp,#80]\nldp d8,d9,[sp,#96]\nldp d10,d11,[sp,#112]\nldp d12,d13,[sp,#128]\n"
    "ldp d14,d15,[sp,#144]\nadd sp,sp,#160\nret\n");
static void *first_frame(char *stack, void (*entry)())
{
    uintptr_t *const frame = reinterpret_cast<uintptr_t *>(stack + STACK - 160);
    memset(frame, 0, 160);
    frame[11] = reinterpret_cast<uintptr_t>(entry);
    return frame;
}
#else
#error "hostcuda_switch is written for x86-64 and AArch64"
#endif

static void switch_to(Fiber *next)
{
    Fiber *const own = current;
    current = next;
    if (next != &host) threadIdx = next->index;
#ifdef HOSTCUDA_ASAN
    __sanitizer_start_switch_fiber(&own->fake_stack, next->stack, next == &host ? host_stack_bytes : STACK);
#endif
    hostcuda_switch(&own->stack_pointer, next->stack_pointer);
#ifdef HOSTCUDA_ASAN
    __sanitizer_finish_switch_fiber(own->fake_stack, nullptr, nullptr);
#endif
}

static void run_next()
{
    const int id = next_ready();
    Fiber *const next = id < 0 ? &host : &block.fiber[id];
    if (next != current) switch_to(next);
}

void let_others_run()
{
    make_ready(current->id);
    run_next();
}

static void thread_ends(Fiber *fiber);

static void fiber_main()
{
#ifdef HOSTCUDA_ASAN
    const void *bottom;
    size_t bytes;
    __sanitizer_finish_switch_fiber(nullptr, &bottom, &bytes);
    if (host.stack == nullptr) {
        host.stack = static_cast<char *>(const_cast<void *>(bottom));
        host_stack_bytes = bytes;
    }
#endif
    for (;;) { /* a fiber is a thread of one block after the other */
        kernel_call(kernel_argument);
        thread_ends(current);
        run_next();
    }
}

/* ---- barriers and collectives ------------------------------------------------------------------------------------ */

static void release_barrier()
{
    const Fiber *first = nullptr;
    bool reported = false;
    for (int i = 0; i < block.threads; i++) {
        const Fiber *const fiber = &block.fiber[i];
        if (fiber->state != Fiber::AT_BARRIER) continue;
        if (first == nullptr) first = fiber;
        if (!reported && (fiber->line != first->line || strcmp(fiber->file, first->file) != 0)) {
            report("divergent-barrier", "threads of one block meet at %s:%d and at %s:%d", first->file, first->line,
                   fiber->file, fiber->line);
            reported = true;
        }
        make_ready(i);
    }
    block.arrived = 0;
    block.epoch++;
}

static void complete_collective(int warp, unsigned lanes, int what)
{
    Fiber *const fiber = &block.fiber[warp * 32];
    const void *in[32] = {};
    void *out[32] = {};
    uint64_t result[32] = {};
    unsigned ballot = 0, sum = 0;
    for (int l = 0; l < 32; l++) {
        if (!(lanes >> l & 1)) continue;
        if (fiber[l].value != 0) ballot |= 1u << l;
        sum += static_cast<unsigned>(fiber[l].value);
        in[l] = fiber[l].in;
        out[l] = fiber[l].out;
    }
    if (what == CUSTOM) fiber[__builtin_ctz(lanes)].all(in, out);
    if (what == SYNC_WARP) check_warp_sync(warp, lanes);
    for (int l = 0; l < 32; l++) {
        if (!(lanes >> l & 1)) continue;
        const int source = fiber[l].source;
        if (what == BALLOT) result[l] = ballot;
        if (what == ADD) result[l] = sum;
        if (what != SHUFFLE) continue;
        result[l] = lanes >> source & 1 ? fiber[source].value : ~0ull;
        if (!(lanes >> source & 1))
            report("shuffle-inactive", "lane %d of warp %d reads lane %d, which takes no part (mask %08x), at %s:%d", l,
                   warp, source, fiber[l].mask, fiber[l].file, fiber[l].line);
    }
    for (int l = 0; l < 32; l++) {
        if (!(lanes >> l & 1)) continue;
        fiber[l].value = result[l];
        make_ready(warp * 32 + l);
    }
    block.warp_waiting[warp] &= ~lanes;
}

static bool same_collective(const Fiber *a, const Fiber *b)
{
    if (a->what != b->what || a->mask != b->mask) return false;
    return a->what == SYNC_WARP || (a->line == b->line && strcmp(a->file, b->file) == 0);
}

/* Completes the collectives of a warp for which every lane that still runs has come. */
static void try_collectives(int warp)
{
    const Fiber *const fiber = &block.fiber[warp * 32];
    for (unsigned left = block.warp_waiting[warp]; left != 0;) {
        const int first = __builtin_ctz(left);
        const unsigned wanted = (fiber[first].mask | 1u << first) & block.warp_alive[warp];
        bool complete = (block.warp_waiting[warp] & wanted) == wanted;
        for (int l = 0; l < 32 && complete; l++)
            if (wanted >> l & 1) complete = same_collective(&fiber[first], &fiber[l]);
        if (complete) complete_collective(warp, wanted, fiber[first].what);
        left = complete ? block.warp_waiting[warp] : left & ~(1u << first);
    }
}

static void thread_ends(Fiber *fiber)
{
    fiber->state = Fiber::DONE;
    if (fiber->copies > 0) report("async-copy", "a thread ends with an asynchronous copy under way");
    fiber->copies = fiber->group = 0;
    block.alive--;
    block.warp_alive[fiber->warp] &= ~(1u << fiber->lane);
    if (block.arrived > 0 && block.arrived == block.alive) release_barrier();
    if (block.warp_waiting[fiber->warp] != 0) try_collectives(fiber->warp);
}

void sync_threads(const char *file, int line)
{
    current->state = Fiber::AT_BARRIER;
    current->file = file;
    current->line = line;
    if (++block.arrived == block.alive) release_barrier();
    run_next();
}

uint64_t warp_collective(Collective what, unsigned mask, uint64_t value, int source, const char *file, int line)
{
    Fiber *const own = current;
    if (!(mask >> own->lane & 1))
        report("warp-mask", "lane %d calls with mask %08x, which leaves it out, at %s:%d", own->lane, mask, file, line);
    own->state = Fiber::IN_WARP;
    own->what = what;
    own->mask = mask;
    own->value = value;
    own->source = source;
    own->file = file;
    own->line = line;
    block.warp_waiting[own->warp] |= 1u << own->lane;
    try_collectives(own->warp);
    run_next();
    return own->value;
}

void warp_custom(unsigned mask, const void *in, void *out, void (*all)(const void *const *, void *const *),
                 const char *file, int line)
{
    current->in = in;
    current->out = out;
    current->all = all;
    (void)warp_collective(CUSTOM, mask, 0, 0, file, line);
}

/* ---- shared memory and asynchronous copies ----------------------------------------------------------------------- */

/* Not memcpy and memset, which the sanitizers and the checker would take for the kernel's. */
static void plain_copy(char *to, const char *from, int bytes)
{
    for (int i = 0; i < bytes; i++) static_cast<volatile char *>(to)[i] = static_cast<const volatile char *>(from)[i];
}
static void plain_fill(void *to, char value, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++) static_cast<volatile char *>(to)[i] = value;
}

constexpr char NOTHING = '\xff'; /* NaN as fp32 and bf16 */

void *shared_memory(SharedTag *tag, size_t bytes, size_t alignment)
{
    if (tag->block != block.serial) { /* the first thread of the block to come */
        const size_t unit = alignment < 16 ? 16 : alignment;
        const size_t start = (block.static_shared + unit - 1) / unit * unit;
        tag->memory = shared_base + start;
        tag->block = block.serial;
        ASAN_UNPOISON_MEMORY_REGION(tag->memory, bytes);
        check_shared(tag->memory, bytes);
        plain_fill(tag->memory, NOTHING, bytes);
        block.static_shared = start + bytes + 16; /* a gap that nobody may touch */
    }
    return tag->memory;
}

void *dynamic_shared_memory() { return dynamic_base; }

void async_copy(void *shared, const void *global, int bytes, int source_bytes, const void *caller)
{
    Fiber *const own = current;
    if (own->copies == 64) {
        report("async-copy", "more than 64 asynchronous copies of one thread are under way");
        return;
    }
    const bool bad = reinterpret_cast<uintptr_t>(shared) % static_cast<uintptr_t>(bytes) != 0 ||
                     reinterpret_cast<uintptr_t>(global) % static_cast<uintptr_t>(bytes) != 0;
    if (bad) report("misaligned", "asynchronous copy of %d bytes", bytes);
    own->copy[own->copies++] = {
        static_cast<char *>(shared), static_cast<const char *>(global), bytes, source_bytes, own->group, caller};
    const size_t size = static_cast<size_t>(bytes);
    check_access(shared, size, WRITE, true, caller);
    check_shared(shared, size); /* undefined until the wait */
    plain_fill(shared, NOTHING, size);
}

void async_commit() { current->group++; }

void async_wait(int pending)
{
    Fiber *const own = current;
    int kept = 0;
    for (int i = 0; i < own->copies; i++) {
        const AsyncCopy c = own->copy[i];
        if (c.group >= own->group - pending) {
            own->copy[kept++] = c;
            continue;
        }
        if (c.source_bytes > 0) check_access(c.from, static_cast<size_t>(c.source_bytes), READ, true, c.caller);
        check_access(c.to, static_cast<size_t>(c.bytes), WRITE, false, c.caller);
        plain_copy(c.to, c.from, c.source_bytes);
        plain_fill(c.to + c.source_bytes, 0, static_cast<size_t>(c.bytes - c.source_bytes));
    }
    own->copies = kept;
}

float noise(float value, int ulps)
{
    if (!noisy || !std::isfinite(value) || value == 0.0f) return value;
    int32_t bits;
    memcpy(&bits, &value, sizeof bits);
    bits += static_cast<int32_t>(random_below(static_cast<uint32_t>(2 * ulps + 1))) - ulps;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* ---- grids ------------------------------------------------------------------------------------------------------- */

static void report_deadlock()
{
    fatal = true;
    std::map<std::string, int> waiting;
    for (int i = 0; i < block.threads; i++) {
        const Fiber *const fiber = &block.fiber[i];
        if (fiber->state != Fiber::AT_BARRIER && fiber->state != Fiber::IN_WARP) continue;
        const char *const what = fiber->state == Fiber::AT_BARRIER ? "a barrier" : "the rest of a warp";
        waiting[std::string(what) + " at " + fiber->file + ":" + std::to_string(fiber->line)]++;
    }
    std::string text;
    for (const auto &place : waiting) text += std::to_string(place.second) + " wait for " + place.first + "; ";
    report("deadlock", "%d of %d threads are left and none can run: %s", block.alive, block.threads, text.c_str());
}

static void *map_memory(size_t bytes)
{
    void *const memory =
        mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) {
        perror("hostcuda: cannot map memory");
        _Exit(2);
    }
    return memory;
}

static void prepare_once()
{
    if (stacks != nullptr) return;
    const size_t each = STACK + 4096; /* with a page that must not be touched */
    stacks = static_cast<char *>(map_memory(MOST_THREADS * each));
    for (size_t i = 0; i < MOST_THREADS; i++) {
        (void)mprotect(stacks + i * each, 4096, PROT_NONE);
        block.fiber[i].stack = stacks + i * each + 4096;
    }
    shared_base = static_cast<char *>(map_memory(2 * SHARED_SPAN));
    dynamic_base = shared_base + SHARED_SPAN;
}

static void start_threads(dim3 threads)
{
    block.threads = block.alive = static_cast<int>(threads.x * threads.y * threads.z);
    block.warps = (block.threads + 31) / 32;
    block.arrived = block.epoch = 0;
    queue_head = queue_tail = 0;
    for (int i = 0; i < block.threads; i++) {
        Fiber *const fiber = &block.fiber[i];
        const unsigned id = static_cast<unsigned>(i);
        fiber->id = i;
        fiber->lane = i % 32;
        fiber->warp = i / 32;
        fiber->clock = 1;
        fiber->index = {id % threads.x, id / threads.x % threads.y, id / (threads.x * threads.y)};
        if (!fiber->started) {
            fiber->started = true;
            fiber->copies = fiber->group = 0;
            fiber->stack_pointer = first_frame(fiber->stack, fiber_main);
        }
        make_ready(i);
    }
    for (int w = 0; w < block.warps; w++) {
        const int lanes = block.threads - w * 32;
        block.warp_alive[w] = lanes >= 32 ? ~0u : (1u << lanes) - 1;
        block.warp_waiting[w] = 0;
    }
}

static void run_block(dim3 threads, size_t shared)
{
    block.serial++;
    block.static_shared = 0;
    block.dynamic_shared = shared;
    ASAN_UNPOISON_MEMORY_REGION(shared_base, 2 * SHARED_SPAN);
    memset(dynamic_base, NOTHING, shared);
    ASAN_POISON_MEMORY_REGION(shared_base, 2 * SHARED_SPAN);
    ASAN_UNPOISON_MEMORY_REGION(dynamic_base, shared);
    start_threads(threads);
    check_block_begins();
    if (shared > 0) check_shared(dynamic_base, shared);
    current = &host;
    in_kernel = true;
    switch_to(&block.fiber[next_ready()]);
    in_kernel = false;
    count_block();
    if (block.alive == 0) return;
    report_deadlock();
    for (int i = 0; i < block.threads; i++) { /* their stacks are of no more use */
        block.fiber[i].started = false;
        ASAN_UNPOISON_MEMORY_REGION(block.fiber[i].stack, STACK);
    }
}

cudaError_t run_grid(void (*call)(void **), void **argument, const char *name, dim3 grid, dim3 threads, size_t shared,
                     size_t most_shared)
{
    prepare_once();
    const uint64_t blocks = static_cast<uint64_t>(grid.x) * grid.y * grid.z;
    std::vector<uint32_t> order(blocks);
    for (uint64_t i = 0; i < blocks; i++)
        order[i] = static_cast<uint32_t>(schedule == HOSTCUDA_REVERSE ? blocks - 1 - i : i);
    if (schedule == HOSTCUDA_RANDOM)
        for (uint64_t i = blocks; i > 1; i--) std::swap(order[i - 1], order[random_below(static_cast<uint32_t>(i))]);
    kernel_call = call;
    kernel_argument = argument;
    kernel_name = name;
    launch_number++;
    fatal = false;
    blockDim = threads;
    gridDim = grid;
    for (uint64_t i = 0; i < blocks && !fatal; i++) {
        block_number = order[i];
        blockIdx = {order[i] % grid.x, order[i] / grid.x % grid.y, order[i] / (grid.x * grid.y)};
        run_block(threads, shared);
        if (block.static_shared + shared > most_shared) {
            report("shared-memory", "%zu static and %zu dynamic bytes of shared memory, of %zu", block.static_shared,
                   shared, most_shared);
            fatal = true;
        }
    }
    check_launch_ends();
    kernel_name = "?";
    return fatal ? cudaErrorLaunchFailure : cudaSuccess;
}

} // namespace hostcuda

extern "C" {
int hostcuda_reports(void) { return hostcuda::reports; }
const char *hostcuda_first_report(void) { return hostcuda::first_report.c_str(); }
void hostcuda_forget_reports(void)
{
    hostcuda::reports = 0;
    hostcuda::first_report.clear();
}
void hostcuda_set_schedule(int schedule, uint64_t seed)
{
    hostcuda::schedule = schedule;
    hostcuda::random_state = 0x9E3779B97F4A7C15ull ^ (seed * 0xD1B54A32D192ED03ull + 1);
}
void hostcuda_set_noise(int on) { hostcuda::noisy = on; }
}
