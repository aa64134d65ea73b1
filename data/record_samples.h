/* The samples of a split of fine-tuning records: whole records, packed into T positions.
 *
 * A record takes a position for each token from its first to the one before its last target: what follows would predict
 * nothing. Of a record of more than T + 1 tokens what lies beyond them is cut away. Records do not see each other; a
 * position that no record takes has no target and sees itself alone. Immutable once created. Called by loader.c. */
#ifndef LS_DATA_RECORD_SAMPLES_H
#define LS_DATA_RECORD_SAMPLES_H

#include "data/loader.h"

typedef struct ls_record_samples ls_record_samples;

/* `file` must outlive them. A split without a record that leaves something to learn is LS_BAD_INPUT. */
ls_status ls_record_samples_create(ls_record_samples **out, const ls_token_file *file, ls_split split, int64_t T);
void ls_record_samples_destroy(ls_record_samples *samples);
const ls_loader_records *ls_record_samples_about(const ls_record_samples *samples);
/* Fills row[T] of each array with sample `number`. tokens: [T+1], learnt: [T+1], to work with. */
ls_status ls_record_samples_fill(const ls_record_samples *samples, int64_t number, const ls_samples *row,
                                 int32_t *tokens, uint8_t *learnt);

#endif
