/* Byte-pair encoding of one word (Sennrich et al. 2016): of all adjacent pairs the one with the lowest merge rank, the
 * leftmost on ties, is joined, until none has a merge. A heap makes it n log n, so a word may be megabytes long.
 *
 * A word begins as symbols: the tokens of its bytes (byte-level), or of its characters, where a character without a
 * token falls back to the tokens <0x00>..<0xFF> of its bytes or to the unknown token. Both kinds then merge alike.
 * ls_bpe is immutable once filled and shared by threads; an ls_bpe_scratch, with its cache of words, is one thread's.
 */
#ifndef LS_DATA_BPE_H
#define LS_DATA_BPE_H

#include "data/added_tokens.h"
#include "data/vocabulary.h"

/* A growing list of token ids. */
typedef struct ls_ids {
    int32_t *values; /* [capacity], malloc'ed */
    int64_t count, capacity;
} ls_ids;

ls_status ls_ids_reserve(ls_ids *ids, int64_t more);

typedef struct ls_merge ls_merge;

typedef struct ls_bpe_options {
    bool byte_level;               /* a word is bytes, and the vocabulary writes them in the byte alphabet */
    bool whole_words;              /* ignore_merges: a word that is a token is that token, without merging */
    bool byte_fallback;            /* <0x00>..<0xFF> stand for what has no token */
    bool fuse_unknown;             /* neighbouring unknown characters are one unknown token */
    int32_t unknown;               /* -1: what has no token vanishes */
    const ls_added_tokens *frozen; /* cut out of a word, the longest first, and never merged; NULL: none */
} ls_bpe_options;

typedef struct ls_bpe {
    const ls_vocabulary *vocabulary;
    ls_bpe_options options;
    int32_t byte_id[256];     /* byte-level: the token of each byte; -1: none */
    int32_t fallback_id[256]; /* the token <0xNN>; -1: none */
    int32_t *character_id;    /* [0x10000] the token of each character below U+10000; -1: none */
    bool cuts_at_blanks;      /* no token reaches from another character over into "\u2581", so words may end there */
    ls_merge *merges;         /* [merge_mask + 1] open addressing by pair */
    uint64_t merge_mask;
} ls_bpe;

/* `vocabulary` and options->frozen outlive the result. What a failed call leaves, ls_bpe_destroy frees. */
ls_status ls_bpe_create(ls_bpe *out, const ls_vocabulary *vocabulary, const ls_bpe_options *options,
                        int64_t merge_count);
void ls_bpe_destroy(ls_bpe *bpe);
/* Adds (left, right) -> id with this rank; a pair given twice keeps the later rank. */
void ls_bpe_add_merge(ls_bpe *bpe, int32_t left, int32_t right, int32_t rank, int32_t id);

typedef struct ls_bpe_scratch ls_bpe_scratch;
ls_status ls_bpe_scratch_create(ls_bpe_scratch **out);
void ls_bpe_scratch_destroy(ls_bpe_scratch *scratch);

/* Appends the tokens of word[length] (valid UTF-8, unless it is byte-level), length < 2^30. */
ls_status ls_bpe_encode(const ls_bpe *bpe, ls_bpe_scratch *scratch, const char *word, size_t length, ls_ids *out);

#endif
