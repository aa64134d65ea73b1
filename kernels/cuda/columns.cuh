/* Column sums in two stages: blocks leave partial rows [parts, width], which are added up in their order. */
#ifndef LS_KERNELS_CUDA_COLUMNS_CUH
#define LS_KERNELS_CUDA_COLUMNS_CUH

#include "kernels/cuda/compat.cuh"

namespace ls
{

/* A part has `least` rows or more, so that partial rows are little beside the rows themselves; at most `most` parts,
 * blocks enough for a large GPU. */
constexpr int64_t column_parts(int64_t rows, int64_t least, int64_t most)
{
    return smaller(divide_up(rows, least), most);
}

/* out[c] += sum over parts of partial[part, c]. */
cudaError_t add_column_parts(cudaStream_t stream, float *out, const float *partial, int64_t parts, int64_t width);

} // namespace ls

#endif
