/* Column sums in two stages: blocks leave partial rows [parts, width], which are added up in their order. */
#ifndef LS_KERNELS_CUDA_COLUMNS_CUH
#define LS_KERNELS_CUDA_COLUMNS_CUH

#include "kernels/cuda/compat.cuh"

namespace ls
{

/* Enough blocks for a large GPU, few enough that their partial rows are little beside the rows themselves. */
constexpr int64_t MOST_COLUMN_PARTS = 256;
constexpr int64_t PART_ROWS_LEAST = 8;

__host__ __device__ constexpr int64_t column_parts(int64_t rows)
{
    return smaller(divide_up(rows, PART_ROWS_LEAST), MOST_COLUMN_PARTS);
}

/* out[c] += sum over parts of partial[part, c]. */
cudaError_t add_column_parts(cudaStream_t stream, float *out, const float *partial, int64_t parts, int64_t width);

} // namespace ls

#endif
