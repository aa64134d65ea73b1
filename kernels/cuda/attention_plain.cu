/* Attention over whole sequences in plain fp32 arithmetic, forward and backward; backward as in attention_backward.cu,
 * one kernel that owns keys and one that owns queries. */
#include "kernels/cuda/attention.cuh"
#include "kernels/cuda/attention_plain.cuh"

namespace ls
{

template <class T> struct PlainArguments {
    T *out; /* of backward: dqkv */
    float *lse;
    const T *dout, *qkv;
    const float *delta;
    const int32_t *first_key, *sample;
    float scale;
    int64_t n, length, H, G, D, parts; /* parts: blocks that share a head's columns */
};

/* A block's place, from the block number: columns, then heads (H of queries or G of keys), samples, tiles. */
template <class T> struct PlainPlace {
    int64_t column, head, j, start, stride;
    const T *qkv, *dout;
    T *dqkv;
    const int32_t *first_key;

    __device__ PlainPlace(const PlainArguments<T> &a, int64_t heads, int C)
    {
        int64_t block = blockIdx.x;
        column = block % a.parts * C, block /= a.parts;
        head = block % heads, block /= heads;
        j = block % a.n, block /= a.n;
        start = block * PLAIN_TILE;
        stride = (a.H + 2 * a.G) * a.D;
        qkv = a.qkv + j * a.length * stride;
        dout = a.dout + j * a.length * a.H * a.D;
        dqkv = a.out + j * a.length * stride;
        first_key = a.first_key != nullptr ? a.first_key + (a.sample != nullptr ? a.sample[j] : j) * a.length : nullptr;
    }
    __device__ auto rows(int64_t which, int64_t D) const
    {
        return [data = qkv + which * D, step = stride](int64_t t) { return data + t * step; };
    }
    __device__ auto dout_rows(int64_t which, int64_t H, int64_t D) const
    {
        return [data = dout + which * D, step = H * D](int64_t t) { return data + t * step; };
    }
};

template <class T, int C>
__global__ void __launch_bounds__(PLAIN_THREADS) attention_forward_plain_kernel(PlainArguments<T> a)
{
    LS_SHARED_DYNAMIC(float, shared);
    const PlainPlace<T> place(a, a.H, C);
    const int64_t g = place.head / (a.H / a.G), last = smaller(a.length, place.start + PLAIN_TILE);
    int64_t low[PLAIN_ROWS], high[PLAIN_ROWS];
#pragma unroll
    for (int r = 0; r < PLAIN_ROWS; r++) {
        high[r] = place.start + plain_row(r);
        low[r] = place.first_key != nullptr && high[r] < a.length ? place.first_key[high[r]] : 0;
    }
    const int64_t first = place.first_key != nullptr ? place.first_key[place.start] / PLAIN_TILE * PLAIN_TILE : 0;
    Plain<C> plain;
    attend_plain<C>(plain, shared, rows_of(place.rows(place.head, a.D), place.start, a.length),
                    place.rows(a.H + g, a.D), place.rows(a.H + a.G + g, a.D), first, last, a.scale, low, high,
                    place.column, a.D);
#pragma unroll
    for (int r = 0; r < PLAIN_ROWS; r++) {
        const float sum = plain_row_sum(plain.sum[r]);
        const int64_t t = high[r];
        if (t >= a.length) continue;
        T *const out = a.out + ((place.j * a.length + t) * a.H + place.head) * a.D;
#pragma unroll
        for (int i = 0; i < C / PLAIN_ACROSS; i++) {
            const int64_t column = place.column + plain_column(i);
            if (column < a.D) out[column] = from_float<T>(plain.out[r][i] / sum);
        }
        if (place.column == 0 && plain_column(0) == 0)
            a.lse[(place.j * a.H + place.head) * a.length + t] = plain.largest[r] + logf(sum);
    }
}

/* Left and right factors; p and ds; rows of two tensors. */
template <int C>
constexpr size_t PLAIN_BACKWARD_SHARED = 2 * sizeof(PlainTile) + 2 * sizeof(PlainWeights) +
                                         2 * PLAIN_TILE *C * sizeof(float);

template <class T, int C>
__device__ __forceinline__ void store_plain(T *row, const float (&sum)[C / PLAIN_ACROSS], float factor, int64_t column,
                                            int64_t D)
{
#pragma unroll
    for (int i = 0; i < C / PLAIN_ACROSS; i++) {
        const int64_t at = column + plain_column(i);
        if (at < D) row[at] = from_float<T>(factor * sum[i]);
    }
}

/* dk and dv of 32 keys: rows are keys, columns of scores are queries. */
template <class T, int C>
__global__ void __launch_bounds__(PLAIN_THREADS) attention_keys_plain_kernel(PlainArguments<T> a)
{
    LS_SHARED_DYNAMIC(float, shared);
    PlainTile *const tile = reinterpret_cast<PlainTile *>(shared);
    PlainWeights *const weights = reinterpret_cast<PlainWeights *>(tile + 2);
    float *const wide_queries = reinterpret_cast<float *>(weights + 2);
    float *const wide_dout = wide_queries + PLAIN_TILE * C;
    const PlainPlace<T> place(a, a.G, C);
    const int64_t g = place.head, group = a.H / a.G, end = a.length;
    const auto keys = rows_of(place.rows(a.H + g, a.D), place.start, end);
    const auto values = rows_of(place.rows(a.H + a.G + g, a.D), place.start, end);
    float dk[PLAIN_ROWS][C / PLAIN_ACROSS] = {}, dv[PLAIN_ROWS][C / PLAIN_ACROSS] = {};
    for (int64_t h = g * group; h < (g + 1) * group; h++)
        for (int64_t t = place.start; t < end; t += PLAIN_TILE) {
            /* From here on documents begin behind these keys. */
            if (place.first_key != nullptr && place.first_key[t] >= place.start + PLAIN_TILE) break;
            const auto queries = rows_of(place.rows(h, a.D), t, end);
            const auto dout = rows_of(place.dout_rows(h, a.H, a.D), t, end);
            float p[PLAIN_ROWS][PLAIN_COLUMNS], ds[PLAIN_ROWS][PLAIN_COLUMNS];
            multiply_plain(p, tile[0], tile[1], keys, queries, a.D);
            multiply_plain(ds, tile[0], tile[1], values, dout, a.D);
            load_plain<C>(wide_queries, C, queries, place.column, a.D);
            load_plain<C>(wide_dout, C, dout, place.column, a.D);
#pragma unroll
            for (int c = 0; c < PLAIN_COLUMNS; c++) {
                const int64_t query = t + plain_column(c), at = (place.j * a.H + h) * end + query;
                const bool inside = query < end;
                const int64_t low = inside && place.first_key != nullptr ? place.first_key[query] : 0;
                const float lse = inside ? a.lse[at] : 0.0f, delta = inside ? a.delta[at] : 0.0f;
#pragma unroll
                for (int r = 0; r < PLAIN_ROWS; r++) {
                    const int64_t key = place.start + plain_row(r);
                    const bool seen = inside && low <= key && key <= query;
                    const float weight = seen ? expf(a.scale * p[r][c] - lse) : 0.0f;
                    weights[0][plain_row(r)][plain_column(c)] = weight;
                    weights[1][plain_row(r)][plain_column(c)] = seen ? weight * (ds[r][c] - delta) : 0.0f;
                }
            }
            __syncthreads();
            add_plain<C>(dv, weights[0], wide_dout);
            add_plain<C>(dk, weights[1], wide_queries);
        }
#pragma unroll
    for (int r = 0; r < PLAIN_ROWS; r++) {
        const int64_t key = place.start + plain_row(r);
        if (key >= end) continue;
        T *const to = place.dqkv + key * place.stride + (a.H + g) * a.D;
        store_plain<T, C>(to, dk[r], a.scale, place.column, a.D);
        store_plain<T, C>(to + a.G * a.D, dv[r], 1.0f, place.column, a.D);
    }
}

/* dq of 32 queries. */
template <class T, int C>
__global__ void __launch_bounds__(PLAIN_THREADS) attention_queries_plain_kernel(PlainArguments<T> a)
{
    LS_SHARED_DYNAMIC(float, shared);
    PlainTile *const tile = reinterpret_cast<PlainTile *>(shared);
    PlainWeights *const weights = reinterpret_cast<PlainWeights *>(tile + 2);
    float *const wide_keys = reinterpret_cast<float *>(weights + 2);
    const PlainPlace<T> place(a, a.H, C);
    const int64_t h = place.head, g = h / (a.H / a.G), last = smaller(a.length, place.start + PLAIN_TILE);
    const auto queries = rows_of(place.rows(h, a.D), place.start, last);
    const auto dout = rows_of(place.dout_rows(h, a.H, a.D), place.start, last);
    float lse[PLAIN_ROWS], delta[PLAIN_ROWS], dq[PLAIN_ROWS][C / PLAIN_ACROSS] = {};
    int64_t low[PLAIN_ROWS], high[PLAIN_ROWS];
#pragma unroll
    for (int r = 0; r < PLAIN_ROWS; r++) {
        const int64_t t = place.start + plain_row(r), at = (place.j * a.H + h) * a.length + t;
        const bool inside = t < a.length;
        lse[r] = inside ? a.lse[at] : 0.0f;
        delta[r] = inside ? a.delta[at] : 0.0f;
        low[r] = inside && place.first_key != nullptr ? place.first_key[t] : 0;
        high[r] = inside ? t : -1;
    }
    const int64_t first = place.first_key != nullptr ? place.first_key[place.start] / PLAIN_TILE * PLAIN_TILE : 0;
    for (int64_t key = first; key < last; key += PLAIN_TILE) {
        const auto keys = rows_of(place.rows(a.H + g, a.D), key, last);
        const auto values = rows_of(place.rows(a.H + a.G + g, a.D), key, last);
        float p[PLAIN_ROWS][PLAIN_COLUMNS], ds[PLAIN_ROWS][PLAIN_COLUMNS];
        multiply_plain(p, tile[0], tile[1], queries, keys, a.D);
        multiply_plain(ds, tile[0], tile[1], dout, values, a.D);
        load_plain<C>(wide_keys, C, keys, place.column, a.D);
#pragma unroll
        for (int r = 0; r < PLAIN_ROWS; r++)
#pragma unroll
            for (int c = 0; c < PLAIN_COLUMNS; c++) {
                const int64_t at = key + plain_column(c);
                const bool seen = low[r] <= at && at <= high[r];
                weights[0][plain_row(r)][plain_column(c)] =
                    seen ? expf(a.scale * p[r][c] - lse[r]) * (ds[r][c] - delta[r]) : 0.0f;
            }
        __syncthreads();
        add_plain<C>(dq, weights[0], wide_keys);
    }
#pragma unroll
    for (int r = 0; r < PLAIN_ROWS; r++)
        if (high[r] >= 0)
            store_plain<T, C>(place.dqkv + high[r] * place.stride + h * a.D, dq[r], a.scale, place.column, a.D);
}

template <class T> struct RunPlain {
    cudaStream_t stream;
    PlainArguments<T> arguments;
    bool backward;

    unsigned blocks(int64_t heads) const
    {
        const PlainArguments<T> &a = arguments;
        return static_cast<unsigned>(divide_up(a.length, PLAIN_TILE) * a.n * heads * a.parts);
    }
    template <int C> cudaError_t columns() const
    {
        if (!backward)
            return launch<attention_forward_plain_kernel<T, C>>(blocks(arguments.H), PLAIN_THREADS, PLAIN_SHARED<C>,
                                                                stream, arguments);
        const cudaError_t status = launch<attention_keys_plain_kernel<T, C>>(
            blocks(arguments.G), PLAIN_THREADS, PLAIN_BACKWARD_SHARED<C>, stream, arguments);
        if (status != cudaSuccess) return status;
        return launch<attention_queries_plain_kernel<T, C>>(blocks(arguments.H), PLAIN_THREADS,
                                                            PLAIN_BACKWARD_SHARED<C>, stream, arguments);
    }
};

template <class T>
cudaError_t attention_forward_plain(cudaStream_t stream, T *out, float *lse, const T *qkv, const int32_t *first_key,
                                    const int32_t *sample, float scale, int64_t n, int64_t length, int64_t H, int64_t G,
                                    int64_t D)
{
    const int64_t parts = D <= 64 ? 1 : divide_up(D, 128);
    return by_columns(
        D, RunPlain<T>{
               stream, {out, lse, nullptr, qkv, nullptr, first_key, sample, scale, n, length, H, G, D, parts}, false});
}

template <class T>
cudaError_t attention_backward_plain(cudaStream_t stream, T *dqkv, const T *dout, const T *qkv, const float *lse,
                                     const float *delta, const int32_t *first_key, const int32_t *sample, float scale,
                                     int64_t n, int64_t length, int64_t H, int64_t G, int64_t D)
{
    const int64_t parts = D <= 64 ? 1 : divide_up(D, 128);
    return by_columns(D, RunPlain<T>{stream,
                                     {dqkv, const_cast<float *>(lse), dout, qkv, delta, first_key, sample, scale, n,
                                      length, H, G, D, parts},
                                     true});
}

template cudaError_t attention_forward_plain(cudaStream_t, float *, float *, const float *, const int32_t *,
                                             const int32_t *, float, int64_t, int64_t, int64_t, int64_t, int64_t);
template cudaError_t attention_forward_plain(cudaStream_t, bf16 *, float *, const bf16 *, const int32_t *,
                                             const int32_t *, float, int64_t, int64_t, int64_t, int64_t, int64_t);
template cudaError_t attention_backward_plain(cudaStream_t, float *, const float *, const float *, const float *,
                                              const float *, const int32_t *, const int32_t *, float, int64_t, int64_t,
                                              int64_t, int64_t, int64_t);
template cudaError_t attention_backward_plain(cudaStream_t, bf16 *, const bf16 *, const bf16 *, const float *,
                                              const float *, const int32_t *, const int32_t *, float, int64_t, int64_t,
                                              int64_t, int64_t, int64_t);

} // namespace ls
