#include "eval/task/data.h"

#include "core/file.h"
#include "core/text.h"
#include "data/template.h"

#include <stdlib.h>
#include <string.h>

/* ---- records ----------------------------------------------------------------------------------------------------- */

static bool is_blank(const char *line, size_t length)
{
    for (size_t i = 0; i < length; i++)
        if (line[i] != ' ' && line[i] != '\t' && line[i] != '\r') return false;
    return true;
}

static ls_status add_record(ls_task_records *records, const char *text, size_t length, int64_t number)
{
    cJSON *record;
    char *name = ls_text_format("%s, line %lld", records->path, (long long)number);
    ls_status status = ls_json_parse(&record, text, length, name);
    if (status == LS_OK && !cJSON_IsObject(record)) {
        status = LS_FAIL(LS_BAD_INPUT, "%s: it is no JSON object", name);
        cJSON_Delete(record);
    }
    free(name);
    LS_TRY(status);
    const size_t count = (size_t)records->count + 1;
    if ((count & (count - 1)) == 0) { /* room doubles */
        records->record = ls_text_memory(records->record, 2 * count * sizeof(cJSON *));
        records->line = ls_text_memory(records->line, 2 * count * sizeof *records->line);
    }
    records->record[records->count] = record;
    records->line[records->count++] = number;
    return LS_OK;
}

/* One record a line that is not blank; `most` at most, 0: all. */
static ls_status read_records(ls_task_records *records, const char *path, int64_t most)
{
    char *text;
    size_t length;
    *records = (ls_task_records){.path = ls_text_copy(path, strlen(path))};
    LS_TRY(ls_file_read(&text, &length, path));
    if (length >= 2 && memcmp(text, "\x1f\x8b", 2) == 0) {
        free(text);
        return LS_FAIL(LS_BAD_INPUT, "%s: it is compressed; unpack it with gunzip first", path);
    }
    ls_status status = LS_OK;
    int64_t number = 1;
    for (const char *at = text, *end; at < text + length && status == LS_OK; at = end + 1, number++) {
        end = memchr(at, '\n', (size_t)(text + length - at));
        if (end == NULL) end = text + length;
        if (most > 0 && records->count == most) break;
        if (!is_blank(at, (size_t)(end - at))) status = add_record(records, at, (size_t)(end - at), number);
    }
    free(text);
    if (status == LS_OK && records->count == 0) return LS_FAIL(LS_BAD_INPUT, "%s: it holds no questions", path);
    return status;
}

static void free_records(ls_task_records *records)
{
    for (int64_t i = 0; i < records->count; i++) cJSON_Delete(records->record[i]);
    free(records->record);
    free(records->line);
    free(records->path);
    *records = (ls_task_records){0};
}

/* ---- texts of a record ------------------------------------------------------------------------------------------- */

/* Puts the record's place before the sentence of the failure. */
static ls_status at_line(ls_status status, const ls_task_records *records, int64_t i)
{
    if (status != LS_BAD_INPUT) return status;
    return LS_REWORD(status, "%s, line %lld: %s", records->path, (long long)records->line[i], ls_error_text());
}

static ls_status fill(char **out, const char *text, const cJSON *record)
{
    size_t length;
    return ls_template_fill(text, record, out, &length);
}

/* The list that a single template means: "{name}" of a field that holds one. NULL: it means a text. */
static const cJSON *list_of_choices(const ls_task_config *config, const cJSON *record)
{
    const char *text = config->choices.values[0];
    const size_t length = strlen(text);
    if (config->choices.count != 1 || text[0] != '{' || strcspn(text + 1, "{}\\") + 2 != length) return NULL;
    char *name = ls_text_copy(text + 1, length - 2);
    const cJSON *list = cJSON_GetObjectItemCaseSensitive(record, name);
    free(name);
    return cJSON_IsArray(list) ? list : NULL;
}

static ls_status list_choices(ls_task_choices *out, const ls_task_config *config, const cJSON *record)
{
    const cJSON *list = list_of_choices(config, record), *item = list == NULL ? NULL : list->child;
    const int count = list == NULL ? config->choices.count : cJSON_GetArraySize(list);
    if (count < 2) return LS_FAIL(LS_BAD_INPUT, "it offers %d choices; a question needs 2 or more", count);
    out->text = ls_text_memory(NULL, (size_t)count * sizeof *out->text);
    for (; out->count < count; out->count++, item = item == NULL ? NULL : item->next) {
        char **text = &out->text[out->count];
        if (list == NULL)
            LS_TRY(fill(text, config->choices.values[out->count], record));
        else if (cJSON_IsString(item))
            *text = ls_text_copy(item->valuestring, strlen(item->valuestring));
        else
            return LS_FAIL(LS_BAD_INPUT, "choice %d is no text", out->count);
    }
    return LS_OK;
}

static ls_status find_gold(ls_task_choices *out, const ls_task_config *config, const cJSON *record)
{
    const cJSON *gold = cJSON_GetObjectItemCaseSensitive(record, config->gold);
    if (gold == NULL) return LS_FAIL(LS_BAD_INPUT, "there is no field \"%s\"", config->gold);
    if (cJSON_IsBool(gold)) {
        out->gold = cJSON_IsTrue(gold) ? 1 : 0;
        return LS_OK;
    }
    for (int i = 0; i < out->count; i++) {
        const bool this = cJSON_IsNumber(gold) ? gold->valuedouble == i
                                               : cJSON_IsString(gold) && strcmp(gold->valuestring, out->text[i]) == 0;
        if (!this) continue;
        out->gold = i;
        return LS_OK;
    }
    return LS_FAIL(LS_BAD_INPUT, "\"%s\" is neither the number of one of its %d choices, from 0, nor the text of one",
                   config->gold, out->count);
}

static ls_status make_choices(ls_task_choices *out, const ls_task_config *config, const cJSON *record)
{
    *out = (ls_task_choices){0};
    ls_status status = list_choices(out, config, record);
    if (status == LS_OK) status = find_gold(out, config, record);
    if (status != LS_OK) ls_task_choices_free(out);
    return status;
}

void ls_task_choices_free(ls_task_choices *choices)
{
    for (int i = 0; i < choices->count; i++) free(choices->text[i]);
    free(choices->text);
    *choices = (ls_task_choices){0};
}

/* ---- examples ---------------------------------------------------------------------------------------------------- */

/* The right answer, as an example shows it. */
static ls_status answer_of(char **out, const ls_task_config *config, const cJSON *record)
{
    if (config->kind != LS_TASK_MULTIPLE_CHOICE) return fill(out, config->answer, record);
    ls_task_choices choices;
    LS_TRY(make_choices(&choices, config, record));
    *out = ls_text_copy(choices.text[choices.gold], strlen(choices.text[choices.gold]));
    ls_task_choices_free(&choices);
    return LS_OK;
}

static ls_status add_shot(ls_text *shots, const ls_task_config *config, const cJSON *record)
{
    char *prompt, *answer;
    LS_TRY(fill(&prompt, config->prompt, record));
    const ls_status status = answer_of(&answer, config, record);
    if (status == LS_OK) {
        ls_text_addf(shots, "%s%s%s%s", prompt, config->delimiter, answer, config->separator);
        free(answer);
    }
    free(prompt);
    return status;
}

static ls_status make_shots(ls_task_data *data)
{
    const ls_task_config *config = data->config;
    ls_text shots = {0};
    ls_task_records examples = {0};
    ls_text_add(&shots, "", 0);
    ls_status status = config->shots > 0 ? read_records(&examples, config->shots_from, config->shots) : LS_OK;
    if (status == LS_OK && examples.count < config->shots)
        status = LS_FAIL(LS_BAD_INPUT, "%s: it holds %lld examples, fewer than the %lld shots", config->shots_from,
                         (long long)examples.count, (long long)config->shots);
    for (int64_t i = 0; i < config->shots && status == LS_OK; i++)
        status = at_line(add_shot(&shots, config, examples.record[i]), &examples, i);
    free_records(&examples);
    data->shots = shots.bytes;
    return status;
}

/* ---- questions --------------------------------------------------------------------------------------------------- */

ls_status ls_task_data_open(ls_task_data *out, const ls_task_config *config)
{
    *out = (ls_task_data){.config = config};
    LS_TRY(make_shots(out));
    if (config->shots > 0 && strcmp(config->shots_from, config->data) == 0) out->first = config->shots;
    LS_TRY(read_records(&out->records, config->data, config->limit > 0 ? config->limit + out->first : 0));
    out->count = out->records.count - out->first;
    if (out->count < 1)
        return LS_FAIL(LS_BAD_INPUT, "%s: no question is left behind the %lld examples", config->data,
                       (long long)config->shots);
    return LS_OK;
}

void ls_task_data_close(ls_task_data *data)
{
    free_records(&data->records);
    free(data->shots);
    *data = (ls_task_data){0};
}

int64_t ls_task_line(const ls_task_data *data, int64_t question) { return data->records.line[data->first + question]; }

static const cJSON *record_of(const ls_task_data *data, int64_t question)
{
    return data->records.record[data->first + question];
}

ls_status ls_task_place(ls_status status, const ls_task_data *data, int64_t question)
{
    return at_line(status, &data->records, data->first + question);
}

ls_status ls_task_fill(char **text, const char *template, const ls_task_data *data, int64_t question)
{
    return ls_task_place(fill(text, template, record_of(data, question)), data, question);
}

ls_status ls_task_fill_with(char **text, const char *template, const ls_task_data *data, int64_t question,
                            const char *name, const char *value)
{
    cJSON *record = cJSON_Duplicate(record_of(data, question), true);
    cJSON_DeleteItemFromObjectCaseSensitive(record, name);
    ls_status status = LS_OK;
    if (cJSON_AddStringToObject(record, name, value) == NULL)
        status = LS_FAIL(LS_NO_MEMORY, "cannot get memory for a program");
    if (status == LS_OK) status = ls_task_place(fill(text, template, record), data, question);
    cJSON_Delete(record);
    return status;
}

ls_status ls_task_prompt(char **text, const ls_task_data *data, int64_t question)
{
    char *prompt;
    LS_TRY(ls_task_fill(&prompt, data->config->prompt, data, question));
    *text = ls_text_format("%s%s", data->shots, prompt);
    free(prompt);
    return LS_OK;
}

ls_status ls_task_choices_make(ls_task_choices *out, const ls_task_data *data, int64_t question)
{
    return ls_task_place(make_choices(out, data->config, record_of(data, question)), data, question);
}
