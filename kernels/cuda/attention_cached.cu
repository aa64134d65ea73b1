/* Attention of new rows over the key/value cache.
 *
 * The query heads of all rows that share a key/value head are the rows of a block's tile, so the cache is read once for
 * up to 64 of them. For at most 16 rows the cache is cut into splits of 128 positions counted from position 0: blocks
 * leave each row's share of a split, a second kernel joins the shares in the order of splits. What a row gets from a
 * split depends on its own query and the split alone: keys behind its position weigh exactly 0 and leave its maximum
 * alone, and a row of a product of tiles does not feel the other rows. Hence the same bits for any R. */
#include "kernels/cuda/attention.cuh"
#include "kernels/cuda/attention_plain.cuh"
#include "kernels/cuda/reduce.cuh"

namespace ls
{

constexpr int64_t SPLIT = 128;        /* a multiple of every tile's keys */
constexpr int64_t FEWEST_DIRECT = 17; /* rows that need no splits */

/* A row's share of a split, before division by the sum; [R*H, splits] of each. */
struct Shares {
    float *out;     /* [R*H, splits, D] */
    float2 *weight; /* largest score and sum of exponentials */
    int64_t splits;
};

template <class T> struct CachedArguments {
    T *out;
    const T *qkv, *key_cache, *value_cache;
    float scale;
    const int32_t *base;
    int64_t start, R, H, G, D, capacity, parts; /* parts: blocks that share a head's columns (plain kernel) */
    HeadShape head;
    Shares shares; /* out NULL: none, rows are finished at once */
};

/* A block's place: columns, key/value head, split, tile of queries. Query q is head g*group + q%group of row q/group.
 */
template <class T> struct CachedPlace {
    int64_t column, g, group, split, first_query, queries, first, last;
    int start; /* position of row 0 */

    __device__ CachedPlace(const CachedArguments<T> &a, int tile_rows, int columns)
    {
        int64_t block = blockIdx.x;
        start = static_cast<int>(first_position(a.base, a.start));
        column = block % a.parts * columns, block /= a.parts;
        g = block % a.G, block /= a.G;
        split = block % a.shares.splits, block /= a.shares.splits;
        first_query = block * tile_rows;
        group = a.H / a.G;
        queries = a.R * group;
        const bool whole = a.shares.out == nullptr;
        /* No query of this tile sees beyond the position of its last. */
        const int64_t end = start + (smaller(first_query + tile_rows, queries) - 1) / group + 1;
        first = whole ? 0 : split * SPLIT;
        last = whole ? end : smaller(end, first + SPLIT);
    }
    /* Splits go as far as the cache where the host does not know the length. */
    __device__ bool beyond() const { return first >= last; }
    __device__ int64_t row(int64_t query) const { return query / group; }
    __device__ int64_t head(int64_t query) const { return g * group + query % group; }
    __device__ int64_t share(int64_t query, const CachedArguments<T> &a) const
    {
        return (row(query) * a.H + head(query)) * a.shares.splits + split;
    }
};

/* One block at least on a multiprocessor: ptxas would rather spill than take registers that two more could use. */
template <int D>
__global__ void __launch_bounds__(ATTENTION_THREADS, 1) attention_cached_kernel(CachedArguments<bf16> a)
{
    LS_SHARED_DYNAMIC(bf16, shared);
    const CachedPlace<bf16> place(a, ROWS_OF_BLOCK, D);
    if (place.beyond()) return;
    const int64_t stride = (a.H + 2 * a.G) * a.D;
    const bf16 *const keys = a.key_cache + place.g * a.capacity * a.D;
    const bf16 *const values = a.value_cache + place.g * a.capacity * a.D;
    load_tile<ROWS_OF_BLOCK, D>(
        shared, [&](int q) { return a.qkv + place.row(q) * stride + place.head(q) * a.D; },
        static_cast<int>(place.first_query), static_cast<int>(place.queries), a.head);
    const int low[2] = {0, 0};
    int high[2], query[2];
#pragma unroll
    for (int half = 0; half < 2; half++) {
        query[half] = static_cast<int>(place.first_query) + static_cast<int>(threadIdx.x) / WARP * ROWS_OF_WARP +
                      row_of_thread(half);
        high[half] = query[half] < place.queries ? static_cast<int>(place.start + place.row(query[half])) : -1;
    }
    Flash<D> flash;
    flash.clear();
    attend<D>(
        flash, shared, [&](int s) { return keys + s * a.D; }, [&](int s) { return values + s * a.D; },
        static_cast<int>(place.first), static_cast<int>(place.last), a.scale, low, high, a.head);
#pragma unroll
    for (int half = 0; half < 2; half++) {
        const float sum = row_sum(flash.sum[half]);
        if (high[half] < 0) continue;
        if (a.shares.out == nullptr) {
            bf16 *const out = a.out + (place.row(query[half]) * a.H + place.head(query[half])) * a.D;
#pragma unroll
            for (int i = 0; i < D / 8; i++)
                store_two(out, flash.out[i][2 * half] / sum, flash.out[i][2 * half + 1] / sum, column_of(i, 0), a.head);
            continue;
        }
        const int64_t share = place.share(query[half], a);
        float *const out = a.shares.out + share * a.D;
#pragma unroll
        for (int i = 0; i < D / 8; i++)
            if (column_of(i, 0) < a.head.size)
                *reinterpret_cast<float2 *>(out + column_of(i, 0)) =
                    make_float2(flash.out[i][2 * half], flash.out[i][2 * half + 1]);
        if (threadIdx.x % 4 == 0) a.shares.weight[share] = make_float2(flash.largest[half], sum);
    }
}

template <class T, int C>
__global__ void __launch_bounds__(PLAIN_THREADS) attention_cached_plain_kernel(CachedArguments<T> a)
{
    LS_SHARED_DYNAMIC(float, shared);
    const CachedPlace<T> place(a, PLAIN_TILE, C);
    if (place.beyond()) return;
    const int64_t stride = (a.H + 2 * a.G) * a.D;
    const T *const keys = a.key_cache + place.g * a.capacity * a.D;
    const T *const values = a.value_cache + place.g * a.capacity * a.D;
    const int64_t low[PLAIN_ROWS] = {};
    int64_t high[PLAIN_ROWS];
#pragma unroll
    for (int r = 0; r < PLAIN_ROWS; r++) {
        const int64_t query = place.first_query + plain_row(r);
        high[r] = query < place.queries ? place.start + place.row(query) : -1;
    }
    Plain<C> plain;
    attend_plain<C>(
        plain, shared,
        rows_of([&](int64_t q) { return a.qkv + place.row(q) * stride + place.head(q) * a.D; }, place.first_query,
                place.queries),
        [&](int64_t s) { return keys + s * a.D; }, [&](int64_t s) { return values + s * a.D; }, place.first, place.last,
        a.scale, low, high, place.column, a.D);
#pragma unroll
    for (int r = 0; r < PLAIN_ROWS; r++) {
        const float sum = plain_row_sum(plain.sum[r]);
        const int64_t query = place.first_query + plain_row(r);
        if (high[r] < 0) continue;
        const int64_t share = a.shares.out != nullptr ? place.share(query, a) : 0;
#pragma unroll
        for (int i = 0; i < C / PLAIN_ACROSS; i++) {
            const int64_t column = place.column + plain_column(i);
            if (column >= a.D) continue;
            if (a.shares.out != nullptr)
                a.shares.out[share * a.D + column] = plain.out[r][i];
            else
                a.out[(place.row(query) * a.H + place.head(query)) * a.D + column] =
                    from_float<T>(plain.out[r][i] / sum);
        }
        if (a.shares.out != nullptr && place.column == 0 && plain_column(0) == 0)
            a.shares.weight[share] = make_float2(plain.largest[r], sum);
    }
}

constexpr int JOIN_COLUMNS = 4; /* of a lane, a warp apart */

template <bool BASE_2> __device__ __forceinline__ float exponential(float x) { return BASE_2 ? exp2f(x) : expf(x); }

/* Joins the shares of head blockIdx.x % H of row blockIdx.x / H; BASE_2 says how the largest scores were counted. */
template <class T, bool BASE_2>
__global__ void __launch_bounds__(WARP)
    join_shares_kernel(T *__restrict__ out, Shares shares, const int32_t *base, int64_t start, int64_t H, int64_t D)
{
    const int64_t row = blockIdx.x, first = row * shares.splits;
    const int64_t splits = divide_up(first_position(base, start) + row / H + 1, SPLIT); /* the row's own */
    float largest = -INFINITY;
    for (int64_t s = threadIdx.x; s < splits; s += WARP) largest = fmaxf(largest, shares.weight[first + s].x);
    largest = warp_reduce<Maximum>(largest);
    const float top = largest == -INFINITY ? 0.0f : largest;
    for (int64_t column = threadIdx.x; column < D + threadIdx.x; column += JOIN_COLUMNS * WARP) {
        float sum = 0.0f, mix[JOIN_COLUMNS] = {};
        for (int64_t s = 0; s < splits; s++) {
            const float2 weight = shares.weight[first + s];
            const float factor = exponential<BASE_2>(weight.x - top);
            sum = __fmaf_rn(weight.y, factor, sum);
#pragma unroll
            for (int i = 0; i < JOIN_COLUMNS; i++) {
                const int64_t c = column + i * WARP;
                if (c < D) mix[i] = __fmaf_rn(shares.out[(first + s) * D + c], factor, mix[i]);
            }
        }
#pragma unroll
        for (int i = 0; i < JOIN_COLUMNS; i++)
            if (column + i * WARP < D) out[row * D + column + i * WARP] = from_float<T>(mix[i] / sum);
    }
}

template <class T, bool BASE_2> static cudaError_t join_shares(cudaStream_t stream, const CachedArguments<T> &a)
{
    if (a.shares.out == nullptr) return cudaSuccess;
    return launch<join_shares_kernel<T, BASE_2>>(static_cast<unsigned>(a.R * a.H), WARP, 0, stream, a.out, a.shares,
                                                 a.base, a.start, a.H, a.D);
}

template <class T> struct RunCached {
    cudaStream_t stream;
    CachedArguments<T> arguments;

    unsigned blocks(int64_t tile_rows) const
    {
        const CachedArguments<T> &a = arguments;
        return static_cast<unsigned>(divide_up(a.R * (a.H / a.G), tile_rows) * a.G * a.shares.splits * a.parts);
    }
    template <int D> cudaError_t head() const /* bf16 */
    {
        const cudaError_t status = launch<attention_cached_kernel<D>>(blocks(ROWS_OF_BLOCK), ATTENTION_THREADS,
                                                                      FLASH_SHARED<D>, stream, arguments);
        return status != cudaSuccess ? status : join_shares<T, true>(stream, arguments);
    }
    template <int C> cudaError_t columns() const
    {
        const cudaError_t status = launch<attention_cached_plain_kernel<T, C>>(blocks(PLAIN_TILE), PLAIN_THREADS,
                                                                               PLAIN_SHARED<C>, stream, arguments);
        return status != cudaSuccess ? status : join_shares<T, false>(stream, arguments);
    }
};

template <class T>
static CachedArguments<T> cached_arguments(void *out, const void *qkv, const void *key_cache, const void *value_cache,
                                           float scale, const int32_t *base, int64_t start, int64_t R, int64_t H,
                                           int64_t G, int64_t D, int64_t capacity, void *scratch)
{
    CachedArguments<T> a = {};
    a.out = static_cast<T *>(out), a.qkv = static_cast<const T *>(qkv);
    a.key_cache = static_cast<const T *>(key_cache), a.value_cache = static_cast<const T *>(value_cache);
    a.scale = scale, a.base = base, a.start = start, a.R = R, a.H = H, a.G = G, a.D = D, a.capacity = capacity,
    a.parts = 1;
    a.head = {static_cast<int>(D), aligned<WIDE<T>>(D, a.out, a.qkv, a.key_cache, a.value_cache)};
    a.shares.splits = R < FEWEST_DIRECT ? divide_up(base == nullptr ? start + R : capacity, SPLIT) : 1;
    if (R < FEWEST_DIRECT) {
        a.shares.weight = static_cast<float2 *>(scratch);
        a.shares.out = reinterpret_cast<float *>(a.shares.weight + R * H * a.shares.splits);
    }
    return a;
}

} // namespace ls

extern "C" size_t ls_attention_cached_scratch_bytes(int64_t positions, int64_t R, int64_t H, int64_t D)
{
    const int64_t rows = ls::smaller(R, ls::FEWEST_DIRECT - 1); /* more rows need none, but the count must not fall */
    return static_cast<size_t>(rows * H * ls::divide_up(positions, ls::SPLIT) * (D + 2)) * sizeof(float);
}

extern "C" cudaError_t ls_launch_attention_cached(cudaStream_t stream, void *out, const void *qkv,
                                                  const void *key_cache, const void *value_cache, ls_dtype dtype,
                                                  float scale, const int32_t *base, int64_t start, int64_t R, int64_t H,
                                                  int64_t G, int64_t D, int64_t capacity, void *scratch)
{
    using ls::bf16;
    if (R == 0 || H == 0 || D == 0) return cudaSuccess;
    const int64_t parts = D <= 64 ? 1 : ls::divide_up(D, 128);
    if (dtype == LS_F32) {
        ls::RunCached<float> run = {stream, ls::cached_arguments<float>(out, qkv, key_cache, value_cache, scale, base,
                                                                        start, R, H, G, D, capacity, scratch)};
        run.arguments.parts = parts;
        return ls::by_columns(D, run);
    }
    ls::RunCached<bf16> run = {stream, ls::cached_arguments<bf16>(out, qkv, key_cache, value_cache, scale, base, start,
                                                                  R, H, G, D, capacity, scratch)};
    if (D > ls::LARGEST_HEAD) {
        run.arguments.parts = parts;
        return ls::by_columns(D, run);
    }
    run.arguments.scale *= ls::LOG2_E;
    return ls::by_head_size(D, run);
}
