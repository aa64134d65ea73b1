/* Whole pieces packed into bins: best-fit decreasing, as Ding et al. (2024, arXiv 2404.10830) pack documents.
 *
 * From the longest piece to the shortest, each goes into the bin with the least room that still holds it, else into a
 * new one. Pieces of a length keep their order, of bins with the same room the newest is taken: the result depends on
 * the lengths alone. Time O(n + capacity), apart from finding the room: four steps at most. Called by
 * record_samples.c. */
#ifndef LS_DATA_PACKING_H
#define LS_DATA_PACKING_H

#include "core/status.h"

#include <stdint.h>

typedef struct ls_packing {
    int64_t bins;
    int64_t *first;  /* [bins + 1] where in `pieces` each bin begins; then the end */
    int64_t *pieces; /* [first[bins]] numbers of the pieces, bin after bin, in each from the longest */
} ls_packing;

/* lengths: [count], 0..capacity; a piece of length 0 is left out. 1 <= capacity <= 2^24. */
ls_status ls_packing_create(ls_packing *out, const int32_t *lengths, int64_t count, int64_t capacity);
void ls_packing_destroy(ls_packing *packing);

#endif
