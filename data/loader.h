/* The deterministic, resumable loader.
 *
 * A split of documents is cut into samples of T+1 tokens every T tokens: sample i covers tokens [i*T, i*T + T], inputs
 * are the first T and targets the last T. Records are packed whole (record_samples.h), once, at opening. The order of
 * an epoch is a permutation computed sample by sample (a keyed Feistel network over LS_STREAM_DATA_ORDER), which needs
 * no memory: position k of the run is a pure function of (seed, k), so the cursor is one number. A thread reads ahead.
 */
#ifndef LS_DATA_LOADER_H
#define LS_DATA_LOADER_H

#include "data/token_file.h"

#include <stdbool.h>

typedef struct ls_loader ls_loader;

typedef struct ls_loader_options {
    ls_split split;
    int64_t sequence_length; /* T */
    bool shuffle;
    bool document_mask; /* confine attention to documents; targets across a boundary count (end-of-text predicts
                           nothing: the target after it is -1 when masking). Records need it */
    bool tail;          /* of documents: what is left at the end is a sample too, filled up with positions that have no
                           target and see themselves alone */
    uint64_t seed;
} ls_loader_options;

typedef struct ls_samples {
    int32_t *tokens;    /* [count,T] */
    int32_t *targets;   /* [count,T], -1: none */
    int32_t *first_key; /* [count,T]; all zero without document_mask */
    int32_t *positions; /* [count,T]; restart at each document with document_mask, else t */
} ls_samples;

/* What became of a split of records. */
typedef struct ls_loader_records {
    int64_t records, samples;
    int64_t positions; /* of samples * T that records take */
    int64_t cut;       /* records of more than T+1 tokens, which lose their end */
    int64_t left_out;  /* records of which nothing is learnt */
} ls_loader_records;

/* `file` must outlive the loader. Fewer than T+1 tokens in the split (with `tail`: fewer than 2) is LS_BAD_INPUT, and
 * so are records of which nothing is learnt. */
ls_status ls_loader_create(ls_loader **out, const ls_token_file *file, const ls_loader_options *options);
void ls_loader_destroy(ls_loader *loader);
int64_t ls_loader_samples_per_epoch(const ls_loader *loader);
const ls_loader_records *ls_loader_about_records(const ls_loader *loader); /* NULL: the file holds documents */
/* Fills samples number cursor..cursor+count-1 of the run (epochs follow each other); out arrays are the caller's.
 * Reading the next `count` is started in the background. */
ls_status ls_loader_read(ls_loader *loader, int64_t cursor, int64_t count, const ls_samples *out);
/* Which sample of the split stands at `cursor`: a permutation of 0..samples_per_epoch-1 in each epoch. */
int64_t ls_loader_sample_at(const ls_loader *loader, int64_t cursor);

#endif
