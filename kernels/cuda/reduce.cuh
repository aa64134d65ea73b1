/* Reductions over a warp and a block, in a fixed order: the same bits in every run. */
#ifndef LS_KERNELS_CUDA_REDUCE_CUH
#define LS_KERNELS_CUDA_REDUCE_CUH

#include "kernels/cuda/compat.cuh"

namespace ls
{

struct Sum {
    template <class T> static __device__ __forceinline__ T of(T a, T b) { return a + b; }
    template <class T> static __device__ __forceinline__ T none() { return T(0); }
};

struct Maximum { /* passes over a NaN */
    static __device__ __forceinline__ float of(float a, float b) { return fmaxf(a, b); }
};

template <class T> __device__ __forceinline__ T from_lane_across(T v, int offset)
{
    return __shfl_xor_sync(ALL_LANES, v, offset);
}

/* Every lane gets the result. Op treats its two sides alike, so all lanes agree to the bit. */
template <class Op, class T> __device__ __forceinline__ T warp_reduce(T v)
{
#pragma unroll
    for (int offset = WARP / 2; offset > 0; offset /= 2) v = Op::of(v, from_lane_across(v, offset));
    return v;
}

/* Over the blockDim.x threads of each row of a block; blockDim.x is a multiple of a warp, at most 1024 threads in all.
 * Every thread of the row gets the result. All threads of the block must call. */
template <class Op, class T> __device__ __forceinline__ T row_reduce(T v)
{
    v = warp_reduce<Op>(v);
    const int warps = blockDim.x / WARP;
    if (warps == 1) return v;
    LS_SHARED(T, part, [WARP]);
    const int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
    T *const own = part + threadIdx.y * warps;
    __syncthreads(); /* the last reduction's parts are read */
    if (lane == 0) own[warp] = v;
    __syncthreads();
    return warp_reduce<Op>(lane < warps ? own[lane] : Op::template none<T>());
}

} // namespace ls

#endif
