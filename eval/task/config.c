#include "eval/task/config.h"

#include "core/file.h"
#include "core/text.h"
#include "data/template.h"

#include <stdlib.h>
#include <string.h>

const char *const ls_task_kind_names[] = {"multiple_choice", "exact_match", "code", NULL};

static const char *const match_names[] = {"first", "last", NULL}; /* ls_task_match */

#define AT(member) offsetof(ls_task_config, member)

const ls_field ls_task_fields[] = {
    {"kind", LS_FIELD_CHOICE, AT(kind), 0, 0, ls_task_kind_names, NULL,
     "multiple_choice: the choice of the highest probability, at every exit layer; exact_match: a text that is written "
     "and compared with the right one; code: a program that is written and run"},
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
    {"answer", LS_FIELD_STRING, AT(answer), 0, 0, NULL, "",
     "exact_match: template of the right text; also, as of code, what examples show"},
    {"max_new_tokens", LS_FIELD_INT, AT(max_new_tokens), 1, 1 << 20, NULL, "256",
     "exact_match, code: an answer ends after so many tokens"},
    {"stop", LS_FIELD_STRINGS, AT(stop), 0, 0, NULL, "", "exact_match, code: an answer ends before any of these texts"},
    {"extract", LS_FIELD_STRING, AT(extract), 0, 0, NULL, "",
     "exact_match: pattern (PCRE2) of the part that is compared, in the answer and in the right text: its first group, "
     "or all that it matches; without one, the whole texts"},
    {"extract_match", LS_FIELD_CHOICE, AT(extract_match), 0, 0, match_names, "first",
     "exact_match: which of several places that match"},
    {"remove", LS_FIELD_STRINGS, AT(remove), 0, 0, NULL, "",
     "exact_match: texts that are taken out of both parts before they are compared, for example \",\""},
    {"squeeze_blanks", LS_FIELD_BOOL, AT(squeeze_blanks), 0, 0, NULL, "true",
     "exact_match: white space between words counts as one blank, at the ends as none"},
    {"program", LS_FIELD_STRING, AT(program), 0, 0, NULL, "",
     "code: template of the program that is run; {completion} is the answer"},
    {"command", LS_FIELD_STRINGS, AT(command), 0, 0, NULL, "",
     "code: what runs it, for example [python3, \"{file}\"]; {file} becomes the name of a file that holds the program, "
     "without it the program is standard input; exit status 0 is right"},
    {"time_limit", LS_FIELD_DOUBLE, AT(time_limit), 0.1, 3600, NULL, "10", "code: seconds that a program may take"},
    {"memory_limit", LS_FIELD_INT, AT(memory_limit), 16, 1 << 24, NULL, "1024",
     "code: MiB of address space that a process of a program may have"},
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

enum {
    CHOICES = 1 << LS_TASK_MULTIPLE_CHOICE,
    EXACT = 1 << LS_TASK_EXACT_MATCH,
    CODE = 1 << LS_TASK_CODE,
    WRITTEN = EXACT | CODE,
};

/* Keys that not every kind has: whose they are, and who needs them. */
static const struct {
    const char *key;
    int kinds, needed;
} keys_of_kinds[] = {
    {"choices", CHOICES, CHOICES},  {"gold", CHOICES, CHOICES},   {"answer", WRITTEN, EXACT},
    {"max_new_tokens", WRITTEN, 0}, {"stop", WRITTEN, 0},         {"extract", EXACT, 0},
    {"extract_match", EXACT, 0},    {"squeeze_blanks", EXACT, 0}, {"remove", EXACT, 0},
    {"program", CODE, CODE},        {"command", CODE, CODE},      {"time_limit", CODE, 0},
    {"memory_limit", CODE, 0},
};

static ls_status check_kind(const ls_task_config *config)
{
    const int own = 1 << config->kind;
    for (size_t i = 0; i < sizeof keys_of_kinds / sizeof keys_of_kinds[0]; i++) {
        const char *key = keys_of_kinds[i].key;
        if ((keys_of_kinds[i].needed & own) != 0 && is_default(key))
            return REFUSE("kind", "%s needs the key %s", ls_task_kind_names[config->kind], key);
        if ((keys_of_kinds[i].kinds & own) == 0 && !is_default(key))
            return REFUSE(key, "means nothing for kind: %s", ls_task_kind_names[config->kind]);
    }
    return LS_OK;
}

static ls_status check_stops(const ls_task_config *config)
{
    for (int i = 0; i < config->stop.count; i++)
        if (config->stop.values[i][0] == '\0') return REFUSE("stop", "an empty text would end every answer at once");
    for (int i = 0; i < config->remove.count; i++)
        if (config->remove.values[i][0] == '\0') return REFUSE("remove", "an empty text cannot be taken out");
    return LS_OK;
}

static ls_status check(const ls_task_config *config)
{
    LS_TRY(check_kind(config));
    LS_TRY(check_template("prompt", config->prompt));
    for (int i = 0; i < config->choices.count; i++) LS_TRY(check_template("choices", config->choices.values[i]));
    if (config->kind == LS_TASK_MULTIPLE_CHOICE && config->choices.count == 0)
        return REFUSE("choices", "the list is empty");
    if (config->kind == LS_TASK_CODE && config->command.count == 0) return REFUSE("command", "the list is empty");
    if (config->program != NULL) LS_TRY(check_template("program", config->program));
    if (config->answer == NULL && config->shots > 0 && config->kind == LS_TASK_CODE)
        return REFUSE("shots", "examples need the key answer, %s", "which says what they show");
    if (config->answer != NULL) LS_TRY(check_template("answer", config->answer));
    LS_TRY(check_stops(config));
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
