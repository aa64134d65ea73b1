/* Byte-pair encoding of one word (Sennrich et al. 2016): of all adjacent pairs the one with the lowest merge rank, the
 * leftmost on ties, is joined, until none has a merge. A heap makes it n log n, so a word may be megabytes long.
 *
 * ls_bpe is immutable once filled and shared by threads; an ls_bpe_scratch, with its cache of words, is one thread's.
 */
#ifndef LS_DATA_BPE_H
#define LS_DATA_BPE_H

#include "data/vocabulary.h"

/* A growing list of token ids. */
typedef struct ls_ids {
    int32_t *values; /* [capacity], malloc'ed */
    int64_t count, capacity;
} ls_ids;

ls_status ls_ids_reserve(ls_ids *ids, int64_t more);

typedef struct ls_merge ls_merge;

typedef struct ls_bpe {
    const ls_vocabulary *vocabulary;
    int32_t byte_id[256]; /* the token of each single byte; -1: none, the byte is left out */
    ls_merge *merges;     /* [merge_mask + 1] open addressing by pair */
    uint64_t merge_mask;
    bool whole_words; /* ignore_merges: a word that is a token is that token, without merging */
} ls_bpe;

/* `vocabulary` (which outlives the result) may lack some of the 256 single bytes (SmolLM2's lacks control characters):
 * as in the `tokenizers` library they vanish from the text before anything merges. LS_BAD_INPUT when it lacks all. */
ls_status ls_bpe_create(ls_bpe *out, const ls_vocabulary *vocabulary, int64_t merge_count, bool whole_words,
                        const char *name);
void ls_bpe_destroy(ls_bpe *bpe);
/* Adds (left, right) -> id with this rank; a pair given twice keeps the later rank. */
void ls_bpe_add_merge(ls_bpe *bpe, int32_t left, int32_t right, int32_t rank, int32_t id);

typedef struct ls_bpe_scratch ls_bpe_scratch;
ls_status ls_bpe_scratch_create(ls_bpe_scratch **out);
void ls_bpe_scratch_destroy(ls_bpe_scratch *scratch);

/* Appends the tokens of word[length], length < 2^31. */
ls_status ls_bpe_encode(const ls_bpe *bpe, ls_bpe_scratch *scratch, const char *word, size_t length, ls_ids *out);

#endif
