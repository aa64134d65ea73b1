/* A SentencePiece model's table of characters that are rewritten before anything else (its Unicode normalization).
 *
 * The table is a double-array trie (Aoe 1989) over the bytes to be found, whose values are places in a pool of texts to
 * put in their stead; of the matches at a place the longest counts. In JSON it is written in base64. */
#ifndef LS_DATA_CHARSMAP_H
#define LS_DATA_CHARSMAP_H

#include "data/added_tokens.h"
#include "data/buffer.h"

typedef struct ls_charsmap {
    uint32_t *units; /* [unit_count] the trie; NULL: there is no table */
    size_t unit_count;
    const char *texts; /* [text_bytes] NUL after each; in the memory of `units` */
    size_t text_bytes;
} ls_charsmap;

/* From the bytes of the model file; LS_BAD_INPUT for what is no such table. `name` stands for the file. */
ls_status ls_charsmap_create(ls_charsmap *out, const void *bytes, size_t length, const char *name);
ls_status ls_charsmap_from_base64(ls_charsmap *out, const char *text, const char *name);
char *ls_charsmap_to_base64(const void *bytes, size_t length); /* malloc'ed */
void ls_charsmap_destroy(ls_charsmap *map);

/* Appends text[length] (valid UTF-8) rewritten; tokens of `kept` (or NULL) that occur in it stay as they are. */
ls_status ls_charsmap_run(const ls_charsmap *map, const ls_added_tokens *kept, ls_buffer *out, const char *text,
                          size_t length);

#endif
