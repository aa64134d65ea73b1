/* Encodes documents or records of a corpus on several threads. Called by prepare. */
#ifndef LS_DATA_ENCODE_BATCH_H
#define LS_DATA_ENCODE_BATCH_H

#include "data/corpus.h"
#include "data/record.h"
#include "data/token_file.h"
#include "data/tokenizer.h"

#include <stdbool.h>

/* One document, encoded. */
typedef struct ls_encoded {
    int32_t *ids[2]; /* by ls_split: [count]; usually one of them is empty */
    int64_t count[2];
    uint8_t *targets; /* of a record: [count] of its split */
    size_t bytes;     /* of text */
    ls_status status;
    char *error; /* the sentence when status is not LS_OK; malloc'ed */
} ls_encoded;

typedef struct ls_encode_options {
    const bool *held_out;            /* [corpus->count] */
    double tail;                     /* > 0: every document's end, of this fraction, is held out instead */
    const ls_record_format *records; /* NULL: documents */
    int threads;                     /* >= 1 */
} ls_encode_options;

/* out[i] = document first + i, 0 <= i < count, whatever the number of threads. Failures are in out[i].status. */
void ls_encode_batch(ls_encoded *out, const ls_corpus *corpus, int64_t first, int64_t count,
                     const ls_tokenizer *tokenizer, const ls_encode_options *options);
void ls_encoded_free(ls_encoded *encoded);

/* Processors that this process may run on. */
int ls_encode_processors(void);

#endif
