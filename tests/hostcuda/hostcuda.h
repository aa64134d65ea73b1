/* The CUDA device language as plain C++17, for tests alone: the .cu files that nvcc compiles are compiled by g++ or
 * clang++ with this header in nvcc's place and run on the CPU, one fiber a thread (exec.cpp).
 *
 * Types and the runtime's declarations come from CUDA's own headers, which need no nvcc. What is here is what those
 * leave out: the built-in variables, barriers, shuffles, votes, atomics, and the arithmetic intrinsics. */
#ifndef HOSTCUDA_H
#define HOSTCUDA_H

#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include <math.h>
#include <stdint.h>
#include <string.h>

#ifndef __launch_bounds__
#define __launch_bounds__(...)
#endif
#undef __shared__ /* would silently become a variable of the stack: kernels use LS_SHARED and LS_SHARED_DYNAMIC */

#define HOSTCUDA_UNWATCHED __attribute__((no_sanitize("thread")))
#define HOSTCUDA_PLACE const char *file = __builtin_FILE(), int line = __builtin_LINE()

/* Written at every change of fiber. */
extern uint3 threadIdx, blockIdx;
extern dim3 blockDim, gridDim;
static constexpr int warpSize = 32;

namespace hostcuda
{

/* ---- the executor's side ----------------------------------------------------------------------------------------- */

enum Collective { SHUFFLE = 1, BALLOT, SYNC_WARP, ADD, CUSTOM };

void sync_threads(const char *file, int line);
uint64_t warp_collective(Collective what, unsigned mask, uint64_t value, int source, const char *file, int line);
/* `all` sees the pointers that the 32 lanes passed, once all of them have come. */
void warp_custom(unsigned mask, const void *in, void *out, void (*all)(const void *const *in, void *const *out),
                 const char *file, int line);

struct SharedTag { /* one a declaration of shared memory */
    uint64_t block;
    void *memory;
};
void *shared_memory(SharedTag *tag, size_t bytes, size_t alignment);
void *dynamic_shared_memory();

/* Some units in the last place, at random, where the GPU's instruction is only so exact and noise is on. */
float noise(float value, int ulps);

void async_copy(void *shared, const void *global, int bytes, int source_bytes, const void *caller);
void async_commit();
void async_wait(int pending);

void register_kernel(const void *kernel, void (*call)(void **), const char *signature, const size_t *sizes, int count);

template <size_t... sizes> struct Registration {
    Registration(const void *kernel, void (*call)(void **), const char *signature)
    {
        static const size_t list[] = {sizes..., 0};
        register_kernel(kernel, call, signature, list, static_cast<int>(sizeof...(sizes)));
    }
    void use() const {}
};

/* ---- shuffles ---------------------------------------------------------------------------------------------------- */

static inline int lane()
{
    return static_cast<int>((threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z)) & 31u);
}

template <class T> static inline T shuffle(unsigned mask, T value, int source, const char *file, int line)
{
    static_assert(sizeof(T) <= 8, "a shuffle moves at most 8 bytes");
    uint64_t bits = 0;
    memcpy(&bits, &value, sizeof value);
    bits = warp_collective(SHUFFLE, mask, bits, source, file, line);
    memcpy(static_cast<void *>(&value), &bits, sizeof value);
    return value;
}

} // namespace hostcuda

#define LS_SHARED(type, name, dimensions)                                                                              \
    typedef type name##_shared_type dimensions;                                                                        \
    static hostcuda::SharedTag name##_shared_tag;                                                                      \
    name##_shared_type &name = *static_cast<name##_shared_type *>(                                                     \
        hostcuda::shared_memory(&name##_shared_tag, sizeof(name##_shared_type), alignof(name##_shared_type)))
#define LS_SHARED_DYNAMIC(type, name) type *const name = static_cast<type *>(hostcuda::dynamic_shared_memory())

static inline void __syncthreads(HOSTCUDA_PLACE) { hostcuda::sync_threads(file, line); }
static inline void __syncwarp(unsigned mask = 0xffffffffu, HOSTCUDA_PLACE)
{
    (void)hostcuda::warp_collective(hostcuda::SYNC_WARP, mask, 0, 0, file, line);
}
static inline unsigned __ballot_sync(unsigned mask, int predicate, HOSTCUDA_PLACE)
{
    return static_cast<unsigned>(hostcuda::warp_collective(hostcuda::BALLOT, mask, predicate != 0, 0, file, line));
}
static inline unsigned __reduce_add_sync(unsigned mask, unsigned value, HOSTCUDA_PLACE)
{
    return static_cast<unsigned>(hostcuda::warp_collective(hostcuda::ADD, mask, value, 0, file, line));
}
template <class T> static inline T __shfl_sync(unsigned mask, T value, int source, int width = 32, HOSTCUDA_PLACE)
{
    const int first = hostcuda::lane() & ~(width - 1);
    return hostcuda::shuffle(mask, value, first | (source & (width - 1)), file, line);
}
template <class T> static inline T __shfl_xor_sync(unsigned mask, T value, int flip, int width = 32, HOSTCUDA_PLACE)
{
    const int own = hostcuda::lane(), source = own ^ flip;
    return hostcuda::shuffle(mask, value, source >= (own & ~(width - 1)) + width ? own : source, file, line);
}
template <class T> static inline T __shfl_down_sync(unsigned mask, T value, unsigned by, int width = 32, HOSTCUDA_PLACE)
{
    const int own = hostcuda::lane(), source = own + static_cast<int>(by);
    return hostcuda::shuffle(mask, value, source >= (own & ~(width - 1)) + width ? own : source, file, line);
}
template <class T> static inline T __shfl_up_sync(unsigned mask, T value, unsigned by, int width = 32, HOSTCUDA_PLACE)
{
    const int own = hostcuda::lane(), source = own - static_cast<int>(by);
    return hostcuda::shuffle(mask, value, source < (own & ~(width - 1)) ? own : source, file, line);
}

/* ---- arithmetic -------------------------------------------------------------------------------------------------- */

static inline float __fmul_rn(float a, float b) { return a * b; }
static inline float __fadd_rn(float a, float b) { return a + b; }
static inline float __fmaf_rn(float a, float b, float c) { return fmaf(a, b, c); }
static inline float rsqrtf(float x) { return hostcuda::noise(1.0f / sqrtf(x), 2); }
static inline unsigned __float_as_uint(float x)
{
    unsigned bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}
static inline float __uint_as_float(unsigned bits)
{
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}
static inline unsigned long long __umul64hi(unsigned long long a, unsigned long long b)
{
    return static_cast<unsigned long long>(static_cast<unsigned __int128>(a) * b >> 64);
}
static inline int min(int a, int b) { return a < b ? a : b; }
static inline int max(int a, int b) { return a > b ? a : b; }
static inline int __popc(unsigned x) { return __builtin_popcount(x); }
static inline int __ffs(int x) { return __builtin_ffs(x); }

#endif
