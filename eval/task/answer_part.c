#define PCRE2_CODE_UNIT_WIDTH 8
#include "eval/task/answer_part.h"

#include "core/text.h"

#include <ctype.h>
#include <pcre2.h>
#include <stdlib.h>
#include <string.h>

struct ls_answer_part {
    const ls_task_config *config;
    pcre2_code *code; /* NULL: the whole text */
    pcre2_match_data *match;
};

ls_status ls_answer_part_create(ls_answer_part **out, const ls_task_config *config)
{
    *out = NULL;
    ls_answer_part *part = calloc(1, sizeof *part);
    if (part == NULL) return LS_FAIL(LS_NO_MEMORY, "cannot get memory for a pattern");
    part->config = config;
    *out = part;
    if (config->extract == NULL) return LS_OK;
    int error;
    PCRE2_SIZE offset;
    part->code =
        pcre2_compile((PCRE2_SPTR)config->extract, PCRE2_ZERO_TERMINATED, PCRE2_UTF | PCRE2_UCP, &error, &offset, NULL);
    if (part->code != NULL) part->match = pcre2_match_data_create_from_pattern(part->code, NULL);
    if (part->match != NULL) return LS_OK;
    PCRE2_UCHAR text[200] = "not enough memory";
    if (part->code == NULL) (void)pcre2_get_error_message(error, text, sizeof text);
    ls_answer_part_destroy(part);
    *out = NULL;
    return LS_FAIL(LS_BAD_INPUT, "%s: extract: %s, at character %zu of the pattern", ls_config_place("extract"),
                   (const char *)text, offset + 1);
}

void ls_answer_part_destroy(ls_answer_part *part)
{
    if (part == NULL) return;
    pcre2_match_data_free(part->match);
    pcre2_code_free(part->code);
    free(part);
}

/* The next match from *start on, which moves behind it. *group: [begin, end) of what counts. */
static ls_status next_match(const ls_answer_part *part, const char *text, size_t *start, size_t group[2], bool *found)
{
    const size_t length = strlen(text);
    *found = false;
    if (*start > length) return LS_OK;
    const int count = pcre2_match(part->code, (PCRE2_SPTR)text, length, *start, 0, part->match, NULL);
    if (count == PCRE2_ERROR_NOMATCH) return LS_OK;
    if (count < 0) {
        PCRE2_UCHAR message[200];
        (void)pcre2_get_error_message(count, message, sizeof message);
        return LS_FAIL(LS_BAD_INPUT, "extract: the pattern gave up on an answer (%s)", (const char *)message);
    }
    const PCRE2_SIZE *bounds = pcre2_get_ovector_pointer(part->match);
    const int which = count > 1 && bounds[2] != PCRE2_UNSET ? 1 : 0;
    group[0] = bounds[2 * which];
    group[1] = bounds[2 * which + 1];
    if (group[1] < group[0]) group[1] = group[0]; /* \K in a lookahead */
    *start = bounds[1] > *start ? bounds[1] : *start + 1;
    while (*start < length && (text[*start] & 0xC0) == 0x80) (*start)++; /* behind an empty match: a character begins */
    *found = true;
    return LS_OK;
}

static void remove_all(char *text, const char *what)
{
    const size_t length = strlen(what);
    for (char *at = text; (at = strstr(at, what)) != NULL;) memmove(at, at + length, strlen(at + length) + 1);
}

static void squeeze(char *text)
{
    char *to = text;
    for (const char *from = text; *from != '\0'; from++) {
        const bool blank = isspace((unsigned char)*from) != 0;
        if (!blank) *to++ = *from;
        if (blank && to > text && to[-1] != ' ') *to++ = ' ';
    }
    if (to > text && to[-1] == ' ') to--;
    *to = '\0';
}

ls_status ls_answer_part_find(char **found, const ls_answer_part *part, const char *text)
{
    size_t group[2] = {0, strlen(text)}, start = 0;
    bool any = part->code == NULL, more = part->code != NULL;
    *found = NULL;
    while (more) {
        LS_TRY(next_match(part, text, &start, group, &more));
        any = any || more;
        more = more && part->config->extract_match == LS_TASK_MATCH_LAST;
    }
    if (!any) return LS_OK;
    *found = ls_text_copy(text + group[0], group[1] - group[0]);
    for (int i = 0; i < part->config->remove.count; i++) remove_all(*found, part->config->remove.values[i]);
    if (part->config->squeeze_blanks) squeeze(*found);
    return LS_OK;
}
