/* Attention in plain fp32 arithmetic: what the kernels for fp32, and for bf16 heads too large for attention.cuh, share.
 *
 * A block of 128 threads, 16 across and 8 down, works on tiles of 32 by 32 scores: a thread has rows 4y..4y+3, columns
 * x and x+16 of scores, and columns x+16i of C columns of the result; heads with more columns are cut among blocks,
 * which each compute the scores. Products are fused multiply-adds in the order of their index, so a row's bits do not
 * depend on the tile that it stands in. Head sizes have no limit: scores are summed over 32 columns at a time. */
#ifndef LS_KERNELS_CUDA_ATTENTION_PLAIN_CUH
#define LS_KERNELS_CUDA_ATTENTION_PLAIN_CUH

#include "kernels/cuda/compat.cuh"

namespace ls
{

constexpr int PLAIN_ACROSS = 16, PLAIN_THREADS = 128;
constexpr int PLAIN_ROWS = 4, PLAIN_COLUMNS = 2; /* of a thread's scores */
constexpr int PLAIN_TILE = 32;

/* Factors are read down 16 columns by a warp, weights written in two rows 4 apart: neither meets a bank twice. */
using PlainTile = float[PLAIN_TILE][PLAIN_TILE + 1];
using PlainWeights = float[PLAIN_TILE][PLAIN_TILE + 4];

__device__ __forceinline__ int plain_row(int r) { return threadIdx.x / PLAIN_ACROSS * PLAIN_ROWS + r; }
__device__ __forceinline__ int plain_column(int c) { return threadIdx.x % PLAIN_ACROSS + c * PLAIN_ACROSS; }

/* Consecutive rows of a head: row(i) points to row i; those from `end` on count as 0. */
template <class Row> struct Rows {
    Row row;
    int64_t first, end;
};
template <class Row> __device__ __forceinline__ Rows<Row> rows_of(Row row, int64_t first, int64_t end)
{
    return {row, first, end};
}

/* Columns column..column+COUNT-1 (0 from D on) of 32 rows. */
template <int COUNT, class Row>
__device__ __forceinline__ void load_plain(float *tile, int pitch, Rows<Row> rows, int64_t column, int64_t D)
{
    for (int i = threadIdx.x; i < PLAIN_TILE * COUNT; i += PLAIN_THREADS) {
        const int r = i / COUNT, c = i % COUNT;
        const bool inside = rows.first + r < rows.end && column + c < D;
        tile[r * pitch + c] = inside ? to_float(rows.row(rows.first + r)[column + c]) : 0.0f;
    }
}

/* s = left right^T over D columns. Barriers on entry and in between; the block must meet before the tiles are used for
 * something else. */
template <class Left, class Right>
__device__ __forceinline__ void multiply_plain(float (&s)[PLAIN_ROWS][PLAIN_COLUMNS], PlainTile &left, PlainTile &right,
                                               Rows<Left> a, Rows<Right> b, int64_t D)
{
#pragma unroll
    for (int r = 0; r < PLAIN_ROWS; r++) s[r][0] = s[r][1] = 0.0f;
    for (int64_t column = 0; column < D; column += PLAIN_TILE) {
        __syncthreads(); /* the last columns are read */
        load_plain<PLAIN_TILE>(left[0], PLAIN_TILE + 1, a, column, D);
        load_plain<PLAIN_TILE>(right[0], PLAIN_TILE + 1, b, column, D);
        __syncthreads();
#pragma unroll 8
        for (int k = 0; k < PLAIN_TILE; k++)
#pragma unroll
            for (int r = 0; r < PLAIN_ROWS; r++)
#pragma unroll
                for (int c = 0; c < PLAIN_COLUMNS; c++)
                    s[r][c] = __fmaf_rn(left[plain_row(r)][k], right[plain_column(c)][k], s[r][c]);
    }
}

/* sum[r][i] += sum_k p[row][k] wide[k][x + 16i]. */
template <int C>
__device__ __forceinline__ void add_plain(float (&sum)[PLAIN_ROWS][C / PLAIN_ACROSS], const PlainWeights &p,
                                          const float *wide)
{
#pragma unroll 2
    for (int k = 0; k < PLAIN_TILE; k++)
#pragma unroll
        for (int i = 0; i < C / PLAIN_ACROSS; i++) {
            const float right = wide[k * C + plain_column(i)];
#pragma unroll
            for (int r = 0; r < PLAIN_ROWS; r++) sum[r][i] = __fmaf_rn(p[plain_row(r)][k], right, sum[r][i]);
        }
}

/* Over the 16 threads that share a row. */
__device__ __forceinline__ float plain_row_sum(float v)
{
#pragma unroll
    for (int offset = PLAIN_ACROSS / 2; offset > 0; offset /= 2) v += __shfl_xor_sync(ALL_LANES, v, offset);
    return v;
}
__device__ __forceinline__ float plain_row_maximum(float v)
{
#pragma unroll
    for (int offset = PLAIN_ACROSS / 2; offset > 0; offset /= 2) v = fmaxf(v, __shfl_xor_sync(ALL_LANES, v, offset));
    return v;
}

/* What the four query rows of a thread have gathered. Logarithms are natural ones. */
template <int C> struct Plain {
    float out[PLAIN_ROWS][C / PLAIN_ACROSS];
    float largest[PLAIN_ROWS], sum[PLAIN_ROWS]; /* the sum is this thread's part of the row's */
};

template <int C>
constexpr size_t PLAIN_SHARED = 2 * sizeof(PlainTile) + sizeof(PlainWeights) + PLAIN_TILE *C * sizeof(float);

/* 32 queries against keys first..last-1, of which row r sees low[r]..high[r]; columns column..column+C-1 of the
 * result. */
template <int C, class Query, class Key, class Value>
__device__ __forceinline__ void attend_plain(Plain<C> &plain, float *shared, Rows<Query> queries, Key key_row,
                                             Value value_row, int64_t first, int64_t last, float scale,
                                             const int64_t (&low)[PLAIN_ROWS], const int64_t (&high)[PLAIN_ROWS],
                                             int64_t column, int64_t D)
{
    PlainTile *const tile = reinterpret_cast<PlainTile *>(shared);
    PlainTile &left = tile[0], &right = tile[1];
    PlainWeights &p = *reinterpret_cast<PlainWeights *>(tile + 2);
    float *const values = reinterpret_cast<float *>(&p + 1);
#pragma unroll
    for (int r = 0; r < PLAIN_ROWS; r++) {
        plain.largest[r] = -INFINITY;
        plain.sum[r] = 0.0f;
#pragma unroll
        for (int i = 0; i < C / PLAIN_ACROSS; i++) plain.out[r][i] = 0.0f;
    }
    for (int64_t key = first; key < last; key += PLAIN_TILE) {
        float s[PLAIN_ROWS][PLAIN_COLUMNS];
        multiply_plain(s, left, right, queries, rows_of(key_row, key, last), D);
        /* The barriers in the product stand between the last tile's reads of p and values and these writes. */
        load_plain<C>(values, C, rows_of(value_row, key, last), column, D);
#pragma unroll
        for (int r = 0; r < PLAIN_ROWS; r++) {
            float now = plain.largest[r];
#pragma unroll
            for (int c = 0; c < PLAIN_COLUMNS; c++) {
                const int64_t at = key + plain_column(c);
                s[r][c] = low[r] <= at && at <= high[r] ? s[r][c] * scale : -INFINITY;
                now = fmaxf(now, s[r][c]);
            }
            now = plain_row_maximum(now);
            const float base = now == -INFINITY ? 0.0f : now;
            const float shrink = expf(plain.largest[r] - base);
            plain.largest[r] = now;
            plain.sum[r] *= shrink;
#pragma unroll
            for (int c = 0; c < PLAIN_COLUMNS; c++) {
                const float weight = expf(s[r][c] - base);
                plain.sum[r] += weight;
                p[plain_row(r)][plain_column(c)] = weight;
            }
#pragma unroll
            for (int i = 0; i < C / PLAIN_ACROSS; i++) plain.out[r][i] *= shrink;
        }
        __syncthreads();
        add_plain<C>(plain.out, p, values);
    }
}

/* Calls run.columns<C>() with the columns that a block gathers: the least that hold a head, at most 128. */
template <class Run> cudaError_t by_columns(int64_t D, const Run &run)
{
    if (D <= 64) return run.template columns<64>();
    return run.template columns<128>();
}

} // namespace ls

#endif
