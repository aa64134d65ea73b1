/* Flat blocks: sums in double, and conversion between element types. */
#include "kernels/cuda/reduce.cuh"

namespace ls
{

/* ---- sum of squares: parts whose cut depends on the count alone, then the parts ---------------------------------- */

constexpr int64_t MOST_PARTS = 2048; /* blocks enough for any GPU */
constexpr int64_t PART_LEAST = 4096;
constexpr int SQUARES_THREADS = 256;

static int64_t part_length(int64_t count)
{
    const int64_t even = divide_up(count, MOST_PARTS * PART_LEAST) * PART_LEAST;
    return even > 0 ? even : PART_LEAST;
}

template <int W>
__global__ void __launch_bounds__(SQUARES_THREADS)
    square_parts_kernel(double *__restrict__ part, const float *__restrict__ x, int64_t length, int64_t count)
{
    const int64_t begin = blockIdx.x * length, end = smaller(begin + length, count);
    const int64_t whole = begin + (end - begin) / W * W;
    double sum = 0.0;
    for (int64_t i = begin + static_cast<int64_t>(threadIdx.x) * W; i < whole; i += blockDim.x * W) {
        const Floats<W> v = load<W>(x + i);
#pragma unroll
        for (int k = 0; k < W; k++) sum += static_cast<double>(v.at[k]) * static_cast<double>(v.at[k]);
    }
    if (whole + threadIdx.x < end) { /* fewer than W are left */
        const double last = static_cast<double>(x[whole + threadIdx.x]);
        sum += last * last;
    }
    sum = row_reduce<Sum>(sum);
    if (threadIdx.x == 0) part[blockIdx.x] = sum;
}

__global__ void __launch_bounds__(SQUARES_THREADS)
    sum_parts_kernel(double *__restrict__ out, const double *__restrict__ part, int64_t parts)
{
    double sum = 0.0;
    for (int64_t i = threadIdx.x; i < parts; i += blockDim.x) sum += part[i];
    sum = row_reduce<Sum>(sum);
    if (threadIdx.x == 0) *out = sum;
}

/* A block a row. */
__global__ void __launch_bounds__(SQUARES_THREADS)
    row_sums_kernel(double *__restrict__ out, const float *__restrict__ x, int64_t rows, int64_t width)
{
    for (int64_t row = blockIdx.x; row < rows; row += gridDim.x) {
        double sum = 0.0;
        for (int64_t n = threadIdx.x; n < width; n += blockDim.x) sum += static_cast<double>(x[row * width + n]);
        sum = row_reduce<Sum>(sum);
        if (threadIdx.x == 0) out[row] = sum;
    }
}

/* ---- conversion -------------------------------------------------------------------------------------------------- */

template <class To, class From, int W>
__global__ void __launch_bounds__(256) convert_kernel(To *__restrict__ out, const From *__restrict__ x, int64_t count)
{
    const int64_t step = static_cast<int64_t>(gridDim.x) * blockDim.x * W;
    for (int64_t i = (static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x) * W; i < count; i += step)
        store<W>(out + i, load<W>(x + i));
}

template <class To, class From> static cudaError_t convert(cudaStream_t stream, To *out, const From *x, int64_t count)
{
    const int64_t whole = aligned<4>(4, out) && aligned<4>(4, x) ? count / 4 * 4 : int64_t{0};
    if (whole > 0) {
        const cudaError_t status =
            launch<convert_kernel<To, From, 4>>(blocks_for(whole, 256 * 4), 256, 0, stream, out, x, whole);
        if (status != cudaSuccess) return status;
    }
    if (whole == count) return cudaSuccess;
    return launch<convert_kernel<To, From, 1>>(blocks_for(count - whole, 256), 256, 0, stream, out + whole, x + whole,
                                               count - whole);
}

} // namespace ls

extern "C" size_t ls_sum_of_squares_scratch_bytes(int64_t count)
{
    return static_cast<size_t>(ls::smaller(ls::divide_up(count, ls::PART_LEAST), ls::MOST_PARTS)) * sizeof(double);
}

extern "C" cudaError_t ls_launch_sum_of_squares(cudaStream_t stream, double *out, const float *x, int64_t count,
                                                void *scratch)
{
    double *const part = static_cast<double *>(scratch);
    const int64_t length = ls::part_length(count), parts = ls::divide_up(count, length);
    if (parts > 0) {
        const unsigned blocks = static_cast<unsigned>(parts);
        const cudaError_t status =
            ls::aligned<4>(4, x)
                ? ls::launch<ls::square_parts_kernel<4>>(blocks, ls::SQUARES_THREADS, 0, stream, part, x, length, count)
                : ls::launch<ls::square_parts_kernel<1>>(blocks, ls::SQUARES_THREADS, 0, stream, part, x, length,
                                                         count);
        if (status != cudaSuccess) return status;
    }
    return ls::launch<ls::sum_parts_kernel>(1, ls::SQUARES_THREADS, 0, stream, out, part, parts);
}

extern "C" cudaError_t ls_launch_row_sums(cudaStream_t stream, double *out, const float *x, int64_t R, int64_t N)
{
    if (R == 0) return cudaSuccess;
    return ls::launch<ls::row_sums_kernel>(ls::blocks_for(R, 1), ls::SQUARES_THREADS, 0, stream, out, x, R, N);
}

extern "C" cudaError_t ls_launch_convert(cudaStream_t stream, void *out, ls_dtype out_dtype, const void *x,
                                         ls_dtype dtype, int64_t count)
{
    if (count == 0) return cudaSuccess;
    if (out_dtype == dtype)
        return cudaMemcpyAsync(out, x, static_cast<size_t>(count) * ls_dtype_size(dtype), cudaMemcpyDeviceToDevice,
                               stream);
    if (dtype == LS_BF16)
        return ls::convert(stream, static_cast<float *>(out), static_cast<const ls::bf16 *>(x), count);
    return ls::convert(stream, static_cast<ls::bf16 *>(out), static_cast<const float *>(x), count);
}
