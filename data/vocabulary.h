/* The vocabulary: token id to text as the tokenizer's file writes it, and back. Ids may have holes. Added tokens that
 * are not the model's have a text but are not found by it. */
#ifndef LS_DATA_VOCABULARY_H
#define LS_DATA_VOCABULARY_H

#include "core/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct ls_piece {
    const char *text; /* [length]; NULL: no token has this id */
    size_t length;
} ls_piece;

typedef struct ls_vocabulary {
    int64_t size;     /* highest id + 1 */
    ls_piece *pieces; /* [size] */
    char *pool;       /* the texts of all pieces */
    size_t pool_size, pool_used;
    int32_t *slots; /* [slot_mask + 1] open addressing by hash of the text; -1: empty */
    uint64_t slot_mask;
} ls_vocabulary;

/* Room for ids 0..size-1 whose texts sum to at most `pool_size` bytes. */
ls_status ls_vocabulary_create(ls_vocabulary *out, int64_t size, size_t pool_size);
void ls_vocabulary_destroy(ls_vocabulary *vocabulary);
/* Sets an id that has no token yet. Of two findable tokens of the same text the later is found. */
void ls_vocabulary_set(ls_vocabulary *vocabulary, int32_t id, const char *text, size_t length, bool findable);
int32_t ls_vocabulary_find(const ls_vocabulary *vocabulary, const char *text, size_t length); /* -1: none */

/* The byte alphabet of byte-level BPE: each byte is written as one printable character (Radford et al. 2019). */

/* Turns a text in that alphabet into the bytes it stands for; false (and nothing usable in `bytes`) when a character is
 * not of the alphabet. `bytes` has room for `length`. */
bool ls_byte_alphabet_decode(char *bytes, size_t *byte_count, const char *text, size_t length);
uint32_t ls_byte_alphabet_character(unsigned char byte); /* below 0x800: one or two bytes of UTF-8 */

#endif
