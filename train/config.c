/* Reading a run's config: derived values, checks of keys against each other, views for the other rooms, and the
 * comparison with the config that a checkpoint keeps. */
#include "train/config.h"

#include "core/text.h"

#include <stdlib.h>
#include <string.h>

#define REFUSE(key, format, ...) LS_FAIL(LS_BAD_INPUT, "%s: " key ": " format, ls_config_place(key), __VA_ARGS__)

/* layer_dropout.time counts `auto` before the shapes. */
enum { TIME_AUTO = 0 };
#define TIME_SHAPE(shape) ((int)(shape) + 1)

static void derive(ls_train_config *config)
{
    ls_model_config *model = &config->model;
    if (model->num_key_value_heads == 0) model->num_key_value_heads = model->num_attention_heads;
    if (model->max_position_embeddings == 0) model->max_position_embeddings = config->data.sequence_length;
    if (config->training.global_batch_size == 0) config->training.global_batch_size = config->training.micro_batch_size;
    if (config->layer_dropout.time == TIME_AUTO)
        config->layer_dropout.time = TIME_SHAPE(config->init_from == NULL ? LS_SHAPE_EXP : LS_SHAPE_UNIFORM);
}

/* The model's sentence begins with the name of its key; this puts the key's place before it. */
static ls_status refuse_shape(void)
{
    const char *sentence = ls_error_text();
    char *key = ls_text_format("model.%.*s", (int)strcspn(sentence, " "), sentence);
    const char *place = ls_config_place(key);
    if (strcmp(place, "default") == 0) place = ls_config_place("model.hidden_size"); /* derived from it */
    const ls_status status = LS_REWORD(LS_BAD_INPUT, "%s: model.%s", place, sentence);
    free(key);
    return status;
}

/* The shape with any vocabulary: the token file's may not be known yet. Fills head_dim. */
static ls_status check_shape(ls_train_config *config)
{
    ls_model_config shape = config->model;
    if (shape.vocab_size == 0) shape.vocab_size = 1;
    if (ls_model_config_check(&shape) != LS_OK) return refuse_shape();
    config->model.head_dim = shape.head_dim;
    return LS_OK;
}

static ls_status check(ls_train_config *config)
{
    LS_TRY(check_shape(config));
    if (config->run_dir != NULL && strncmp(config->run_dir, "~/", 2) == 0) /* a folder of that name is a trap */
        return REFUSE("run_dir", "'%s' begins with ~, which only a shell expands; write $HOME or the whole path",
                      config->run_dir);
    if (config->data.sequence_length > config->model.max_position_embeddings)
        return REFUSE("data.sequence_length", "%lld is above model.max_position_embeddings %lld",
                      (long long)config->data.sequence_length, (long long)config->model.max_position_embeddings);
    if (config->training.global_batch_size % config->training.micro_batch_size != 0)
        return REFUSE("training.global_batch_size", "%lld is no multiple of training.micro_batch_size %lld",
                      (long long)config->training.global_batch_size, (long long)config->training.micro_batch_size);
    if (config->schedule.warmup_steps > config->training.steps)
        return REFUSE("schedule.warmup_steps", "%lld is above training.steps %lld",
                      (long long)config->schedule.warmup_steps, (long long)config->training.steps);
    if (config->schedule.decay_steps + config->schedule.warmup_steps > config->training.steps)
        return REFUSE("schedule.decay_steps", "%lld and %lld of warm-up are above training.steps %lld",
                      (long long)config->schedule.decay_steps, (long long)config->schedule.warmup_steps,
                      (long long)config->training.steps);
    if (config->schedule.decay_steps > 0 && config->schedule.kind != LS_SCHEDULE_WARMUP_STABLE_DECAY)
        return REFUSE("schedule.decay_steps", "only schedule.kind: %s has them",
                      ls_schedule_names[LS_SCHEDULE_WARMUP_STABLE_DECAY]);
    const ls_recipe recipe = ls_train_config_recipe(config);
    return ls_recipe_check(&recipe);
}

ls_status ls_train_config_read(ls_train_config *out, const char *path, const char *const *overrides, int override_count)
{
    memset(out, 0, sizeof *out);
    ls_status status = ls_config_read(out, ls_train_fields, ls_train_field_count, path, overrides, override_count);
    if (status == LS_OK) {
        derive(out);
        status = check(out);
    }
    if (status != LS_OK) ls_train_config_free(out);
    return status;
}

void ls_train_config_free(ls_train_config *config)
{
    ls_config_free(config, ls_train_fields, ls_train_field_count);
    memset(config, 0, sizeof *config);
}

ls_status ls_train_config_set_vocabulary(ls_train_config *config, const ls_token_file *tokens)
{
    if (config->model.vocab_size == 0) config->model.vocab_size = tokens->vocab_size;
    if (config->model.vocab_size < tokens->vocab_size)
        return LS_FAIL(LS_BAD_INPUT, "model.vocab_size is %lld, but %s holds tokens of a vocabulary of %lld",
                       (long long)config->model.vocab_size, tokens->path, (long long)tokens->vocab_size);
    return ls_model_config_check(&config->model);
}

ls_recipe ls_train_config_recipe(const ls_train_config *config)
{
    return (ls_recipe){
        .layers = (int)config->model.num_hidden_layers,
        .steps = config->training.steps,
        .rate = config->layer_dropout.rate,
        .depth_shape = (ls_shape)config->layer_dropout.depth,
        .depth_step = config->layer_dropout.depth_step,
        .depth_layers = config->layer_dropout.layers,
        .time_shape = (ls_shape)(config->layer_dropout.time - TIME_SHAPE(0)),
        .time_step = config->layer_dropout.time_step,
        .time_falling = config->layer_dropout.falling,
        .rescale = config->layer_dropout.rescale,
        .early_exit = config->early_exit.enabled,
        .scale = config->early_exit.scale,
        .weighting = (ls_exit_weighting)config->early_exit.weights,
        .exit_layers = config->early_exit.layers,
        .target_weights = config->early_exit.target_weights,
        .curriculum = (ls_curriculum)config->early_exit.curriculum,
        .rotation = config->early_exit.rotation,
    };
}

ls_schedule ls_train_config_schedule(const ls_train_config *config)
{
    return (ls_schedule){
        .kind = (ls_schedule_kind)config->schedule.kind,
        .peak = config->optimizer.learning_rate,
        .final_ratio = config->schedule.final_ratio,
        .steps = config->training.steps,
        .warmup_steps = config->schedule.warmup_steps,
        .decay_steps = config->schedule.decay_steps,
    };
}

ls_optimizer_options ls_train_config_optimizer(const ls_train_config *config)
{
    return (ls_optimizer_options){
        .beta1 = config->optimizer.beta1,
        .beta2 = config->optimizer.beta2,
        .epsilon = config->optimizer.epsilon,
        .weight_decay = config->optimizer.weight_decay,
        .clip_norm = config->optimizer.clip_norm,
        .decay_embeddings = config->optimizer.decay_embeddings,
        .offload = (ls_offload)config->optimizer.offload,
        .lane_elements = (int64_t)(config->optimizer.lane_mib * 1048576.0 / sizeof(float)),
    };
}

/* ---- comparison with a checkpoint's config ----------------------------------------------------------------------- */

/* Keys, or sections ending in '.', that change where, how fast or how often, and no number of the run. Paths of data
 * and weights may move; the checkpoint knows the token file by its hash. */
static const char *const may_differ[] = {
    "init_from",
    "data.tokens",
    "training.recompute",
    "training.not_finite",
    "checkpoint.",
    "evaluation.",
    "parallel.",
    "run_dir",
    "device",
    "threads",
    "log_every",
    "device_index",
    "attention",
    "measure_peak",
    "profile",
    "optimizer.offload",
    "optimizer.lane_mib",
};

static bool is_exempt(const char *path)
{
    for (size_t i = 0; i < sizeof may_differ / sizeof may_differ[0]; i++) {
        const size_t length = strlen(may_differ[i]);
        if (may_differ[i][length - 1] == '.' ? strncmp(path, may_differ[i], length) == 0
                                             : strcmp(path, may_differ[i]) == 0)
            return true;
    }
    return false;
}

static bool equal_strings(const char *a, const char *b) { return a == NULL || b == NULL ? a == b : strcmp(a, b) == 0; }

static bool equal_ints(const ls_int_list *a, const ls_int_list *b)
{
    if (a->all || b->all) return a->all == b->all;
    if (a->slice || b->slice)
        return a->slice == b->slice && a->start == b->start && a->stop == b->stop && a->step == b->step;
    return a->count == b->count &&
           (a->count == 0 || memcmp(a->values, b->values, sizeof *a->values * (size_t)a->count) == 0);
}

static bool equal_doubles(const ls_double_list *a, const ls_double_list *b)
{
    return a->count == b->count &&
           (a->count == 0 || memcmp(a->values, b->values, sizeof *a->values * (size_t)a->count) == 0);
}

static bool equal_strings_list(const ls_string_list *a, const ls_string_list *b)
{
    if (a->count != b->count) return false;
    for (int i = 0; i < a->count; i++)
        if (!equal_strings(a->values[i], b->values[i])) return false;
    return true;
}

static bool equal_field(const ls_field *field, const ls_train_config *a, const ls_train_config *b)
{
    const void *left = (const char *)a + field->offset;
    const void *right = (const char *)b + field->offset;
    switch (field->kind) {
    case LS_FIELD_INT:
        return *(const int64_t *)left == *(const int64_t *)right;
    case LS_FIELD_DOUBLE:
        return memcmp(left, right, sizeof(double)) == 0;
    case LS_FIELD_BOOL:
        return *(const bool *)left == *(const bool *)right;
    case LS_FIELD_STRING:
        return equal_strings(*(char *const *)left, *(char *const *)right);
    case LS_FIELD_CHOICE:
        return *(const int *)left == *(const int *)right;
    case LS_FIELD_INTS:
        return equal_ints(left, right);
    case LS_FIELD_DOUBLES:
        return equal_doubles(left, right);
    case LS_FIELD_STRINGS:
        return equal_strings_list(left, right);
    }
    return false;
}

/* The field's value as the config file says it; malloc'ed. */
static char *field_text(const ls_field *field, const ls_train_config *config)
{
    char *text = ls_config_write_text(config, field, 1);
    if (text == NULL) return NULL;
    size_t length = strlen(text);
    while (length > 0 && text[length - 1] == '\n') text[--length] = '\0';
    const char *line = strrchr(text, '\n'); /* a section's name stands on a line before */
    const char *value = strchr(line == NULL ? text : line, ':');
    value = value == NULL ? text : value + 1;
    while (*value == ' ') value++;
    memmove(text, value, strlen(value) + 1);
    return text;
}

static ls_status refuse_difference(const ls_field *field, const ls_train_config *config, const ls_train_config *saved,
                                   const char *checkpoint)
{
    char *now = field_text(field, config);
    char *then = field_text(field, saved);
    const ls_status status =
        LS_FAIL(LS_BAD_INPUT, "%s is %s here, but %s was made with %s; a run resumes with the config it began with",
                field->path, now == NULL ? "different" : now, checkpoint, then == NULL ? "another value" : then);
    free(now);
    free(then);
    return status;
}

const char *ls_train_config_difference(const ls_train_config *config, const ls_train_config *other)
{
    for (int i = 0; i < ls_train_field_count; i++)
        if (!equal_field(&ls_train_fields[i], config, other)) return ls_train_fields[i].path;
    return NULL;
}

ls_status ls_train_config_match(const ls_train_config *config, const char *saved_text, const char *checkpoint)
{
    ls_train_config saved;
    memset(&saved, 0, sizeof saved);
    ls_status status =
        ls_config_read_text(&saved, ls_train_fields, ls_train_field_count, saved_text, checkpoint, NULL, 0);
    for (int i = 0; status == LS_OK && i < ls_train_field_count; i++) {
        const ls_field *field = &ls_train_fields[i];
        if (!is_exempt(field->path) && !equal_field(field, config, &saved))
            status = refuse_difference(field, config, &saved, checkpoint);
    }
    ls_train_config_free(&saved);
    return status;
}
