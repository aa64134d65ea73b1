/* The loader; see loader.h.
 *
 * One thread reads ahead into a buffer of the loader's own: after each read the next `count` samples are asked for, and
 * the next call, when it asks for just those, only copies. A failed read-ahead is dropped; the call reads again itself,
 * so that the error text is raised in the caller's thread. */
#include "data/loader.h"

#include "data/permutation.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

typedef enum ahead_state {
    AHEAD_IDLE = 0,
    AHEAD_ASKED, /* the thread is to fill, or is filling, the buffer */
    AHEAD_READY,
    AHEAD_QUIT,
} ahead_state;

struct ls_loader {
    const ls_token_file *file;
    ls_loader_options options;
    int64_t samples;   /* in an epoch */
    int32_t *sequence; /* [T+1] of the caller's thread */

    pthread_t thread;
    bool started;
    pthread_mutex_t mutex; /* guards what follows; the buffer belongs to the thread while the state is ASKED */
    pthread_cond_t changed;
    ahead_state state;
    int64_t cursor, count; /* asked for */
    ls_samples ahead;      /* pieces of `block` */
    int32_t *block;        /* [4, capacity, T] */
    int64_t capacity;
    bool ahead_failed;
    int32_t *ahead_sequence; /* [T+1] of the thread */
};

int64_t ls_loader_samples_per_epoch(const ls_loader *loader) { return loader->samples; }

int64_t ls_loader_sample_at(const ls_loader *loader, int64_t cursor)
{
    const int64_t epoch = cursor / loader->samples, index = cursor % loader->samples;
    if (!loader->options.shuffle) return index;
    return ls_permute(index, loader->samples, loader->options.seed, (uint32_t)epoch);
}

/* Number of the document that token `at` of the split lies in. */
static int64_t document_of(const ls_loader *loader, int64_t at)
{
    const int64_t *documents = loader->file->documents[loader->options.split];
    int64_t low = 0, high = loader->file->document_count[loader->options.split] - 1;
    while (low < high) {
        const int64_t middle = low + (high - low + 1) / 2;
        if (documents[middle] <= at)
            low = middle;
        else
            high = middle - 1;
    }
    return low;
}

/* Confines the row to documents: row t stands at token start + t of the split. targets come filled. */
static void mask_documents(const ls_loader *loader, int64_t start, int32_t *targets, int32_t *first_key,
                           int32_t *positions)
{
    const int64_t T = loader->options.sequence_length;
    const int64_t *documents = loader->file->documents[loader->options.split];
    int64_t document = document_of(loader, start);
    int64_t first = 0;
    for (int64_t t = 0; t < T; t++) {
        if (start + t == documents[document + 1]) {
            document++;
            first = t;
        }
        first_key[t] = (int32_t)first;
        positions[t] = (int32_t)(t - first);
        if (start + t + 1 == documents[document + 1]) targets[t] = -1;
    }
}

/* Fills row j of `out` with sample number `cursor` of the run. */
static ls_status fill_sample(const ls_loader *loader, int64_t cursor, int64_t j, const ls_samples *out,
                             int32_t *sequence)
{
    const int64_t T = loader->options.sequence_length;
    const int64_t start = ls_loader_sample_at(loader, cursor) * T;
    LS_TRY(ls_token_file_read(loader->file, loader->options.split, start, T + 1, sequence));
    memcpy(out->tokens + j * T, sequence, (size_t)T * sizeof *sequence);
    memcpy(out->targets + j * T, sequence + 1, (size_t)T * sizeof *sequence);
    if (loader->options.document_mask) {
        mask_documents(loader, start, out->targets + j * T, out->first_key + j * T, out->positions + j * T);
        return LS_OK;
    }
    memset(out->first_key + j * T, 0, (size_t)T * sizeof *out->first_key);
    for (int64_t t = 0; t < T; t++) out->positions[j * T + t] = (int32_t)t;
    return LS_OK;
}

static ls_status fill_samples(const ls_loader *loader, int64_t cursor, int64_t count, const ls_samples *out,
                              int32_t *sequence)
{
    for (int64_t j = 0; j < count; j++) LS_TRY(fill_sample(loader, cursor + j, j, out, sequence));
    return LS_OK;
}

static void *read_ahead(void *context)
{
    ls_loader *loader = context;
    (void)pthread_mutex_lock(&loader->mutex);
    while (loader->state != AHEAD_QUIT) {
        if (loader->state != AHEAD_ASKED) {
            (void)pthread_cond_wait(&loader->changed, &loader->mutex);
            continue;
        }
        const int64_t cursor = loader->cursor, count = loader->count;
        (void)pthread_mutex_unlock(&loader->mutex);
        const ls_status status = fill_samples(loader, cursor, count, &loader->ahead, loader->ahead_sequence);
        ls_error_clear();
        (void)pthread_mutex_lock(&loader->mutex);
        loader->ahead_failed = status != LS_OK;
        if (loader->state == AHEAD_ASKED) loader->state = AHEAD_READY;
        (void)pthread_cond_broadcast(&loader->changed);
    }
    (void)pthread_mutex_unlock(&loader->mutex);
    return NULL;
}

static ls_status check_options(const ls_token_file *file, const ls_loader_options *options)
{
    const int64_t tokens = file->token_count[options->split];
    LS_ASSERT(options->sequence_length >= 1 && options->sequence_length < INT32_MAX);
    if (tokens >= options->sequence_length + 1) return LS_OK;
    return LS_FAIL(LS_BAD_INPUT, "%s: the %s split has %lld tokens, fewer than one sample of %lld + 1", file->path,
                   options->split == LS_SPLIT_TRAIN ? "train" : "validation", (long long)tokens,
                   (long long)options->sequence_length);
}

ls_status ls_loader_create(ls_loader **out, const ls_token_file *file, const ls_loader_options *options)
{
    LS_TRY(check_options(file, options));
    const int64_t T = options->sequence_length;
    ls_loader *loader = calloc(1, sizeof *loader);
    if (loader == NULL) return LS_FAIL(LS_NO_MEMORY, "not enough memory for the loader");
    loader->file = file;
    loader->options = *options;
    loader->samples = (file->token_count[options->split] - 1) / T;
    loader->sequence = malloc((size_t)(T + 1) * sizeof *loader->sequence);
    loader->ahead_sequence = malloc((size_t)(T + 1) * sizeof *loader->ahead_sequence);
    (void)pthread_mutex_init(&loader->mutex, NULL);
    (void)pthread_cond_init(&loader->changed, NULL);
    ls_status status = LS_OK;
    if (loader->sequence == NULL || loader->ahead_sequence == NULL)
        status = LS_FAIL(LS_NO_MEMORY, "not enough memory for samples of %lld tokens", (long long)T);
    else if (pthread_create(&loader->thread, NULL, read_ahead, loader) != 0)
        status = LS_FAIL(LS_NO_MEMORY, "cannot start the thread that reads ahead");
    else
        loader->started = true;
    if (status != LS_OK) {
        ls_loader_destroy(loader);
        return status;
    }
    *out = loader;
    return LS_OK;
}

void ls_loader_destroy(ls_loader *loader)
{
    if (loader == NULL) return;
    if (loader->started) {
        (void)pthread_mutex_lock(&loader->mutex);
        loader->state = AHEAD_QUIT;
        (void)pthread_cond_broadcast(&loader->changed);
        (void)pthread_mutex_unlock(&loader->mutex);
        (void)pthread_join(loader->thread, NULL);
    }
    (void)pthread_mutex_destroy(&loader->mutex);
    (void)pthread_cond_destroy(&loader->changed);
    free(loader->sequence);
    free(loader->ahead_sequence);
    free(loader->block);
    free(loader);
}

/* Waits for the read-ahead; true when it holds just these samples. */
static bool take_ahead(ls_loader *loader, int64_t cursor, int64_t count, const ls_samples *out)
{
    (void)pthread_mutex_lock(&loader->mutex);
    while (loader->state == AHEAD_ASKED) (void)pthread_cond_wait(&loader->changed, &loader->mutex);
    const bool fits =
        loader->state == AHEAD_READY && !loader->ahead_failed && loader->cursor == cursor && loader->count == count;
    loader->state = AHEAD_IDLE;
    (void)pthread_mutex_unlock(&loader->mutex);
    if (!fits) return false;
    const size_t bytes = (size_t)(count * loader->options.sequence_length) * sizeof *out->tokens;
    memcpy(out->tokens, loader->ahead.tokens, bytes);
    memcpy(out->targets, loader->ahead.targets, bytes);
    memcpy(out->first_key, loader->ahead.first_key, bytes);
    memcpy(out->positions, loader->ahead.positions, bytes);
    return true;
}

/* Asks for the samples that follow. Too little memory means no read-ahead, nothing worse. */
static void ask_ahead(ls_loader *loader, int64_t cursor, int64_t count)
{
    if (count > loader->capacity) {
        const int64_t size = count * loader->options.sequence_length;
        free(loader->block);
        loader->block = malloc(4 * (size_t)size * sizeof *loader->block);
        loader->capacity = loader->block != NULL ? count : 0;
        if (loader->block == NULL) return;
        loader->ahead = (ls_samples){.tokens = loader->block,
                                     .targets = loader->block + size,
                                     .first_key = loader->block + 2 * size,
                                     .positions = loader->block + 3 * size};
    }
    (void)pthread_mutex_lock(&loader->mutex);
    loader->cursor = cursor;
    loader->count = count;
    loader->state = AHEAD_ASKED;
    (void)pthread_cond_broadcast(&loader->changed);
    (void)pthread_mutex_unlock(&loader->mutex);
}

ls_status ls_loader_read(ls_loader *loader, int64_t cursor, int64_t count, const ls_samples *out)
{
    LS_ASSERT(cursor >= 0 && count >= 0);
    if (count == 0) return LS_OK;
    if (!take_ahead(loader, cursor, count, out)) LS_TRY(fill_samples(loader, cursor, count, out, loader->sequence));
    ask_ahead(loader, cursor + count, count);
    return LS_OK;
}
