/* The token file (HDF5): what `prepare` writes and training and evaluation read.
 *
 *   /train/tokens, /validation/tokens          uint16 or uint32 by vocabulary size, chunked
 *   /train/documents, /validation/documents    int64 [documents+1]: token offset of each document's start, then the end
 *   /train/targets, /validation/targets        uint8, of records only: 1 where the token is to be learnt, else 0
 *   /tokenizer                                 text of tokenizer.json or "bytes"
 *   attributes: vocab_size, tokenizer_hash, end_of_text, and 1 under `records` where the documents are fine-tuning
 *   records; /sources: names of the input files, one a line
 * Every document ends with the end-of-text token where the tokenizer has one. A record's first token, which nothing
 * predicts, is never a target. */
#ifndef LS_DATA_TOKEN_FILE_H
#define LS_DATA_TOKEN_FILE_H

#include "core/status.h"

#include <stdbool.h>
#include <stdint.h>

typedef enum ls_split { LS_SPLIT_TRAIN = 0, LS_SPLIT_VALIDATION = 1 } ls_split;

typedef struct ls_token_file {
    char *path;
    int64_t vocab_size;
    uint64_t tokenizer_hash;
    int32_t end_of_text;    /* -1: none */
    char *tokenizer;        /* text, see ls_tokenizer_from_text */
    int64_t token_count[2]; /* by ls_split */
    int64_t document_count[2];
    int64_t *documents[2];    /* [document_count + 1] */
    bool records;             /* the documents are fine-tuning records */
    int64_t target_count[2];  /* of records: tokens that are to be learnt */
    uint64_t targets_hash[2]; /* of records: which they are */
    void *handle;             /* of the reader */
} ls_token_file;

ls_status ls_token_file_open(ls_token_file *out, const char *path);
void ls_token_file_close(ls_token_file *file);
/* tokens[i] = token number start+i of the split, 0 <= i < count. Ids beyond the vocabulary are refused. Thread-safe. */
ls_status ls_token_file_read(const ls_token_file *file, ls_split split, int64_t start, int64_t count, int32_t *tokens);
/* targets[i] = whether token number start+i of the split is to be learnt. Of a file of records. Thread-safe. */
ls_status ls_token_file_read_targets(const ls_token_file *file, ls_split split, int64_t start, int64_t count,
                                     uint8_t *targets);

#endif
