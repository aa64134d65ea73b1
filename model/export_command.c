/* `layerskip export`: a checkpoint as a Hugging Face folder, or as a GGUF file. */
#include "core/interrupt.h"
#include "core/text.h"
#include "model/commands.h"
#include "model/export.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

typedef struct options {
    const char *checkpoint, *out;
    int type; /* ls_stored_type, -1: as stored */
    bool gguf;
    int64_t shard_size;
} options;

enum { KEY_DTYPE = 0x2000, KEY_FORMAT, KEY_SHARD };

static const struct argp_option option_table[] = {
    {"out", 'o', "HF_DIR", 0, "The folder (or GGUF file) to write; it must not exist yet", 0},
    {"dtype", KEY_DTYPE, "fp32|fp16|bf16", 0,
     "Type of the weights (default: as they are kept, which for an imported model is what it came in, and fp32 for a "
     "trained one)",
     0},
    {"format", KEY_FORMAT, "huggingface|gguf", 0, "What to write (default huggingface)", 0},
    {"max-shard-size", KEY_SHARD, "SIZE", 0,
     "Most bytes of weights in one file of a folder: a number, or one with KB, MB or GB behind it (default 5GB)", 0},
    {NULL, 0, NULL, 0, NULL, 0},
};

static const char documentation[] =
    "Writes a model for other programs.\v"
    "CHECKPOINT is a checkpoint, a run folder (its newest checkpoint) or a Hugging Face folder. The folder that is "
    "written holds safetensors, config.json, generation_config.json, tokenizer.json and tokenizer_config.json, and "
    "loads in transformers, vLLM and lm-eval as it is. With --format gguf the output is one file for llama.cpp. "
    "The weights pass through a few megabytes of memory.";

static ls_status read_shard_size(int64_t *out, const char *text)
{
    static const struct {
        const char *unit;
        double bytes;
    } units[] = {{"KB", 1e3}, {"MB", 1e6}, {"GB", 1e9}, {"", 1.0}};
    const size_t length = strlen(text);
    for (size_t i = 0; i < sizeof units / sizeof units[0]; i++) {
        const size_t tail = strlen(units[i].unit);
        double number;
        if (length <= tail || strcmp(text + length - tail, units[i].unit) != 0) continue;
        char *digits = ls_text_copy(text, length - tail);
        const bool good =
            ls_text_to_double(&number, digits) && number * units[i].bytes >= 1.0 && number * units[i].bytes <= 1e15;
        free(digits);
        if (!good) break;
        *out = (int64_t)(number * units[i].bytes);
        return LS_OK;
    }
    return LS_FAIL(LS_BAD_INPUT, "--max-shard-size: %s is no size such as 500MB or 5GB", text);
}

static ls_status read_choice(int *out, const char *option, const char *text, const char *const *choices)
{
    for (*out = 0; choices[*out] != NULL; ++*out)
        if (strcmp(choices[*out], text) == 0) return LS_OK;
    ls_text list = {0};
    for (int i = 0; choices[i] != NULL; i++) ls_text_addf(&list, "%s%s", i == 0 ? "" : ", ", choices[i]);
    const ls_status status = LS_FAIL(LS_BAD_INPUT, "%s: %s is none of %s", option, text, list.bytes);
    free(list.bytes);
    return status;
}

static error_t parse_option(int key, char *argument, struct argp_state *state)
{
    static const char *const formats[] = {"huggingface", "gguf", NULL};
    options *o = state->input;
    ls_status status = LS_OK;
    int format;
    switch (key) {
    case 'o':
        o->out = argument;
        break;
    case KEY_DTYPE:
        status = read_choice(&o->type, "--dtype", argument, ls_stored_type_names);
        break;
    case KEY_FORMAT:
        status = read_choice(&format, "--format", argument, formats);
        o->gguf = format == 1;
        break;
    case KEY_SHARD:
        status = read_shard_size(&o->shard_size, argument);
        break;
    case ARGP_KEY_ARG:
        if (o->checkpoint != NULL) argp_error(state, "only one model can be exported at a time");
        o->checkpoint = argument;
        break;
    case ARGP_KEY_END:
        if (o->checkpoint == NULL)
            argp_error(state, "name the checkpoint to export");
        else if (o->out == NULL)
            argp_error(state, "--out is missing");
        break;
    default:
        return ARGP_ERR_UNKNOWN;
    }
    return status == LS_OK ? 0 : EINVAL;
}

/* Ids of special tokens: those of the config.json that the model came with, else what the tokenizer says. */
static void find_ids(ls_export *self)
{
    const char *kept = self->source.kept[LS_KEPT_CONFIG];
    ls_model_config same;
    int64_t count;
    self->ids = (ls_special_ids){-1, -1, -1};
    if (kept != NULL && ls_huggingface_config_read(&same, &self->ids, kept, strlen(kept), "config.json") != LS_OK)
        ls_error_clear();
    const int32_t *prefix = ls_tokenizer_prefix(self->tokenizer, &count);
    if (self->ids.bos < 0 && count > 0) self->ids.bos = prefix[0];
    if (self->ids.eos < 0) self->ids.eos = ls_tokenizer_end_of_text(self->tokenizer);
}

static ls_status write_output(const ls_export *self, const options *o)
{
    ls_output output;
    LS_TRY(ls_output_begin(&output, o->out, !o->gguf));
    ls_progress progress = ls_progress_start("export", ls_weight_source_bytes(&self->source, self->type));
    ls_status status = o->gguf ? ls_export_gguf(self, output.temporary, &progress)
                               : ls_export_folder(self, output.temporary, &progress);
    if (status == LS_OK) status = ls_output_commit(&output);
    if (status == LS_OK) ls_progress_end(&progress, output.path, self->source.table.parameters);
    ls_output_end(&output);
    return status;
}

static ls_status export(const options *o)
{
    ls_export self = {.type = o->type, .shard_size = o->shard_size};
    ls_interrupt_install();
    LS_TRY(ls_weight_source_open(&self.source, o->checkpoint, NULL));
    ls_status status = ls_tokenizer_from_text(&self.tokenizer, self.source.tokenizer, self.source.path);
    if (status == LS_OK) {
        find_ids(&self);
        status = write_output(&self, o);
        ls_tokenizer_free(self.tokenizer);
    }
    ls_weight_source_close(&self.source);
    return status;
}

ls_status ls_export_command(int argc, char **argv)
{
    static const struct argp argp = {option_table, parse_option, "CHECKPOINT", documentation, NULL, NULL, NULL};
    options o = {.type = -1, .shard_size = 5000000000};
    LS_TRY(ls_command_parse(&argp, argc, argv, &o));
    return export(&o);
}
