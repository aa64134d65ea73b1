/* Between the parts of the CPU run of CUDA kernels: the executor (exec.cpp), the checker (check.cpp, counters.cpp), the
 * stand-in for CUDA's runtime library (device.h), and the tests that steer them. */
#ifndef HOSTCUDA_RUNTIME_H
#define HOSTCUDA_RUNTIME_H

#include <stddef.h>
#include <stdint.h>

/* ---- what tests steer and read, from C as well ------------------------------------------------------------------- */

#ifdef __cplusplus
extern "C" {
#endif

enum hostcuda_schedule { HOSTCUDA_FIFO, HOSTCUDA_REVERSE, HOSTCUDA_RANDOM };
/* Which thread of a block, and which block of a grid, runs next. */
void hostcuda_set_schedule(int schedule, uint64_t seed);
/* Errors at random, within what CUDA documents, in approximate instructions. */
void hostcuda_set_noise(int on);
/* Work is held back until somebody waits for it, streams in a random order: a missing wait shows. */
void hostcuda_set_deferred(int on, uint64_t seed);
enum hostcuda_streams { HOSTCUDA_STREAMS_RANDOM, HOSTCUDA_STREAMS_LATE, HOSTCUDA_STREAMS_EARLY };
/* Which stream goes on while the host waits for one: any; only those that this needs; all others first. */
void hostcuda_set_streams(int order);
void hostcuda_set_preemption(int per_1024); /* checker: odds that another thread runs before an access to memory */
void hostcuda_set_memory_limit(size_t bytes);
void hostcuda_set_pinned_limit(size_t bytes);
void hostcuda_set_devices(int count);
void hostcuda_set_visible(int number);     /* the next of them is this one of the machine's */
int hostcuda_gpu(void);                    /* of the machine's, the one in use */
void hostcuda_fail_in(int calls);          /* the call after so many more fails */
void hostcuda_fail_at(const char *kernel); /* calls are then launches of kernels whose name contains it */
void hostcuda_set_failure(int error);      /* with this cudaError */
void hostcuda_set_capability(int version); /* 90: 9.0 */

int hostcuda_reports(void); /* misuse found so far; each is printed once */
const char *hostcuda_first_report(void);
void hostcuda_forget_reports(void);
void hostcuda_reset(void); /* drops queued work and the device's sticky error */
size_t hostcuda_live_allocations(void);
size_t hostcuda_peak_bytes(void); /* most that was allocated at a time */
size_t hostcuda_peak_pinned_bytes(void);
size_t hostcuda_waits(void);     /* calls that made the host wait for work that was not over */
size_t hostcuda_downloads(void); /* copies from the device to the host */
size_t hostcuda_graphs(void);    /* captured or instantiated, and not destroyed */
size_t hostcuda_graph_launches(void);

/* Memory traffic of the kernels whose name contains `kernel`, as a profiler counts it; all zero without the checker. */
typedef struct hostcuda_traffic {
    uint64_t requests, sectors;             /* of global memory: one request a warp instruction; 32-byte sectors */
    uint64_t shared_requests, shared_waves; /* of shared memory: a wave more than a request is a bank conflict */
} hostcuda_traffic;
hostcuda_traffic hostcuda_traffic_of(const char *kernel);
void hostcuda_forget_traffic(void);
void hostcuda_count_traffic(int on);
void hostcuda_print_traffic(void);

#ifdef __cplusplus
}

/* ---- within ------------------------------------------------------------------------------------------------------ */

#include <cuda_runtime.h>

#if defined(__SANITIZE_ADDRESS__)
#define HOSTCUDA_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define HOSTCUDA_ASAN 1
#endif
#endif
#ifdef HOSTCUDA_ASAN
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#else
#define ASAN_POISON_MEMORY_REGION(p, n) ((void)(p), (void)(n))
#define ASAN_UNPOISON_MEMORY_REGION(p, n) ((void)(p), (void)(n))
#endif

namespace hostcuda
{

constexpr int MOST_THREADS = 1024;              /* of a block */
constexpr size_t MOST_SHARED = 227 * 1024;      /* of a block, as on sm_90 */
constexpr size_t SHARED_SPAN = 2 * MOST_SHARED; /* room for static arrays with gaps; dynamic memory follows */
constexpr size_t STACK = 256 * 1024;

struct AsyncCopy {
    char *to;
    const char *from;
    int bytes, source_bytes, group;
    const void *caller;
};

struct Fiber {
    void *stack_pointer, *fake_stack;
    char *stack;
    uint3 index;
    int id, lane, warp;
    enum State : uint8_t { READY, AT_BARRIER, IN_WARP, DONE } state;
    bool started;
    /* what it waits for */
    const char *file;
    int line, what, source;
    unsigned mask;
    uint64_t value;
    const void *in;
    void *out;
    void (*all)(const void *const *, void *const *);
    uint16_t clock; /* the checker's: counts its warp synchronisations */
    AsyncCopy copy[64];
    int copies, group;
};

struct Block {
    Fiber fiber[MOST_THREADS];
    int threads, warps, alive, arrived, epoch; /* epoch: barriers passed */
    uint64_t serial;                           /* unique to each block that runs */
    unsigned warp_alive[32], warp_waiting[32];
    uint16_t seen[32][32][32]; /* the checker's vector clocks: [warp][lane][of lane] */
    size_t static_shared, dynamic_shared;
};

extern Block block;
extern Fiber *current;
extern bool in_kernel;
extern const char *kernel_name;
extern uint32_t launch_number;
extern uint64_t block_number; /* in its grid */
extern char *shared_base, *dynamic_base, *stacks;
extern char *arena; /* device memory */
extern size_t arena_bytes;

void report(const char *kind, const char *format, ...) __attribute__((format(printf, 2, 3)));
bool is_live(const void *p, size_t bytes); /* within one allocation of device memory */
void let_others_run();
cudaError_t run_grid(void (*call)(void **), void **argument, const char *name, dim3 grid, dim3 threads, size_t shared,
                     size_t most_shared);

/* The checker's hooks; without it they do nothing (no_check.cpp). */
void check_block_begins();
void check_launch_ends();
void check_shared(void *p, size_t bytes);                       /* comes to life, undefined */
void check_device(void *p, size_t bytes, bool live);            /* the same, or ends */
void check_defined(const void *p, size_t bytes);                /* written from outside of kernels */
void check_copy(const void *p, size_t bytes, const char *what); /* read from outside of kernels */
void check_warp_sync(int warp, unsigned lanes);
enum Access { READ, WRITE };
void check_access(const void *p, size_t bytes, Access access, bool counted, const void *caller);
void count_access(uintptr_t address, size_t bytes, Access access, bool shared, const void *caller);
void count_block(); /* the block's accesses are complete */

} // namespace hostcuda
#endif

#endif
