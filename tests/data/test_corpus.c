/* Listing documents: order, patterns, hidden, binary and empty files, lines of .jsonl. */
#include "data_check.h"

#include "core/file.h"
#include "core/interrupt.h"
#include "data/corpus.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static void make_tree(void)
{
    CHECK_OK(ls_file_make_folders("tree/sub"));
    CHECK_OK(ls_file_make_folders("tree/.git"));
    check_write_file("tree/b.py", "bb");
    check_write_file("tree/a.txt", "a");
    check_write_file("tree/sub/c.py", "ccc");
    check_write_file("tree/empty.py", "");
    check_write_file("tree/.hidden.py", "x");
    check_write_file("tree/.git/config.py", "x");
    CHECK_OK(ls_file_write_atomic("tree/binary.py", "a\0b", 3));
}

static void check_sources(const ls_corpus *corpus, const char *expected)
{
    char *list = ls_corpus_source_list(corpus);
    assert_string_equal(list, expected);
    free(list);
}

static void test_folders(void **state)
{
    (void)state;
    make_tree();
    ls_corpus corpus = {.text_field = "text"};
    CHECK_OK(ls_corpus_add(&corpus, "tree"));
    check_sources(&corpus, "tree/a.txt\ntree/b.py\ntree/sub/c.py\n");
    assert_int_equal(corpus.count, 3);
    assert_int_equal(corpus.bytes, 6);
    assert_int_equal(corpus.binary_files, 1);
    assert_int_equal(corpus.empty_files, 1);
    char *text;
    size_t length;
    CHECK_OK(ls_corpus_read(&corpus, 2, &text, &length));
    assert_int_equal(length, 3);
    assert_string_equal(text, "ccc");
    free(text);
    ls_corpus_destroy(&corpus);
}

static void check_included(const char *pattern, const char *expected)
{
    ls_corpus corpus = {.text_field = "text", .include = &pattern, .include_count = 1};
    CHECK_OK(ls_corpus_add(&corpus, "tree"));
    check_sources(&corpus, expected);
    ls_corpus_destroy(&corpus);
}

static void test_patterns(void **state)
{
    (void)state;
    make_tree();
    check_included("*.py", "tree/b.py\ntree/sub/c.py\n");
    check_included("sub/*", "tree/sub/c.py\n");
    check_included("nothing*", "");
    const char *pattern = "*.md"; /* patterns are for folders: a file that is named is taken */
    ls_corpus corpus = {.text_field = "text", .include = &pattern, .include_count = 1};
    CHECK_OK(ls_corpus_add(&corpus, "tree/b.py"));
    CHECK_OK(ls_corpus_add(&corpus, "tree/.hidden.py"));
    check_sources(&corpus, "tree/b.py\ntree/.hidden.py\n");
    ls_corpus_destroy(&corpus);
}

static void test_lines(void **state)
{
    (void)state;
    check_write_file("a.jsonl", "{\"text\": \"one\\n\", \"id\": 1}\r\n\n  \t\r\n{\"id\": 2, \"text\": \"z\\u00e9\"}");
    ls_corpus corpus = {.text_field = "text"};
    CHECK_OK(ls_corpus_add(&corpus, "a.jsonl"));
    assert_int_equal(corpus.count, 2);
    assert_int_equal(corpus.documents[1].line, 4);
    char *text;
    size_t length;
    CHECK_OK(ls_corpus_read(&corpus, 0, &text, &length));
    assert_string_equal(text, "one\n");
    free(text);
    CHECK_OK(ls_corpus_read(&corpus, 1, &text, &length));
    assert_string_equal(text, "z\xC3\xA9");
    assert_int_equal(length, 3);
    free(text);
    ls_corpus_destroy(&corpus);
}

static void check_line_refused(const char *line, const char *part)
{
    FILE *file = fopen("bad.jsonl", "w");
    assert_non_null(file);
    assert_true(fprintf(file, "{\"text\": \"good\"}\n\n%s\n{\"text\": \"good\"}\n", line) > 0);
    assert_int_equal(fclose(file), 0);
    ls_corpus corpus = {.text_field = "text"};
    char *text;
    size_t length;
    CHECK_OK(ls_corpus_add(&corpus, "bad.jsonl"));
    CHECK_REFUSED(ls_corpus_read(&corpus, 1, &text, &length), LS_BAD_INPUT, part);
    ls_corpus_destroy(&corpus);
}

static void test_bad_lines_are_refused(void **state)
{
    (void)state;
    check_line_refused("{\"text\": \"cut", "bad.jsonl:3:");
    check_line_refused("plain words", "bad.jsonl:3:1: ");
    check_line_refused("{\"text\": 5}", "bad.jsonl:3: not a JSON object with a string \"text\"");
    check_line_refused("[\"text\"]", "bad.jsonl:3: ");
    check_line_refused("{\"txt\": \"a\"}", "bad.jsonl:3: ");
    check_line_refused("{\"text\": \"a\"} {\"text\": \"b\"}", "bad.jsonl:3:15: ");
    check_line_refused("{\"text\": \"a\\u0000b\"}", "NUL");
}

static void test_missing_files_are_refused(void **state)
{
    (void)state;
    ls_corpus corpus = {.text_field = "text"};
    CHECK_REFUSED(ls_corpus_add(&corpus, "missing.txt"), LS_IO, "missing.txt");
    CHECK_REFUSED(ls_corpus_add(&corpus, "missing.jsonl"), LS_IO, "missing.jsonl");
    ls_corpus_destroy(&corpus);
}

static void list_interrupted(void *context)
{
    ls_corpus corpus = {.text_field = "text"};
    ls_interrupt_install();
    (void)kill(getpid(), SIGINT);
    while (!ls_interrupt_requested()) (void)usleep(1000);
    const ls_status status = ls_corpus_add(&corpus, context);
    (void)printf("%s: %s", ls_status_name(status), ls_error_text());
    ls_corpus_destroy(&corpus);
}

/* Listing reads every file, which may take long. */
static void test_listing_can_be_interrupted(void **state)
{
    (void)state;
    char said[128];
    make_tree();
    check_write_file("lines.jsonl", "{}\n");
    static const char *const inputs[] = {"tree", "lines.jsonl"};
    for (int i = 0; i < 2; i++) {
        const int ended = check_in_child(list_interrupted, (void *)(uintptr_t)inputs[i], 1, said, sizeof said);
        CHECK_CHILD_EXITS(ended, 0);
        assert_string_equal(said, "interrupted: interrupted; nothing was written");
    }
}

#define IN_SCRATCH(test) cmocka_unit_test_setup_teardown(test, check_enter_scratch, check_leave_scratch)

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_SCRATCH(test_folders),
        IN_SCRATCH(test_patterns),
        IN_SCRATCH(test_lines),
        IN_SCRATCH(test_bad_lines_are_refused),
        IN_SCRATCH(test_missing_files_are_refused),
        IN_SCRATCH(test_listing_can_be_interrupted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
