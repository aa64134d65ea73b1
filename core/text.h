/* Strings: formatting, a growing text, numbers as people write them, near misses.
 *
 * Memory for a sentence, a path or a key is not worth a status to every caller: where even that is missing, the
 * functions below say so on standard error and abort. */
#ifndef LS_CORE_TEXT_H
#define LS_CORE_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* malloc'ed, never NULL. */
char *ls_text_format(const char *format, ...) __attribute__((format(printf, 1, 2)));
char *ls_text_copy(const char *text, size_t length);
void *ls_text_memory(void *block, size_t bytes); /* realloc that never returns NULL (bytes 0: one byte) */

/* A text that grows; starts as {0}. `bytes` is NUL-terminated once anything, even "", was added; free() it. */
typedef struct ls_text {
    char *bytes;
    size_t length, capacity;
} ls_text;

void ls_text_add(ls_text *text, const char *bytes, size_t length);
void ls_text_addf(ls_text *text, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Numbers as in "-12", "1_000", "3e-5", ".5": the whole text must be one; no hexadecimal, infinity or NaN. An int may
 * be written "1e6" when it is whole. False leaves *out alone. */
bool ls_text_to_int(int64_t *out, const char *text);
bool ls_text_to_double(double *out, const char *text);

/* Levenshtein distance, with a swap of two neighbours counting once. */
size_t ls_text_distance(const char *a, const char *b);
/* True when `candidate` is so near to what was typed that it is worth suggesting; *best (start at SIZE_MAX) keeps the
 * smallest distance so far, and only a smaller one is true. */
bool ls_text_nearer(size_t *best, const char *typed, const char *candidate);

/* FNV-1a of the bytes, going on from `hash`; the first is LS_TEXT_HASH_START. */
#define LS_TEXT_HASH_START 0xcbf29ce484222325u
uint64_t ls_text_hash(uint64_t hash, const void *bytes, size_t length);

/* malloc'ed copy in which every byte that is not valid UTF-8, and every NUL, is replaced by U+FFFD. */
char *ls_text_valid_utf8(const char *bytes, size_t length);

#endif
