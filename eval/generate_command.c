/* `layerskip generate`: text from a checkpoint, streamed to people or as one JSON document. */
#include "core/file.h"
#include "core/interrupt.h"
#include "core/json.h"
#include "core/log.h"
#include "core/text.h"
#include "data/chat.h"
#include "eval/commands.h"
#include "eval/decoder.h"
#include "eval/session.h"
#include "eval/text_stream.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

typedef struct generate_options {
    ls_session_options session;
    const char *prompt, *prompt_file, *system;
    int chat; /* ls_chat */
    int mode; /* ls_decode_mode, -1: by whether an exit layer is given */
    int64_t exit_layer, draft_tokens, max_new_tokens, top_k, seed;
    double temperature, top_p, draft_confidence;
    bool json;
} generate_options;

enum {
    KEY_PROMPT_FILE = 0x3000,
    KEY_CHAT,
    KEY_SYSTEM,
    KEY_DECODE,
    KEY_EXIT_LAYER,
    KEY_DRAFT_TOKENS,
    KEY_DRAFT_CONFIDENCE,
    KEY_MAX_NEW_TOKENS,
    KEY_TEMPERATURE,
    KEY_TOP_K,
    KEY_TOP_P,
    KEY_SEED,
    KEY_JSON,
};

static const struct argp_option option_list[] = {
    {"prompt", 'p', "TEXT", 0, "The text to continue (default: the beginning of a document)", 1},
    {"prompt-file", KEY_PROMPT_FILE, "FILE", 0, "The same, from a file; -: from standard input", 1},
    {"chat", KEY_CHAT, "STYLE", 0,
     "chatml or llama3: the prompt is what the user says, answered until the message ends, as prepare --chat trains it",
     1},
    {"system", KEY_SYSTEM, "TEXT", 0, "With --chat, a system message before it (default: none)", 1},
    {"decode", KEY_DECODE, "MODE", 0,
     "autoregressive, early-exit (fewer layers, unverified), self-speculative, or prompt-lookup (default: "
     "self-speculative when --exit-layer is given, else autoregressive)",
     1},
    {"exit-layer", KEY_EXIT_LAYER, "E", 0, "Layers that the draft runs, 1..L-1 (default: a quarter of them)", 1},
    {"draft-tokens", KEY_DRAFT_TOKENS, "D", 0, "Tokens to draft a round (default 4)", 1},
    {"draft-confidence", KEY_DRAFT_CONFIDENCE, "P", 0,
     "Stop drafting where the draft's largest probability falls below P (default 0: never)", 1},
    {"max-new-tokens", KEY_MAX_NEW_TOKENS, "N", 0, "Stop after N tokens (default 128)", 1},
    {"temperature", KEY_TEMPERATURE, "T", 0, "0: always the most probable token (default); else sample", 2},
    {"top-k", KEY_TOP_K, "K", 0, "Sample among the K most probable tokens (default 0: all)", 2},
    {"top-p", KEY_TOP_P, "P", 0, "Sample among the most probable tokens that make up P (default 1: all)", 2},
    {"seed", KEY_SEED, "S", 0, "Same seed, same text (default 0)", 2},
    {"json", KEY_JSON, NULL, 0,
     "Print one JSON document {tokens, text, drafted, accepted, rounds, prefill_seconds, decode_seconds, "
     "tokens_per_second, finish_reason} instead of streaming",
     3},
    {0},
};

static error_t parse_option(int key, char *argument, struct argp_state *state)
{
    generate_options *options = state->input;
    ls_status status = LS_OK;
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &options->session;
        break;
    case 'p':
        options->prompt = argument;
        break;
    case KEY_PROMPT_FILE:
        options->prompt_file = argument;
        break;
    case KEY_CHAT:
        status = ls_command_choice(&options->chat, "--chat", argument, ls_chat_names);
        break;
    case KEY_SYSTEM:
        options->system = argument;
        break;
    case KEY_DECODE:
        status = ls_command_choice(&options->mode, "--decode", argument, ls_decode_mode_names);
        break;
    case KEY_EXIT_LAYER:
        status = ls_command_int(&options->exit_layer, "--exit-layer", argument, 1, INT_MAX);
        break;
    case KEY_DRAFT_TOKENS:
        status = ls_command_int(&options->draft_tokens, "--draft-tokens", argument, 1, INT_MAX);
        break;
    case KEY_DRAFT_CONFIDENCE:
        status = ls_command_double(&options->draft_confidence, "--draft-confidence", argument, 0.0, 1.0);
        break;
    case KEY_MAX_NEW_TOKENS:
        status = ls_command_int(&options->max_new_tokens, "--max-new-tokens", argument, 1, INT_MAX);
        break;
    case KEY_TEMPERATURE:
        status = ls_command_double(&options->temperature, "--temperature", argument, 0.0, 1e6);
        break;
    case KEY_TOP_K:
        status = ls_command_int(&options->top_k, "--top-k", argument, 0, INT_MAX);
        break;
    case KEY_TOP_P:
        status = ls_command_double(&options->top_p, "--top-p", argument, 0.0, 1.0);
        break;
    case KEY_SEED:
        status = ls_command_int(&options->seed, "--seed", argument, 0, INT64_MAX);
        break;
    case KEY_JSON:
        options->json = true;
        break;
    case ARGP_KEY_END:
        if (options->prompt != NULL && options->prompt_file != NULL)
            status = LS_FAIL(LS_BAD_INPUT, "give --prompt or --prompt-file, not both");
        else if (options->chat == LS_CHAT_NONE && options->system != NULL)
            status = LS_FAIL(LS_BAD_INPUT, "--system is for --chat");
        else if (options->chat != LS_CHAT_NONE && options->prompt == NULL && options->prompt_file == NULL)
            status = LS_FAIL(LS_BAD_INPUT, "--chat needs what the user says; give --prompt TEXT");
        break;
    default:
        return ARGP_ERR_UNKNOWN;
    }
    return status == LS_OK ? 0 : EINVAL;
}

/* Everything of one call; released in one place. */
typedef struct generate_job {
    ls_session session;
    int32_t *prompt; /* [prompt_count] */
    int64_t prompt_count;
    int32_t *tokens;
    ls_decoder *decoder;
    ls_decode_options decoding;
    ls_decode_result result;
    ls_text_stream stream;
} generate_job;

/* Puts the ids of the tokenizer's template, usually one BOS, before the prompt. What belongs behind a text is left out:
 * the prompt is to be continued. */
static void add_prefix(generate_job *job)
{
    int64_t count;
    const int32_t *prefix = ls_tokenizer_prefix(job->session.tokenizer, &count);
    if (count == 0) return;
    job->prompt = ls_text_memory(job->prompt, (size_t)(job->prompt_count + count) * sizeof *prefix);
    memmove(job->prompt + count, job->prompt, (size_t)job->prompt_count * sizeof *prefix);
    memcpy(job->prompt, prefix, (size_t)count * sizeof *prefix);
    job->prompt_count += count;
}

/* As a text, or as what the user says to an assistant. */
static ls_status encode_prompt(generate_job *job, const generate_options *options, const char *text, size_t length)
{
    const ls_tokenizer *tokenizer = job->session.tokenizer;
    const ls_chat chat = (ls_chat)options->chat;
    if (chat == LS_CHAT_NONE) return ls_tokenizer_encode(tokenizer, text, length, &job->prompt, &job->prompt_count);
    LS_TRY(ls_chat_check(chat, tokenizer));
    LS_TRY(ls_chat_end_id(&job->decoding.end_of_text, chat, tokenizer));
    ls_text asked = {0};
    ls_chat_ask(&asked, chat, options->system, text, length);
    const ls_status status =
        ls_tokenizer_encode(tokenizer, asked.bytes, asked.length, &job->prompt, &job->prompt_count);
    free(asked.bytes);
    return status;
}

static ls_status read_prompt(generate_job *job, const generate_options *options)
{
    const ls_tokenizer *tokenizer = job->session.tokenizer;
    if (options->prompt == NULL && options->prompt_file == NULL) {
        const int32_t end_of_text = ls_tokenizer_end_of_text(tokenizer);
        add_prefix(job);
        if (job->prompt_count > 0) return LS_OK;
        if (end_of_text < 0) return LS_FAIL(LS_BAD_INPUT, "this model needs a prompt; give --prompt TEXT");
        job->prompt = ls_text_memory(NULL, sizeof end_of_text);
        job->prompt[0] = end_of_text;
        job->prompt_count = 1;
        return LS_OK;
    }
    char *text = NULL;
    size_t length = options->prompt == NULL ? 0 : strlen(options->prompt);
    if (options->prompt_file != NULL && strcmp(options->prompt_file, "-") == 0)
        LS_TRY(ls_file_read_stream(&text, &length, stdin, "standard input"));
    else if (options->prompt_file != NULL)
        LS_TRY(ls_file_read(&text, &length, options->prompt_file));
    const ls_status status = encode_prompt(job, options, text == NULL ? options->prompt : text, length);
    free(text);
    if (status == LS_OK && job->prompt_count == 0) return LS_FAIL(LS_BAD_INPUT, "the prompt is empty");
    if (status == LS_OK) add_prefix(job);
    return status;
}

static ls_decode_options decoding_options(const generate_job *job, const generate_options *options)
{
    const int64_t layers = job->session.model.config.num_hidden_layers;
    const int64_t quarter = layers >= 8 ? layers / 4 : 1;
    const bool exit_given = options->exit_layer > 0;
    const int mode = options->mode >= 0 ? options->mode
                     : exit_given       ? LS_DECODE_SELF_SPECULATIVE
                                        : LS_DECODE_AUTOREGRESSIVE;
    return (ls_decode_options){
        .mode = (ls_decode_mode)mode,
        .exit_layer = (int)(exit_given ? options->exit_layer : quarter),
        .draft_tokens = (int)options->draft_tokens,
        .draft_confidence = options->draft_confidence,
        .max_new_tokens = options->max_new_tokens,
        .end_of_text = ls_tokenizer_end_of_text(job->session.tokenizer),
        .sampling = {options->temperature, options->top_k, options->top_p, (uint64_t)options->seed},
    };
}

static void warn_of_greedy(const generate_options *options)
{
    if (options->temperature > 0.0 || (options->top_k == 0 && options->top_p >= 1.0 && options->seed == 0)) return;
    ls_log_warning("--top-k, --top-p and --seed change nothing without --temperature above 0");
}

static ls_status prepare(generate_job *job, const generate_options *options)
{
    LS_TRY(ls_session_open(&job->session, &options->session));
    const ls_model *model = &job->session.model;
    job->decoding = decoding_options(job, options);
    LS_TRY(ls_decode_options_check(&job->decoding, model->config.num_hidden_layers));
    LS_TRY(read_prompt(job, options));
    warn_of_greedy(options);
    const int64_t context = model->config.max_position_embeddings;
    const int64_t wanted = job->prompt_count + options->max_new_tokens;
    const int64_t capacity = wanted < context ? wanted : context;
    LS_TRY(ls_decoder_create(&job->decoder, model, capacity, job->decoding.draft_tokens));
    job->tokens = ls_text_memory(NULL, sizeof(int32_t) * (size_t)capacity); /* never more than this */
    return LS_OK;
}

static void release(generate_job *job)
{
    ls_decoder_destroy(job->decoder);
    free(job->tokens);
    free(job->prompt);
    ls_session_close(&job->session);
}

static double tokens_per_second(const ls_decode_result *result)
{
    return result->decode_seconds > 0.0 ? (double)result->count / result->decode_seconds : 0.0;
}

/* The text of tokens[count] as the prompt's continuation; malloc'ed. */
static ls_status continuation(const generate_job *job, const int32_t *tokens, int64_t count, char **text)
{
    ls_token_stream stream;
    ls_text bytes = {0};
    ls_token_stream_begin(&stream, job->session.tokenizer, job->prompt, job->prompt_count);
    ls_status status = LS_OK;
    for (int64_t i = 0; i < count && status == LS_OK; i++) status = ls_token_stream_add(&stream, tokens[i], &bytes);
    if (status == LS_OK) status = ls_token_stream_end(&stream, &bytes);
    if (status == LS_OK) *text = ls_text_valid_utf8(bytes.bytes, bytes.length);
    free(bytes.bytes);
    return status;
}

static ls_status print_json(const generate_job *job)
{
    const ls_decode_result *result = &job->result;
    /* End of text is a token but no text. */
    int64_t shown = result->count;
    if (shown > 0 && result->tokens[shown - 1] == job->decoding.end_of_text) shown--;
    char *text = NULL;
    LS_TRY(continuation(job, result->tokens, shown, &text));
    cJSON *document = cJSON_CreateObject();
    (void)cJSON_AddItemToObject(document, "tokens", cJSON_CreateIntArray(result->tokens, (int)result->count));
    (void)cJSON_AddStringToObject(document, "text", text);
    (void)cJSON_AddNumberToObject(document, "drafted", (double)result->drafted);
    (void)cJSON_AddNumberToObject(document, "accepted", (double)result->accepted);
    (void)cJSON_AddNumberToObject(document, "rounds", (double)result->rounds);
    (void)cJSON_AddNumberToObject(document, "prefill_seconds", result->prefill_seconds);
    (void)cJSON_AddNumberToObject(document, "decode_seconds", result->decode_seconds);
    (void)cJSON_AddNumberToObject(document, "tokens_per_second", tokens_per_second(result));
    (void)cJSON_AddStringToObject(document, "finish_reason", result->finish_reason);
    const ls_status status = ls_json_print(stdout, document, false);
    cJSON_Delete(document);
    free(text);
    return status;
}

static void print_closing_line(const generate_job *job)
{
    const ls_decode_result *result = &job->result;
    char acceptance[32] = "n/a";
    if (result->drafted > 0)
        (void)snprintf(acceptance, sizeof acceptance, "%.1f %%",
                       100.0 * (double)result->accepted / (double)result->drafted);
    ls_log_info(
        "%s: %lld tokens in %.3f s, %.1f tokens/s; acceptance %s, %.2f tokens a round; prompt of %lld tokens in "
        "%.3f s apart; ended by %s%s",
        ls_decode_mode_names[job->decoding.mode], (long long)result->count, result->decode_seconds,
        tokens_per_second(result), acceptance,
        result->rounds > 0 ? (double)result->count / (double)result->rounds : 0.0, (long long)job->prompt_count,
        result->prefill_seconds, result->finish_reason,
        job->stream.colour && result->drafted > 0 ? "; green: drafted and accepted" : "");
}

static bool show(void *context, const int32_t *tokens, int count, int accepted_drafts)
{
    ls_text_stream_write(context, tokens, count, accepted_drafts);
    return true;
}

static ls_status generate(generate_job *job, const generate_options *options)
{
    job->stream = (ls_text_stream){.file = stdout, .end = job->decoding.end_of_text};
    ls_token_stream_begin(&job->stream.tokens, job->session.tokenizer, job->prompt, job->prompt_count);
    if (!options->json) job->stream.colour = ls_text_stream_wants_colour(stdout);
    ls_interrupt_install();
    const ls_status status =
        ls_decoder_generate(job->decoder, &job->result, job->tokens, job->prompt, job->prompt_count, &job->decoding,
                            options->json ? NULL : show, &job->stream);
    if (!options->json) ls_text_stream_end(&job->stream);
    LS_TRY(status);
    if (options->json)
        LS_TRY(print_json(job));
    else
        print_closing_line(job);
    if (ferror(stdout)) return LS_FAIL(LS_IO, "cannot write the text to standard output");
    if (strcmp(job->result.finish_reason, "interrupted") == 0)
        return LS_FAIL(LS_INTERRUPTED, "interrupted after %lld tokens", (long long)job->result.count);
    return LS_OK;
}

ls_status ls_generate_command(int argc, char **argv)
{
    static const struct argp_child children[] = {{&ls_session_argp, 0, NULL, 0}, {0}};
    static const struct argp argp = {option_list, parse_option, NULL, "Continues a prompt with a trained model.",
                                     children,    NULL,         NULL};
    generate_options options = {
        .session = ls_session_defaults(), .mode = -1, .draft_tokens = 4, .max_new_tokens = 128, .top_p = 1.0};
    LS_TRY(ls_command_parse(&argp, argc, argv, &options));

    generate_job job = {0};
    ls_status status = prepare(&job, &options);
    if (status == LS_OK) status = generate(&job, &options);
    release(&job);
    return status;
}
