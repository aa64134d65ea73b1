/* RMSNorm with gather, forward, also of rows that are being added to, and backward.
 *
 * The threads of one row of a block hold a row of the residual stream in registers, P words of W elements each, so it
 * is read once though it is needed twice: for the mean and for the result. Rows too wide for that (P = 0) are read
 * again. How a row is cut depends on its width and alignment alone, so its bits do not depend on the other rows.
 * The gradient of the weight gathers in registers over the rows of a block, then over blocks (columns.cuh). */
#include "kernels/cuda/columns.cuh"
#include "kernels/cuda/reduce.cuh"

namespace ls
{

/* Calls work(p, c) for each of this thread's words: elements c..c+W-1 of a row, the p-th that the thread holds. */
template <int W, int P, class F> __device__ __forceinline__ void each_word(int64_t width, F work)
{
    if constexpr (P > 0) {
#pragma unroll
        for (int p = 0; p < P; p++) {
            const int64_t c = (static_cast<int64_t>(p) * blockDim.x + threadIdx.x) * W;
            if (c < width) work(p, c);
        }
    } else {
        for (int64_t c = static_cast<int64_t>(threadIdx.x) * W; c < width; c += blockDim.x * W) work(0, c);
    }
}

/* Words that are kept: P, or one at a time. */
template <int P> constexpr int KEPT = P > 0 ? P : 1;

/* One row, whose words are take(c) at first and again(c) later; every thread of the block must call. `live`: the row is
 * there. The last block may have thread rows to spare, which still must meet barriers. */
template <class T, int W, int P, class Take, class Again>
__device__ __forceinline__ void normalise_row(T *out, float *rstd, Floats<W> (&w)[KEPT<P>], const T *weight, bool live,
                                              int64_t row, int64_t width, float epsilon, Take take, Again again)
{
    const int64_t own = live ? width : 0;
    Floats<W> x[KEPT<P>];
    float squares = 0.0f;
    each_word<W, P>(own, [&](int p, int64_t c) {
        x[p] = take(c);
#pragma unroll
        for (int i = 0; i < W; i++) squares = __fmaf_rn(x[p].at[i], x[p].at[i], squares);
    });
    squares = row_reduce<Sum>(squares);
    const float scale = 1.0f / sqrtf(squares / static_cast<float>(width) + epsilon);
    if (live && threadIdx.x == 0 && rstd != nullptr) rstd[row] = scale;
    each_word<W, P>(own, [&](int p, int64_t c) {
        if constexpr (P == 0) {
            x[p] = again(c);
            w[p] = load<W>(weight + c);
        }
#pragma unroll
        for (int i = 0; i < W; i++) x[p].at[i] = x[p].at[i] * scale * w[p].at[i];
        store<W>(out + row * width + c, x[p]);
    });
}

template <class T, int W, int P>
__global__ void __launch_bounds__(256)
    rmsnorm_forward_kernel(T *__restrict__ out, float *__restrict__ rstd, const float *__restrict__ residual,
                           const int32_t *__restrict__ slot, const T *__restrict__ weight, int64_t rows, Divisor length,
                           int64_t width, float epsilon)
{
    Floats<W> w[KEPT<P>];
    if constexpr (P > 0) each_word<W, P>(width, [&](int p, int64_t c) { w[p] = load<W>(weight + c); });
    const int64_t step = static_cast<int64_t>(gridDim.x) * blockDim.y;
    for (int64_t first = static_cast<int64_t>(blockIdx.x) * blockDim.y; first < rows; first += step) {
        const int64_t row = first + threadIdx.y;
        const bool live = row < rows;
        const int64_t j = live ? length.quotient(row) : 0;
        const float *const in = residual + length.place(slot[j], row, j) * width;
        const auto take = [&](int64_t c) { return load<W>(in + c); };
        normalise_row<T, W, P>(out, rstd, w, weight, live, row, width, epsilon, take, take);
    }
}

/* residual[out_slot[j]] = residual[in_slot[j]] + scale * y[j], and the norm of that; the slabs may be the same. */
template <class T, int W, int P>
__global__ void __launch_bounds__(256)
    residual_add_rmsnorm_kernel(float *residual, T *__restrict__ out, float *__restrict__ rstd,
                                const int32_t *__restrict__ out_slot, const int32_t *__restrict__ in_slot,
                                const T *__restrict__ y, const T *__restrict__ weight, float scale, int64_t rows,
                                Divisor length, int64_t width, float epsilon)
{
    Floats<W> w[KEPT<P>];
    if constexpr (P > 0) each_word<W, P>(width, [&](int p, int64_t c) { w[p] = load<W>(weight + c); });
    const int64_t step = static_cast<int64_t>(gridDim.x) * blockDim.y;
    for (int64_t first = static_cast<int64_t>(blockIdx.x) * blockDim.y; first < rows; first += step) {
        const int64_t row = first + threadIdx.y;
        const bool live = row < rows;
        const int64_t j = live ? length.quotient(row) : 0;
        const float *const in = residual + length.place(in_slot[j], row, j) * width;
        float *const sum = residual + length.place(out_slot[j], row, j) * width;
        const auto add = [&](int64_t c) {
            Floats<W> v = load<W>(in + c);
            const Floats<W> branch = load<W>(y + row * width + c);
#pragma unroll
            for (int i = 0; i < W; i++) v.at[i] = fmaf(scale, branch.at[i], v.at[i]);
            store<W>(sum + c, v);
            return v;
        };
        const auto again = [&](int64_t c) { return load<W>(sum + c); }; /* what this very thread has stored */
        normalise_row<T, W, P>(out, rstd, w, weight, live, row, width, epsilon, add, again);
    }
}

/* dresidual += rstd * (h - x * rstd^2 * mean(h * x)) with h = dout * weight; P > 0: partial[block] = the block's share
 * of sum_rows dout * x * rstd. */
template <class T, int W, int P>
__global__ void __launch_bounds__(256, 1)
    rmsnorm_backward_kernel(float *__restrict__ dresidual, float *__restrict__ partial, const T *__restrict__ dout,
                            const float *__restrict__ residual, const int32_t *__restrict__ slot,
                            const int32_t *__restrict__ sample, const float *__restrict__ rstd,
                            const T *__restrict__ weight, int64_t rows, Divisor length, int64_t width)
{
    Floats<W> w[KEPT<P>], dw[KEPT<P>] = {};
    if constexpr (P > 0) each_word<W, P>(width, [&](int p, int64_t c) { w[p] = load<W>(weight + c); });
    const int64_t step = static_cast<int64_t>(gridDim.x) * blockDim.y;
    for (int64_t first = static_cast<int64_t>(blockIdx.x) * blockDim.y; first < rows; first += step) {
        const int64_t row = first + threadIdx.y;
        const bool live = row < rows;
        const int64_t j = live ? length.quotient(row) : 0, own = live ? width : 0;
        const float *const in = residual + length.place(slot[j], row, j) * width;
        float *const into = dresidual + length.place(sample[j], row, j) * width;
        const float scale = live ? rstd[row] : 0.0f;
        Floats<W> x[KEPT<P>], d[KEPT<P>], sum[KEPT<P>];
        float mean = 0.0f;
        each_word<W, P>(own, [&](int p, int64_t c) {
            x[p] = load<W>(in + c);
            d[p] = load<W>(dout + row * width + c);
            if constexpr (P > 0)
                sum[p] = load<W>(into + c);
            else
                w[p] = load<W>(weight + c);
#pragma unroll
            for (int i = 0; i < W; i++) mean += d[p].at[i] * w[p].at[i] * x[p].at[i];
        });
        mean = row_reduce<Sum>(mean) / static_cast<float>(width);
        each_word<W, P>(own, [&](int p, int64_t c) {
            if constexpr (P == 0) {
                x[p] = load<W>(in + c);
                d[p] = load<W>(dout + row * width + c);
                sum[p] = load<W>(into + c);
                w[p] = load<W>(weight + c);
            }
#pragma unroll
            for (int i = 0; i < W; i++) {
                const float normed = x[p].at[i] * scale;
                sum[p].at[i] += scale * (d[p].at[i] * w[p].at[i] - normed * scale * mean);
                dw[p].at[i] += d[p].at[i] * normed;
            }
            store<W>(into + c, sum[p]);
        });
    }
    if constexpr (P > 0) { /* thread rows take turns in adding to the block's row, in their order */
        float *const part = partial + blockIdx.x * width;
        for (unsigned turn = 0; turn < blockDim.y; turn++) {
            if (threadIdx.y == turn)
                each_word<W, P>(width, [&](int p, int64_t c) {
                    if (turn > 0) {
                        const Floats<W> before = load<W>(part + c);
#pragma unroll
                        for (int i = 0; i < W; i++) dw[p].at[i] += before.at[i];
                    }
                    store<W>(part + c, dw[p]);
                });
            __syncthreads();
        }
    }
}

/* partial[blockIdx.y, c] = the share of every gridDim.y-th row in sum_rows dout * x * rstd, for rows that are too wide
 * for registers. */
template <class T>
__global__ void __launch_bounds__(256)
    rmsnorm_weight_parts_kernel(float *__restrict__ partial, const T *__restrict__ dout,
                                const float *__restrict__ residual, const int32_t *__restrict__ slot,
                                const float *__restrict__ rstd, int64_t rows, Divisor length, int64_t width)
{
    const int64_t c = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
    if (c >= width) return;
    float sum = 0.0f;
    for (int64_t row = blockIdx.y; row < rows; row += gridDim.y) {
        const int64_t j = length.quotient(row);
        const float x = residual[length.place(slot[j], row, j) * width + c];
        sum += to_float(dout[row * width + c]) * x * rstd[row];
    }
    partial[blockIdx.y * width + c] = sum;
}

/* Blocks enough for a GPU first, then up to 16 rows for the weights that a block keeps. */
static unsigned norm_blocks(int64_t rows, dim3 block)
{
    const int64_t each = smaller(divide_up(rows, 256 * static_cast<int64_t>(block.y)), 16);
    return blocks_for(rows, block.y * each);
}

template <class T> struct NormForward {
    T *out;
    float *rstd;
    const float *residual;
    const int32_t *slot;
    const T *weight;
    int64_t rows, length, width;
    float epsilon;

    template <int W, int P> cudaError_t run(cudaStream_t stream, dim3 block) const
    {
        return launch<rmsnorm_forward_kernel<T, W, P>>(norm_blocks(rows, block), block, 0, stream, out, rstd, residual,
                                                       slot, weight, rows, Divisor(length), width, epsilon);
    }
};

template <class T> struct AddNorm {
    float *residual;
    T *out;
    float *rstd;
    const int32_t *out_slot, *in_slot;
    const T *y, *weight;
    float scale;
    int64_t rows, length, width;
    float epsilon;

    template <int W, int P> cudaError_t run(cudaStream_t stream, dim3 block) const
    {
        return launch<residual_add_rmsnorm_kernel<T, W, P>>(norm_blocks(rows, block), block, 0, stream, residual, out,
                                                            rstd, out_slot, in_slot, y, weight, scale, rows,
                                                            Divisor(length), width, epsilon);
    }
};

/* A block keeps a whole row, so the parts are all the blocks there are. */
static int64_t norm_parts(int64_t rows) { return column_parts(rows, 16, 256); }

template <class T> struct NormBackward {
    float *dresidual, *dweight;
    const T *dout;
    const float *residual;
    const int32_t *slot, *sample;
    const float *rstd;
    const T *weight;
    int64_t rows, length, width;
    float *partial;

    template <int W, int P> cudaError_t run(cudaStream_t stream, dim3 block) const
    {
        const int64_t parts = norm_parts(rows);
        cudaError_t status = launch<rmsnorm_backward_kernel<T, W, P>>(static_cast<unsigned>(parts), block, 0, stream,
                                                                      dresidual, partial, dout, residual, slot, sample,
                                                                      rstd, weight, rows, Divisor(length), width);
        if (P == 0 && status == cudaSuccess)
            status = launch<rmsnorm_weight_parts_kernel<T>>(dim3(blocks_for(width, 256), static_cast<unsigned>(parts)),
                                                            256, 0, stream, partial, dout, residual, slot, rstd, rows,
                                                            Divisor(length), width);
        return status != cudaSuccess ? status : add_column_parts(stream, dweight, partial, parts, width);
    }
};

/* Chooses how many words a thread keeps. */
template <int W, class Norm> static cudaError_t run_in_words(cudaStream_t stream, const Norm &norm)
{
    const int64_t words = norm.width / W;
    const dim3 block = row_block(words);
    if (words <= block.x) return norm.template run<W, 1>(stream, block);
    if (words <= 2 * block.x) return norm.template run<W, 2>(stream, block);
    if (words <= 4 * block.x) return norm.template run<W, 4>(stream, block);
    if constexpr (W > 1)
        if (words <= 8 * block.x) return norm.template run<W, 8>(stream, block);
    return norm.template run<W, 0>(stream, block);
}

template <class T> static cudaError_t rmsnorm_forward(cudaStream_t stream, const NormForward<T> &norm)
{
    const bool wide = aligned<4>(norm.width, norm.residual) && aligned<4>(norm.width, norm.out, norm.weight);
    return wide ? run_in_words<4>(stream, norm) : run_in_words<1>(stream, norm);
}

template <class T> static cudaError_t residual_add_rmsnorm(cudaStream_t stream, const AddNorm<T> &norm)
{
    const bool wide = aligned<4>(norm.width, norm.residual) && aligned<4>(norm.width, norm.out, norm.weight, norm.y);
    return wide ? run_in_words<4>(stream, norm) : run_in_words<1>(stream, norm);
}

template <class T> static cudaError_t rmsnorm_backward(cudaStream_t stream, const NormBackward<T> &norm)
{
    const bool wide = aligned<4>(norm.width, norm.residual, norm.dresidual, norm.partial) &&
                      aligned<4>(norm.width, norm.dout, norm.weight);
    return wide ? run_in_words<4>(stream, norm) : run_in_words<1>(stream, norm);
}

} // namespace ls

extern "C" cudaError_t ls_launch_rmsnorm_forward(cudaStream_t stream, void *out, float *rstd, const float *residual,
                                                 const int32_t *slot, const void *weight, ls_dtype dtype, int64_t n,
                                                 int64_t T, int64_t C, float epsilon)
{
    using ls::bf16;
    if (n == 0 || T == 0 || C == 0) return cudaSuccess;
    if (dtype == LS_BF16)
        return ls::rmsnorm_forward<bf16>(stream, {static_cast<bf16 *>(out), rstd, residual, slot,
                                                  static_cast<const bf16 *>(weight), n * T, T, C, epsilon});
    return ls::rmsnorm_forward<float>(stream, {static_cast<float *>(out), rstd, residual, slot,
                                               static_cast<const float *>(weight), n * T, T, C, epsilon});
}

extern "C" cudaError_t ls_launch_residual_add_rmsnorm(cudaStream_t stream, float *residual, void *out, float *rstd,
                                                      const int32_t *out_slot, const int32_t *in_slot, const void *y,
                                                      const void *weight, ls_dtype dtype, float scale, int64_t n,
                                                      int64_t T, int64_t C, float epsilon)
{
    using ls::bf16;
    if (n == 0 || T == 0 || C == 0) return cudaSuccess;
    if (dtype == LS_BF16)
        return ls::residual_add_rmsnorm<bf16>(stream, {residual, static_cast<bf16 *>(out), rstd, out_slot, in_slot,
                                                       static_cast<const bf16 *>(y), static_cast<const bf16 *>(weight),
                                                       scale, n * T, T, C, epsilon});
    return ls::residual_add_rmsnorm<float>(stream, {residual, static_cast<float *>(out), rstd, out_slot, in_slot,
                                                    static_cast<const float *>(y), static_cast<const float *>(weight),
                                                    scale, n * T, T, C, epsilon});
}

extern "C" size_t ls_rmsnorm_backward_scratch_bytes(int64_t n, int64_t T, int64_t C)
{
    return static_cast<size_t>(ls::norm_parts(n * T) * C) * sizeof(float);
}

extern "C" cudaError_t ls_launch_rmsnorm_backward(cudaStream_t stream, float *dresidual, float *dweight,
                                                  const void *dout, const float *residual, const int32_t *slot,
                                                  const int32_t *sample, const float *rstd, const void *weight,
                                                  ls_dtype dtype, int64_t n, int64_t T, int64_t C, void *scratch)
{
    using ls::bf16;
    if (n == 0 || T == 0 || C == 0) return cudaSuccess;
    float *const partial = static_cast<float *>(scratch);
    if (dtype == LS_BF16)
        return ls::rmsnorm_backward<bf16>(stream,
                                          {dresidual, dweight, static_cast<const bf16 *>(dout), residual, slot, sample,
                                           rstd, static_cast<const bf16 *>(weight), n * T, T, C, partial});
    return ls::rmsnorm_backward<float>(stream,
                                       {dresidual, dweight, static_cast<const float *>(dout), residual, slot, sample,
                                        rstd, static_cast<const float *>(weight), n * T, T, C, partial});
}
