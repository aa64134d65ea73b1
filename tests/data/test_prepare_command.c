/* `layerskip prepare` from its arguments to the file. */
#include "data_check.h"

#include "core/file.h"
#include "core/log.h"
#include "core/text.h"
#include "data/commands.h"
#include "data/token_file.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* Runs the command with these words after its name (NULL-terminated). */
static ls_status prepare(const char *const *words)
{
    char *argv[32] = {ls_text_copy("prepare", 7)};
    int argc = 1;
    for (; words[argc - 1] != NULL; argc++) argv[argc] = ls_text_copy(words[argc - 1], strlen(words[argc - 1]));
    ls_log_set_quiet(1);
    const ls_status status = ls_prepare_command(argc, argv);
    for (int i = 0; i < argc; i++) free(argv[i]);
    return status;
}
#define PREPARE(...) prepare((const char *const[]){__VA_ARGS__, NULL})

/* The text of a split, with '$' for the end of text; malloc'ed. */
static char *split_text(const ls_token_file *file, ls_split split)
{
    const int64_t count = file->token_count[split];
    int32_t *tokens = ls_text_memory(NULL, (size_t)count * sizeof *tokens);
    char *text = ls_text_memory(NULL, (size_t)count + 1);
    CHECK_OK(ls_token_file_read(file, split, 0, count, tokens));
    for (int64_t i = 0; i < count; i++) text[i] = tokens[i] == 256 ? '$' : (char)tokens[i];
    text[count] = '\0';
    free(tokens);
    return text;
}

static void check_file(const char *path, const char *train, const char *validation)
{
    ls_token_file file;
    CHECK_OK(ls_token_file_open(&file, path));
    char *text = split_text(&file, LS_SPLIT_TRAIN);
    assert_string_equal(text, train);
    free(text);
    text = split_text(&file, LS_SPLIT_VALIDATION);
    assert_string_equal(text, validation);
    free(text);
    ls_token_file_close(&file);
}

static void test_files_and_lines(void **state)
{
    (void)state;
    check_write_file("a.txt", "first");
    check_write_file("b.jsonl", "{\"text\":\"second\"}\n{\"text\":\"\"}\n{\"text\":\"third\"}\n");
    CHECK_OK(PREPARE("--tokenizer", "bytes", "--out", "o.h5", "--validation", "0", "b.jsonl", "a.txt"));
    check_file("o.h5", "second$third$first$", "");
    check_write_file("c.jsonl", "{\"body\":\"x\",\"text\":\"y\"}\n");
    CHECK_OK(PREPARE("-t", "bytes", "-o", "o.h5", "-v", "0", "--text-field", "body", "c.jsonl"));
    check_file("o.h5", "x$", "");
}

static void test_one_document_is_cut(void **state)
{
    (void)state;
    check_write_file("a.txt", "line one\nline two\nline three\nline four\n");
    CHECK_OK(PREPARE("-t", "bytes", "-o", "o.h5", "-v", "0.3", "a.txt"));
    check_file("o.h5", "line one\nline two\n$", "line three\nline four\n$");
    check_write_file("a.txt", "x"); /* too short to cut: everything is trained on */
    CHECK_OK(PREPARE("-t", "bytes", "-o", "o.h5", "a.txt"));
    check_file("o.h5", "x$", "");
}

static void test_whole_documents_are_held_out(void **state)
{
    (void)state;
    CHECK_OK(ls_file_make_folders("texts"));
    for (int i = 0; i < 40; i++) {
        char name[32], text[32];
        (void)snprintf(name, sizeof name, "texts/%02d.txt", i);
        (void)snprintf(text, sizeof text, "<document %02d>", i);
        check_write_file(name, text);
    }
    CHECK_OK(PREPARE("-t", "bytes", "-o", "o.h5", "-v", "0.1", "texts"));
    ls_token_file file;
    CHECK_OK(ls_token_file_open(&file, "o.h5"));
    assert_int_equal(file.document_count[LS_SPLIT_TRAIN], 36);
    assert_int_equal(file.document_count[LS_SPLIT_VALIDATION], 4);
    char *train = split_text(&file, LS_SPLIT_TRAIN), *validation = split_text(&file, LS_SPLIT_VALIDATION);
    for (int i = 0; i < 40; i++) {
        char text[32];
        (void)snprintf(text, sizeof text, "<document %02d>$", i);
        assert_int_equal((strstr(train, text) != NULL) + (strstr(validation, text) != NULL), 1);
    }
    free(train);
    free(validation);
    ls_token_file_close(&file);
}

/* The splits of both files hold the same documents and tokens. */
static void check_same(const char *path, const char *other)
{
    ls_token_file a, b;
    CHECK_OK(ls_token_file_open(&a, path));
    CHECK_OK(ls_token_file_open(&b, other));
    for (int split = 0; split < 2; split++) {
        const int64_t count = a.token_count[split];
        assert_int_equal(b.token_count[split], count);
        assert_int_equal(b.document_count[split], a.document_count[split]);
        assert_memory_equal(a.documents[split], b.documents[split],
                            (size_t)(a.document_count[split] + 1) * sizeof(int64_t));
        int32_t *x = ls_text_memory(NULL, (size_t)count * sizeof *x),
                *y = ls_text_memory(NULL, (size_t)count * sizeof *y);
        CHECK_OK(ls_token_file_read(&a, (ls_split)split, 0, count, x));
        CHECK_OK(ls_token_file_read(&b, (ls_split)split, 0, count, y));
        assert_memory_equal(x, y, (size_t)count * sizeof *x);
        free(x);
        free(y);
    }
    ls_token_file_close(&a);
    ls_token_file_close(&b);
}

static void test_threads_do_not_matter(void **state)
{
    (void)state;
    char *tokenizer = ls_text_format("%s", data_source_path("data/tokenizers/python-4096"));
    char *sources = ls_text_format("%s", data_source_path("data"));
    CHECK_OK(PREPARE("-t", tokenizer, "-o", "a.h5", "-i", "*.[ch]", "-v", "0.2", "--threads", "1", sources));
    CHECK_OK(PREPARE("-t", tokenizer, "-o", "b.h5", "-i", "*.[ch]", "-v", "0.2", "--threads", "7", sources));
    check_same("a.h5", "b.h5");
    free(tokenizer);
    free(sources);
}

static void test_refusals(void **state)
{
    (void)state;
    check_write_file("a.txt", "text");
    check_write_file("empty.txt", "");
    check_write_file("empty.jsonl", "{\"text\":\"\"}\n");
    check_write_file("bad.jsonl", "{\"text\":\"a\"}\n{\"text\":\n");
    CHECK_OK(ls_file_write_atomic("binary", "a\0b", 3));
    CHECK_OK(ls_file_make_folders("folder"));
    CHECK_REFUSED(PREPARE("-o", "o.h5", "a.txt"), LS_BAD_INPUT, "--tokenizer");
    CHECK_REFUSED(PREPARE("-t", "bytes", "a.txt"), LS_BAD_INPUT, "--out");
    CHECK_REFUSED(PREPARE("-t", "bytes", "-o", "o.h5"), LS_BAD_INPUT, "at least one file");
    CHECK_REFUSED(PREPARE("-t", "bytes", "-o", "o.h5", "-v", "0.6", "a.txt"), LS_BAD_INPUT, "--validation");
    CHECK_REFUSED(PREPARE("-t", "bytes", "-o", "o.h5", "-v", "nan", "a.txt"), LS_BAD_INPUT, "--validation");
    CHECK_REFUSED(PREPARE("-t", "bytes", "-o", "o.h5", "--threads", "0", "a.txt"), LS_BAD_INPUT, "--threads");
    CHECK_REFUSED(PREPARE("-t", "missing.json", "-o", "o.h5", "a.txt"), LS_IO, "missing.json");
    CHECK_REFUSED(PREPARE("-t", "bytes", "-o", "o.h5", "missing.txt"), LS_IO, "missing.txt");
    CHECK_REFUSED(PREPARE("-t", "bytes", "-o", "o.h5", "folder"), LS_BAD_INPUT, "no text found in folder");
    CHECK_REFUSED(PREPARE("-t", "bytes", "-o", "o.h5", "binary"), LS_BAD_INPUT, "1 binary");
    CHECK_REFUSED(PREPARE("-t", "bytes", "-o", "o.h5", "empty.txt"), LS_BAD_INPUT, "1 empty");
    CHECK_REFUSED(PREPARE("-t", "bytes", "-o", "o.h5", "empty.jsonl"), LS_BAD_INPUT, "empty");
    CHECK_REFUSED(PREPARE("-t", "bytes", "-o", "o.h5", "a.txt", "bad.jsonl"), LS_BAD_INPUT, "bad.jsonl:2:");
    CHECK_REFUSED(PREPARE("-t", "bytes", "-o", "nowhere/o.h5", "a.txt"), LS_IO, "nowhere");
    CHECK_REFUSED(PREPARE("-t", "bytes", "-o", "folder", "a.txt"), LS_BAD_INPUT, "folder");
    assert_false(ls_file_exists("o.h5"));
    assert_false(ls_file_exists("o.h5.partial"));
}

/* The text of a split of records, with what is to be learnt in capitals (the end of text is '#' then). */
static void check_records(const char *path, ls_split split, const char *expected)
{
    ls_token_file file;
    uint8_t targets[1000];
    CHECK_OK(ls_token_file_open(&file, path));
    assert_true(file.records);
    char *text = split_text(&file, split);
    CHECK_OK(ls_token_file_read_targets(&file, split, 0, file.token_count[split], targets));
    for (int64_t i = 0; i < file.token_count[split]; i++)
        if (targets[i] != 0) text[i] = text[i] == '$' ? '#' : (char)toupper(text[i]);
    assert_string_equal(text, expected);
    free(text);
    ls_token_file_close(&file);
}

static void test_records(void **state)
{
    (void)state;
    check_write_file("a.jsonl",
                     "{\"prompt\":\"ab\",\"completion\":\" cd\"}\n\n{\"completion\":\"\",\"prompt\":\"e\"}\n");
    CHECK_OK(PREPARE("--records", "-t", "bytes", "-o", "o.h5", "-v", "0", "a.jsonl"));
    check_records("o.h5", LS_SPLIT_TRAIN, "ab CD#e#");
    CHECK_OK(PREPARE("--records", "--train-on-prompt", "-t", "bytes", "-o", "o.h5", "-v", "0", "a.jsonl"));
    check_records("o.h5", LS_SPLIT_TRAIN, "aB CD#e#");
    check_write_file("b.jsonl", "{\"q\":\"x\",\"a\":7}\n");
    CHECK_OK(PREPARE("--records", "--prompt", "q {q}:", "--completion", " {a}\\n", "-t", "bytes", "-o", "o.h5", "-v",
                     "0.5", "b.jsonl")); /* a single record is not cut */
    check_records("o.h5", LS_SPLIT_TRAIN, "q x: 7\n#");
    check_records("o.h5", LS_SPLIT_VALIDATION, "");
    CHECK_OK(ls_file_make_folders("folder"));
    check_write_file("folder/b.jsonl",
                     "{\"prompt\":\"a\",\"completion\":\"b\"}\n{\"prompt\":\"c\",\"completion\":\"d\"}\n");
    check_write_file("folder/c.txt", "not read");
    CHECK_OK(PREPARE("--records", "-t", "bytes", "-o", "o.h5", "-v", "0.5", "folder"));
    check_records("o.h5", LS_SPLIT_TRAIN, "cD#");
    check_records("o.h5", LS_SPLIT_VALIDATION, "aB#");
}

static void test_records_are_refused(void **state)
{
    (void)state;
    check_write_file("a.txt", "text");
    check_write_file("a.jsonl", "{\"prompt\":\"ab\",\"completion\":\"cd\"}\n{\"prompt\":\"ab\"}\n");
    check_write_file("b.jsonl", "{\"prompt\":\"\",\"completion\":\"\"}\n");
    check_write_file("c.jsonl", "\n{\"messages\":[]}\n");
    check_write_file("d.jsonl", "{\"prompt\":\"ab\",\"completion\":\"cd\"}\n{\n");
    CHECK_REFUSED(PREPARE("--records", "-t", "bytes", "-o", "o.h5", "a.txt"), LS_BAD_INPUT,
                  "a.txt: records are read from");
    CHECK_REFUSED(PREPARE("--records", "-t", "bytes", "-o", "o.h5", "a.jsonl"), LS_BAD_INPUT,
                  "a.jsonl:2: there is no field \"completion\"");
    CHECK_REFUSED(PREPARE("--records", "-t", "bytes", "-o", "o.h5", "b.jsonl"), LS_BAD_INPUT,
                  "b.jsonl:1: the record is empty");
    CHECK_REFUSED(PREPARE("--records", "-t", "bytes", "-o", "o.h5", "d.jsonl"), LS_BAD_INPUT, "d.jsonl:2:");
    CHECK_REFUSED(PREPARE("--records", "--chat", "chatml", "-t", "bytes", "-o", "o.h5", "c.jsonl"), LS_BAD_INPUT,
                  "<|im_start|>");
    CHECK_REFUSED(PREPARE("--records", "--chat", "html", "-t", "bytes", "-o", "o.h5", "c.jsonl"), LS_BAD_INPUT,
                  "'html'");
    CHECK_REFUSED(PREPARE("--records", "--prompt", "{", "-t", "bytes", "-o", "o.h5", "a.jsonl"), LS_BAD_INPUT,
                  "--prompt");
    CHECK_REFUSED(PREPARE("--prompt", "{a}", "-t", "bytes", "-o", "o.h5", "a.jsonl"), LS_BAD_INPUT,
                  "--prompt is for --records");
    CHECK_REFUSED(PREPARE("--records", "--text-field", "a", "-t", "bytes", "-o", "o.h5", "a.jsonl"), LS_BAD_INPUT,
                  "--text-field is for documents");
    CHECK_REFUSED(PREPARE("--records", "--chat", "chatml", "--prompt", "x", "-t", "bytes", "-o", "o.h5", "a.jsonl"),
                  LS_BAD_INPUT, "leave --prompt");
    assert_false(ls_file_exists("o.h5"));
    assert_false(ls_file_exists("o.h5.partial"));
}

static void test_failure_keeps_the_old_file(void **state)
{
    (void)state;
    check_write_file("a.txt", "text");
    check_write_file("bad.jsonl", "nonsense\n");
    CHECK_OK(PREPARE("-t", "bytes", "-o", "o.h5", "-v", "0", "a.txt"));
    CHECK_REFUSED(PREPARE("-t", "bytes", "-o", "o.h5", "-v", "0", "a.txt", "bad.jsonl"), LS_BAD_INPUT, "bad.jsonl:1:");
    check_file("o.h5", "text$", "");
    assert_int_equal(check_count_files(), 3);
}

#define IN_SCRATCH(test) cmocka_unit_test_setup_teardown(test, check_enter_scratch, check_leave_scratch)

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_SCRATCH(test_files_and_lines),
        IN_SCRATCH(test_one_document_is_cut),
        IN_SCRATCH(test_whole_documents_are_held_out),
        IN_SCRATCH(test_threads_do_not_matter),
        IN_SCRATCH(test_refusals),
        IN_SCRATCH(test_records),
        IN_SCRATCH(test_records_are_refused),
        IN_SCRATCH(test_failure_keeps_the_old_file),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
