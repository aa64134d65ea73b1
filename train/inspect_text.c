/* An inspect document as text for people, see inspect.h. */
#include "train/inspect.h"

#include <math.h>
#include <string.h>

enum { TABLE_STEPS = 6 }; /* columns that fit beside each other */

static void print_number(FILE *file, double value)
{
    if (value == floor(value) && fabs(value) < 1e15)
        (void)fprintf(file, "%.0f", value);
    else
        (void)fprintf(file, "%g", value);
}

static void print_scalar(FILE *file, const cJSON *item)
{
    if (cJSON_IsNumber(item))
        print_number(file, item->valuedouble);
    else if (cJSON_IsString(item))
        (void)fputs(item->valuestring, file);
    else
        (void)fputs(cJSON_IsTrue(item) ? "yes" : cJSON_IsFalse(item) ? "no" : "unknown", file);
}

static double cell(const cJSON *row, const char *key, int layer)
{
    return cJSON_GetArrayItem(cJSON_GetObjectItemCaseSensitive(row, key), layer)->valuedouble;
}

/* Steps first..last-1 beside each other: learning rate, and dropout rate and exit weight of every layer. */
static void print_columns(FILE *file, const cJSON *schedule, int layers, int first, int last)
{
    (void)fprintf(file, "\n  step ");
    for (int i = first; i < last; i++) {
        const cJSON *step = cJSON_GetObjectItemCaseSensitive(cJSON_GetArrayItem(schedule, i), "step");
        (void)fprintf(file, "  %14.0f", step->valuedouble);
    }
    (void)fprintf(file, "\n  lr   ");
    for (int i = first; i < last; i++) {
        const cJSON *rate = cJSON_GetObjectItemCaseSensitive(cJSON_GetArrayItem(schedule, i), "learning_rate");
        (void)fprintf(file, "  %14.6g", rate->valuedouble);
    }
    (void)fprintf(file, "\n  layer");
    for (int i = first; i < last; i++) (void)fprintf(file, "  %6s  %6s", "rate", "exit");
    for (int l = 0; l < layers; l++) {
        (void)fprintf(file, "\n  %5d", l);
        for (int i = first; i < last; i++) {
            const cJSON *row = cJSON_GetArrayItem(schedule, i);
            const double weight = cell(row, "exit_weight", l);
            (void)fprintf(file, "  %6.4f", cell(row, "dropout_rate", l));
            (void)(weight > 0.0 ? fprintf(file, "  %6.4f", weight) : fprintf(file, "  %6s", "-"));
        }
    }
    (void)fputc('\n', file);
}

static void print_schedule(FILE *file, const cJSON *schedule)
{
    const int count = cJSON_GetArraySize(schedule);
    if (count == 0) return;
    const cJSON *rates = cJSON_GetObjectItemCaseSensitive(cJSON_GetArrayItem(schedule, 0), "dropout_rate");
    const int layers = cJSON_GetArraySize(rates);
    (void)fprintf(file, "\ndropout rate and exit weight of every layer (-: exit off; exit l is --exit-layer l+1)\n");
    for (int first = 0; first < count; first += TABLE_STEPS)
        print_columns(file, schedule, layers, first, first + TABLE_STEPS < count ? first + TABLE_STEPS : count);
}

/* {"total", "blocks"}: a line a block, in MiB. */
static void print_memory(FILE *file, const cJSON *memory)
{
    const cJSON *block;
    cJSON_ArrayForEach(block, cJSON_GetObjectItemCaseSensitive(memory, "blocks"))(void)
        fprintf(file, "  %12.1f MiB  %s\n", cJSON_GetObjectItemCaseSensitive(block, "bytes")->valuedouble / 1048576.0,
                cJSON_GetObjectItemCaseSensitive(block, "what")->valuestring);
    (void)fprintf(file, "  %12.1f MiB  in all\n",
                  cJSON_GetObjectItemCaseSensitive(memory, "total")->valuedouble / 1048576.0);
}

static void print_object(FILE *file, const cJSON *object, int depth)
{
    const cJSON *item;
    cJSON_ArrayForEach(item, object)
    {
        if (strcmp(item->string, "schedule") == 0) {
            print_schedule(file, item);
            continue;
        }
        (void)fprintf(file, "%*s%s:", 2 * depth, "", item->string);
        if (cJSON_IsObject(item)) {
            (void)fputc('\n', file);
            if (cJSON_HasObjectItem(item, "blocks"))
                print_memory(file, item);
            else
                print_object(file, item, depth + 1);
            continue;
        }
        const cJSON *element;
        if (cJSON_IsArray(item)) cJSON_ArrayForEach(element, item)
            {
                (void)fputc(' ', file);
                print_scalar(file, element);
            }
        else {
            (void)fputc(' ', file);
            print_scalar(file, item);
        }
        (void)fputc('\n', file);
    }
}

void ls_inspect_print_text(FILE *file, const cJSON *document) { print_object(file, document, 0); }
