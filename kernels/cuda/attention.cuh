/* What the attention kernels on tensor cores share: tiles of head rows in shared memory, the fragments that
 * mma.m16n8k16 reads from them, and attention with a running softmax (FlashAttention-2, Dao 2023).
 *
 * A block is four warps of 16 rows each. A tile is [rows][D + 8] bf16: the 16 bytes of padding turn each row by four
 * banks, so the eight rows of a matrix load meet no bank twice. Head sizes below the compiled D are filled with 0,
 * which adds nothing to a product. Written for bf16 inputs and fp32 sums. */
#ifndef LS_KERNELS_CUDA_ATTENTION_CUH
#define LS_KERNELS_CUDA_ATTENTION_CUH

#include "kernels/cuda/ptx.cuh"

namespace ls
{

constexpr int ATTENTION_WARPS = 4;
constexpr int ATTENTION_THREADS = ATTENTION_WARPS * WARP;
constexpr int ROWS_OF_WARP = 16;
constexpr int ROWS_OF_BLOCK = ATTENTION_WARPS * ROWS_OF_WARP;
constexpr int LARGEST_HEAD = 256; /* that is compiled */
constexpr float LOG2_E = 1.4426950408889634f, LN_2 = 0.6931471805599453f;

template <int D> constexpr int PITCH = D + 8;

/* Positions within a sample are ints, as first_key's are: registers are what these kernels are short of. */

/* A head's size and whether its rows start at multiples of 16 bytes. */
struct HeadShape {
    int size;
    bool words;
};

/* Rows first..first+ROWS-1 of a head into a tile, 0 from row `end` on; row(i) points to row i. Asynchronous where rows
 * are aligned: the caller commits, waits, and has the block meet. */
template <int ROWS, int D, class Row>
__device__ __forceinline__ void load_tile(bf16 *tile, Row row, int first, int end, HeadShape head)
{
    constexpr int WORDS = D / 8;
#pragma unroll 2
    for (int i = threadIdx.x; i < ROWS * WORDS; i += ATTENTION_THREADS) {
        const int r = i / WORDS, c = i % WORDS * 8;
        const bool inside = first + r < end && c < head.size;
        const bf16 *const from = row(inside ? first + r : first) + (inside ? c : 0);
        bf16 *const to = tile + r * PITCH<D> + c;
        if (head.words) {
            copy_async(to, from, inside ? 16 : 0);
        } else {
            Floats<8> word;
#pragma unroll
            for (int k = 0; k < 8; k++) word.at[k] = inside && c + k < head.size ? to_float(from[k]) : 0.0f;
            store<8>(to, word);
        }
    }
}

/* Rows row..row+15, columns k..k+15 of a tile as the left factor. */
template <int D> __device__ __forceinline__ void left_fragment(unsigned (&r)[4], const bf16 *tile, int row, int k)
{
    const int lane = threadIdx.x % WARP;
    load_matrix(r, tile + (row + lane % 16) * PITCH<D> + k + lane / 16 * 8);
}

/* The right factor's columns n..n+7 (r[0], r[1]) and n+8..n+15 (r[2], r[3]), rows k..k+15, when the tile's rows are the
 * factor's columns ... */
template <int D> __device__ __forceinline__ void right_fragment(unsigned (&r)[4], const bf16 *tile, int n, int k)
{
    const int lane = threadIdx.x % WARP;
    load_matrix(r, tile + (n + lane % 8 + lane / 16 * 8) * PITCH<D> + k + lane / 8 % 2 * 8);
}

/* ... and when they are its rows. */
template <int D>
__device__ __forceinline__ void right_fragment_of_rows(unsigned (&r)[4], const bf16 *tile, int k, int n)
{
    const int lane = threadIdx.x % WARP;
    load_matrix_transposed(r, tile + (k + lane % 16) * PITCH<D> + n + lane / 16 * 8);
}

/* s[16,N] = rows row..row+15 of `left` times the N rows of `right`, over D columns. s[i] holds columns 8i..8i+7. */
template <int D, int N>
__device__ __forceinline__ void multiply_rows(float (&s)[N / 8][4], const bf16 *left, int row, const bf16 *right)
{
#pragma unroll
    for (int i = 0; i < N / 8; i++) s[i][0] = s[i][1] = s[i][2] = s[i][3] = 0.0f;
#pragma unroll
    for (int k = 0; k < D; k += 16) {
        unsigned a[4];
        left_fragment<D>(a, left, row, k);
#pragma unroll
        for (int n = 0; n < N; n += 16) {
            unsigned b[4];
            right_fragment<D>(b, right, n, k);
            mma_bf16(s[n / 8], a, b[0], b[1]);
            mma_bf16(s[n / 8 + 1], a, b[2], b[3]);
        }
    }
}

/* sum[16,COLUMNS] += p[16,N] times the N rows of `right`, columns first..first+COLUMNS-1; p, a product's result, is
 * rounded to bf16. */
template <int D, int N, int COLUMNS>
__device__ __forceinline__ void add_product(float (&sum)[COLUMNS / 8][4], const float (&p)[N / 8][4], const bf16 *right,
                                            int first)
{
#pragma unroll
    for (int k = 0; k < N; k += 16) {
        const float(&low)[4] = p[k / 8], (&high)[4] = p[k / 8 + 1];
        const unsigned a[4] = {pair_of(low[0], low[1]), pair_of(low[2], low[3]), pair_of(high[0], high[1]),
                               pair_of(high[2], high[3])};
#pragma unroll
        for (int n = 0; n < COLUMNS; n += 16) {
            unsigned b[4];
            right_fragment_of_rows<D>(b, right, k, first + n);
            mma_bf16(sum[n / 8], a, b[0], b[1]);
            mma_bf16(sum[n / 8 + 1], a, b[2], b[3]);
        }
    }
}

/* The row of a product's result that element e of s[i] belongs to, and its column: half e/2, column_of(i, e). */
__device__ __forceinline__ int row_of_thread(int half) { return threadIdx.x % WARP / 4 + half * 8; }
__device__ __forceinline__ int column_of(int i, int e) { return i * 8 + threadIdx.x % 4 * 2 + e % 2; }

/* Over the four lanes that share a row. */
__device__ __forceinline__ float row_sum(float v)
{
    v += __shfl_xor_sync(ALL_LANES, v, 1);
    return v + __shfl_xor_sync(ALL_LANES, v, 2);
}
__device__ __forceinline__ float row_maximum(float v)
{
    v = fmaxf(v, __shfl_xor_sync(ALL_LANES, v, 1));
    return fmaxf(v, __shfl_xor_sync(ALL_LANES, v, 2));
}

/* Two neighbours of a row. */
__device__ __forceinline__ void store_two(bf16 *to, float a, float b, int column, HeadShape head)
{
    if (column >= head.size) return; /* sizes are even */
    if (head.words) {
        *reinterpret_cast<uint32_t *>(to + column) = pair_of(a, b);
    } else {
        to[column] = from_float<bf16>(a);
        to[column + 1] = from_float<bf16>(b);
    }
}

/* Keys that a tile has: fewer for large heads, whose output fills the registers. */
template <int D> constexpr int KEYS = D <= 128 ? 64 : 32;
template <int D> constexpr size_t FLASH_SHARED = (ROWS_OF_BLOCK + 2 * KEYS<D>)*PITCH<D> * sizeof(bf16);

/* Two query rows of a thread: what they have gathered so far. Logarithms are to base 2. */
template <int D> struct Flash {
    float out[D / 8][4];
    float largest[2], sum[2]; /* of scores; the sum is this thread's part of the row's */

    __device__ __forceinline__ void clear()
    {
#pragma unroll
        for (int i = 0; i < D / 8; i++) out[i][0] = out[i][1] = out[i][2] = out[i][3] = 0.0f;
        largest[0] = largest[1] = -INFINITY;
        sum[0] = sum[1] = 0.0f;
    }

    /* Takes the scores of N keys from `key` on, of which row `half` sees low[half]..high[half]; s becomes
     * probabilities relative to the largest score so far. Nothing seen yet: the largest is -infinity. */
    template <int N>
    __device__ __forceinline__ void take_scores(float (&s)[N / 8][4], float scale, int key, const int (&low)[2],
                                                const int (&high)[2])
    {
#pragma unroll
        for (int half = 0; half < 2; half++) {
            const bool whole = low[half] <= key && key + N - 1 <= high[half];
            float now = largest[half];
#pragma unroll
            for (int i = 0; i < N / 8; i++)
#pragma unroll
                for (int e = 2 * half; e < 2 * half + 2; e++) {
                    const int at = key + column_of(i, e);
                    const bool seen = whole || (low[half] <= at && at <= high[half]);
                    s[i][e] = seen ? s[i][e] * scale : -INFINITY;
                    now = fmaxf(now, s[i][e]);
                }
            now = row_maximum(now);
            const float base = now == -INFINITY ? 0.0f : now;
            const float shrink = fast_exp2(largest[half] - base);
            largest[half] = now;
            sum[half] *= shrink;
#pragma unroll
            for (int i = 0; i < N / 8; i++)
#pragma unroll
                for (int e = 2 * half; e < 2 * half + 2; e++) {
                    s[i][e] = fast_exp2(s[i][e] - base);
                    sum[half] += s[i][e];
                }
#pragma unroll
            for (int i = 0; i < D / 8; i++) out[i][2 * half] *= shrink, out[i][2 * half + 1] *= shrink;
        }
    }
};

/* The block's 64 queries, rows of a tile at the start of `shared`, against keys first..last-1 (first a multiple of
 * KEYS). Keys of the next tile are on their way while values are multiplied, values while scores are. The queries' own
 * copies may still be under way; all of them have ended on return. */
template <int D, class KeyRow, class ValueRow>
__device__ __forceinline__ void attend(Flash<D> &flash, bf16 *shared, KeyRow key_row, ValueRow value_row, int first,
                                       int last, float scale, const int (&low)[2], const int (&high)[2], HeadShape head)
{
    constexpr int N = KEYS<D>;
    bf16 *const queries = shared, *const keys = queries + ROWS_OF_BLOCK * PITCH<D>, *const values = keys + N * PITCH<D>;
    const int row = threadIdx.x / WARP * ROWS_OF_WARP;
    load_tile<N, D>(keys, key_row, first, last, head);
    commit_copies();
    for (int key = first; key < last; key += N) {
        wait_copies<0>();
        __syncthreads(); /* keys have come, and nobody reads the last values any more */
        load_tile<N, D>(values, value_row, key, last, head);
        commit_copies();
        float s[N / 8][4];
        multiply_rows<D, N>(s, queries, row, keys);
        wait_copies<0>();
        __syncthreads(); /* values have come, and nobody reads these keys any more */
        if (key + N < last) load_tile<N, D>(keys, key_row, key + N, last, head);
        commit_copies();
        flash.template take_scores<N>(s, scale, key, low, high);
        add_product<D, N, D>(flash.out, s, values, 0);
    }
    wait_copies<0>();
}

/* Calls run<D>() with the least compiled head size that holds `size`. */
template <class Run> cudaError_t by_head_size(int64_t size, const Run &run)
{
    if (size <= 32) return run.template head<32>();
    if (size <= 64) return run.template head<64>();
    if (size <= 96) return run.template head<96>();
    if (size <= 128) return run.template head<128>();
    return run.template head<LARGEST_HEAD>();
}

/* The plain kernels (attention_plain.cu): fp32, and bf16 with larger heads. */
template <class T>
cudaError_t attention_forward_plain(cudaStream_t stream, T *out, float *lse, const T *qkv, const int32_t *first_key,
                                    const int32_t *sample, float scale, int64_t n, int64_t length, int64_t H, int64_t G,
                                    int64_t D);
template <class T>
cudaError_t attention_backward_plain(cudaStream_t stream, T *dqkv, const T *dout, const T *qkv, const float *lse,
                                     const float *delta, const int32_t *first_key, const int32_t *sample, float scale,
                                     int64_t n, int64_t length, int64_t H, int64_t G, int64_t D);

} // namespace ls

#endif
