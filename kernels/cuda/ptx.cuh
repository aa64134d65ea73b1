/* Instructions that CUDA C++ has no name for: tensor-core products, matrix loads, asynchronous copies, the fast
 * exponential. Each has a twin for the CPU run, written from the PTX ISA (tests/hostcuda). All lanes of a warp call. */
#ifndef LS_KERNELS_CUDA_PTX_CUH
#define LS_KERNELS_CUDA_PTX_CUH

#include "kernels/cuda/compat.cuh"

#ifndef __CUDACC__
#include "tensor_core.h"
#endif

namespace ls
{

/* d[16,8] += a[16,16] b[16,8], bf16 in, fp32 sums. Lane 4*g + t holds of a: rows g and g+8, columns 2t, 2t+1, then the
 * same plus 8; of b: rows 2t, 2t+1 (and plus 8), column g; of d: rows g and g+8, columns 2t, 2t+1. */
/* r[j] = this lane's pair of matrix j of 8x8 bf16: row lane/4, columns 2*(lane%4) and the next; transposed: the rows of
 * those two numbers are columns. Lane 8*j + i gives the address of row i of matrix j, 16 bytes of shared memory. */

#ifdef __CUDACC__

__device__ __forceinline__ unsigned shared_address(const void *p)
{
    return static_cast<unsigned>(__cvta_generic_to_shared(p));
}

__device__ __forceinline__ void mma_bf16(float (&d)[4], const unsigned (&a)[4], unsigned b0, unsigned b1)
{
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
                 "{%0,%1,%2,%3};\n"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

__device__ __forceinline__ void load_matrix(unsigned (&r)[4], const bf16 *row)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];\n"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(shared_address(row))
                 : "memory");
}

__device__ __forceinline__ void load_matrix_transposed(unsigned (&r)[4], const bf16 *row)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];\n"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(shared_address(row))
                 : "memory");
}

/* Copies 16 bytes to shared memory, past the L1 cache; of the source only `bytes` are read, the rest become 0. */
__device__ __forceinline__ void copy_async(void *shared, const void *global, int bytes)
{
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;\n" ::"r"(shared_address(shared)), "l"(global),
                 "r"(bytes)
                 : "memory");
}

__device__ __forceinline__ void commit_copies() { asm volatile("cp.async.commit_group;\n" ::: "memory"); }

/* Waits for this thread's copies, all but the last N groups; other threads need a barrier after it. */
template <int N> __device__ __forceinline__ void wait_copies()
{
    asm volatile("cp.async.wait_group %0;\n" ::"n"(N) : "memory");
}

/* 2^x to 2 units in the last place; 2^-infinity is 0. */
__device__ __forceinline__ float fast_exp2(float x)
{
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

#else

static inline void mma_bf16(float (&d)[4], const unsigned (&a)[4], unsigned b0, unsigned b1, HOSTCUDA_PLACE)
{
    const unsigned b[] = {b0, b1};
    hostcuda::mma_bf16(d, a, b, file, line);
}
/* Out of line, so that the return address tells the place in the kernel. */
[[maybe_unused]] __attribute__((noinline)) HOSTCUDA_UNWATCHED static void load_matrix(unsigned (&r)[4], const bf16 *row,
                                                                                      HOSTCUDA_PLACE)
{
    hostcuda::load_matrix_x4(r, row, false, file, line, __builtin_return_address(0));
}
[[maybe_unused]] __attribute__((noinline)) HOSTCUDA_UNWATCHED static void
load_matrix_transposed(unsigned (&r)[4], const bf16 *row, HOSTCUDA_PLACE)
{
    hostcuda::load_matrix_x4(r, row, true, file, line, __builtin_return_address(0));
}
[[maybe_unused]] __attribute__((noinline)) HOSTCUDA_UNWATCHED static void copy_async(void *shared, const void *global,
                                                                                     int bytes)
{
    hostcuda::async_copy(shared, global, 16, bytes, __builtin_return_address(0));
}
static inline void commit_copies() { hostcuda::async_commit(); }
template <int N> static inline void wait_copies() { hostcuda::async_wait(N); }
static inline float fast_exp2(float x) { return hostcuda::noise(exp2f(x), 2); }

#endif

} // namespace ls

#endif
