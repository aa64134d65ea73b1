/* The one header under every kernel: the same source for nvcc and for the CPU run of tests/hostcuda.
 *
 * Kernels declare shared memory with LS_SHARED and LS_SHARED_DYNAMIC and are started with launch<kernel>(...); PTX
 * lives in ptx.cuh. Everything else is CUDA C++17 as nvcc reads it. */
#ifndef LS_KERNELS_CUDA_COMPAT_CUH
#define LS_KERNELS_CUDA_COMPAT_CUH

#ifdef __CUDACC__
#include <cuda_bf16.h>
#include <cuda_runtime.h>
#define LS_SHARED(type, name, dimensions) __shared__ __align__(16) type name dimensions
#define LS_SHARED_DYNAMIC(type, name)                                                                                  \
    extern __shared__ __align__(16) unsigned char ls_dynamic_shared[];                                                 \
    type *const name = reinterpret_cast<type *>(ls_dynamic_shared)
#else
#include "hostcuda.h"
#endif

#include "kernels/cuda/launch.h"

#include <utility>

namespace ls
{

using bf16 = __nv_bfloat16;

/* How kernel K is started, with its parameters' own types, so that arguments convert as in a call. */
template <auto K> struct Kernel;
template <class... P, void (*K)(P...)> struct Kernel<K> {
#ifndef __CUDACC__
    template <size_t... I> HOSTCUDA_UNWATCHED static void unpack(void **argument, std::index_sequence<I...>)
    {
        K(*static_cast<P *>(argument[I])...);
    }
    static void call(void **argument) { unpack(argument, std::index_sequence_for<P...>{}); }
    static const char *name() { return __PRETTY_FUNCTION__; }
    static inline const hostcuda::Registration<sizeof(P)...> registration{reinterpret_cast<const void *>(K), call,
                                                                          name()};
#endif
    static cudaError_t launch(dim3 grid, dim3 block, size_t shared, cudaStream_t stream, P... parameters)
    {
#ifndef __CUDACC__
        registration.use();
#endif
        const void *const kernel = reinterpret_cast<const void *>(K);
        if (shared > 48 * 1024) {
            const cudaError_t status =
                cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(shared));
            if (status != cudaSuccess) return status;
        }
        void *argument[] = {static_cast<void *>(&parameters)...};
        return cudaLaunchKernel(kernel, grid, block, argument, shared, stream);
    }
};

template <auto K, class... A>
cudaError_t launch(dim3 grid, dim3 block, size_t shared, cudaStream_t stream, A &&...argument)
{
    return Kernel<K>::launch(grid, block, shared, stream, std::forward<A>(argument)...);
}

/* ---- sizes ------------------------------------------------------------------------------------------------------- */

__host__ __device__ constexpr int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }
__host__ __device__ constexpr int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

constexpr int WARP = 32;
constexpr unsigned ALL_LANES = 0xffffffffu;
constexpr int64_t MOST_BLOCKS = 0x7fffffff; /* of a grid along x; y and z end at 65535 */

/* Blocks for `count` items, `each` to a block; kernels stride over what a grid cannot hold. */
inline unsigned blocks_for(int64_t count, int64_t each)
{
    return static_cast<unsigned>(smaller(divide_up(count, each), MOST_BLOCKS));
}

/* Division of 63-bit numbers by one that a launch knows: a product and a shift instead of a call that costs a hundred
 * instructions and many registers. With s = ceil(log2 d) and magic = floor(2^(63+s) / d) + 1, the quotient of any
 * n < 2^63 is n * magic / 2^(63+s) (Granlund and Montgomery 1994). */
class Divisor
{
    int64_t divisor;
    uint64_t magic; /* 0: the divisor is 1 */
    int shift;

  public:
    explicit Divisor(int64_t d) : divisor(d), magic(0), shift(0)
    {
        while (int64_t{1} << shift < d) shift++;
        if (d > 1)
            magic = static_cast<uint64_t>((static_cast<unsigned __int128>(1) << (63 + shift)) /
                                          static_cast<unsigned __int128>(d)) +
                    1;
    }
    __device__ __forceinline__ int64_t quotient(int64_t n) const
    {
        return magic == 0 ? n : static_cast<int64_t>(__umul64hi(static_cast<uint64_t>(n), magic) >> (shift - 1));
    }
    /* Row n, the t-th of sample `quotient`, as row t of slab `slot`, where a slab has `divisor` rows. */
    __device__ __forceinline__ int64_t place(int64_t slot, int64_t n, int64_t quotient) const
    {
        return (slot - quotient) * divisor + n;
    }
};

/* Threads side by side on a row of `words`, and rows of a block of 256 threads: a power of two from a warp up. */
inline dim3 row_block(int64_t words)
{
    unsigned x = WARP;
    while (x < 256 && x < words) x *= 2;
    return dim3(x, 256 / x);
}

/* ---- elements ---------------------------------------------------------------------------------------------------- */

__device__ __forceinline__ float to_float(float x) { return x; }
__device__ __forceinline__ float to_float(bf16 x) { return __bfloat162float(x); }
template <class T> __device__ __forceinline__ T from_float(float x);
template <> __device__ __forceinline__ float from_float<float>(float x) { return x; }
template <> __device__ __forceinline__ bf16 from_float<bf16>(float x) { return __float2bfloat16_rn(x); }

__device__ __forceinline__ float low_half(uint32_t pair) { return __uint_as_float(pair << 16); }
__device__ __forceinline__ float high_half(uint32_t pair) { return __uint_as_float(pair & 0xffff0000u); }
/* Two bf16 in a register, `low` at the lower address. */
__device__ __forceinline__ uint32_t pair_of(float low, float high)
{
    const __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
    uint32_t bits;
    memcpy(&bits, &pair, sizeof bits);
    return bits;
}

/* W consecutive elements of memory as floats in registers: one access of W * sizeof(T) bytes, to which `p` is aligned
 * (fp32 of 8 elements: two accesses of 16). */
template <int W> struct Floats {
    float at[W];
};

template <int W> __device__ __forceinline__ Floats<W> load(const float *p)
{
    Floats<W> v;
    if constexpr (W == 1) {
        v.at[0] = *p;
    } else {
#pragma unroll
        for (int i = 0; i < W; i += 4) {
            const float4 word = *reinterpret_cast<const float4 *>(p + i);
            v.at[i] = word.x, v.at[i + 1] = word.y, v.at[i + 2] = word.z, v.at[i + 3] = word.w;
        }
    }
    return v;
}

template <int W> __device__ __forceinline__ Floats<W> load(const bf16 *p)
{
    Floats<W> v;
    if constexpr (W == 1) {
        v.at[0] = to_float(*p);
    } else if constexpr (W == 4) {
        const uint2 word = *reinterpret_cast<const uint2 *>(p);
        v.at[0] = low_half(word.x), v.at[1] = high_half(word.x);
        v.at[2] = low_half(word.y), v.at[3] = high_half(word.y);
    } else {
        const uint4 word = *reinterpret_cast<const uint4 *>(p);
        v.at[0] = low_half(word.x), v.at[1] = high_half(word.x);
        v.at[2] = low_half(word.y), v.at[3] = high_half(word.y);
        v.at[4] = low_half(word.z), v.at[5] = high_half(word.z);
        v.at[6] = low_half(word.w), v.at[7] = high_half(word.w);
    }
    return v;
}

template <int W> __device__ __forceinline__ void store(float *p, const Floats<W> &v)
{
    if constexpr (W == 1) {
        *p = v.at[0];
    } else {
#pragma unroll
        for (int i = 0; i < W; i += 4)
            *reinterpret_cast<float4 *>(p + i) = make_float4(v.at[i], v.at[i + 1], v.at[i + 2], v.at[i + 3]);
    }
}

template <int W> __device__ __forceinline__ void store(bf16 *p, const Floats<W> &v)
{
    if constexpr (W == 1)
        *p = from_float<bf16>(v.at[0]);
    else if constexpr (W == 4)
        *reinterpret_cast<uint2 *>(p) = make_uint2(pair_of(v.at[0], v.at[1]), pair_of(v.at[2], v.at[3]));
    else
        *reinterpret_cast<uint4 *>(p) = make_uint4(pair_of(v.at[0], v.at[1]), pair_of(v.at[2], v.at[3]),
                                                   pair_of(v.at[4], v.at[5]), pair_of(v.at[6], v.at[7]));
}

/* Where the first of decoding's rows stands: `start` after a position in memory, NULL: after 0. */
__device__ __forceinline__ int64_t first_position(const int32_t *base, int64_t start)
{
    return base != nullptr ? *base + start : start;
}

/* Elements in a word of 16 bytes. */
template <class T> constexpr int WIDE = 16 / static_cast<int>(sizeof(T));

/* True when rows of `width` elements of T can be walked in words of W elements from each of these pointers. */
template <int W, class T> bool aligned(int64_t width, const T *p)
{
    return width % W == 0 && reinterpret_cast<uintptr_t>(p) % smaller(16, W * static_cast<int64_t>(sizeof(T))) == 0;
}
template <int W, class T, class... Rest> bool aligned(int64_t width, const T *p, const Rest *...rest)
{
    return aligned<W>(width, p) && aligned<W>(width, rest...);
}

} // namespace ls

#endif
