/* What import and export share: the progress of a long copy, an output that appears whole or not at all. */
#ifndef LS_MODEL_TRANSFER_H
#define LS_MODEL_TRANSFER_H

#include "model/weight_source.h"

typedef struct ls_progress {
    const char *what; /* "import" */
    double start;     /* seconds */
    int64_t done, total;
} ls_progress;

ls_progress ls_progress_start(const char *what, int64_t total_bytes);
/* Tells of `bytes` more; LS_INTERRUPTED once a signal asks to stop. */
ls_status ls_progress_add(ls_progress *progress, int64_t bytes);

/* The closing lines: the bar, and what `path` now holds. */
void ls_progress_end(const ls_progress *progress, const char *path, int64_t parameters);

/* An output on its way: written under a temporary name beside `path`. */
typedef struct ls_output {
    char *path, *temporary;
    bool folder;
} ls_output;

/* Refuses a path that exists. Makes the folder when it is to be one; a file is the caller's to create. */
ls_status ls_output_begin(ls_output *out, const char *path, bool folder);
/* Syncs what was written and gives it its name; never over something that has it meanwhile. */
ls_status ls_output_commit(ls_output *output);
/* Removes what was not committed. Frees. */
void ls_output_end(ls_output *output);

/* Bytes of all weights as they are stored, or in `type` (-1: as stored). */
int64_t ls_weight_source_bytes(const ls_weight_source *source, int type);
/* Rows of a parameter in `type`, rounded where it is narrower than the stored one. Both buffers hold
 * ls_weight_source_piece bytes; *out points into one of them. */
ls_status ls_weight_source_read_as(const ls_weight_source *source, int entry, int64_t first_row, int64_t rows,
                                   ls_stored_type type, void *buffer, void *scratch, const void **out);

#endif
