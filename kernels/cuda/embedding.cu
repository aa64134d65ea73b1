/* Embedding rows out of the table, and their gradients back into it.
 *
 * Backward adds the rows of one token in the order of rows, whatever the launch: a first kernel ranks the rows by token
 * and then by row (a count over all pairs, R*R cheap comparisons on tokens in shared memory), a second gives each run
 * of equal tokens to one block, which adds its rows one after the other. */
#include "kernels/cuda/compat.cuh"

namespace ls
{

template <class T, int W>
__global__ void __launch_bounds__(256)
    embedding_forward_kernel(float *__restrict__ out, const int32_t *__restrict__ token, const T *__restrict__ weight,
                             int64_t rows, int64_t width)
{
    const int64_t step = static_cast<int64_t>(gridDim.x) * blockDim.y;
    for (int64_t row = static_cast<int64_t>(blockIdx.x) * blockDim.y + threadIdx.y; row < rows; row += step) {
        const T *const in = weight + token[row] * width;
        for (int64_t c = static_cast<int64_t>(threadIdx.x) * W; c < width; c += blockDim.x * W)
            store<W>(out + row * width + c, load<W>(in + c));
    }
}

constexpr int RANK_ROWS = 128;

/* order[rank of r] = r, where the rank counts the rows that come before r: of smaller tokens, or equal and earlier. */
__global__ void __launch_bounds__(RANK_ROWS)
    rank_rows_kernel(int32_t *__restrict__ order, const int32_t *__restrict__ token, int64_t rows)
{
    LS_SHARED(int32_t, tile, [RANK_ROWS]);
    for (int64_t first = static_cast<int64_t>(blockIdx.x) * RANK_ROWS; first < rows;
         first += static_cast<int64_t>(gridDim.x) * RANK_ROWS) {
        const int64_t row = first + threadIdx.x;
        const int32_t own = row < rows ? token[row] : 0;
        int64_t rank = 0;
        for (int64_t start = 0; start < rows; start += RANK_ROWS) {
            __syncthreads(); /* the last tile is read */
            if (start + threadIdx.x < rows) tile[threadIdx.x] = token[start + threadIdx.x];
            __syncthreads();
            const int count = static_cast<int>(smaller(RANK_ROWS, rows - start));
            for (int i = 0; i < count; i++) rank += tile[i] < own || (tile[i] == own && start + i < row);
        }
        if (row < rows) order[rank] = static_cast<int32_t>(row);
    }
}

/* Block x starts at rank x and works if a run of equal tokens begins there. Columns are cut along y. */
template <int W>
__global__ void __launch_bounds__(256)
    embedding_backward_kernel(float *__restrict__ dweight, const float *__restrict__ dout,
                              const int32_t *__restrict__ token, const int32_t *__restrict__ order, int64_t rows,
                              int64_t width)
{
    const int64_t c = (static_cast<int64_t>(blockIdx.y) * blockDim.x + threadIdx.x) * W;
    if (c >= width) return;
    for (int64_t start = blockIdx.x; start < rows; start += gridDim.x) {
        const int32_t own = token[order[start]];
        if (start > 0 && token[order[start - 1]] == own) continue;
        float *const into = dweight + own * width + c;
        Floats<W> sum = load<W>(into);
        for (int64_t rank = start; rank < rows; rank++) {
            const int64_t row = order[rank];
            if (token[row] != own) break;
            const Floats<W> d = load<W>(dout + row * width + c);
#pragma unroll
            for (int i = 0; i < W; i++) sum.at[i] += d.at[i];
        }
        store<W>(into, sum);
    }
}

template <class T>
static cudaError_t embedding_forward(cudaStream_t stream, float *out, const int32_t *token, const T *weight,
                                     int64_t rows, int64_t width)
{
    if (aligned<4>(width, out) && aligned<4>(width, weight)) {
        const dim3 block = row_block(width / 4);
        return launch<embedding_forward_kernel<T, 4>>(blocks_for(rows, block.y), block, 0, stream, out, token, weight,
                                                      rows, width);
    }
    const dim3 block = row_block(width);
    return launch<embedding_forward_kernel<T, 1>>(blocks_for(rows, block.y), block, 0, stream, out, token, weight, rows,
                                                  width);
}

template <int W>
static cudaError_t embedding_backward(cudaStream_t stream, float *dweight, const float *dout, const int32_t *token,
                                      const int32_t *order, int64_t rows, int64_t width)
{
    const unsigned threads = row_block(divide_up(width, W)).x;
    return launch<embedding_backward_kernel<W>>(dim3(blocks_for(rows, 1), blocks_for(width, threads * W)), threads, 0,
                                                stream, dweight, dout, token, order, rows, width);
}

} // namespace ls

extern "C" cudaError_t ls_launch_embedding_forward(cudaStream_t stream, float *out, const int32_t *token,
                                                   const void *weight, ls_dtype dtype, int64_t R, int64_t V, int64_t C)
{
    (void)V;
    if (R == 0 || C == 0) return cudaSuccess;
    if (dtype == LS_BF16) return ls::embedding_forward(stream, out, token, static_cast<const ls::bf16 *>(weight), R, C);
    return ls::embedding_forward(stream, out, token, static_cast<const float *>(weight), R, C);
}

extern "C" size_t ls_embedding_backward_scratch_bytes(int64_t R) { return static_cast<size_t>(R) * sizeof(int32_t); }

extern "C" cudaError_t ls_launch_embedding_backward(cudaStream_t stream, float *dweight, const float *dout,
                                                    const int32_t *token, int64_t R, int64_t V, int64_t C,
                                                    void *scratch)
{
    (void)V;
    if (R == 0 || C == 0) return cudaSuccess;
    int32_t *const order = static_cast<int32_t *>(scratch);
    const cudaError_t status =
        ls::launch<ls::rank_rows_kernel>(ls::blocks_for(R, ls::RANK_ROWS), ls::RANK_ROWS, 0, stream, order, token, R);
    if (status != cudaSuccess) return status;
    return ls::aligned<4>(C, dweight, dout) ? ls::embedding_backward<4>(stream, dweight, dout, token, order, R, C)
                                            : ls::embedding_backward<1>(stream, dweight, dout, token, order, R, C);
}
