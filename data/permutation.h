/* A permutation of 0..count-1 that is computed element by element and needs no memory.
 *
 * A Feistel network keyed by the counter-based generator permutes the smallest power of two that holds `count`; values
 * beyond are walked on along their cycle until one lies inside (Black and Rogaway 2002), which takes less than two
 * steps on average. Called by the loader: one permutation an epoch. */
#ifndef LS_DATA_PERMUTATION_H
#define LS_DATA_PERMUTATION_H

#include <stdint.h>

/* Where element `index` goes, 0 <= index < count, 1 <= count <= 2^62. A pure function of its arguments. */
int64_t ls_permute(int64_t index, int64_t count, uint64_t seed, uint32_t epoch);

#endif
