#include "data/packing.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

/* A set of small numbers that finds the next one: 64-way, the word of a level says which words below hold anything. */
enum { LEVELS = 5, MOST_NUMBERS = 1 << 25 };

typedef struct number_set {
    uint64_t *words; /* of all levels */
    uint64_t *level[LEVELS];
    int64_t size[LEVELS]; /* numbers of a level */
} number_set;

static bool set_create(number_set *set, int64_t size)
{
    int64_t words = 0;
    for (int l = 0; l < LEVELS; l++, size = (size + 63) / 64) {
        set->size[l] = size;
        words += (size + 63) / 64;
    }
    set->words = calloc((size_t)words, sizeof *set->words);
    uint64_t *at = set->words;
    for (int l = 0; l < LEVELS && at != NULL; at += (set->size[l] + 63) / 64, l++) set->level[l] = at;
    return set->words != NULL;
}

static void set_add(const number_set *set, int64_t number)
{
    for (int l = 0; l < LEVELS; l++, number >>= 6) set->level[l][number >> 6] |= (uint64_t)1 << (number & 63);
}

static void set_remove(const number_set *set, int64_t number)
{
    for (int l = 0; l < LEVELS; l++, number >>= 6)
        if ((set->level[l][number >> 6] &= ~((uint64_t)1 << (number & 63))) != 0) return;
}

/* The smallest number of the set that is `number` or more; -1: none. */
static int64_t set_find(const number_set *set, int64_t number)
{
    int l = 0;
    uint64_t bits = 0;
    for (; l < LEVELS && number < set->size[l]; l++, number = (number >> 6) + 1) {
        bits = set->level[l][number >> 6] & ~(uint64_t)0 << (number & 63);
        if (bits != 0) break;
    }
    if (bits == 0) return -1;
    number = (number & ~(int64_t)63) + __builtin_ctzll(bits);
    for (; l > 0; l--) number = (number << 6) + __builtin_ctzll(set->level[l - 1][number]);
    return number;
}

typedef struct packer {
    const int32_t *lengths; /* [count] */
    int64_t count, capacity;
    int64_t *order;  /* [count] pieces from the longest on */
    int64_t *bin_of; /* [count] */
    int64_t *below;  /* [count] by bin: the next of those with the same room, -1: none */
    int64_t *top;    /* [capacity + 2] by room: the newest bin with so much */
    number_set rooms;
    int64_t placed;
} packer;

/* Counting sort; returns how many pieces there are to place. */
static int64_t sort_pieces(const packer *p)
{
    int64_t *start = p->top; /* [length]: where the pieces of that length go; its other use comes later */
    memset(start, 0, sizeof *start * (size_t)(p->capacity + 2));
    for (int64_t i = 0; i < p->count; i++) {
        LS_ASSERT(p->lengths[i] >= 0 && p->lengths[i] <= p->capacity);
        if (p->lengths[i] > 0) start[p->lengths[i] - 1]++;
    }
    for (int64_t length = p->capacity - 1; length >= 0; length--) start[length] += start[length + 1];
    const int64_t placed = start[0];
    /* start[length] is how many are longer, since each length was counted one place below its own. */
    for (int64_t i = 0; i < p->count; i++)
        if (p->lengths[i] > 0) p->order[start[p->lengths[i]]++] = i;
    return placed;
}

static int64_t take_bin(const packer *p, int64_t room)
{
    const int64_t bin = p->top[room];
    p->top[room] = p->below[bin];
    if (p->top[room] < 0) set_remove(&p->rooms, room);
    return bin;
}

static void put_bin(const packer *p, int64_t bin, int64_t room)
{
    if (room == 0) return;
    p->below[bin] = p->top[room];
    p->top[room] = bin;
    if (p->below[bin] < 0) set_add(&p->rooms, room);
}

/* Fills bin_of; returns the number of bins. */
static int64_t place_pieces(const packer *p)
{
    int64_t bins = 0;
    for (int64_t room = 0; room <= p->capacity; room++) p->top[room] = -1;
    for (int64_t i = 0; i < p->placed; i++) {
        const int64_t length = p->lengths[p->order[i]], room = set_find(&p->rooms, length);
        const int64_t bin = room < 0 ? bins++ : take_bin(p, room);
        p->bin_of[p->order[i]] = bin;
        put_bin(p, bin, (room < 0 ? p->capacity : room) - length);
    }
    return bins;
}

static ls_status gather_bins(ls_packing *out, const packer *p)
{
    out->first = calloc((size_t)out->bins + 2, sizeof *out->first);
    out->pieces = malloc(((size_t)p->placed + 1) * sizeof *out->pieces);
    if (out->first == NULL || out->pieces == NULL)
        return LS_FAIL(LS_NO_MEMORY, "not enough memory to pack %lld records", (long long)p->count);
    int64_t *end = out->first + 1; /* end[bin] moves from the bin's beginning to its end */
    for (int64_t i = 0; i < p->placed; i++) end[p->bin_of[p->order[i]] + 1]++;
    for (int64_t bin = 1; bin <= out->bins; bin++) end[bin] += end[bin - 1];
    for (int64_t i = 0; i < p->placed; i++) out->pieces[end[p->bin_of[p->order[i]]]++] = p->order[i];
    return LS_OK;
}

ls_status ls_packing_create(ls_packing *out, const int32_t *lengths, int64_t count, int64_t capacity)
{
    LS_ASSERT(capacity >= 1 && capacity < MOST_NUMBERS);
    *out = (ls_packing){0};
    packer p = {.lengths = lengths, .count = count, .capacity = capacity};
    const size_t size = (size_t)count + 1;
    p.order = malloc(size * sizeof *p.order);
    p.bin_of = malloc(size * sizeof *p.bin_of);
    p.below = malloc(size * sizeof *p.below);
    p.top = malloc((size_t)(capacity + 2) * sizeof *p.top);
    ls_status status = LS_OK;
    if (!set_create(&p.rooms, capacity + 1) || p.order == NULL || p.bin_of == NULL || p.below == NULL ||
        p.top == NULL) {
        status = LS_FAIL(LS_NO_MEMORY, "not enough memory to pack %lld records", (long long)count);
    } else {
        p.placed = sort_pieces(&p);
        out->bins = place_pieces(&p);
        status = gather_bins(out, &p);
    }
    free(p.order);
    free(p.bin_of);
    free(p.below);
    free(p.top);
    free(p.rooms.words);
    if (status != LS_OK) ls_packing_destroy(out);
    return status;
}

void ls_packing_destroy(ls_packing *packing)
{
    free(packing->first);
    free(packing->pieces);
    *packing = (ls_packing){0};
}
