/* Attention over whole sequences, forward, on tensor cores: a block has 64 queries of one head. */
#include "kernels/cuda/attention.cuh"

namespace ls
{

struct ForwardArguments {
    bf16 *out;
    float *lse;
    const bf16 *qkv;
    const int32_t *first_key, *sample;
    float scale; /* times log2(e) */
    int length, n, H, G;
    HeadShape head;
};

template <int D> __global__ void __launch_bounds__(ATTENTION_THREADS) attention_forward_kernel(ForwardArguments a)
{
    LS_SHARED_DYNAMIC(bf16, shared);
    /* The last queries of a sequence, which see most keys, come first, so that no long block is left to the end. */
    const int h = blockIdx.x % a.H, j = blockIdx.x / a.H % a.n, group = a.H / a.G;
    const int tiles = (a.length + ROWS_OF_BLOCK - 1) / ROWS_OF_BLOCK;
    const int start = (tiles - 1 - static_cast<int>(blockIdx.x) / a.H / a.n) * ROWS_OF_BLOCK;
    const int64_t stride = (a.H + 2 * a.G) * static_cast<int64_t>(a.head.size);
    const bf16 *const queries = a.qkv + j * (a.length * stride) + h * a.head.size;
    const bf16 *const keys = a.qkv + j * (a.length * stride) + (a.H + h / group) * a.head.size;
    const bf16 *const values = keys + a.G * a.head.size;
    const int32_t *const first_key =
        a.first_key != nullptr ? a.first_key + static_cast<int64_t>(a.sample != nullptr ? a.sample[j] : j) * a.length
                               : nullptr;

    load_tile<ROWS_OF_BLOCK, D>(
        shared, [=](int t) { return queries + t * stride; }, start, a.length, a.head);
    int low[2], high[2];
#pragma unroll
    for (int half = 0; half < 2; half++) {
        high[half] = start + threadIdx.x / WARP * ROWS_OF_WARP + row_of_thread(half);
        low[half] = first_key != nullptr && high[half] < a.length ? first_key[high[half]] : 0;
    }
    const int first = first_key != nullptr ? first_key[start] / KEYS<D> * KEYS<D> : 0; /* never falls along t */
    Flash<D> flash;
    flash.clear();
    attend<D>(
        flash, shared, [=](int t) { return keys + t * stride; }, [=](int t) { return values + t * stride; }, first,
        min(a.length, start + ROWS_OF_BLOCK), a.scale, low, high, a.head);
#pragma unroll
    for (int half = 0; half < 2; half++) {
        const float sum = row_sum(flash.sum[half]);
        const int t = high[half];
        if (t >= a.length) continue;
        bf16 *const out = a.out + ((static_cast<int64_t>(j) * a.length + t) * a.H + h) * a.head.size;
#pragma unroll
        for (int i = 0; i < D / 8; i++)
            store_two(out, flash.out[i][2 * half] / sum, flash.out[i][2 * half + 1] / sum, column_of(i, 0), a.head);
        if (threadIdx.x % 4 == 0)
            a.lse[(static_cast<int64_t>(j) * a.H + h) * a.length + t] = (flash.largest[half] + log2f(sum)) * LN_2;
    }
}

struct RunForward {
    cudaStream_t stream;
    ForwardArguments arguments;
    template <int D> cudaError_t head() const
    {
        const int64_t tiles = divide_up(arguments.length, ROWS_OF_BLOCK);
        return launch<attention_forward_kernel<D>>(static_cast<unsigned>(tiles * arguments.n * arguments.H),
                                                   ATTENTION_THREADS, FLASH_SHARED<D>, stream, arguments);
    }
};

} // namespace ls

extern "C" cudaError_t ls_launch_attention_forward(cudaStream_t stream, void *out, float *lse, const void *qkv,
                                                   const int32_t *first_key, const int32_t *sample, ls_dtype dtype,
                                                   float scale, int64_t n, int64_t T, int64_t H, int64_t G, int64_t D)
{
    using ls::bf16;
    if (n == 0 || T == 0 || H == 0 || D == 0) return cudaSuccess;
    if (dtype == LS_F32)
        return ls::attention_forward_plain(stream, static_cast<float *>(out), lse, static_cast<const float *>(qkv),
                                           first_key, sample, scale, n, T, H, G, D);
    bf16 *const narrow_out = static_cast<bf16 *>(out);
    const bf16 *const narrow = static_cast<const bf16 *>(qkv);
    if (D > ls::LARGEST_HEAD)
        return ls::attention_forward_plain(stream, narrow_out, lse, narrow, first_key, sample, scale, n, T, H, G, D);
    const ls::HeadShape head = {static_cast<int>(D), ls::aligned<8>(D, narrow_out, narrow)};
    return ls::by_head_size(
        D, ls::RunForward{stream,
                          {narrow_out, lse, narrow, first_key, sample, scale * ls::LOG2_E, static_cast<int>(T),
                           static_cast<int>(n), static_cast<int>(H), static_cast<int>(G), head}});
}
