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

/* order[rank of r] = r and sorted[rank of r] = token[r], where the rank counts the rows that come before r: of smaller
 * tokens, or equal and earlier. */
__global__ void __launch_bounds__(RANK_ROWS) rank_rows_kernel(int32_t *__restrict__ order, int32_t *__restrict__ sorted,
                                                              const int32_t *__restrict__ token, int64_t rows)
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
            for (int i = 0; i < count; i++) {
                const int32_t other = tile[i];
                rank += other < own || (other == own && start + i < row);
            }
        }
        if (row >= rows) continue;
        order[rank] = static_cast<int32_t>(row);
        sorted[rank] = own;
    }
}

/* Block x has the runs of equal tokens that begin at ranks 32x..32x+31; columns are cut along y. A warp looks up 32
 * ranks at a time, one a lane. */
template <int W>
__global__ void __launch_bounds__(256, 1)
    embedding_backward_kernel(float *__restrict__ dweight, const float *__restrict__ dout,
                              const int32_t *__restrict__ order, const int32_t *__restrict__ sorted, int64_t rows,
                              int64_t width)
{
    const int64_t c = (static_cast<int64_t>(blockIdx.y) * blockDim.x + threadIdx.x) * W;
    const int lane = threadIdx.x % WARP;
    const int64_t base = static_cast<int64_t>(blockIdx.x) * WARP;
    const int32_t here = base + lane < rows ? sorted[base + lane] : -1;
    int32_t before = __shfl_up_sync(ALL_LANES, here, 1);
    if (lane == 0) before = base > 0 ? sorted[base - 1] : -1;
    /* Tokens are not negative, so ranks beyond the last begin no run. */
    for (unsigned left = __ballot_sync(ALL_LANES, here != before && here >= 0); left != 0; left &= left - 1) {
        const int first = __ffs(static_cast<int>(left)) - 1;
        const int32_t token = __shfl_sync(ALL_LANES, here, first);
        float *const into = dweight + token * width + c;
        Floats<W> sum = c < width ? load<W>(into) : Floats<W>{};
        unsigned equal = ALL_LANES;
        for (int64_t rank = base + first; equal == ALL_LANES; rank += WARP) {
            const bool inside = rank + lane < rows;
            equal = __ballot_sync(ALL_LANES, inside && sorted[inside ? rank + lane : 0] == token);
            const int32_t own_row = inside ? order[rank + lane] : 0;
            const int count = equal == ALL_LANES ? WARP : __ffs(static_cast<int>(~equal)) - 1;
            for (int i = 0; i < count; i++) {
                const int64_t row = __shfl_sync(ALL_LANES, own_row, i);
                if (c >= width) continue;
                const Floats<W> d = load<W>(dout + row * width + c);
#pragma unroll
                for (int k = 0; k < W; k++) sum.at[k] += d.at[k];
            }
        }
        if (c < width) store<W>(into, sum);
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
static cudaError_t embedding_backward(cudaStream_t stream, float *dweight, const float *dout, const int32_t *order,
                                      const int32_t *sorted, int64_t rows, int64_t width)
{
    const unsigned threads = row_block(divide_up(width, W)).x;
    return launch<embedding_backward_kernel<W>>(dim3(blocks_for(rows, WARP), blocks_for(width, threads * W)), threads,
                                                0, stream, dweight, dout, order, sorted, rows, width);
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

extern "C" size_t ls_embedding_backward_scratch_bytes(int64_t R)
{
    return static_cast<size_t>(2 * R) * sizeof(int32_t);
}

extern "C" cudaError_t ls_launch_embedding_backward(cudaStream_t stream, float *dweight, const float *dout,
                                                    const int32_t *token, int64_t R, int64_t V, int64_t C,
                                                    void *scratch)
{
    (void)V;
    if (R == 0 || C == 0) return cudaSuccess;
    int32_t *const order = static_cast<int32_t *>(scratch), *const sorted = order + R;
    const cudaError_t status = ls::launch<ls::rank_rows_kernel>(ls::blocks_for(R, ls::RANK_ROWS), ls::RANK_ROWS, 0,
                                                                stream, order, sorted, token, R);
    if (status != cudaSuccess) return status;
    return ls::aligned<4>(C, dweight, dout) ? ls::embedding_backward<4>(stream, dweight, dout, order, sorted, R, C)
                                            : ls::embedding_backward<1>(stream, dweight, dout, order, sorted, R, C);
}
