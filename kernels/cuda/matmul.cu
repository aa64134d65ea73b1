/* Matrix products of any shape and layout: tiles of 64 by 64, tensor cores for bf16, plain arithmetic for fp32.
 *
 * The library's products are faster on large shapes; this one stands in where the library is absent and checks it.
 * Factors stay in shared memory as they lie in global memory, rows or columns, and the fragment loads turn them. */
#include "kernels/cuda/ptx.cuh"

namespace ls
{

constexpr int PRODUCT_TILE = 64; /* rows and columns of a block */
constexpr int PRODUCT_THREADS = 128;
constexpr int PRODUCT_DEPTH = 32; /* of K at a time */

struct Product {
    int64_t M, N, K;
    bool accumulate;
    bool a_words, b_words; /* rows of the factor as stored start at multiples of 16 bytes */
};

template <class Out>
__device__ __forceinline__ void store_product(Out *out, const Out *bias, const Product &p, int64_t m, int64_t n,
                                              float value)
{
    if (m >= p.M || n >= p.N) return;
    Out *const at = out + m * p.N + n;
    if (bias != nullptr) value += to_float(bias[n]);
    *at = from_float<Out>(p.accumulate ? value + to_float(*at) : value);
}

/* ---- bf16 -------------------------------------------------------------------------------------------------------- */

/* A tile of a factor: ROWS stored rows of COLUMNS, padded by 16 bytes so that matrix loads meet no bank twice. */
template <int ROWS, int COLUMNS>
__device__ __forceinline__ void load_factor(bf16 *tile, const bf16 *from, int64_t row, int64_t rows, int64_t column,
                                            int64_t columns, bool words)
{
    for (int i = threadIdx.x; i < ROWS * COLUMNS / 8; i += PRODUCT_THREADS) {
        const int r = i / (COLUMNS / 8), c = i % (COLUMNS / 8) * 8;
        const bool inside = row + r < rows && column + c < columns;
        const bf16 *const at = inside ? from + (row + r) * columns + column + c : from;
        bf16 *const to = tile + r * (COLUMNS + 8) + c;
        if (words) {
            copy_async(to, at, inside ? 16 : 0);
        } else {
            Floats<8> word;
#pragma unroll
            for (int k = 0; k < 8; k++) word.at[k] = inside && column + c + k < columns ? to_float(at[k]) : 0.0f;
            store<8>(to, word);
        }
    }
}

/* Either the 64 rows (or columns) of the product with 32 of K beside them, or the other way about. */
template <bool K_FIRST> constexpr int FACTOR_ROWS = K_FIRST ? PRODUCT_DEPTH : PRODUCT_TILE;
template <bool K_FIRST> constexpr int FACTOR_COLUMNS = K_FIRST ? PRODUCT_TILE : PRODUCT_DEPTH;
template <bool K_FIRST> constexpr int FACTOR_SIZE = FACTOR_ROWS<K_FIRST> *(FACTOR_COLUMNS<K_FIRST> + 8);

template <bool K_FIRST>
__device__ __forceinline__ void load_stage(bf16 *tile, const bf16 *factor, int64_t first, int64_t count, int64_t k,
                                           int64_t K, bool words)
{
    if (K_FIRST)
        load_factor<FACTOR_ROWS<K_FIRST>, FACTOR_COLUMNS<K_FIRST>>(tile, factor, k, K, first, count, words);
    else
        load_factor<FACTOR_ROWS<K_FIRST>, FACTOR_COLUMNS<K_FIRST>>(tile, factor, first, count, k, K, words);
}

/* Lane addresses of a 16 by 16 block at (row, k) whose matrices follow rows first (the left factor) or k first. */
template <bool K_FIRST, bool LEFT>
__device__ __forceinline__ void fragment(unsigned (&r)[4], const bf16 *tile, int at, int k)
{
    const int lane = threadIdx.x % WARP;
    const int first = lane % 8 + (LEFT ? lane / 8 % 2 : lane / 16) * 8; /* which row of the product */
    const int second = (LEFT ? lane / 16 : lane / 8 % 2) * 8;           /* which half of the 16 of K */
    constexpr int PITCH_ = FACTOR_COLUMNS<K_FIRST> + 8;
    if constexpr (K_FIRST) {
        const int own_k = k + lane % 8 + second, own = at + (first - lane % 8);
        load_matrix_transposed(r, tile + own_k * PITCH_ + own);
    } else {
        load_matrix(r, tile + (at + first) * PITCH_ + k + second);
    }
}

/* Four warps, two by two, of 32 by 32 results. A_K: a is stored [K,M]; B_K: b is stored [K,N]. */
template <class Out, bool A_K, bool B_K>
__global__ void __launch_bounds__(PRODUCT_THREADS, 1)
    matmul_kernel(Out *__restrict__ out, const bf16 *__restrict__ a, const bf16 *__restrict__ b,
                  const Out *__restrict__ bias, Product p)
{
    LS_SHARED(bf16, left, [2][FACTOR_SIZE<A_K>]);
    LS_SHARED(bf16, right, [2][FACTOR_SIZE<B_K>]);
    const int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP, m = warp / 2 * 32, n = warp % 2 * 32;
    const int64_t m0 = static_cast<int64_t>(blockIdx.x) * PRODUCT_TILE;
    for (int64_t n0 = static_cast<int64_t>(blockIdx.y) * PRODUCT_TILE; n0 < p.N;
         n0 += static_cast<int64_t>(gridDim.y) * PRODUCT_TILE) {
        float sum[2][4][4] = {};
        load_stage<A_K>(left[0], a, m0, p.M, 0, p.K, p.a_words);
        load_stage<B_K>(right[0], b, n0, p.N, 0, p.K, p.b_words);
        commit_copies();
        int stage = 0;
        for (int64_t k0 = 0; k0 < p.K; k0 += PRODUCT_DEPTH, stage ^= 1) {
            if (k0 + PRODUCT_DEPTH < p.K) {
                load_stage<A_K>(left[stage ^ 1], a, m0, p.M, k0 + PRODUCT_DEPTH, p.K, p.a_words);
                load_stage<B_K>(right[stage ^ 1], b, n0, p.N, k0 + PRODUCT_DEPTH, p.K, p.b_words);
            }
            commit_copies();
            wait_copies<1>();
            __syncthreads(); /* this stage has come */
#pragma unroll
            for (int k = 0; k < PRODUCT_DEPTH; k += 16) {
                unsigned rows[2][4], columns[2][4];
#pragma unroll
                for (int i = 0; i < 2; i++) {
                    fragment<A_K, true>(rows[i], left[stage], m + 16 * i, k);
                    fragment<B_K, false>(columns[i], right[stage], n + 16 * i, k);
                }
#pragma unroll
                for (int i = 0; i < 2; i++)
#pragma unroll
                    for (int j = 0; j < 4; j++)
                        mma_bf16(sum[i][j], rows[i], columns[j / 2][j % 2 * 2], columns[j / 2][j % 2 * 2 + 1]);
            }
            __syncthreads(); /* nobody reads this stage any more */
        }
        wait_copies<0>();
#pragma unroll
        for (int i = 0; i < 2; i++)
#pragma unroll
            for (int j = 0; j < 4; j++)
#pragma unroll
                for (int e = 0; e < 4; e++)
                    store_product(out, bias, p, m0 + m + 16 * i + lane / 4 + e / 2 * 8,
                                  n0 + n + 8 * j + lane % 4 * 2 + e % 2, sum[i][j][e]);
    }
}

/* ---- fp32 -------------------------------------------------------------------------------------------------------- */

constexpr int WIDE_DEPTH = 16;

/* 16 by 16 threads with 4 by 4 results each, 16 apart. A factor's element (row, k) is at row * row_step + k * k_step.
 */
struct Steps {
    int64_t row, k;
};

__device__ __forceinline__ void load_wide(float (&tile)[WIDE_DEPTH][PRODUCT_TILE + 1], const float *factor, Steps step,
                                          int64_t first, int64_t count, int64_t k0, int64_t K)
{
    for (int i = threadIdx.x; i < WIDE_DEPTH * PRODUCT_TILE; i += 256) {
        /* Neighbouring threads read neighbours in memory. */
        const int r = step.k == 1 ? i / WIDE_DEPTH : i % PRODUCT_TILE,
                  k = step.k == 1 ? i % WIDE_DEPTH : i / PRODUCT_TILE;
        const bool inside = first + r < count && k0 + k < K;
        tile[k][r] = inside ? factor[(first + r) * step.row + (k0 + k) * step.k] : 0.0f;
    }
}

__global__ void __launch_bounds__(256)
    matmul_wide_kernel(float *__restrict__ out, const float *__restrict__ a, const float *__restrict__ b,
                       const float *__restrict__ bias, Steps a_step, Steps b_step, Product p)
{
    LS_SHARED(float, left, [WIDE_DEPTH][PRODUCT_TILE + 1]);
    LS_SHARED(float, right, [WIDE_DEPTH][PRODUCT_TILE + 1]);
    const int x = threadIdx.x % 16, y = threadIdx.x / 16;
    const int64_t m0 = static_cast<int64_t>(blockIdx.x) * PRODUCT_TILE;
    for (int64_t n0 = static_cast<int64_t>(blockIdx.y) * PRODUCT_TILE; n0 < p.N;
         n0 += static_cast<int64_t>(gridDim.y) * PRODUCT_TILE) {
        float sum[4][4] = {};
        for (int64_t k0 = 0; k0 < p.K; k0 += WIDE_DEPTH) {
            __syncthreads(); /* the last tiles are read */
            load_wide(left, a, a_step, m0, p.M, k0, p.K);
            load_wide(right, b, b_step, n0, p.N, k0, p.K);
            __syncthreads();
#pragma unroll
            for (int k = 0; k < WIDE_DEPTH; k++)
#pragma unroll
                for (int i = 0; i < 4; i++)
#pragma unroll
                    for (int j = 0; j < 4; j++) sum[i][j] += left[k][y + 16 * i] * right[k][x + 16 * j];
        }
#pragma unroll
        for (int i = 0; i < 4; i++)
#pragma unroll
            for (int j = 0; j < 4; j++) store_product(out, bias, p, m0 + y + 16 * i, n0 + x + 16 * j, sum[i][j]);
    }
}

static dim3 product_grid(const Product &p)
{
    return dim3(blocks_for(p.M, PRODUCT_TILE), static_cast<unsigned>(smaller(divide_up(p.N, PRODUCT_TILE), 65535)));
}

template <class Out>
static cudaError_t matmul(cudaStream_t stream, Out *out, const bf16 *a, const bf16 *b, const Out *bias,
                          const Product &p, unsigned flags)
{
    const bool a_k = (flags & LS_TRANSPOSE_A) != 0, b_k = (flags & LS_TRANSPOSE_B) == 0;
    const dim3 grid = product_grid(p);
    if (a_k && b_k) return launch<matmul_kernel<Out, true, true>>(grid, PRODUCT_THREADS, 0, stream, out, a, b, bias, p);
    if (a_k) return launch<matmul_kernel<Out, true, false>>(grid, PRODUCT_THREADS, 0, stream, out, a, b, bias, p);
    if (b_k) return launch<matmul_kernel<Out, false, true>>(grid, PRODUCT_THREADS, 0, stream, out, a, b, bias, p);
    return launch<matmul_kernel<Out, false, false>>(grid, PRODUCT_THREADS, 0, stream, out, a, b, bias, p);
}

/* bias of the type of out; null: none. */
static cudaError_t multiply(cudaStream_t stream, void *out, ls_dtype out_dtype, const void *a, const void *b,
                            const void *bias, ls_dtype dtype, int64_t M, int64_t N, int64_t K, unsigned flags)
{
    if (M == 0 || N == 0) return cudaSuccess;
    const bool a_k = (flags & LS_TRANSPOSE_A) != 0, b_k = (flags & LS_TRANSPOSE_B) == 0;
    Product p = {M, N, K, (flags & LS_ACCUMULATE) != 0, false, false};
    float *const wide = static_cast<float *>(out);
    const float *const wide_bias = static_cast<const float *>(bias);
    if (dtype == LS_F32) {
        const Steps a_step = a_k ? Steps{1, M} : Steps{K, 1}, b_step = b_k ? Steps{1, N} : Steps{K, 1};
        return launch<matmul_wide_kernel>(product_grid(p), 256, 0, stream, wide, static_cast<const float *>(a),
                                          static_cast<const float *>(b), wide_bias, a_step, b_step, p);
    }
    const bf16 *const left = static_cast<const bf16 *>(a), *const right = static_cast<const bf16 *>(b);
    p.a_words = aligned<8>(a_k ? M : K, left);
    p.b_words = aligned<8>(b_k ? N : K, right);
    if (out_dtype == LS_F32) return matmul(stream, wide, left, right, wide_bias, p, flags);
    return matmul(stream, static_cast<bf16 *>(out), left, right, static_cast<const bf16 *>(bias), p, flags);
}

} // namespace ls

extern "C" cudaError_t ls_launch_matmul(cudaStream_t stream, void *out, ls_dtype out_dtype, const void *a,
                                        const void *b, ls_dtype dtype, int64_t M, int64_t N, int64_t K, unsigned flags)
{
    return ls::multiply(stream, out, out_dtype, a, b, nullptr, dtype, M, N, K, flags);
}

extern "C" cudaError_t ls_launch_matmul_bias(cudaStream_t stream, void *out, const void *a, const void *b,
                                             const void *bias, ls_dtype dtype, int64_t M, int64_t N, int64_t K,
                                             unsigned flags)
{
    return ls::multiply(stream, out, dtype, a, b, bias, dtype, M, N, K, flags);
}
