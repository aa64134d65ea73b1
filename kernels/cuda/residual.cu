/* The residual stream: add a branch to slabs, and gather slabs into a compact batch.
 *
 * Both move a row of C elements with the threads of one row of a block; slot numbers are looked up once a row. */
#include "kernels/cuda/compat.cuh"

namespace ls
{

/* residual[out_slot[j]] = residual[in_slot[j]] + scale * y[j], rows of j*T + t; out may be in. */
template <class T, int W>
__global__ void __launch_bounds__(256)
    residual_add_kernel(float *residual, const int32_t *__restrict__ out_slot, const int32_t *__restrict__ in_slot,
                        const T *__restrict__ y, float scale, int64_t rows, Divisor length, int64_t width)
{
    const int64_t step = static_cast<int64_t>(gridDim.x) * blockDim.y;
    for (int64_t row = static_cast<int64_t>(blockIdx.x) * blockDim.y + threadIdx.y; row < rows; row += step) {
        const int64_t j = length.quotient(row);
        const float *const in = residual + length.place(in_slot[j], row, j) * width;
        float *const out = residual + length.place(out_slot[j], row, j) * width;
        for (int64_t c = static_cast<int64_t>(threadIdx.x) * W; c < width; c += blockDim.x * W) {
            Floats<W> sum = load<W>(in + c);
            const Floats<W> branch = load<W>(y + row * width + c);
#pragma unroll
            for (int i = 0; i < W; i++) sum.at[i] = fmaf(scale, branch.at[i], sum.at[i]);
            store<W>(out + c, sum);
        }
    }
}

template <class T, int W>
__global__ void __launch_bounds__(256)
    gather_cast_kernel(T *__restrict__ out, const float *__restrict__ x, const int32_t *__restrict__ slot, float scale,
                       int64_t rows, Divisor length, int64_t width)
{
    const int64_t step = static_cast<int64_t>(gridDim.x) * blockDim.y;
    for (int64_t row = static_cast<int64_t>(blockIdx.x) * blockDim.y + threadIdx.y; row < rows; row += step) {
        const int64_t j = length.quotient(row);
        const float *const in = x + length.place(slot[j], row, j) * width;
        for (int64_t c = static_cast<int64_t>(threadIdx.x) * W; c < width; c += blockDim.x * W) {
            Floats<W> v = load<W>(in + c);
#pragma unroll
            for (int i = 0; i < W; i++) v.at[i] *= scale;
            store<W>(out + row * width + c, v);
        }
    }
}

template <class T>
static cudaError_t residual_add(cudaStream_t stream, float *residual, const int32_t *out_slot, const int32_t *in_slot,
                                const T *y, float scale, int64_t n, int64_t length, int64_t width)
{
    const int64_t rows = n * length;
    if (aligned<4>(width, residual) && aligned<4>(width, y)) {
        const dim3 block = row_block(width / 4);
        return launch<residual_add_kernel<T, 4>>(blocks_for(rows, block.y), block, 0, stream, residual, out_slot,
                                                 in_slot, y, scale, rows, Divisor(length), width);
    }
    const dim3 block = row_block(width);
    return launch<residual_add_kernel<T, 1>>(blocks_for(rows, block.y), block, 0, stream, residual, out_slot, in_slot,
                                             y, scale, rows, Divisor(length), width);
}

template <class T>
static cudaError_t gather_cast(cudaStream_t stream, T *out, const float *x, const int32_t *slot, float scale, int64_t n,
                               int64_t length, int64_t width)
{
    const int64_t rows = n * length;
    if (aligned<4>(width, x) && aligned<4>(width, out)) {
        const dim3 block = row_block(width / 4);
        return launch<gather_cast_kernel<T, 4>>(blocks_for(rows, block.y), block, 0, stream, out, x, slot, scale, rows,
                                                Divisor(length), width);
    }
    const dim3 block = row_block(width);
    return launch<gather_cast_kernel<T, 1>>(blocks_for(rows, block.y), block, 0, stream, out, x, slot, scale, rows,
                                            Divisor(length), width);
}

} // namespace ls

extern "C" cudaError_t ls_launch_residual_add(cudaStream_t stream, float *residual, const int32_t *out_slot,
                                              const int32_t *in_slot, const void *y, ls_dtype dtype, float scale,
                                              int64_t n, int64_t T, int64_t C)
{
    if (n == 0 || T == 0 || C == 0) return cudaSuccess;
    if (dtype == LS_BF16)
        return ls::residual_add(stream, residual, out_slot, in_slot, static_cast<const ls::bf16 *>(y), scale, n, T, C);
    return ls::residual_add(stream, residual, out_slot, in_slot, static_cast<const float *>(y), scale, n, T, C);
}

extern "C" cudaError_t ls_launch_gather_cast(cudaStream_t stream, void *out, const float *x, const int32_t *slot,
                                             ls_dtype dtype, float scale, int64_t n, int64_t T, int64_t C)
{
    if (n == 0 || T == 0 || C == 0) return cudaSuccess;
    if (dtype == LS_BF16) return ls::gather_cast(stream, static_cast<ls::bf16 *>(out), x, slot, scale, n, T, C);
    return ls::gather_cast(stream, static_cast<float *>(out), x, slot, scale, n, T, C);
}
