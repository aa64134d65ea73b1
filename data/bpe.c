/* Byte-pair merging with a heap and a cache of words; see bpe.h. */
#include "data/bpe.h"

#include "data/utf8.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    CACHED_BYTES = 24, /* longest word that is cached */
    CACHED_IDS = 8,
    CACHE_ENTRIES = 1 << 15, /* 2 MiB a thread */
    PLANE = 0x10000,         /* characters that have a table of their own */
};

static const char blank[] = "\xE2\x96\x81"; /* U+2581, SentencePiece's space */
enum { BLANK_BYTES = 3 };

struct ls_merge {
    int32_t left, right; /* left -1: empty slot */
    int32_t rank, id;
};

/* A stretch of the word that is one token by now. */
typedef struct symbol {
    int32_t id;
    int32_t rank;   /* of joining it with the next one; NO_MERGE: cannot, or is no longer there */
    int32_t joined; /* the token that gives */
    int32_t previous, next;
} symbol;

#define NO_MERGE (-1)

/* One cache line. Entries are overwritten, never searched for: a lost word is merely merged again. */
typedef struct cache_entry {
    uint64_t key[CACHED_BYTES / 8]; /* the word, zero-padded */
    uint8_t length;                 /* 0: empty */
    uint8_t count;
    int32_t ids[CACHED_IDS];
} cache_entry;

struct ls_bpe_scratch {
    cache_entry *cache; /* [CACHE_ENTRIES] */
    symbol *symbols;    /* [capacity] */
    uint64_t *heap;     /* [3 * capacity] rank << 32 | symbol, smallest first */
    size_t capacity;
    int32_t count; /* of symbols */
    size_t heap_count;
};

ls_status ls_ids_reserve(ls_ids *ids, int64_t more)
{
    if (ids->capacity - ids->count >= more) return LS_OK;
    int64_t capacity = ids->capacity < 64 ? 64 : ids->capacity + ids->capacity / 2;
    if (capacity < ids->count + more) capacity = ids->count + more;
    int32_t *values = realloc(ids->values, (size_t)capacity * sizeof *values);
    if (values == NULL) return LS_FAIL(LS_NO_MEMORY, "not enough memory for %lld tokens", (long long)capacity);
    ids->values = values;
    ids->capacity = capacity;
    return LS_OK;
}

static int32_t find_fallback(const ls_vocabulary *vocabulary, int byte)
{
    char text[8];
    (void)snprintf(text, sizeof text, "<0x%02X>", (unsigned)byte);
    return ls_vocabulary_find(vocabulary, text, 6);
}

static void find_bytes(ls_bpe *bpe)
{
    for (int byte = 0; byte < 256; byte++) {
        char text[4];
        const int size = ls_utf8_encode(text, ls_byte_alphabet_character((unsigned char)byte));
        bpe->byte_id[byte] = ls_vocabulary_find(bpe->vocabulary, text, (size_t)size);
        bpe->fallback_id[byte] = bpe->options.byte_fallback ? find_fallback(bpe->vocabulary, byte) : -1;
    }
}

static void find_characters(ls_bpe *bpe)
{
    memset(bpe->character_id, 0xFF, PLANE * sizeof *bpe->character_id);
    for (int64_t id = 0; id < bpe->vocabulary->size; id++) {
        const ls_piece *piece = &bpe->vocabulary->pieces[id];
        uint32_t character;
        if (piece->text == NULL || piece->length == 0) continue;
        const int size = ls_utf8_decode(piece->text, piece->length, &character);
        if (size == (int)piece->length && character < PLANE)
            bpe->character_id[character] = ls_vocabulary_find(bpe->vocabulary, piece->text, piece->length);
    }
}

static bool is_blank(const char *text) { return memcmp(text, blank, BLANK_BYTES) == 0; }

/* The first place in text[length] from `from` on where a blank follows another character; `length` if there is none. */
static size_t find_cut(const char *text, size_t length, size_t from)
{
    for (size_t at = from; at < length; at += BLANK_BYTES) {
        const char *found = memmem(text + at, length - at, blank, BLANK_BYTES);
        if (found == NULL) break;
        at = (size_t)(found - text);
        if (at > 0 && !(at >= BLANK_BYTES && is_blank(text + at - BLANK_BYTES))) return at;
    }
    return length;
}

static bool holds_cut(const char *text, size_t length) { return find_cut(text, length, 0) < length; }

ls_status ls_bpe_create(ls_bpe *out, const ls_vocabulary *vocabulary, const ls_bpe_options *options,
                        int64_t merge_count)
{
    *out = (ls_bpe){.vocabulary = vocabulary, .options = *options};
    uint64_t slots = 16;
    while (slots < 2 * (uint64_t)merge_count) slots *= 2;
    out->merges = malloc(slots * sizeof *out->merges);
    out->character_id = malloc(PLANE * sizeof *out->character_id);
    if (out->merges == NULL || out->character_id == NULL)
        return LS_FAIL(LS_NO_MEMORY, "not enough memory for %lld merges", (long long)merge_count);
    for (uint64_t i = 0; i < slots; i++) out->merges[i].left = -1;
    out->merge_mask = slots - 1;
    find_bytes(out);
    find_characters(out);
    out->cuts_at_blanks = !options->byte_level && ls_vocabulary_find(vocabulary, blank, BLANK_BYTES) >= 0;
    for (int i = 0; options->frozen != NULL && i < options->frozen->count; i++)
        if (holds_cut(options->frozen->tokens[i].text, options->frozen->tokens[i].length)) out->cuts_at_blanks = false;
    return LS_OK;
}

void ls_bpe_destroy(ls_bpe *bpe)
{
    free(bpe->merges);
    free(bpe->character_id);
    *bpe = (ls_bpe){0};
}

static uint64_t mix(uint64_t value)
{
    value *= 0x9E3779B97F4A7C15u;
    return value ^ value >> 32;
}

static ls_merge *find_merge(const ls_bpe *bpe, int32_t left, int32_t right)
{
    uint64_t slot = mix((uint64_t)(uint32_t)left << 32 | (uint32_t)right) & bpe->merge_mask;
    for (;; slot = (slot + 1) & bpe->merge_mask) {
        ls_merge *merge = &bpe->merges[slot];
        if (merge->left < 0 || (merge->left == left && merge->right == right)) return merge;
    }
}

void ls_bpe_add_merge(ls_bpe *bpe, int32_t left, int32_t right, int32_t rank, int32_t id)
{
    *find_merge(bpe, left, right) = (ls_merge){left, right, rank, id};
    const ls_piece *joined = &bpe->vocabulary->pieces[id];
    if (bpe->cuts_at_blanks && holds_cut(joined->text, joined->length)) bpe->cuts_at_blanks = false;
}

ls_status ls_bpe_scratch_create(ls_bpe_scratch **out)
{
    ls_bpe_scratch *scratch = calloc(1, sizeof *scratch);
    if (scratch != NULL) scratch->cache = calloc(CACHE_ENTRIES, sizeof *scratch->cache);
    if (scratch == NULL || scratch->cache == NULL) {
        free(scratch);
        return LS_FAIL(LS_NO_MEMORY, "not enough memory for the tokenizer's cache");
    }
    *out = scratch;
    return LS_OK;
}

void ls_bpe_scratch_destroy(ls_bpe_scratch *scratch)
{
    if (scratch == NULL) return;
    free(scratch->cache);
    free(scratch->symbols);
    free(scratch->heap);
    free(scratch);
}

static ls_status scratch_reserve(ls_bpe_scratch *scratch, size_t length)
{
    if (length <= scratch->capacity) return LS_OK;
    const size_t capacity = length < 256 ? 256 : length + length / 2;
    free(scratch->symbols);
    free(scratch->heap);
    scratch->symbols = malloc(capacity * sizeof *scratch->symbols);
    scratch->heap = malloc(3 * capacity * sizeof *scratch->heap);
    scratch->capacity = scratch->symbols != NULL && scratch->heap != NULL ? capacity : 0;
    if (scratch->capacity == 0) return LS_FAIL(LS_NO_MEMORY, "not enough memory to encode a word of %zu bytes", length);
    return LS_OK;
}

static void heap_push(ls_bpe_scratch *scratch, uint64_t key)
{
    uint64_t *heap = scratch->heap;
    size_t at = scratch->heap_count++;
    while (at > 0 && heap[(at - 1) / 2] > key) {
        heap[at] = heap[(at - 1) / 2];
        at = (at - 1) / 2;
    }
    heap[at] = key;
}

static uint64_t heap_pop(ls_bpe_scratch *scratch)
{
    uint64_t *heap = scratch->heap;
    const uint64_t top = heap[0];
    const size_t count = --scratch->heap_count;
    const uint64_t key = heap[count];
    size_t at = 0;
    for (size_t child = 1; child < count; child = 2 * at + 1) {
        if (child + 1 < count && heap[child + 1] < heap[child]) child++;
        if (heap[child] >= key) break;
        heap[at] = heap[child];
        at = child;
    }
    heap[at] = key;
    return top;
}

/* Looks up how symbol `at` joins with its next one and queues that. */
static void queue_pair(const ls_bpe *bpe, ls_bpe_scratch *scratch, int32_t at)
{
    symbol *left = &scratch->symbols[at];
    left->rank = NO_MERGE;
    if (left->next < 0) return;
    const ls_merge *merge = find_merge(bpe, left->id, scratch->symbols[left->next].id);
    if (merge->left < 0) return;
    left->rank = merge->rank;
    left->joined = merge->id;
    heap_push(scratch, (uint64_t)(uint32_t)merge->rank << 32 | (uint32_t)at);
}

static void join(const ls_bpe *bpe, ls_bpe_scratch *scratch, int32_t at)
{
    symbol *symbols = scratch->symbols;
    symbol *left = &symbols[at];
    symbol *right = &symbols[left->next];
    left->id = left->joined;
    left->next = right->next;
    right->rank = NO_MERGE;
    if (left->next >= 0) symbols[left->next].previous = at;
    queue_pair(bpe, scratch, at);
    if (left->previous >= 0) queue_pair(bpe, scratch, left->previous);
}

static void add_symbol(ls_bpe_scratch *scratch, int32_t id)
{
    const int32_t at = scratch->count++;
    scratch->symbols[at] = (symbol){.id = id, .rank = NO_MERGE, .previous = at - 1, .next = at + 1};
}

/* The unknown token waits in *pending for the next one that is known: the library's order, with its quirk that tokens
 * of bytes overtake it. */
static void flush_unknown(ls_bpe_scratch *scratch, int32_t *pending)
{
    if (*pending >= 0) add_symbol(scratch, *pending);
    *pending = -1;
}

/* A character, `text` of `size` bytes, that has no token. */
static void add_unknown(const ls_bpe *bpe, ls_bpe_scratch *scratch, const char *text, int size, int32_t *pending)
{
    bool falls_back = true;
    for (int i = 0; i < size; i++) falls_back = falls_back && bpe->fallback_id[(unsigned char)text[i]] >= 0;
    if (falls_back) {
        for (int i = 0; i < size; i++) add_symbol(scratch, bpe->fallback_id[(unsigned char)text[i]]);
        return;
    }
    if (bpe->options.unknown < 0) return;
    if (!bpe->options.fuse_unknown) flush_unknown(scratch, pending);
    *pending = bpe->options.unknown;
}

static void split_bytes(const ls_bpe *bpe, ls_bpe_scratch *scratch, const char *word, size_t length)
{
    int32_t pending = -1;
    for (size_t at = 0; at < length; at++) {
        const unsigned char byte = (unsigned char)word[at];
        const int32_t id = bpe->byte_id[byte];
        if (id >= 0) {
            flush_unknown(scratch, &pending);
            add_symbol(scratch, id);
            continue;
        }
        char text[4];
        const int size = ls_utf8_encode(text, ls_byte_alphabet_character(byte));
        add_unknown(bpe, scratch, text, size, &pending);
    }
    flush_unknown(scratch, &pending);
}

static int32_t find_character(const ls_bpe *bpe, const char *text, size_t available, int *size)
{
    uint32_t character;
    *size = ls_utf8_decode(text, available, &character);
    LS_ASSERT(*size > 0);
    return character < PLANE ? bpe->character_id[character] : ls_vocabulary_find(bpe->vocabulary, text, (size_t)*size);
}

static void split_characters(const ls_bpe *bpe, ls_bpe_scratch *scratch, const char *word, size_t length)
{
    int32_t pending = -1;
    for (size_t at = 0; at < length;) {
        const ls_added_token *frozen =
            bpe->options.frozen != NULL ? ls_added_tokens_at(bpe->options.frozen, word + at, length - at) : NULL;
        int size = 0;
        const int32_t id = frozen != NULL ? frozen->id : find_character(bpe, word + at, length - at, &size);
        if (id >= 0) {
            flush_unknown(scratch, &pending);
            add_symbol(scratch, id);
        } else {
            add_unknown(bpe, scratch, word + at, size, &pending);
        }
        at += frozen != NULL ? frozen->length : (size_t)size;
    }
    flush_unknown(scratch, &pending);
}

/* A queued pair is out of date when the rank kept in its symbol is another one by now. A pair queued again with the
 * same rank is the same pair, so the older entry does the work and the newer one finds another rank. */
static ls_status merge_word(const ls_bpe *bpe, ls_bpe_scratch *scratch, const char *word, size_t length, ls_ids *out)
{
    LS_TRY(scratch_reserve(scratch, 2 * length)); /* a byte falls back to the two of its character at most */
    symbol *symbols = scratch->symbols;
    scratch->count = 0;
    if (bpe->options.byte_level)
        split_bytes(bpe, scratch, word, length);
    else
        split_characters(bpe, scratch, word, length);
    const int32_t count = scratch->count;
    if (count == 0) return LS_OK;
    symbols[count - 1].next = -1;
    scratch->heap_count = 0;
    for (int32_t i = 0; i + 1 < count; i++) queue_pair(bpe, scratch, i);
    while (scratch->heap_count > 0) {
        const uint64_t key = heap_pop(scratch);
        const int32_t at = (int32_t)(key & 0xFFFFFFFFu);
        if (symbols[at].rank == (int32_t)(key >> 32)) join(bpe, scratch, at);
    }
    LS_TRY(ls_ids_reserve(out, count));
    for (int32_t i = 0; i >= 0; i = symbols[i].next) out->values[out->count++] = symbols[i].id;
    return LS_OK;
}

/* The token that the whole word is; -1: it is none. */
static int32_t find_word(const ls_bpe *bpe, const char *word, size_t length)
{
    if (!bpe->options.byte_level) return ls_vocabulary_find(bpe->vocabulary, word, length);
    char text[4096];
    size_t size = 0;
    if (length > sizeof text / 2) return -1;
    for (size_t i = 0; i < length; i++)
        size += (size_t)ls_utf8_encode(text + size, ls_byte_alphabet_character((unsigned char)word[i]));
    return ls_vocabulary_find(bpe->vocabulary, text, size);
}

static ls_status append_id(ls_ids *out, int32_t id)
{
    LS_TRY(ls_ids_reserve(out, 1));
    out->values[out->count++] = id;
    return LS_OK;
}

/* `whole`: the word is not a part that was cut off. */
static ls_status encode_word(const ls_bpe *bpe, ls_bpe_scratch *scratch, const char *word, size_t length, bool whole,
                             ls_ids *out)
{
    const int32_t id = bpe->options.whole_words && whole ? find_word(bpe, word, length) : -1;
    return id >= 0 ? append_id(out, id) : merge_word(bpe, scratch, word, length, out);
}

static ls_status encode_cached(const ls_bpe *bpe, ls_bpe_scratch *scratch, const char *word, size_t length, bool whole,
                               ls_ids *out)
{
    if (length > CACHED_BYTES) return encode_word(bpe, scratch, word, length, whole, out);
    uint64_t key[CACHED_BYTES / 8] = {0};
    memcpy(key, word, length);
    const uint64_t hash = mix(mix(mix(key[0] + length) ^ key[1]) ^ key[2]);
    cache_entry *entry = &scratch->cache[hash % CACHE_ENTRIES];
    if (entry->length == length && memcmp(entry->key, key, sizeof key) == 0) {
        LS_TRY(ls_ids_reserve(out, CACHED_IDS));
        memcpy(out->values + out->count, entry->ids, sizeof entry->ids);
        out->count += entry->count;
        return LS_OK;
    }
    const int64_t start = out->count;
    LS_TRY(encode_word(bpe, scratch, word, length, whole, out));
    const int64_t count = out->count - start;
    if (count > CACHED_IDS) return LS_OK;
    memcpy(entry->key, key, sizeof key);
    memcpy(entry->ids, out->values + start, (size_t)count * sizeof *entry->ids);
    entry->length = (uint8_t)length;
    entry->count = (uint8_t)count;
    return LS_OK;
}

ls_status ls_bpe_encode(const ls_bpe *bpe, ls_bpe_scratch *scratch, const char *word, size_t length, ls_ids *out)
{
    if (length == 0) return LS_OK;
    if (length >= (size_t)1 << 30)
        return LS_FAIL(LS_BAD_INPUT, "a word of %zu bytes is too long to encode (1 GiB); cut the text", length);
    if (!bpe->cuts_at_blanks) return encode_cached(bpe, scratch, word, length, true, out);
    if (bpe->options.whole_words) {
        const int32_t id = find_word(bpe, word, length);
        if (id >= 0) return append_id(out, id);
    }
    for (size_t start = 0, end; start < length; start = end) {
        end = find_cut(word, length, start + 1);
        LS_TRY(encode_cached(bpe, scratch, word + start, end - start, false, out));
    }
    return LS_OK;
}
