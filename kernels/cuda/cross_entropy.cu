/* Softmax cross-entropy with its gradient in place: one block a row.
 *
 * The first pass keeps a running maximum and sum (online softmax, Milakov and Gimelshein 2018), the second writes the
 * gradient. A row that fits is staged in shared memory between them, so logits cross the memory bus once each way;
 * longer rows are read again, from the L2 cache into which the first pass has just brought them. */
#include "kernels/cuda/reduce.cuh"

namespace ls
{

constexpr int ENTROPY_THREADS = 512;
constexpr size_t MOST_STAGED = 112 * 1024; /* two blocks of an A100 or H100 multiprocessor hold a row each */

/* sum of e^(x - largest) over some numbers. No numbers: largest is -infinity and sum 0. */
struct Softmax {
    float largest, sum;
};

__device__ __forceinline__ Softmax from_lane_across(Softmax v, int offset)
{
    return {__shfl_xor_sync(ALL_LANES, v.largest, offset), __shfl_xor_sync(ALL_LANES, v.sum, offset)};
}

struct JoinSoftmax {
    static __device__ __forceinline__ Softmax of(Softmax a, Softmax b)
    {
        const float largest = fmaxf(a.largest, b.largest);
        if (largest == -INFINITY) return {largest, a.sum + b.sum};
        return {largest,
                __fadd_rn(__fmul_rn(a.sum, expf(a.largest - largest)), __fmul_rn(b.sum, expf(b.largest - largest)))};
    }
    template <class T> static __device__ __forceinline__ T none() { return {-INFINITY, 0.0f}; }
};

/* fmaxf passes over a NaN, but the sum takes it up: e^(NaN - largest). */
template <int W> __device__ __forceinline__ void take(Softmax &all, const Floats<W> &x)
{
    float largest = all.largest;
#pragma unroll
    for (int i = 0; i < W; i++) largest = fmaxf(largest, x.at[i]);
    const float base = largest == -INFINITY ? 0.0f : largest;
    float sum = all.sum * expf(all.largest - base);
#pragma unroll
    for (int i = 0; i < W; i++) sum += expf(x.at[i] - base);
    all = {largest, sum};
}

template <class T, int W, bool STAGED>
__global__ void __launch_bounds__(ENTROPY_THREADS)
    cross_entropy_kernel(float *__restrict__ loss, T *__restrict__ logits, const int32_t *__restrict__ target,
                         float gradient_scale, int64_t rows, int64_t V)
{
    LS_SHARED_DYNAMIC(T, stage);
    for (int64_t row = blockIdx.x; row < rows; row += gridDim.x) {
        T *const x = logits + row * V;
        const int64_t first = static_cast<int64_t>(threadIdx.x) * W;
        const int32_t right = target[row];
        if (right < 0) { /* the whole block takes this branch or none of it */
            if (threadIdx.x == 0) loss[row] = 0.0f;
            if (gradient_scale != 0.0f)
                for (int64_t v = first; v < V; v += ENTROPY_THREADS * W) store<W>(x + v, Floats<W>{});
            continue;
        }
        Softmax all = {-INFINITY, 0.0f};
        for (int64_t v = first; v < V; v += ENTROPY_THREADS * W) {
            const Floats<W> word = load<W>(x + v);
            if constexpr (STAGED) store<W>(stage + v, word); /* read back by this thread alone */
            take<W>(all, word);
        }
        const float right_logit =
            threadIdx.x == 0 ? to_float(x[right]) : 0.0f; /* before the gradient takes its place */
        all = row_reduce<JoinSoftmax>(all);
        const float lse = all.largest + logf(all.sum);
        if (threadIdx.x == 0) loss[row] = lse - right_logit;
        if (gradient_scale == 0.0f) continue;
        for (int64_t v = first; v < V; v += ENTROPY_THREADS * W) {
            Floats<W> word = load<W>(STAGED ? stage + v : x + v);
#pragma unroll
            for (int i = 0; i < W; i++)
                word.at[i] = gradient_scale * (expf(word.at[i] - lse) - (v + i == right ? 1.0f : 0.0f));
            store<W>(x + v, word);
        }
    }
}

template <class T, int W>
static cudaError_t cross_entropy(cudaStream_t stream, float *loss, T *logits, const int32_t *target,
                                 float gradient_scale, int64_t R, int64_t V)
{
    const size_t bytes = static_cast<size_t>(V) * sizeof(T);
    if (gradient_scale != 0.0f && bytes <= MOST_STAGED)
        return launch<cross_entropy_kernel<T, W, true>>(blocks_for(R, 1), ENTROPY_THREADS, bytes, stream, loss, logits,
                                                        target, gradient_scale, R, V);
    return launch<cross_entropy_kernel<T, W, false>>(blocks_for(R, 1), ENTROPY_THREADS, 0, stream, loss, logits, target,
                                                     gradient_scale, R, V);
}

} // namespace ls

extern "C" cudaError_t ls_launch_cross_entropy(cudaStream_t stream, float *loss, void *logits, const int32_t *target,
                                               ls_dtype dtype, float gradient_scale, int64_t R, int64_t V)
{
    using ls::bf16;
    if (R == 0 || V == 0) return cudaSuccess;
    if (dtype == LS_F32) {
        float *const wide = static_cast<float *>(logits);
        return ls::aligned<4>(V, wide) ? ls::cross_entropy<float, 4>(stream, loss, wide, target, gradient_scale, R, V)
                                       : ls::cross_entropy<float, 1>(stream, loss, wide, target, gradient_scale, R, V);
    }
    bf16 *const narrow = static_cast<bf16 *>(logits);
    return ls::aligned<8>(V, narrow) ? ls::cross_entropy<bf16, 8>(stream, loss, narrow, target, gradient_scale, R, V)
                                     : ls::cross_entropy<bf16, 1>(stream, loss, narrow, target, gradient_scale, R, V);
}
