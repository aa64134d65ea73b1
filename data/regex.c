/* Compiled regular expressions over PCRE2's just-in-time compiler; see regex.h. */
#define PCRE2_CODE_UNIT_WIDTH 8
#include "data/regex.h"

#include <pcre2.h>
#include <stdlib.h>
#include <string.h>

struct ls_regex {
    pcre2_code *code;
    bool compiled_to_machine_code; /* where the system forbids it, PCRE2 interprets */
};

struct ls_regex_scratch {
    pcre2_match_data *match;
    pcre2_match_context *context;
    pcre2_jit_stack *stack;
};

static ls_status compile(ls_regex *regex, const char *pattern, uint32_t options, const char *shown, const char *name)
{
    pcre2_compile_context *context = pcre2_compile_context_create(NULL);
    if (context == NULL) return LS_FAIL(LS_NO_MEMORY, "not enough memory for a regular expression");
    pcre2_set_newline(context, PCRE2_NEWLINE_LF);
    int error;
    PCRE2_SIZE offset;
    regex->code = pcre2_compile((PCRE2_SPTR)pattern, PCRE2_ZERO_TERMINATED, options, &error, &offset, context);
    pcre2_compile_context_free(context);
    if (regex->code == NULL) {
        PCRE2_UCHAR text[200];
        (void)pcre2_get_error_message(error, text, sizeof text);
        return LS_FAIL(LS_BAD_INPUT, "%s: the pre-tokenizer's regular expression is not understood (%s): %s", name,
                       (const char *)text, shown);
    }
    regex->compiled_to_machine_code = pcre2_jit_compile(regex->code, PCRE2_JIT_COMPLETE) == 0;
    return LS_OK;
}

ls_status ls_regex_compile(ls_regex **out, const char *pattern, bool literal, const char *name)
{
    ls_regex *regex = calloc(1, sizeof *regex);
    if (regex == NULL) return LS_FAIL(LS_NO_MEMORY, "not enough memory for a regular expression");
    ls_status status;
    if (literal) {
        status = compile(regex, pattern, PCRE2_UTF | PCRE2_LITERAL, pattern, name);
    } else {
        char *translated = NULL;
        status = ls_regex_translate(&translated, pattern, name);
        if (status == LS_OK)
            status = compile(regex, translated, PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE, pattern, name);
        free(translated);
    }
    if (status != LS_OK) {
        ls_regex_free(regex);
        return status;
    }
    *out = regex;
    return LS_OK;
}

void ls_regex_free(ls_regex *regex)
{
    if (regex == NULL) return;
    pcre2_code_free(regex->code);
    free(regex);
}

ls_status ls_regex_scratch_create(ls_regex_scratch **out)
{
    ls_regex_scratch *scratch = calloc(1, sizeof *scratch);
    if (scratch == NULL) return LS_FAIL(LS_NO_MEMORY, "not enough memory for matching");
    scratch->match = pcre2_match_data_create(1, NULL);
    scratch->context = pcre2_match_context_create(NULL);
    scratch->stack = pcre2_jit_stack_create((size_t)64 << 10, (size_t)16 << 20, NULL);
    if (scratch->match == NULL || scratch->context == NULL) {
        ls_regex_scratch_free(scratch);
        return LS_FAIL(LS_NO_MEMORY, "not enough memory for matching");
    }
    if (scratch->stack != NULL) pcre2_jit_stack_assign(scratch->context, NULL, scratch->stack);
    *out = scratch;
    return LS_OK;
}

void ls_regex_scratch_free(ls_regex_scratch *scratch)
{
    if (scratch == NULL) return;
    pcre2_match_data_free(scratch->match);
    pcre2_match_context_free(scratch->context);
    pcre2_jit_stack_free(scratch->stack);
    free(scratch);
}

ls_status ls_regex_find(const ls_regex *regex, ls_regex_scratch *scratch, const char *text, size_t length, size_t start,
                        size_t *match_start, size_t *match_end, bool *found)
{
    const PCRE2_SPTR subject = (PCRE2_SPTR)text;
    const int count =
        regex->compiled_to_machine_code
            ? pcre2_jit_match(regex->code, subject, length, start, 0, scratch->match, scratch->context)
            : pcre2_match(regex->code, subject, length, start, PCRE2_NO_UTF_CHECK, scratch->match, scratch->context);
    *found = count >= 0;
    if (count == PCRE2_ERROR_NOMATCH) return LS_OK;
    if (count < 0) {
        PCRE2_UCHAR message[200];
        (void)pcre2_get_error_message(count, message, sizeof message);
        return LS_FAIL(LS_BAD_INPUT, "the pre-tokenizer's regular expression gave up on this text (%s)",
                       (const char *)message);
    }
    const PCRE2_SIZE *bounds = pcre2_get_ovector_pointer(scratch->match);
    *match_start = bounds[0];
    *match_end = bounds[1];
    return LS_OK;
}
