/* Vocabulary tables and the byte alphabet; see vocabulary.h. */
#include "data/vocabulary.h"

#include "data/utf8.h"

#include <stdlib.h>
#include <string.h>

static uint64_t hash_text(const char *text, size_t length)
{
    uint64_t hash = 0xCBF29CE484222325u;
    for (size_t i = 0; i < length; i++) hash = (hash ^ (unsigned char)text[i]) * 0x100000001B3u;
    return hash ^ hash >> 29;
}

ls_status ls_vocabulary_create(ls_vocabulary *out, int64_t size, size_t pool_size)
{
    *out = (ls_vocabulary){.size = size, .pool_size = pool_size};
    uint64_t slots = 16;
    while (slots < 2 * (uint64_t)size) slots *= 2;
    out->slot_mask = slots - 1;
    out->pieces = calloc((size_t)size, sizeof *out->pieces);
    out->pool = malloc(pool_size + 1);
    out->slots = malloc(slots * sizeof *out->slots);
    if (out->pieces == NULL || out->pool == NULL || out->slots == NULL) {
        ls_vocabulary_destroy(out);
        return LS_FAIL(LS_NO_MEMORY, "not enough memory for a vocabulary of %lld entries", (long long)size);
    }
    memset(out->slots, 0xFF, slots * sizeof *out->slots);
    return LS_OK;
}

void ls_vocabulary_destroy(ls_vocabulary *vocabulary)
{
    free(vocabulary->pieces);
    free(vocabulary->pool);
    free(vocabulary->slots);
    *vocabulary = (ls_vocabulary){0};
}

/* The slot that holds this text, or the empty one where it would go. */
static uint64_t find_slot(const ls_vocabulary *vocabulary, const char *text, size_t length)
{
    uint64_t slot = hash_text(text, length) & vocabulary->slot_mask;
    for (;; slot = (slot + 1) & vocabulary->slot_mask) {
        const int32_t id = vocabulary->slots[slot];
        if (id < 0) return slot;
        const ls_piece *piece = &vocabulary->pieces[id];
        if (piece->length == length && memcmp(piece->text, text, length) == 0) return slot;
    }
}

void ls_vocabulary_set(ls_vocabulary *vocabulary, int32_t id, const char *text, size_t length, bool findable)
{
    LS_ASSERT(id >= 0 && id < vocabulary->size && vocabulary->pieces[id].text == NULL);
    LS_ASSERT(length <= vocabulary->pool_size - vocabulary->pool_used);
    char *copy = vocabulary->pool + vocabulary->pool_used;
    if (length > 0) memcpy(copy, text, length);
    vocabulary->pool_used += length;
    vocabulary->pieces[id] = (ls_piece){copy, length};
    if (findable) vocabulary->slots[find_slot(vocabulary, text, length)] = id;
}

int32_t ls_vocabulary_find(const ls_vocabulary *vocabulary, const char *text, size_t length)
{
    return vocabulary->slots[find_slot(vocabulary, text, length)];
}

/* Printable bytes stand for themselves; the other 68, in order, are written U+0100..U+0143. */
static int byte_of_character(uint32_t character)
{
    if ((character >= 0x21 && character <= 0x7E) || (character >= 0xA1 && character <= 0xFF && character != 0xAD))
        return (int)character;
    if (character >= 0x100 && character <= 0x120) return (int)(character - 0x100); /* bytes 00..20 */
    if (character >= 0x121 && character <= 0x142) return (int)(character - 0xA2);  /* bytes 7F..A0 */
    return character == 0x143 ? 0xAD : -1;
}

bool ls_byte_alphabet_decode(char *bytes, size_t *byte_count, const char *text, size_t length)
{
    *byte_count = 0;
    for (size_t at = 0; at < length;) {
        uint32_t character;
        const int size = ls_utf8_decode(text + at, length - at, &character);
        const int byte = size == 0 ? -1 : byte_of_character(character);
        if (byte < 0) return false;
        bytes[(*byte_count)++] = (char)byte;
        at += (size_t)size;
    }
    return true;
}

uint32_t ls_byte_alphabet_character(unsigned char byte)
{
    if (byte <= 0x20) return byte + 0x100u;
    if (byte >= 0x7F && byte <= 0xA0) return byte + 0xA2u;
    return byte == 0xAD ? 0x143 : byte;
}
