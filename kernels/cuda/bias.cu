/* Bias of linear layers, and the column sums that its gradient and RMSNorm's share. */
#include "kernels/cuda/columns.cuh"

namespace ls
{

/* A block adds 8 groups of parts side by side, thread rows of 32 columns, and the groups in their order. */
constexpr int PART_GROUPS = 8;

__global__ void __launch_bounds__(WARP *PART_GROUPS)
    add_column_parts_kernel(float *__restrict__ out, const float *__restrict__ partial, int64_t parts, int64_t width)
{
    LS_SHARED(float, group, [PART_GROUPS][WARP]);
    const int64_t c = static_cast<int64_t>(blockIdx.x) * WARP + threadIdx.x;
    float sum = 0.0f;
    if (c < width)
        for (int64_t part = threadIdx.y; part < parts; part += PART_GROUPS) sum += partial[part * width + c];
    group[threadIdx.y][threadIdx.x] = sum;
    __syncthreads();
    if (threadIdx.y != 0 || c >= width) return;
    sum = 0.0f;
#pragma unroll
    for (int g = 0; g < PART_GROUPS; g++) sum += group[g][threadIdx.x];
    out[c] += sum;
}

cudaError_t add_column_parts(cudaStream_t stream, float *out, const float *partial, int64_t parts, int64_t width)
{
    return launch<add_column_parts_kernel>(blocks_for(width, WARP), dim3(WARP, PART_GROUPS), 0, stream, out, partial,
                                           parts, width);
}

template <class T, int W>
__global__ void __launch_bounds__(256)
    bias_add_kernel(T *__restrict__ x, const T *__restrict__ bias, int64_t rows, int64_t width)
{
    const int64_t c = (static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x) * W;
    if (c >= width) return;
    const Floats<W> b = load<W>(bias + c);
    const int64_t step = static_cast<int64_t>(gridDim.y) * blockDim.y;
    for (int64_t row = static_cast<int64_t>(blockIdx.y) * blockDim.y + threadIdx.y; row < rows; row += step) {
        Floats<W> v = load<W>(x + row * width + c);
#pragma unroll
        for (int i = 0; i < W; i++) v.at[i] += b.at[i];
        store<W>(x + row * width + c, v);
    }
}

/* Part blockIdx.y of the rows: every parts-th of them, from row blockIdx.y on. Thread rows take turns and add up in
 * their order. */
template <class T, int W>
__global__ void __launch_bounds__(256)
    bias_parts_kernel(float *__restrict__ partial, const T *__restrict__ dout, int64_t rows, int64_t width)
{
    LS_SHARED(float, turn, [256 * W]);
    const int64_t c = (static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x) * W;
    Floats<W> sum = {};
    if (c < width)
        for (int64_t row = blockIdx.y + static_cast<int64_t>(threadIdx.y) * gridDim.y; row < rows;
             row += static_cast<int64_t>(gridDim.y) * blockDim.y) {
            const Floats<W> v = load<W>(dout + row * width + c);
#pragma unroll
            for (int i = 0; i < W; i++) sum.at[i] += v.at[i];
        }
#pragma unroll
    for (int i = 0; i < W; i++) turn[(threadIdx.y * W + i) * blockDim.x + threadIdx.x] = sum.at[i];
    __syncthreads();
    if (threadIdx.y != 0 || c >= width) return;
    for (unsigned y = 1; y < blockDim.y; y++)
#pragma unroll
        for (int i = 0; i < W; i++) sum.at[i] += turn[(y * W + i) * blockDim.x + threadIdx.x];
    store<W>(partial + blockIdx.y * width + c, sum);
}

/* Blocks along the columns are many, so the parts can be few. */
static int64_t bias_parts(int64_t rows) { return column_parts(rows, 64, 64); }

template <class T, int W>
static cudaError_t bias_add(cudaStream_t stream, T *x, const T *bias, int64_t rows, int64_t width)
{
    const dim3 block = row_block(divide_up(width, W));
    const unsigned along = blocks_for(width, block.x * W);
    /* A thread keeps its bias for 16 rows. */
    const unsigned down = static_cast<unsigned>(smaller(divide_up(rows, block.y * 16), 65535));
    return launch<bias_add_kernel<T, W>>(dim3(along, down), block, 0, stream, x, bias, rows, width);
}

template <class T, int W>
static cudaError_t bias_backward(cudaStream_t stream, float *dbias, const T *dout, int64_t rows, int64_t width,
                                 float *partial)
{
    const int64_t parts = bias_parts(rows);
    const dim3 block = row_block(divide_up(width, W));
    const cudaError_t status =
        launch<bias_parts_kernel<T, W>>(dim3(blocks_for(width, block.x * W), static_cast<unsigned>(parts)), block, 0,
                                        stream, partial, dout, rows, width);
    return status != cudaSuccess ? status : add_column_parts(stream, dbias, partial, parts, width);
}

} // namespace ls

extern "C" cudaError_t ls_launch_bias_add(cudaStream_t stream, void *x, const void *bias, ls_dtype dtype, int64_t R,
                                          int64_t N)
{
    using ls::bf16;
    if (R == 0 || N == 0) return cudaSuccess;
    if (dtype == LS_F32) {
        float *const wide = static_cast<float *>(x);
        const float *const wide_bias = static_cast<const float *>(bias);
        return ls::aligned<4>(N, wide, wide_bias) ? ls::bias_add<float, 4>(stream, wide, wide_bias, R, N)
                                                  : ls::bias_add<float, 1>(stream, wide, wide_bias, R, N);
    }
    bf16 *const narrow = static_cast<bf16 *>(x);
    const bf16 *const narrow_bias = static_cast<const bf16 *>(bias);
    return ls::aligned<8>(N, narrow, narrow_bias) ? ls::bias_add<bf16, 8>(stream, narrow, narrow_bias, R, N)
                                                  : ls::bias_add<bf16, 1>(stream, narrow, narrow_bias, R, N);
}

extern "C" size_t ls_bias_backward_scratch_bytes(int64_t R, int64_t N)
{
    return static_cast<size_t>(ls::bias_parts(R) * N) * sizeof(float);
}

extern "C" cudaError_t ls_launch_bias_backward(cudaStream_t stream, float *dbias, const void *dout, ls_dtype dtype,
                                               int64_t R, int64_t N, void *scratch)
{
    using ls::bf16;
    if (R == 0 || N == 0) return cudaSuccess;
    float *const partial = static_cast<float *>(scratch);
    if (dtype == LS_F32) {
        const float *const wide = static_cast<const float *>(dout);
        return ls::aligned<4>(N, wide, partial) ? ls::bias_backward<float, 4>(stream, dbias, wide, R, N, partial)
                                                : ls::bias_backward<float, 1>(stream, dbias, wide, R, N, partial);
    }
    const bf16 *const narrow = static_cast<const bf16 *>(dout);
    return ls::aligned<4>(N, partial) && ls::aligned<4>(N, narrow)
               ? ls::bias_backward<bf16, 4>(stream, dbias, narrow, R, N, partial)
               : ls::bias_backward<bf16, 1>(stream, dbias, narrow, R, N, partial);
}
