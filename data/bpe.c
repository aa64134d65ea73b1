/* Byte-pair merging with a heap and a cache of words; see bpe.h. */
#include "data/bpe.h"

#include <stdlib.h>
#include <string.h>

enum {
    CACHED_BYTES = 24, /* longest word that is cached */
    CACHED_IDS = 8,
    CACHE_ENTRIES = 1 << 15, /* 2 MiB a thread */
};

struct ls_merge {
    int32_t left, right; /* left -1: empty slot */
    int32_t rank, id;
};

/* A stretch of the word that is one token by now; symbol i starts at byte i. */
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

ls_status ls_bpe_create(ls_bpe *out, const ls_vocabulary *vocabulary, int64_t merge_count, bool whole_words,
                        const char *name)
{
    *out = (ls_bpe){.vocabulary = vocabulary, .whole_words = whole_words};
    int bytes = 0;
    for (int byte = 0; byte < 256; byte++) {
        const char character = (char)byte;
        out->byte_id[byte] = ls_vocabulary_find(vocabulary, &character, 1);
        bytes += out->byte_id[byte] >= 0;
    }
    if (bytes == 0)
        return LS_FAIL(LS_BAD_INPUT,
                       "%s: the vocabulary has no token for any single byte, so it is not a byte-level one", name);
    uint64_t slots = 16;
    while (slots < 2 * (uint64_t)merge_count) slots *= 2;
    out->merges = malloc(slots * sizeof *out->merges);
    if (out->merges == NULL) return LS_FAIL(LS_NO_MEMORY, "not enough memory for %lld merges", (long long)merge_count);
    for (uint64_t i = 0; i < slots; i++) out->merges[i].left = -1;
    out->merge_mask = slots - 1;
    return LS_OK;
}

void ls_bpe_destroy(ls_bpe *bpe)
{
    free(bpe->merges);
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

/* A queued pair is out of date when the rank kept in its symbol is another one by now. A pair queued again with the
 * same rank is the same pair, so the older entry does the work and the newer one finds another rank. */
static ls_status merge_word(const ls_bpe *bpe, ls_bpe_scratch *scratch, const char *word, size_t length, ls_ids *out)
{
    LS_TRY(scratch_reserve(scratch, length));
    symbol *symbols = scratch->symbols;
    int32_t count = 0;
    for (size_t i = 0; i < length; i++) {
        const int32_t id = bpe->byte_id[(unsigned char)word[i]];
        if (id < 0) continue;
        symbols[count] = (symbol){.id = id, .rank = NO_MERGE, .previous = count - 1, .next = count + 1};
        count++;
    }
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

static ls_status encode_word(const ls_bpe *bpe, ls_bpe_scratch *scratch, const char *word, size_t length, ls_ids *out)
{
    if (bpe->whole_words) {
        const int32_t id = ls_vocabulary_find(bpe->vocabulary, word, length);
        if (id >= 0) {
            LS_TRY(ls_ids_reserve(out, 1));
            out->values[out->count++] = id;
            return LS_OK;
        }
    }
    return merge_word(bpe, scratch, word, length, out);
}

ls_status ls_bpe_encode(const ls_bpe *bpe, ls_bpe_scratch *scratch, const char *word, size_t length, ls_ids *out)
{
    LS_ASSERT(length <= INT32_MAX);
    if (length == 0) return LS_OK;
    if (length > CACHED_BYTES) return encode_word(bpe, scratch, word, length, out);
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
    LS_TRY(encode_word(bpe, scratch, word, length, out));
    const int64_t count = out->count - start;
    if (count > CACHED_IDS) return LS_OK;
    memcpy(entry->key, key, sizeof key);
    memcpy(entry->ids, out->values + start, (size_t)count * sizeof *entry->ids);
    entry->length = (uint8_t)length;
    entry->count = (uint8_t)count;
    return LS_OK;
}
