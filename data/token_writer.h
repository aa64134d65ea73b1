/* Writes a token file (layout in token_file.h), document by document.
 *
 * The file grows as PATH.partial and takes its name only when it is committed: a crash, an error or a full disk leaves
 * an older file of that name whole. */
#ifndef LS_DATA_TOKEN_WRITER_H
#define LS_DATA_TOKEN_WRITER_H

#include "data/token_file.h"
#include "data/tokenizer.h"

typedef struct ls_token_writer ls_token_writer;

ls_status ls_token_writer_create(ls_token_writer **out, const char *path, const ls_tokenizer *tokenizer);
/* The same for a file of fine-tuning records. */
ls_status ls_token_writer_create_records(ls_token_writer **out, const char *path, const ls_tokenizer *tokenizer);
/* Without a commit the partial file is removed. NULL is fine. */
void ls_token_writer_destroy(ls_token_writer *writer);
/* Appends ids[count], count >= 1, as one document: the tokenizer's prefix (unless the ids begin with it), the ids, its
 * suffix and the end-of-text token, which is not repeated. An end-of-text token inside ends a document, and another one
 * begins behind it. */
ls_status ls_token_writer_add(ls_token_writer *writer, ls_split split, const int32_t *ids, int64_t count);
/* Appends ids[count], count >= 1, as one record, with the same tokens around it as a document; those behind it are to
 * be learnt too. targets: [count] 1 where the token is to be learnt, which a record's first token never is.
 * LS_BAD_INPUT for a record of which nothing is to be learnt. */
ls_status ls_token_writer_add_record(ls_token_writer *writer, ls_split split, const int32_t *ids,
                                     const uint8_t *targets, int64_t count);
int64_t ls_token_writer_tokens(const ls_token_writer *writer, ls_split split);
int64_t ls_token_writer_targets(const ls_token_writer *writer, ls_split split); /* to be learnt */
int64_t ls_token_writer_documents(const ls_token_writer *writer, ls_split split);
/* `sources`: names of the input files, one a line. Nothing can be added afterwards. */
ls_status ls_token_writer_commit(ls_token_writer *writer, const char *sources);

#endif
