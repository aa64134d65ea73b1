#include "eval/held_out.h"

#include "core/text.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { KEY_DATA = 0x2800 };

static const struct argp_option options[] = {
    {"data", KEY_DATA, "TOKENS.h5", 0, "Token file, of which the held-out split is used", 0},
    {0},
};

static error_t parse_option(int key, char *argument, struct argp_state *state)
{
    ls_held_out_options *held_out = state->input;
    ls_status status = LS_OK;
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &held_out->session;
        break;
    case KEY_DATA:
        held_out->data = argument;
        break;
    case ARGP_KEY_END:
        if (held_out->data == NULL) status = LS_FAIL(LS_BAD_INPUT, "give the token file with --data TOKENS.h5");
        break;
    default:
        return ARGP_ERR_UNKNOWN;
    }
    return status == LS_OK ? 0 : EINVAL;
}

static const struct argp_child children[] = {{&ls_session_argp, 0, NULL, 0}, {0}};

const struct argp ls_held_out_argp = {options, parse_option, NULL, NULL, children, NULL, NULL};

static ls_status open_file(ls_held_out *out, const ls_held_out_options *chosen)
{
    LS_TRY(ls_token_file_open(&out->file, chosen->data));
    if (out->file.tokenizer_hash == ls_tokenizer_hash(out->session.tokenizer)) return LS_OK;
    ls_token_file_close(&out->file);
    return LS_FAIL(LS_BAD_INPUT, "%s was made with another tokenizer than the model %s", chosen->data,
                   chosen->session.model);
}

static ls_status check_same(const ls_held_out *held_out, ls_comm *comm)
{
    const ls_model *model = &held_out->session.model;
    const uint64_t shape = ls_text_hash(LS_TEXT_HASH_START, &model->table.parameters, sizeof model->table.parameters);
    const uint64_t type = ls_text_hash(shape, &model->dtype, sizeof model->dtype);
    LS_TRY(ls_comm_same_program(comm));
    LS_TRY(ls_comm_same(comm, type, "the model's size or compute type"));
    const ls_token_file *file = &held_out->file;
    LS_TRY(ls_comm_same(comm, (uint64_t)file->token_count[LS_SPLIT_VALIDATION], "the size of the token file"));
    return ls_comm_same(comm, file->targets_hash[LS_SPLIT_VALIDATION], "what the token file's records teach");
}

ls_status ls_held_out_open(ls_held_out *out, const ls_held_out_options *chosen)
{
    ls_comm *comm = chosen->session.comm;
    ls_status status = ls_session_open(&out->session, &chosen->session);
    out->file = (ls_token_file){0};
    if (status == LS_OK) status = open_file(out, chosen);
    status = ls_comm_agree(comm, status);
    if (status == LS_OK) status = check_same(out, comm);
    if (status != LS_OK) ls_held_out_close(out);
    return status;
}

ls_status ls_held_out_same_command(ls_comm *comm, int argc, char **argv)
{
    uint64_t hash = LS_TEXT_HASH_START;
    for (int i = 0; i < argc; i++) hash = ls_text_hash(hash, argv[i], strlen(argv[i]) + 1);
    return ls_comm_same(comm, hash, "the command line");
}

void ls_held_out_close(ls_held_out *held_out)
{
    ls_token_file_close(&held_out->file);
    ls_session_close(&held_out->session);
}

/* ---- prompts ---- */

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

static ls_status take_documents(ls_prompts *out, int64_t length, int64_t room, const ls_token_file *file)
{
    const int64_t tokens = file->token_count[LS_SPLIT_VALIDATION], count = out->count;
    if (tokens < length)
        return LS_FAIL(LS_BAD_INPUT, "%s: its held-out split has %lld tokens, fewer than a prompt of %lld", file->path,
                       (long long)tokens, (long long)length);
    out->tokens = malloc((size_t)(count * length) * sizeof *out->tokens);
    if (out->tokens == NULL) return LS_FAIL(LS_NO_MEMORY, "cannot get memory for %lld prompts", (long long)count);
    int64_t start = 0;
    const int64_t documents = long_documents(&start, -1, length + room, file);
    for (int64_t i = 0; i < count; i++) {
        if (documents >= count)
            (void)long_documents(&start, i * documents / count, length + room, file);
        else
            start = count > 1 ? i * (tokens - length) / (count - 1) : 0;
        LS_TRY(ls_token_file_read(file, LS_SPLIT_VALIDATION, start, length, out->tokens + i * length));
        out->start[i + 1] = out->start[i] + length;
    }
    return LS_OK;
}

/* given[i] = how many tokens of record i come before the first to be learnt. */
static ls_status find_given(int64_t *given, const ls_token_file *file)
{
    const int64_t *at = file->documents[LS_SPLIT_VALIDATION];
    uint8_t learnt[4096];
    for (int64_t i = 0; i < file->document_count[LS_SPLIT_VALIDATION]; i++) {
        const uint8_t *first = NULL;
        int64_t place = at[i];
        for (int64_t count; place < at[i + 1] && first == NULL; place += first == NULL ? count : first - learnt) {
            const int64_t left = at[i + 1] - place;
            count = left < (int64_t)sizeof learnt ? left : (int64_t)sizeof learnt;
            LS_TRY(ls_token_file_read_targets(file, LS_SPLIT_VALIDATION, place, count, learnt));
            first = memchr(learnt, 1, (size_t)count);
        }
        given[i] = first == NULL ? 0 : place - at[i];
    }
    return LS_OK;
}

/* given: [records] what is left of it is read. */
static ls_status copy_given(ls_prompts *out, const int64_t *given, int64_t length, const ls_token_file *file)
{
    const int64_t records = file->document_count[LS_SPLIT_VALIDATION];
    int64_t fitting = 0, taken = 0, seen = 0;
    for (int64_t i = 0; i < records; i++) fitting += given[i] >= 1 && given[i] <= length;
    if (fitting < out->count)
        return LS_FAIL(LS_BAD_INPUT,
                       "%s: %lld held-out records have prompts of at most %lld tokens, fewer than --prompts %lld",
                       file->path, (long long)fitting, (long long)length, (long long)out->count);
    for (int64_t i = 0; i < records && taken < out->count; i++) {
        if (given[i] < 1 || given[i] > length) continue;
        if (seen++ != taken * fitting / out->count) continue;
        const int64_t start = out->start[taken], end = start + given[i];
        int32_t *tokens = realloc(out->tokens, (size_t)end * sizeof *tokens);
        if (tokens == NULL) return LS_FAIL(LS_NO_MEMORY, "cannot get memory for %lld prompts", (long long)out->count);
        out->tokens = tokens;
        LS_TRY(ls_token_file_read(file, LS_SPLIT_VALIDATION, file->documents[LS_SPLIT_VALIDATION][i], given[i],
                                  tokens + start));
        out->start[++taken] = end;
    }
    return LS_OK;
}

static ls_status take_records(ls_prompts *out, int64_t length, const ls_token_file *file)
{
    int64_t *given = malloc(((size_t)file->document_count[LS_SPLIT_VALIDATION] + 1) * sizeof *given);
    if (given == NULL) return LS_FAIL(LS_NO_MEMORY, "cannot get memory for the prompts of records");
    ls_status status = find_given(given, file);
    if (status == LS_OK) status = copy_given(out, given, length, file);
    free(given);
    return status;
}

ls_status ls_held_out_prompts(ls_prompts *out, int64_t count, int64_t length, int64_t room, const ls_token_file *file)
{
    *out = (ls_prompts){.count = count, .start = calloc((size_t)count + 1, sizeof *out->start)};
    ls_status status =
        out->start != NULL ? LS_OK : LS_FAIL(LS_NO_MEMORY, "cannot get memory for %lld prompts", (long long)count);
    if (status == LS_OK)
        status = file->records ? take_records(out, length, file) : take_documents(out, length, room, file);
    for (int64_t i = 0; i < count && status == LS_OK; i++) {
        const int64_t own = out->start[i + 1] - out->start[i];
        if (i == 0 || own < out->shortest) out->shortest = own;
        if (own > out->longest) out->longest = own;
    }
    if (status != LS_OK) ls_prompts_free(out);
    return status;
}

void ls_prompts_free(ls_prompts *prompts)
{
    free(prompts->start);
    free(prompts->tokens);
    *prompts = (ls_prompts){0};
}
