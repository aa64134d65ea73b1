/* SwiGLU forward, and backward with its output recomputed. Each element is loaded before anything of its place is
 * stored and belongs to one thread, so the aliasing that backward allows needs no more care. */
#include "kernels/cuda/compat.cuh"

namespace ls
{

/* e^-x overflows to infinity below -88, where x / infinity is the right 0. expf and the division are the exact ones:
 * these kernels wait for memory. */
__device__ __forceinline__ float sigmoid(float x) { return 1.0f / (1.0f + expf(-x)); }

template <class T, int W>
__global__ void __launch_bounds__(256)
    swiglu_forward_kernel(T *__restrict__ out, const T *__restrict__ gate_up, int64_t rows, int64_t width)
{
    const int64_t step = static_cast<int64_t>(gridDim.x) * blockDim.y;
    for (int64_t row = static_cast<int64_t>(blockIdx.x) * blockDim.y + threadIdx.y; row < rows; row += step)
        for (int64_t c = static_cast<int64_t>(threadIdx.x) * W; c < width; c += blockDim.x * W) {
            Floats<W> gate = load<W>(gate_up + row * 2 * width + c);
            const Floats<W> up = load<W>(gate_up + row * 2 * width + width + c);
#pragma unroll
            for (int i = 0; i < W; i++) gate.at[i] = gate.at[i] * sigmoid(gate.at[i]) * up.at[i];
            store<W>(out + row * width + c, gate);
        }
}

/* With s = sigmoid(gate):  dgate = dout * up * s * (1 + gate * (1 - s)),  dup = dout * gate * s. */
template <class T, int W>
__global__ void __launch_bounds__(256)
    swiglu_backward_kernel(T *dgate_up, T *out, const T *dout, const T *gate_up, int64_t rows, int64_t width)
{
    const int64_t step = static_cast<int64_t>(gridDim.x) * blockDim.y;
    for (int64_t row = static_cast<int64_t>(blockIdx.x) * blockDim.y + threadIdx.y; row < rows; row += step)
        for (int64_t c = static_cast<int64_t>(threadIdx.x) * W; c < width; c += blockDim.x * W) {
            const int64_t first = row * 2 * width + c;
            const Floats<W> gate = load<W>(gate_up + first), up = load<W>(gate_up + first + width);
            const Floats<W> d = load<W>(dout + row * width + c);
            Floats<W> dgate, dup, product;
#pragma unroll
            for (int i = 0; i < W; i++) {
                const float s = sigmoid(gate.at[i]), silu = gate.at[i] * s;
                dgate.at[i] = d.at[i] * up.at[i] * s * (1.0f + gate.at[i] * (1.0f - s));
                dup.at[i] = d.at[i] * silu;
                product.at[i] = silu * up.at[i];
            }
            store<W>(dgate_up + first, dgate);
            store<W>(dgate_up + first + width, dup);
            if (out != nullptr) store<W>(out + row * width + c, product);
        }
}

template <class T>
static cudaError_t swiglu_forward(cudaStream_t stream, T *out, const T *gate_up, int64_t R, int64_t F)
{
    if (aligned<WIDE<T>>(F, out, gate_up)) {
        const dim3 block = row_block(F / WIDE<T>);
        return launch<swiglu_forward_kernel<T, WIDE<T>>>(blocks_for(R, block.y), block, 0, stream, out, gate_up, R, F);
    }
    const dim3 block = row_block(F);
    return launch<swiglu_forward_kernel<T, 1>>(blocks_for(R, block.y), block, 0, stream, out, gate_up, R, F);
}

template <class T>
static cudaError_t swiglu_backward(cudaStream_t stream, T *dgate_up, T *out, const T *dout, const T *gate_up, int64_t R,
                                   int64_t F)
{
    if (aligned<WIDE<T>>(F, dgate_up, out, dout, gate_up)) {
        const dim3 block = row_block(F / WIDE<T>);
        return launch<swiglu_backward_kernel<T, WIDE<T>>>(blocks_for(R, block.y), block, 0, stream, dgate_up, out, dout,
                                                          gate_up, R, F);
    }
    const dim3 block = row_block(F);
    return launch<swiglu_backward_kernel<T, 1>>(blocks_for(R, block.y), block, 0, stream, dgate_up, out, dout, gate_up,
                                                R, F);
}

} // namespace ls

extern "C" cudaError_t ls_launch_swiglu_forward(cudaStream_t stream, void *out, const void *gate_up, ls_dtype dtype,
                                                int64_t R, int64_t F)
{
    if (R == 0 || F == 0) return cudaSuccess;
    if (dtype == LS_BF16)
        return ls::swiglu_forward(stream, static_cast<ls::bf16 *>(out), static_cast<const ls::bf16 *>(gate_up), R, F);
    return ls::swiglu_forward(stream, static_cast<float *>(out), static_cast<const float *>(gate_up), R, F);
}

extern "C" cudaError_t ls_launch_swiglu_backward(cudaStream_t stream, void *dgate_up, void *out, const void *dout,
                                                 const void *gate_up, ls_dtype dtype, int64_t R, int64_t F)
{
    if (R == 0 || F == 0) return cudaSuccess;
    if (dtype == LS_BF16)
        return ls::swiglu_backward(stream, static_cast<ls::bf16 *>(dgate_up), static_cast<ls::bf16 *>(out),
                                   static_cast<const ls::bf16 *>(dout), static_cast<const ls::bf16 *>(gate_up), R, F);
    return ls::swiglu_backward(stream, static_cast<float *>(dgate_up), static_cast<float *>(out),
                               static_cast<const float *>(dout), static_cast<const float *>(gate_up), R, F);
}
