#include "eval/held_out.h"

ls_status ls_held_out_open(ls_token_file *out, const char *path, const ls_session *session, const char *model)
{
    LS_TRY(ls_token_file_open(out, path));
    if (out->tokenizer_hash == ls_tokenizer_hash(session->tokenizer)) return LS_OK;
    ls_token_file_close(out);
    return LS_FAIL(LS_BAD_INPUT, "%s was made with another tokenizer than the model %s", path, model);
}

/* Documents of at least `length` tokens; the start of the wanted one, counted from 0, goes to *start. */
static int64_t long_documents(int64_t *start, int64_t wanted, int64_t length, const ls_token_file *file)
{
    const int64_t *at = file->documents[LS_SPLIT_VALIDATION];
    int64_t found = 0;
    for (int64_t i = 0; i < file->document_count[LS_SPLIT_VALIDATION]; i++) {
        if (at[i + 1] - at[i] < length) continue;
        if (found++ == wanted) *start = at[i];
    }
    return found;
}

ls_status ls_held_out_prompts(int32_t *prompts, int64_t count, int64_t length, int64_t room, const ls_token_file *file)
{
    const int64_t tokens = file->token_count[LS_SPLIT_VALIDATION];
    if (tokens < length)
        return LS_FAIL(LS_BAD_INPUT, "%s: its held-out split has %lld tokens, fewer than a prompt of %lld", file->path,
                       (long long)tokens, (long long)length);
    int64_t start = 0;
    const int64_t documents = long_documents(&start, -1, length + room, file);
    for (int64_t i = 0; i < count; i++) {
        if (documents >= count)
            (void)long_documents(&start, i * documents / count, length + room, file);
        else
            start = count > 1 ? i * (tokens - length) / (count - 1) : 0;
        LS_TRY(ls_token_file_read(file, LS_SPLIT_VALIDATION, start, length, prompts + i * length));
    }
    return LS_OK;
}
