/* The skinny product of decoding, out[R,N] = x[R,K] weight[N,K]^T: weights are read once for 16 rows.
 *
 * bf16 runs on tensor cores straight from global memory: a lane's 16 bytes of a weight row are the factors of two
 * products of 16 columns, with columns taken in an order that x's fragments share. Eight warps cut the columns among
 * themselves and add up in the order of warps. fp32 gives a warp some rows of weights, its lanes the columns.
 * Both sum a number of the result over the same columns in the same order whatever R is, and rows of a tensor-core
 * product do not feel each other: a row has the same bits in any company. */
#include "kernels/cuda/ptx.cuh"
#include "kernels/cuda/reduce.cuh"

namespace ls
{

constexpr int ROWS_TOGETHER = 16;
constexpr int ROWS_WARPS = 8;

struct RowsSizes {
    int64_t R, N, K;
    bool words; /* rows start at multiples of 16 bytes */
};

/* ---- bf16 -------------------------------------------------------------------------------------------------------- */

constexpr int LANE_COLUMNS = 8;                 /* that a lane loads at once */
constexpr int CHUNK_COLUMNS = 4 * LANE_COLUMNS; /* of four lanes: two products of 16 */

/* Columns k..k+7 of a row, 0 from K on. */
__device__ __forceinline__ uint4 load_columns(const bf16 *row, int64_t k, const RowsSizes &size)
{
    if (size.words) return k < size.K ? *reinterpret_cast<const uint4 *>(row + k) : make_uint4(0, 0, 0, 0);
    float v[LANE_COLUMNS];
#pragma unroll
    for (int i = 0; i < LANE_COLUMNS; i++) v[i] = k + i < size.K ? to_float(row[k + i]) : 0.0f;
    return make_uint4(pair_of(v[0], v[1]), pair_of(v[2], v[3]), pair_of(v[4], v[5]), pair_of(v[6], v[7]));
}

/* A block has TILES * 8 rows of weights; chunks of columns are loaded AHEAD at a time before they are multiplied. */
template <class Out, int TILES, int AHEAD>
__global__ void __launch_bounds__(ROWS_WARPS *WARP)
    matmul_rows_kernel(Out *__restrict__ out, const bf16 *__restrict__ x, const bf16 *__restrict__ weight,
                       RowsSizes size)
{
    LS_SHARED(float, part, [ROWS_WARPS][TILES][4][WARP]);
    const int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP, g = lane / 4, t = lane % 4;
    const int64_t n0 = static_cast<int64_t>(blockIdx.x) * TILES * 8;
    const int64_t row0 = static_cast<int64_t>(blockIdx.y) * ROWS_TOGETHER;
    const bool low = row0 + g < size.R, high = row0 + g + 8 < size.R;
    const bf16 *const x_low = x + (row0 + g) * size.K, *const x_high = x_low + 8 * size.K;
    const uint4 none = make_uint4(0, 0, 0, 0);
    float sum[TILES][4] = {};
    for (int64_t chunk = warp * CHUNK_COLUMNS; chunk < size.K; chunk += AHEAD * ROWS_WARPS * CHUNK_COLUMNS) {
        uint4 w[AHEAD][TILES], a_low[AHEAD], a_high[AHEAD];
#pragma unroll
        for (int i = 0; i < AHEAD; i++) {
            const int64_t k = chunk + i * ROWS_WARPS * CHUNK_COLUMNS + t * LANE_COLUMNS;
#pragma unroll
            for (int j = 0; j < TILES; j++) {
                const int64_t n = n0 + j * 8 + g;
                w[i][j] = n < size.N ? load_columns(weight + n * size.K, k, size) : none;
            }
            a_low[i] = low ? load_columns(x_low, k, size) : none;
            a_high[i] = high ? load_columns(x_high, k, size) : none;
        }
#pragma unroll
        for (int i = 0; i < AHEAD; i++) {
            const unsigned first[4] = {a_low[i].x, a_high[i].x, a_low[i].y, a_high[i].y};
            const unsigned second[4] = {a_low[i].z, a_high[i].z, a_low[i].w, a_high[i].w};
#pragma unroll
            for (int j = 0; j < TILES; j++) {
                mma_bf16(sum[j], first, w[i][j].x, w[i][j].y);
                mma_bf16(sum[j], second, w[i][j].z, w[i][j].w);
            }
        }
    }
#pragma unroll
    for (int j = 0; j < TILES; j++)
#pragma unroll
        for (int e = 0; e < 4; e++) part[warp][j][e][lane] = sum[j][e];
    __syncthreads();
    for (int i = threadIdx.x; i < TILES * 4 * WARP; i += ROWS_WARPS * WARP) {
        const int from = i % WARP, e = i / WARP % 4, j = i / WARP / 4;
        float total = 0.0f;
#pragma unroll
        for (int w = 0; w < ROWS_WARPS; w++) total += part[w][j][e][from];
        const int64_t row = row0 + from / 4 + e / 2 * 8, n = n0 + j * 8 + from % 4 * 2 + e % 2;
        if (row < size.R && n < size.N) out[row * size.N + n] = from_float<Out>(total);
    }
}

template <class Out, int TILES, int AHEAD>
static cudaError_t run_rows(cudaStream_t stream, Out *out, const bf16 *x, const bf16 *weight, const RowsSizes &size)
{
    const dim3 grid(blocks_for(size.N, TILES * 8), static_cast<unsigned>(divide_up(size.R, ROWS_TOGETHER)));
    return launch<matmul_rows_kernel<Out, TILES, AHEAD>>(grid, ROWS_WARPS * WARP, 0, stream, out, x, weight, size);
}

/* More rows of weights in a block read x less often, as long as there are blocks enough to fill a GPU. */
template <class Out>
static cudaError_t matmul_rows(cudaStream_t stream, Out *out, const bf16 *x, const bf16 *weight, const RowsSizes &size)
{
    if (size.N >= 8192) return run_rows<Out, 4, 2>(stream, out, x, weight, size);
    if (size.N >= 2048) return run_rows<Out, 2, 4>(stream, out, x, weight, size);
    return run_rows<Out, 1, 4>(stream, out, x, weight, size);
}

/* ---- fp32 -------------------------------------------------------------------------------------------------------- */

__device__ __forceinline__ Floats<4> load_columns(const float *row, int64_t k, const RowsSizes &size)
{
    if (size.words && k < size.K) return load<4>(row + k);
    Floats<4> v;
#pragma unroll
    for (int i = 0; i < 4; i++) v.at[i] = k + i < size.K ? row[k + i] : 0.0f;
    return v;
}

/* At most ROWS rows from blockIdx.y * 16 on; a warp has WEIGHTS rows of weights. */
template <int ROWS, int WEIGHTS>
__global__ void __launch_bounds__(4 * WARP)
    matmul_rows_wide_kernel(float *__restrict__ out, const float *__restrict__ x, const float *__restrict__ weight,
                            RowsSizes size)
{
    const int lane = threadIdx.x % WARP;
    const int64_t n0 = (static_cast<int64_t>(blockIdx.x) * (blockDim.x / WARP) + threadIdx.x / WARP) * WEIGHTS;
    const int64_t row0 = static_cast<int64_t>(blockIdx.y) * ROWS_TOGETHER;
    if (n0 >= size.N) return; /* a whole warp */
    float sum[WEIGHTS][ROWS] = {};
    for (int64_t k = lane * 4; k - lane * 4 < size.K; k += WARP * 4) {
        Floats<4> w[WEIGHTS];
#pragma unroll
        for (int j = 0; j < WEIGHTS; j++)
            w[j] = n0 + j < size.N ? load_columns(weight + (n0 + j) * size.K, k, size) : Floats<4>{};
#pragma unroll
        for (int r = 0; r < ROWS; r++) {
            const Floats<4> v = row0 + r < size.R ? load_columns(x + (row0 + r) * size.K, k, size) : Floats<4>{};
#pragma unroll
            for (int j = 0; j < WEIGHTS; j++)
#pragma unroll
                for (int i = 0; i < 4; i++) sum[j][r] = __fmaf_rn(v.at[i], w[j].at[i], sum[j][r]);
        }
    }
#pragma unroll
    for (int r = 0; r < ROWS; r++)
#pragma unroll
        for (int j = 0; j < WEIGHTS; j++) {
            const float total = warp_reduce<Sum>(sum[j][r]);
            if (lane == 0 && row0 + r < size.R && n0 + j < size.N) out[(row0 + r) * size.N + n0 + j] = total;
        }
}

template <int ROWS, int WEIGHTS>
static cudaError_t run_wide(cudaStream_t stream, float *out, const float *x, const float *weight, const RowsSizes &size)
{
    const dim3 grid(blocks_for(size.N, 4 * WEIGHTS), static_cast<unsigned>(divide_up(size.R, ROWS_TOGETHER)));
    return launch<matmul_rows_wide_kernel<ROWS, WEIGHTS>>(grid, 4 * WARP, 0, stream, out, x, weight, size);
}

static cudaError_t matmul_rows(cudaStream_t stream, float *out, const float *x, const float *weight,
                               const RowsSizes &size)
{
    if (size.R == 1 && size.N >= 8192) return run_wide<1, 16>(stream, out, x, weight, size);
    if (size.R <= 4) return run_wide<4, 4>(stream, out, x, weight, size);
    return run_wide<ROWS_TOGETHER, 4>(stream, out, x, weight, size);
}

} // namespace ls

extern "C" cudaError_t ls_launch_matmul_rows(cudaStream_t stream, void *out, ls_dtype out_dtype, const void *x,
                                             const void *weight, ls_dtype dtype, int64_t R, int64_t N, int64_t K)
{
    using ls::bf16;
    if (R == 0 || N == 0) return cudaSuccess;
    if (dtype == LS_F32) {
        const float *const wide = static_cast<const float *>(x), *const wide_weight =
                                                                     static_cast<const float *>(weight);
        return ls::matmul_rows(stream, static_cast<float *>(out), wide, wide_weight,
                               {R, N, K, ls::aligned<4>(K, wide, wide_weight)});
    }
    const bf16 *const narrow = static_cast<const bf16 *>(x), *const narrow_weight = static_cast<const bf16 *>(weight);
    const ls::RowsSizes size = {R, N, K, ls::aligned<8>(K, narrow, narrow_weight)};
    if (out_dtype == LS_F32) return ls::matmul_rows(stream, static_cast<float *>(out), narrow, narrow_weight, size);
    return ls::matmul_rows(stream, static_cast<bf16 *>(out), narrow, narrow_weight, size);
}
