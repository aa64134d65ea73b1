#include "eval/task_config.h"

#include "core/file.h"
#include "core/text.h"
#include "data/template.h"

#include <stdlib.h>
#include <string.h>

const char *const ls_task_kind_names[] = {"multiple_choice", NULL};

#define AT(member) offsetof(ls_task_config, member)

const ls_field ls_task_fields[] = {
    {"kind", LS_FIELD_CHOICE, AT(kind), 0, 0, ls_task_kind_names, NULL,
     "multiple_choice: the choice of the highest probability, at every exit layer"},
    {"data", LS_FIELD_STRING, AT(data), 0, 0, NULL, NULL,
     "file of questions, one JSON object a line; counts from the folder of the task file (--data from where you are)"},
    {"prompt", LS_FIELD_STRING, AT(prompt), 0, 0, NULL, NULL, "template of a question: {name} is a field of its line"},
    {"delimiter", LS_FIELD_STRING, AT(delimiter), 0, 0, NULL, "' '",
     "what stands between a prompt and a choice, or an example's answer"},
    {"shots", LS_FIELD_INT, AT(shots), 0, 1000, NULL, "0", "examples before each question: the first of shots_from"},
    {"shots_from", LS_FIELD_STRING, AT(shots_from), 0, 0, NULL, "",
     "file of the examples, as data; where it is data itself, its examples are not asked"},
    {"separator", LS_FIELD_STRING, AT(separator), 0, 0, NULL, "\"\\n\\n\"", "what follows each example"},
    {"limit", LS_FIELD_INT, AT(limit), 0, 1e9, NULL, "0", "ask so many questions at most, from the first; 0: all"},
    {"choices", LS_FIELD_STRINGS, AT(choices), 0, 0, NULL, "",
     "multiple_choice: a template a choice, or one \"{name}\" of a field that holds the list of them"},
    {"gold", LS_FIELD_STRING, AT(gold), 0, 0, NULL, "",
     "multiple_choice: the field that tells the right choice: its number from 0, true or false for 1 or 0, or its "
     "text"},
};
const int ls_task_field_count = sizeof ls_task_fields / sizeof ls_task_fields[0];

#define REFUSE(key, ...) refuse((key), ls_text_format(__VA_ARGS__))

/* Takes the sentence. */
static ls_status refuse(const char *key, char *sentence)
{
    const ls_status status = LS_FAIL(LS_BAD_INPUT, "%s: %s: %s", ls_config_place(key), key, sentence);
    free(sentence);
    return status;
}

static bool is_default(const char *key) { return strcmp(ls_config_place(key), "default") == 0; }

static ls_status check_template(const char *key, const char *text)
{
    char *what = ls_text_format("%s: %s", ls_config_place(key), key);
    const ls_status status = ls_template_check(text, what);
    free(what);
    return status;
}

/* Keys that one kind needs; no other may have them. */
static const struct {
    const char *key;
    ls_task_kind kind;
} keys_of_kinds[] = {
    {"choices", LS_TASK_MULTIPLE_CHOICE},
    {"gold", LS_TASK_MULTIPLE_CHOICE},
};

static ls_status check_kind(const ls_task_config *config)
{
    for (size_t i = 0; i < sizeof keys_of_kinds / sizeof keys_of_kinds[0]; i++) {
        const char *key = keys_of_kinds[i].key;
        const bool own = config->kind == (int)keys_of_kinds[i].kind;
        if (own && is_default(key)) return REFUSE("kind", "%s needs the key %s", ls_task_kind_names[config->kind], key);
        if (!own && !is_default(key))
            return REFUSE(key, "means nothing for kind: %s", ls_task_kind_names[config->kind]);
    }
    return LS_OK;
}

static ls_status check(const ls_task_config *config)
{
    LS_TRY(check_kind(config));
    LS_TRY(check_template("prompt", config->prompt));
    for (int i = 0; i < config->choices.count; i++) LS_TRY(check_template("choices", config->choices.values[i]));
    if (config->choices.count == 0) return REFUSE("choices", "the list is empty");
    if (config->shots > 0 && config->shots_from == NULL)
        return REFUSE("shots", "%lld examples need the file they come from; name it with shots_from",
                      (long long)config->shots);
    return LS_OK;
}

/* *path as this process reads it. */
static void resolve(char **path, const char *key, const char *task_file)
{
    if (*path == NULL || (*path)[0] == '/' || strcmp(ls_config_place(key), "command line") == 0) return;
    const char *slash = strrchr(task_file, '/');
    if (slash == NULL) return;
    char *folder = ls_text_copy(task_file, slash == task_file ? 1 : (size_t)(slash - task_file));
    char *resolved = ls_file_join(folder, *path);
    free(folder);
    free(*path);
    *path = resolved;
}

ls_status ls_task_config_read(ls_task_config *out, const char *path, const char *const *overrides, int override_count)
{
    *out = (ls_task_config){0};
    ls_status status = ls_config_read(out, ls_task_fields, ls_task_field_count, path, overrides, override_count);
    if (status == LS_OK) status = check(out);
    if (status != LS_OK) {
        ls_task_config_free(out);
        return status;
    }
    resolve(&out->data, "data", path);
    resolve(&out->shots_from, "shots_from", path);
    return LS_OK;
}

void ls_task_config_free(ls_task_config *config) { ls_config_free(config, ls_task_fields, ls_task_field_count); }
