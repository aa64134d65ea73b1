/* `layerskip prepare`: text files, or fine-tuning records, to a token file.
 *
 * The documents are listed first (corpus.h), then encoded batch by batch on all processors and written in their order,
 * so that the file depends on the input and the options alone, not on the number of threads. */
#include "core/clock.h"
#include "core/interrupt.h"
#include "core/log.h"
#include "core/text.h"
#include "data/commands.h"
#include "data/encode_batch.h"
#include "data/validation_split.h"
#include "data/token_writer.h"

#include <stdlib.h>
#include <string.h>

enum {
    BATCH_BYTES = 16 << 20,
    LARGE_BATCH_BYTES = 256 << 20, /* where it takes so much to give every thread a document */
    BATCH_DOCUMENTS = 4096,
    OPTION_TEXT_FIELD = 0x1000,
    OPTION_THREADS,
    OPTION_RECORDS,
    OPTION_PROMPT,
    OPTION_COMPLETION,
    OPTION_CHAT,
    OPTION_TRAIN_ON_PROMPT,
};

typedef struct options {
    const char *tokenizer, *out, *text_field;
    double validation;
    int64_t seed, threads;
    const char **include; /* [include_count] */
    const char **inputs;  /* [input_count] */
    int include_count, input_count;
    bool records;
    ls_record_format format;
    const char *record_option; /* one that only records have, when given; NULL: none */
} options;

/* What one run carries. */
typedef struct preparation {
    const options *options;
    ls_corpus corpus;
    bool *held_out; /* [corpus.count] */
    ls_tokenizer *tokenizer;
    ls_token_writer *writer;
    ls_encoded *batch; /* [BATCH_DOCUMENTS] */
    size_t text_bytes;
    double start; /* seconds */
} preparation;

static const struct argp_option option_table[] = {
    {"tokenizer", 't', "TOKENIZER", 0,
     "A tokenizer.json, a SentencePiece tokenizer.model, a folder that holds one, or 'bytes'", 0},
    {"out", 'o', "TOKENS.h5", 0, "The token file to write", 0},
    {"validation", 'v', "FRACTION", 0,
     "Share of the text to hold out, 0 to 0.5, by whole documents (default 0.02); of a single document its end", 0},
    {"include", 'i', "GLOB", 0, "Take only such files from folders, for example '*.py'; may be given several times", 0},
    {"text-field", OPTION_TEXT_FIELD, "NAME", 0, "Field of a .jsonl line that holds the text (default text)", 0},
    {"seed", 's', "N", 0, "Another choice of held-out documents (default 0)", 0},
    {"records", OPTION_RECORDS, NULL, 0, "Each line of the .jsonl files is a record for supervised fine-tuning", 1},
    {"prompt", OPTION_PROMPT, "TEMPLATE", 0, "What is given, with {FIELD} for a field of the line (default {prompt})",
     1},
    {"completion", OPTION_COMPLETION, "TEMPLATE", 0, "What is to be learnt (default {completion})", 1},
    {"chat", OPTION_CHAT, "STYLE", 0,
     "chatml or llama3: a line is {\"messages\": [{\"role\", \"content\"}, ...]}; to be learnt is what the assistant "
     "says",
     1},
    {"train-on-prompt", OPTION_TRAIN_ON_PROMPT, NULL, 0, "Everything is to be learnt, the prompts too", 1},
    {"threads", OPTION_THREADS, "N", 0, "Threads that encode (default: all processors); the result is the same", 0},
    {NULL, 0, NULL, 0, NULL, 0},
};

static const char documentation[] =
    "Encodes text into a token file for training and evaluation.\v"
    "A FILE is one document, except that each line of a .jsonl is one. Folders are walked, links to folders inside "
    "them "
    "not; hidden files and files that hold NUL bytes are left out. A document begins and ends as the tokenizer's "
    "template says, with a BOS token for example, and ends with its end-of-text token; where the text itself holds "
    "that "
    "token, a new document begins. OUT is replaced at the end, in one step.\n\n"
    "With --records, only the completion and the end of text are to be learnt; training and evaluation count their "
    "loss alone. Templates know \\n, \\t, {{ and }}. A completion usually begins with a blank: ' {answer}'.";

/* Any style but none. */
static ls_status parse_chat(ls_chat *out, const char *argument)
{
    int style;
    LS_TRY(ls_command_choice(&style, "--chat", argument, ls_chat_names + 1));
    *out = (ls_chat)(style + 1);
    return LS_OK;
}

/* What belongs together. */
static void check_options(const options *o, struct argp_state *state)
{
    if (o->tokenizer == NULL)
        argp_error(state, "--tokenizer is missing");
    else if (o->out == NULL)
        argp_error(state, "--out is missing");
    else if (o->input_count == 0)
        argp_error(state, "name at least one file or folder to read");
    else if (!o->records && o->record_option != NULL)
        argp_error(state, "%s is for --records", o->record_option);
    else if (o->records && o->text_field != NULL)
        argp_error(state, "--text-field is for documents; with --records say --prompt and --completion");
    else if (o->format.chat != LS_CHAT_NONE && (o->format.prompt != NULL || o->format.completion != NULL))
        argp_error(state, "--chat says what is given and what is to be learnt; leave --prompt and --completion out");
}

static error_t parse_option(int key, char *argument, struct argp_state *state)
{
    options *o = state->input;
    ls_status status = LS_OK;
    switch (key) {
    case 't':
        o->tokenizer = argument;
        break;
    case 'o':
        o->out = argument;
        break;
    case 'v':
        status = ls_command_double(&o->validation, "--validation", argument, 0, 0.5);
        break;
    case 'i':
        o->include[o->include_count++] = argument;
        break;
    case 's':
        status = ls_command_int(&o->seed, "--seed", argument, 0, INT64_MAX);
        break;
    case OPTION_TEXT_FIELD:
        o->text_field = argument;
        break;
    case OPTION_THREADS:
        status = ls_command_int(&o->threads, "--threads", argument, 1, 256);
        break;
    case ARGP_KEY_ARG:
        o->inputs[o->input_count++] = argument;
        break;
    case OPTION_RECORDS:
        o->records = true;
        break;
    case OPTION_PROMPT:
        o->format.prompt = argument;
        o->record_option = "--prompt";
        break;
    case OPTION_COMPLETION:
        o->format.completion = argument;
        o->record_option = "--completion";
        break;
    case OPTION_CHAT:
        status = parse_chat(&o->format.chat, argument);
        o->record_option = "--chat";
        break;
    case OPTION_TRAIN_ON_PROMPT:
        o->format.train_on_prompt = true;
        o->record_option = "--train-on-prompt";
        break;
    case ARGP_KEY_END:
        check_options(o, state);
        break;
    default:
        return ARGP_ERR_UNKNOWN;
    }
    return status == LS_OK ? 0 : EINVAL;
}

static ls_status list_documents(preparation *p)
{
    const options *o = p->options;
    p->corpus.include = o->include;
    p->corpus.include_count = o->include_count;
    p->corpus.text_field = o->text_field;
    p->corpus.lines_only = o->records;
    for (int i = 0; i < o->input_count; i++) LS_TRY(ls_corpus_add(&p->corpus, o->inputs[i]));
    if (p->corpus.count == 0)
        return LS_FAIL(LS_BAD_INPUT, "no %s found in %s%s (left out: %lld binary and %lld empty files)",
                       o->records ? "records" : "text", o->inputs[0],
                       o->input_count > 1 ? " and the other arguments" : "", (long long)p->corpus.binary_files,
                       (long long)p->corpus.empty_files);
    p->held_out = malloc((size_t)p->corpus.count * sizeof *p->held_out);
    p->batch = calloc(BATCH_DOCUMENTS, sizeof *p->batch);
    if (p->held_out == NULL || p->batch == NULL)
        return LS_FAIL(LS_NO_MEMORY, "not enough memory for %lld documents", (long long)p->corpus.count);
    return ls_validation_choose(p->held_out, &p->corpus, o->validation, (uint64_t)o->seed);
}

/* Documents from `first` on that make a batch. */
static int64_t batch_size(const ls_corpus *corpus, int64_t first, int threads)
{
    int64_t count = 0, bytes = 0;
    while (first + count < corpus->count && count < BATCH_DOCUMENTS &&
           (bytes < BATCH_BYTES || (count < 2 * threads && bytes < LARGE_BATCH_BYTES)))
        bytes += corpus->documents[first + count++].length;
    return count;
}

static ls_status write_encoded(preparation *p, const ls_encoded *encoded, ls_split split)
{
    const int32_t *ids = encoded->ids[split];
    const int64_t count = encoded->count[split];
    if (count == 0) return LS_OK;
    return p->options->records ? ls_token_writer_add_record(p->writer, split, ids, encoded->targets, count)
                               : ls_token_writer_add(p->writer, split, ids, count);
}

/* The batch begins with document `first`. */
static ls_status write_batch(preparation *p, int64_t first, int64_t count)
{
    for (int64_t i = 0; i < count; i++) {
        const ls_encoded *encoded = &p->batch[i];
        if (encoded->status != LS_OK) return LS_FAIL(encoded->status, "%s", encoded->error);
        p->text_bytes += encoded->bytes;
        for (int split = 0; split < 2; split++) {
            const ls_status status = write_encoded(p, encoded, (ls_split)split);
            if (status == LS_BAD_INPUT) return ls_corpus_blame(&p->corpus, first + i, status);
            LS_TRY(status);
        }
    }
    return LS_OK;
}

static void show_progress(const preparation *p, int64_t bytes)
{
    const int64_t total = p->corpus.bytes;
    const double seconds = ls_seconds_now() - p->start;
    const double rate = seconds > 0 ? (double)bytes / seconds : 0;
    ls_log_progress("prepare: %.1f of %.1f MB, %.2f million tokens, %.1f MB/s, %.0f s left", 1e-6 * (double)bytes,
                    1e-6 * (double)total,
                    1e-6 * (double)(ls_token_writer_tokens(p->writer, LS_SPLIT_TRAIN) +
                                    ls_token_writer_tokens(p->writer, LS_SPLIT_VALIDATION)),
                    1e-6 * rate, rate > 0 ? (double)(total - bytes) / rate : 0.0);
}

static ls_status encode_documents(preparation *p)
{
    const ls_encode_options encode = {.held_out = p->held_out,
                                      .tail = p->corpus.count == 1 && !p->options->records ? p->options->validation : 0,
                                      .records = p->options->records ? &p->options->format : NULL,
                                      .threads =
                                          p->options->threads > 0 ? (int)p->options->threads : ls_encode_processors()};
    int64_t bytes = 0;
    ls_status status = LS_OK;
    for (int64_t first = 0, count; status == LS_OK && first < p->corpus.count; first += count) {
        count = batch_size(&p->corpus, first, encode.threads);
        ls_encode_batch(p->batch, &p->corpus, first, count, p->tokenizer, &encode);
        status = write_batch(p, first, count);
        for (int64_t i = 0; i < count; i++) {
            bytes += p->corpus.documents[first + i].length;
            ls_encoded_free(&p->batch[i]);
        }
        if (status == LS_OK) show_progress(p, bytes);
    }
    ls_log_progress_end();
    return status;
}

static void tell_totals(const preparation *p)
{
    const int64_t train = ls_token_writer_tokens(p->writer, LS_SPLIT_TRAIN);
    const int64_t validation = ls_token_writer_tokens(p->writer, LS_SPLIT_VALIDATION);
    const int64_t trained = ls_token_writer_documents(p->writer, LS_SPLIT_TRAIN);
    const int64_t held_out = ls_token_writer_documents(p->writer, LS_SPLIT_VALIDATION);
    const int64_t learnt =
        ls_token_writer_targets(p->writer, LS_SPLIT_TRAIN) + ls_token_writer_targets(p->writer, LS_SPLIT_VALIDATION);
    const int64_t tokens = train + validation;
    const char *what = p->options->records ? "records" : "documents";
    ls_log_info(
        "%s: %lld %s, %lld tokens, %.2f bytes a token; to train on %lld tokens in %lld %s, held out %lld in %lld",
        p->options->out, (long long)(trained + held_out), what, (long long)tokens,
        (double)p->text_bytes / (double)tokens, (long long)train, (long long)trained, what, (long long)validation,
        (long long)held_out);
    if (p->options->records)
        ls_log_info("to be learnt: %lld tokens, %.1f %%", (long long)learnt, 100.0 * (double)learnt / (double)tokens);
}

static ls_status finish(preparation *p)
{
    const int64_t train = ls_token_writer_tokens(p->writer, LS_SPLIT_TRAIN);
    const int64_t validation = ls_token_writer_tokens(p->writer, LS_SPLIT_VALIDATION);
    if (train + validation == 0) return LS_FAIL(LS_BAD_INPUT, "%s: all of its text is empty", p->options->inputs[0]);
    char *sources = ls_corpus_source_list(&p->corpus);
    const ls_status status = ls_token_writer_commit(p->writer, sources);
    free(sources);
    LS_TRY(status);
    tell_totals(p);
    if (p->corpus.binary_files + p->corpus.empty_files > 0)
        ls_log_info("left out: %lld binary and %lld empty files", (long long)p->corpus.binary_files,
                    (long long)p->corpus.empty_files);
    if (p->options->validation > 0 && validation == 0)
        ls_log_warning(p->options->records ? "a single record is not held out"
                                           : "the text is too short to hold out any of it");
    return LS_OK;
}

static ls_status prepare(const options *o)
{
    preparation p = {.options = o};
    ls_interrupt_install();
    ls_status status = LS_OK;
    LS_TRY_GOTO(ls_tokenizer_open(&p.tokenizer, o->tokenizer), done);
    if (o->records) LS_TRY_GOTO(ls_record_check(&o->format, p.tokenizer), done);
    LS_TRY_GOTO(list_documents(&p), done);
    LS_TRY_GOTO(o->records ? ls_token_writer_create_records(&p.writer, o->out, p.tokenizer)
                           : ls_token_writer_create(&p.writer, o->out, p.tokenizer),
                done);
    p.start = ls_seconds_now();
    LS_TRY_GOTO(encode_documents(&p), done);
    status = finish(&p);
done:
    ls_token_writer_destroy(p.writer);
    ls_tokenizer_free(p.tokenizer);
    ls_corpus_destroy(&p.corpus);
    free(p.held_out);
    free(p.batch);
    return status;
}

ls_status ls_prepare_command(int argc, char **argv)
{
    static const struct argp argp = {option_table, parse_option, "FILE...", documentation, NULL, NULL, NULL};
    options o = {.validation = 0.02};
    o.include = ls_text_memory(NULL, (size_t)argc * sizeof *o.include);
    o.inputs = ls_text_memory(NULL, (size_t)argc * sizeof *o.inputs);
    ls_status status = ls_command_parse(&argp, argc, argv, &o);
    if (o.text_field == NULL) o.text_field = "text";
    if (o.format.prompt == NULL) o.format.prompt = "{prompt}";
    if (o.format.completion == NULL) o.format.completion = "{completion}";
    if (status == LS_OK) status = prepare(&o);
    free(o.include);
    free(o.inputs);
    return status;
}
