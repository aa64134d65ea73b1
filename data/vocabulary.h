/* The vocabulary: token id to bytes, and bytes to token id.
 *
 * A token that stands for a byte sequence is "findable"; added tokens and entries of a tokenizer.json that are not
 * written in the byte alphabet have bytes but are never found by them. Ids may have holes. */
#ifndef LS_DATA_VOCABULARY_H
#define LS_DATA_VOCABULARY_H

#include "core/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct ls_piece {
    const char *bytes; /* NULL: no token has this id */
    size_t length;
} ls_piece;

typedef struct ls_vocabulary {
    int64_t size;     /* highest id + 1 */
    ls_piece *pieces; /* [size] */
    char *pool;       /* the bytes of all pieces */
    size_t pool_size, pool_used;
    int32_t *slots; /* [slot_mask + 1] open addressing by hash of the bytes; -1: empty */
    uint64_t slot_mask;
} ls_vocabulary;

/* Room for ids 0..size-1 whose bytes sum to at most `pool_size`. */
ls_status ls_vocabulary_create(ls_vocabulary *out, int64_t size, size_t pool_size);
void ls_vocabulary_destroy(ls_vocabulary *vocabulary);
/* Sets an id that has no token yet. Two findable tokens of the same bytes: the first is found. */
void ls_vocabulary_set(ls_vocabulary *vocabulary, int32_t id, const char *bytes, size_t length, bool findable);
int32_t ls_vocabulary_find(const ls_vocabulary *vocabulary, const char *bytes, size_t length); /* -1: none */

/* The byte alphabet of byte-level BPE: each byte is written as one printable character (Radford et al. 2019).
 * Turns a token's text into bytes; false (and nothing usable in `bytes`) when a character is not of that alphabet.
 * `bytes` has room for `length`. */
bool ls_byte_alphabet_decode(char *bytes, size_t *byte_count, const char *text, size_t length);

#endif
