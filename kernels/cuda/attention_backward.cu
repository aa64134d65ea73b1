/* Attention over whole sequences, backward, on tensor cores, with probabilities computed again from the scores:
 *   p = exp(scale q.k - lse);  dv = sum p dout;  ds = p (dout.v - delta), delta = dout.out;
 *   dq = scale sum ds k;  dk = scale sum ds q
 * One kernel owns keys (dk, dv), one owns queries (dq): each sum is one block's, in a fixed order, with no atomics, for
 * 7 products of tiles where a single kernel that adds dq in any order would take 5. */
#include "kernels/cuda/attention.cuh"
#include "kernels/cuda/reduce.cuh"

namespace ls
{

/* ---- delta [n,H,T] ------------------------------------------------------------------------------------------------
 */

/* A warp for each row of one head, in the order of dout [n,T,H,D]. */
template <class T, int W>
__global__ void __launch_bounds__(256)
    attention_delta_kernel(float *__restrict__ delta, const T *__restrict__ dout, const T *__restrict__ out,
                           int64_t rows, Divisor heads, Divisor length, int64_t T_, int64_t H, int64_t D)
{
    const int64_t step = static_cast<int64_t>(gridDim.x) * blockDim.y;
    for (int64_t row = static_cast<int64_t>(blockIdx.x) * blockDim.y + threadIdx.y; row < rows; row += step) {
        float sum = 0.0f;
        for (int64_t c = static_cast<int64_t>(threadIdx.x) * W; c < D; c += WARP * W) {
            const Floats<W> a = load<W>(dout + row * D + c), b = load<W>(out + row * D + c);
#pragma unroll
            for (int i = 0; i < W; i++) sum += a.at[i] * b.at[i];
        }
        sum = warp_reduce<Sum>(sum);
        const int64_t position = heads.quotient(row), h = row - position * H; /* position: j*T + t */
        const int64_t j = length.quotient(position);
        if (threadIdx.x == 0) delta[(j * H + h) * T_ + position - j * T_] = sum;
    }
}

template <class T>
static cudaError_t attention_delta(cudaStream_t stream, float *delta, const T *dout, const T *out, int64_t n,
                                   int64_t length, int64_t H, int64_t D)
{
    const int64_t rows = n * length * H;
    const dim3 block(WARP, 8);
    if (aligned<4>(D, dout, out))
        return launch<attention_delta_kernel<T, 4>>(blocks_for(rows, block.y), block, 0, stream, delta, dout, out, rows,
                                                    Divisor(H), Divisor(length), length, H, D);
    return launch<attention_delta_kernel<T, 1>>(blocks_for(rows, block.y), block, 0, stream, delta, dout, out, rows,
                                                Divisor(H), Divisor(length), length, H, D);
}

/* ---- both kernels -------------------------------------------------------------------------------------------------
 */

struct BackwardArguments {
    bf16 *dqkv;
    const bf16 *dout, *qkv;
    const float *lse, *delta;
    const int32_t *first_key, *sample;
    float scale;
    int length, n, H, G;
    HeadShape head;
};

constexpr int INNER_ROWS = 32;                               /* of the tiles that a kernel walks over */
template <int D> constexpr int COLUMNS = D <= 128 ? D : 128; /* of dk and dv that a block gathers in registers */
template <int D> constexpr size_t BACKWARD_SHARED = (2 * ROWS_OF_BLOCK + 4 * INNER_ROWS) * PITCH<D> * sizeof(bf16);

/* What a block knows of its sample j and key/value head g. */
struct Heads {
    int64_t stride, out_stride;
    const bf16 *qkv, *dout;
    bf16 *dqkv;
    const int32_t *first_key;
    int size;

    __device__ Heads(const BackwardArguments &a, int j)
        : stride((a.H + 2 * a.G) * static_cast<int64_t>(a.head.size)),
          out_stride(a.H * static_cast<int64_t>(a.head.size)), qkv(a.qkv + j * (a.length * stride)),
          dout(a.dout + j * (a.length * out_stride)), dqkv(a.dqkv + j * (a.length * stride)),
          first_key(a.first_key != nullptr
                        ? a.first_key + static_cast<int64_t>(a.sample != nullptr ? a.sample[j] : j) * a.length
                        : nullptr),
          size(a.head.size)
    {
    }
    /* Rows of head `head` of qkv, or of query head `head` of dout. */
    __device__ auto rows(int head) const
    {
        return [data = qkv + head * size, step = stride](int t) { return data + t * step; };
    }
    __device__ auto dout_rows(int head) const
    {
        return [data = dout + head * size, step = out_stride](int t) { return data + t * step; };
    }
};

/* p = exp(scale s - lse) where query t sees the key, else 0; dp becomes ds = p (dp - delta). lse2 is to base 2. */
__device__ __forceinline__ void score_gradient(float &s, float &dp, bool seen, float scale2, float lse2, float delta)
{
    s = seen ? fast_exp2(s * scale2 - lse2) : 0.0f;
    dp = seen ? s * (dp - delta) : 0.0f;
}

template <int COUNT>
__device__ __forceinline__ void store_gradient(bf16 *to, const float (&sum)[COUNT][4], int half, float factor,
                                               int first_column, HeadShape head)
{
#pragma unroll
    for (int i = 0; i < COUNT; i++)
        store_two(to, factor * sum[i][2 * half], factor * sum[i][2 * half + 1], first_column + column_of(i, 0), head);
}

/* ---- dk and dv -----------------------------------------------------------------------------------------------------
 */

/* A block has 64 keys of one key/value head, a warp 16 of them, and walks over the queries of all its heads that may
 * see them. Scores are kept transposed, keys by queries, so that they enter the second product from registers. */
template <int D> __global__ void __launch_bounds__(ATTENTION_THREADS) attention_keys_kernel(BackwardArguments a)
{
    constexpr int N = INNER_ROWS, C = COLUMNS<D>;
    LS_SHARED_DYNAMIC(bf16, shared);
    LS_SHARED(float, lse2, [2][N]);
    LS_SHARED(float, delta, [2][N]);
    LS_SHARED(int, low, [2][N]);
    bf16 *const keys = shared, *const values = keys + ROWS_OF_BLOCK * PITCH<D>;
    bf16 *const inner = values + ROWS_OF_BLOCK * PITCH<D>; /* two stages of queries and dout */
    const int parts = D / C, g = blockIdx.x % a.G, j = blockIdx.x / a.G % a.n;
    const int column = blockIdx.x / a.G / a.n % parts * C;
    const int start = static_cast<int>(blockIdx.x / a.G / a.n / parts) * ROWS_OF_BLOCK;
    const int group = a.H / a.G, row = threadIdx.x / WARP * ROWS_OF_WARP;
    const Heads heads(a, j);
    const int length = a.length, first = start / N * N;

    const auto load_queries = [&](int stage, int h, int t) {
        bf16 *const queries = inner + stage * 2 * N * PITCH<D>;
        load_tile<N, D>(queries, heads.rows(h), t, length, a.head);
        load_tile<N, D>(queries + N * PITCH<D>, heads.dout_rows(h), t, length, a.head);
        if (threadIdx.x < N) {
            const int own = t + static_cast<int>(threadIdx.x);
            const int64_t at = (static_cast<int64_t>(j) * a.H + h) * length + own;
            lse2[stage][threadIdx.x] = own < length ? a.lse[at] * LOG2_E : 0.0f;
            delta[stage][threadIdx.x] = own < length ? a.delta[at] : 0.0f;
            low[stage][threadIdx.x] = own < length ? (heads.first_key != nullptr ? heads.first_key[own] : 0) : length;
        }
    };
    /* Queries see these keys from `first` on, and until their documents begin behind them. */
    int last = length;
    if (heads.first_key != nullptr)
        for (int t = first; t < length; t += N)
            if (heads.first_key[t] >= start + ROWS_OF_BLOCK) {
                last = t;
                break;
            }

    float dk[C / 8][4] = {}, dv[C / 8][4] = {};
    load_tile<ROWS_OF_BLOCK, D>(keys, heads.rows(a.H + g), start, length, a.head);
    load_tile<ROWS_OF_BLOCK, D>(values, heads.rows(a.H + a.G + g), start, length, a.head);
    load_queries(0, g * group, first);
    commit_copies();
    int stage = 0;
    for (int h = g * group; h < (g + 1) * group; h++)
        for (int t = first; t < last; t += N, stage ^= 1) {
            const bool more = t + N < last;
            if (more || h + 1 < (g + 1) * group) load_queries(stage ^ 1, more ? h : h + 1, more ? t + N : first);
            commit_copies();
            wait_copies<1>();
            __syncthreads(); /* this stage has come */
            const bf16 *const queries = inner + stage * 2 * N * PITCH<D>, *const dout = queries + N * PITCH<D>;
            float p[N / 8][4], ds[N / 8][4];
            multiply_rows<D, N>(p, keys, row, queries);
            multiply_rows<D, N>(ds, values, row, dout);
#pragma unroll
            for (int i = 0; i < N / 8; i++)
#pragma unroll
                for (int e = 0; e < 4; e++) {
                    const int query = column_of(i, e);
                    const int key = start + row + row_of_thread(e / 2);
                    score_gradient(p[i][e], ds[i][e], key <= t + query && key >= low[stage][query], a.scale * LOG2_E,
                                   lse2[stage][query], delta[stage][query]);
                }
            add_product<D, N, C>(dv, p, dout, column);
            add_product<D, N, C>(dk, ds, queries, column);
            __syncthreads(); /* nobody reads this stage any more */
        }
    wait_copies<0>();
#pragma unroll
    for (int half = 0; half < 2; half++) {
        const int key = start + row + row_of_thread(half);
        if (key >= length) continue;
        bf16 *const to = heads.dqkv + key * heads.stride + (a.H + g) * a.head.size;
        store_gradient(to, dk, half, a.scale, column, a.head);
        store_gradient(to + a.G * a.head.size, dv, half, 1.0f, column, a.head);
    }
}

/* ---- dq ------------------------------------------------------------------------------------------------------------
 */

/* A block has 64 queries of one head and walks over the keys that they see. */
template <int D> __global__ void __launch_bounds__(ATTENTION_THREADS) attention_queries_kernel(BackwardArguments a)
{
    constexpr int N = INNER_ROWS;
    LS_SHARED_DYNAMIC(bf16, shared);
    bf16 *const queries = shared, *const dout = queries + ROWS_OF_BLOCK * PITCH<D>;
    bf16 *const inner = dout + ROWS_OF_BLOCK * PITCH<D>; /* two stages of keys and values */
    const int h = blockIdx.x % a.H, j = blockIdx.x / a.H % a.n, g = h / (a.H / a.G);
    const int tiles = (a.length + ROWS_OF_BLOCK - 1) / ROWS_OF_BLOCK;
    const int start = (tiles - 1 - static_cast<int>(blockIdx.x) / a.H / a.n) * ROWS_OF_BLOCK; /* long ones first */
    const int row = threadIdx.x / WARP * ROWS_OF_WARP;
    const Heads heads(a, j);
    const int length = a.length, last = min(length, start + ROWS_OF_BLOCK);
    const int first = heads.first_key != nullptr ? heads.first_key[start] / N * N : 0;

    const auto load_keys = [&](int stage, int key) {
        bf16 *const keys = inner + stage * 2 * N * PITCH<D>;
        load_tile<N, D>(keys, heads.rows(a.H + g), key, last, a.head);
        load_tile<N, D>(keys + N * PITCH<D>, heads.rows(a.H + a.G + g), key, last, a.head);
    };
    float lse2[2], delta[2];
    int low[2], high[2];
#pragma unroll
    for (int half = 0; half < 2; half++) {
        const int t = start + row + row_of_thread(half);
        const int64_t at = (static_cast<int64_t>(j) * a.H + h) * length + t;
        lse2[half] = t < length ? a.lse[at] * LOG2_E : 0.0f;
        delta[half] = t < length ? a.delta[at] : 0.0f;
        low[half] = t < length && heads.first_key != nullptr ? heads.first_key[t] : 0;
        high[half] = t < length ? t : -1;
    }
    float dq[D / 8][4] = {};
    load_tile<ROWS_OF_BLOCK, D>(queries, heads.rows(h), start, length, a.head);
    load_tile<ROWS_OF_BLOCK, D>(dout, heads.dout_rows(h), start, length, a.head);
    load_keys(0, first);
    commit_copies();
    int stage = 0;
    for (int key = first; key < last; key += N, stage ^= 1) {
        if (key + N < last) load_keys(stage ^ 1, key + N);
        commit_copies();
        wait_copies<1>();
        __syncthreads(); /* this stage has come */
        const bf16 *const keys = inner + stage * 2 * N * PITCH<D>, *const values = keys + N * PITCH<D>;
        float p[N / 8][4], ds[N / 8][4];
        multiply_rows<D, N>(p, queries, row, keys);
        multiply_rows<D, N>(ds, dout, row, values);
#pragma unroll
        for (int i = 0; i < N / 8; i++)
#pragma unroll
            for (int e = 0; e < 4; e++) {
                const int at = key + column_of(i, e);
                score_gradient(p[i][e], ds[i][e], low[e / 2] <= at && at <= high[e / 2], a.scale * LOG2_E, lse2[e / 2],
                               delta[e / 2]);
            }
        add_product<D, N, D>(dq, ds, keys, 0);
        __syncthreads(); /* nobody reads this stage any more */
    }
    wait_copies<0>();
#pragma unroll
    for (int half = 0; half < 2; half++)
        if (high[half] >= 0)
            store_gradient(heads.dqkv + high[half] * heads.stride + h * a.head.size, dq, half, a.scale, 0, a.head);
}

struct RunBackward {
    cudaStream_t stream;
    BackwardArguments arguments;
    template <int D> cudaError_t head() const
    {
        const BackwardArguments &a = arguments;
        const int64_t tiles = divide_up(a.length, ROWS_OF_BLOCK);
        const unsigned key_blocks = static_cast<unsigned>(tiles * a.n * a.G * (D / COLUMNS<D>));
        const cudaError_t status =
            launch<attention_keys_kernel<D>>(key_blocks, ATTENTION_THREADS, BACKWARD_SHARED<D>, stream, a);
        if (status != cudaSuccess) return status;
        return launch<attention_queries_kernel<D>>(static_cast<unsigned>(tiles * a.n * a.H), ATTENTION_THREADS,
                                                   BACKWARD_SHARED<D>, stream, a);
    }
};

} // namespace ls

extern "C" size_t ls_attention_backward_scratch_bytes(int64_t n, int64_t T, int64_t H)
{
    return static_cast<size_t>(n * T * H) * sizeof(float);
}

extern "C" cudaError_t ls_launch_attention_backward(cudaStream_t stream, void *dqkv, const void *dout, const void *qkv,
                                                    const void *out, const float *lse, const int32_t *first_key,
                                                    const int32_t *sample, ls_dtype dtype, float scale, int64_t n,
                                                    int64_t T, int64_t H, int64_t G, int64_t D, void *scratch)
{
    using ls::bf16;
    if (n == 0 || T == 0 || H == 0 || D == 0) return cudaSuccess;
    float *const delta = static_cast<float *>(scratch);
    if (dtype == LS_F32) {
        const float *const wide = static_cast<const float *>(dout);
        const cudaError_t status =
            ls::attention_delta(stream, delta, wide, static_cast<const float *>(out), n, T, H, D);
        if (status != cudaSuccess) return status;
        return ls::attention_backward_plain(stream, static_cast<float *>(dqkv), wide, static_cast<const float *>(qkv),
                                            lse, delta, first_key, sample, scale, n, T, H, G, D);
    }
    const bf16 *const narrow = static_cast<const bf16 *>(qkv), *const narrow_dout = static_cast<const bf16 *>(dout);
    bf16 *const gradient = static_cast<bf16 *>(dqkv);
    const cudaError_t status =
        ls::attention_delta(stream, delta, narrow_dout, static_cast<const bf16 *>(out), n, T, H, D);
    if (status != cudaSuccess) return status;
    if (D > ls::LARGEST_HEAD)
        return ls::attention_backward_plain(stream, gradient, narrow_dout, narrow, lse, delta, first_key, sample, scale,
                                            n, T, H, G, D);
    const ls::HeadShape head = {static_cast<int>(D), ls::aligned<8>(D, gradient, narrow_dout, narrow)};
    return ls::by_head_size(
        D, ls::RunBackward{stream,
                           {gradient, narrow_dout, narrow, lse, delta, first_key, sample, scale, static_cast<int>(T),
                            static_cast<int>(n), static_cast<int>(H), static_cast<int>(G), head}});
}
