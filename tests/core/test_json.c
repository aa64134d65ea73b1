/* JSON in and out: refusals with line and column, and output that is always one valid document. */
#include "core_check.h"
#include "core/json.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Parses exactly these bytes, with nothing readable after them. */
static ls_status parse(cJSON **out, const char *text, size_t length)
{
    char *exact = malloc(length == 0 ? 1 : length);
    assert_non_null(exact);
    memcpy(exact, text, length);
    const ls_status status = ls_json_parse(out, exact, length, "a.json");
    free(exact);
    return status;
}

static void parses(void **state)
{
    (void)state;
    static const char text[] = " {\"a\": [1, 2.5, \"\\u00e9\\\\u0000\"], \"b\": null} \n";
    cJSON *document = NULL;
    CHECK_OK(parse(&document, text, strlen(text)));
    const cJSON *const a = cJSON_GetObjectItemCaseSensitive(document, "a");
    assert_int_equal(cJSON_GetArraySize(a), 3);
    assert_string_equal(cJSON_GetArrayItem(a, 2)->valuestring, "\xc3\xa9\\u0000");
    cJSON_Delete(document);
    CHECK_OK(parse(&document, "7", 1));
    cJSON_Delete(document);
}

static void refuses(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        size_t length;
        const char *sentence;
    } cases[] = {
        {"", 0, "a.json: it is empty"},
        {" \n\t", 3, "a.json: it is empty"},
        {"{\"a\": 1,\n \"b\": x}", 17, "a.json:2:7: this is not valid JSON"},
        {"{\"a\": [1, 2", 11, "a.json:1:11: the JSON is cut short"},
        {"{}\n{}", 5, "a.json:2:1: more text follows"},
        {"{} x", 4, "a.json:1:4: more text follows"},
        {"[\"a\\u0000b\"]", 12, "a.json:1:4: a NUL character"},
        {"[\"\\\\\\u0000\"]", 12, "NUL character"},
        {"[1]\0", 4, "NUL character"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        cJSON *document = NULL;
        CHECK_REFUSED(parse(&document, cases[i].text, cases[i].length), LS_BAD_INPUT, cases[i].sentence);
        assert_null(document);
    }
}

static void every_prefix_is_refused(void **state)
{
    (void)state;
    static const char text[] = "{\"tokens\": [1, -2.5e3, true], \"text\": \"a\\n\\u00e9\", \"none\": null}";
    for (size_t length = 0; length < strlen(text); length++) {
        cJSON *document = NULL;
        ls_error_clear();
        assert_int_equal(parse(&document, text, length), LS_BAD_INPUT);
    }
    ls_error_clear();
}

static void deep_nesting_does_no_harm(void **state)
{
    (void)state;
    char *text = malloc(200000);
    assert_non_null(text);
    memset(text, '[', 200000);
    cJSON *document = NULL;
    CHECK_REFUSED(ls_json_parse(&document, text, 200000, "deep.json"), LS_BAD_INPUT, "deep.json:1:");
    free(text);
}

static void reads_files(void **state)
{
    (void)state;
    cJSON *document = NULL;
    CHECK_REFUSED(ls_json_read_file(&document, "missing.json"), LS_IO, "missing.json");
    check_write_file("good.json", "[1]");
    CHECK_OK(ls_json_read_file(&document, "good.json"));
    cJSON_Delete(document);
    check_write_file("bad.json", "[1\n");
    CHECK_REFUSED(ls_json_read_file(&document, "bad.json"), LS_BAD_INPUT, "bad.json:1:3: the JSON is cut short");
}

static char *printed(const cJSON *document, bool pretty)
{
    char *text = NULL;
    size_t length = 0;
    FILE *file = open_memstream(&text, &length);
    assert_non_null(file);
    CHECK_OK(ls_json_print(file, document, pretty));
    assert_int_equal(fclose(file), 0);
    return text;
}

static void prints_valid_json(void **state)
{
    (void)state;
    cJSON *document = cJSON_CreateObject();
    (void)cJSON_AddNumberToObject(document, "nan", NAN);
    (void)cJSON_AddNumberToObject(document, "inf", -INFINITY);
    (void)cJSON_AddNumberToObject(document, "x", 0.1);
    (void)cJSON_AddStringToObject(document, "cut", "caf\xc3");
    char *text = printed(document, false);
    assert_string_equal(text, "{\"nan\":null,\"inf\":null,\"x\":0.1,\"cut\":\"caf\xef\xbf\xbd\"}\n");
    free(text);
    text = printed(document, true);
    cJSON *again = NULL;
    CHECK_OK(ls_json_parse(&again, text, strlen(text), "printed"));
    cJSON_Delete(again);
    free(text);
    FILE *full = fopen("/dev/full", "w");
    if (full != NULL) {
        CHECK_REFUSED(ls_json_print(full, document, false), LS_IO, "No space left");
        (void)fclose(full);
    }
    cJSON_Delete(document);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(parses),
        cmocka_unit_test(refuses),
        cmocka_unit_test(every_prefix_is_refused),
        cmocka_unit_test(deep_nesting_does_no_harm),
        cmocka_unit_test(reads_files),
        cmocka_unit_test(prints_valid_json),
    };
    return cmocka_run_group_tests(tests, check_enter_scratch, check_leave_scratch);
}
