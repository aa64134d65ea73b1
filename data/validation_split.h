/* Which documents are held out for validation. Called by prepare. */
#ifndef LS_DATA_VALIDATION_SPLIT_H
#define LS_DATA_VALIDATION_SPLIT_H

#include "core/status.h"
#include "data/corpus.h"

#include <stdbool.h>

/* Sets held_out[document] for whole documents that hold about `fraction` of all bytes: documents are visited in the
 * order of a hash of (seed, number), and one is taken whenever that brings the sum closer to the aim. With a fraction
 * above 0, at most 0.5, and two documents or more there is at least one on either side. One document: none. */
ls_status ls_validation_choose(bool *held_out, const ls_corpus *corpus, double fraction, uint64_t seed);

/* Where to cut a text of which about `fraction` is held out at its end: behind a line break, if that holds out no more
 * than twice as much, else between characters. `length` when it is too short to cut. */
size_t ls_validation_cut(const char *text, size_t length, double fraction);

#endif
