/* The choice of held-out documents; see validation_split.h. */
#include "data/validation_split.h"

#include <stdlib.h>
#include <string.h>

typedef struct candidate {
    uint64_t hash;
    int64_t document;
} candidate;

/* The finaliser of SplitMix64 (Steele et al. 2014). */
static uint64_t mix(uint64_t value)
{
    value = (value ^ value >> 30) * 0xBF58476D1CE4E5B9u;
    value = (value ^ value >> 27) * 0x94D049BB133111EBu;
    return value ^ value >> 31;
}

static int by_hash(const void *left, const void *right)
{
    const candidate *a = left;
    const candidate *b = right;
    if (a->hash != b->hash) return a->hash < b->hash ? -1 : 1;
    return (a->document > b->document) - (a->document < b->document);
}

static int64_t shortest(const ls_corpus *corpus)
{
    int64_t best = 0;
    for (int64_t i = 1; i < corpus->count; i++)
        if (corpus->documents[i].length < corpus->documents[best].length) best = i;
    return best;
}

ls_status ls_validation_choose(bool *held_out, const ls_corpus *corpus, double fraction, uint64_t seed)
{
    memset(held_out, 0, (size_t)corpus->count * sizeof *held_out);
    if (!(fraction > 0) || corpus->count < 2) return LS_OK;
    candidate *order = malloc((size_t)corpus->count * sizeof *order);
    if (order == NULL)
        return LS_FAIL(LS_NO_MEMORY, "not enough memory to choose from %lld documents", (long long)corpus->count);
    for (int64_t i = 0; i < corpus->count; i++) order[i] = (candidate){mix(mix(seed) + (uint64_t)i), i};
    qsort(order, (size_t)corpus->count, sizeof *order, by_hash);
    const double aim = fraction * (double)corpus->bytes;
    double taken = 0;
    for (int64_t i = 0; i < corpus->count && taken < aim; i++) {
        const double length = (double)corpus->documents[order[i].document].length;
        if (length >= 2 * (aim - taken)) continue;
        held_out[order[i].document] = true;
        taken += length;
    }
    free(order);
    if (taken == 0) held_out[shortest(corpus)] = true;
    return LS_OK;
}

size_t ls_validation_cut(const char *text, size_t length, double fraction)
{
    size_t cut = (size_t)((1 - fraction) * (double)length);
    if (cut > length) cut = length;
    const char *line_end = memrchr(text, '\n', cut);
    const size_t line = line_end != NULL ? (size_t)(line_end - text) + 1 : 0;
    if (line > 0 && cut - line <= length - cut) return line;
    while (cut > 0 && cut < length && ((unsigned char)text[cut] & 0xC0) == 0x80) cut--;
    return cut > 0 ? cut : length;
}
