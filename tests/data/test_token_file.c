/* The token file: what is written is read, and damage of every kind is refused. */
#include "data_check.h"

#include "core/file.h"
#include "core/hdf5_file.h"
#include "core/text.h"
#include "data/token_file.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char *const TRAIN[] = {"one", "two\n", "three", NULL};
static const char *const VALIDATION[] = {"four", NULL};
static const char *const NONE[] = {NULL};
static const char *const RECORDS[] = {"ab|cd", "|e", "f|", NULL};

static void test_written_is_read(void **state)
{
    (void)state;
    ls_token_file file;
    data_write_token_file("a.h5", TRAIN, VALIDATION);
    CHECK_OK(ls_token_file_open(&file, "a.h5"));
    assert_int_equal(file.vocab_size, 257);
    assert_int_equal(file.end_of_text, 256);
    assert_string_equal(file.tokenizer, "bytes");
    assert_int_equal(file.tokenizer_hash, ls_tokenizer_hash_text("bytes"));
    assert_int_equal(file.token_count[LS_SPLIT_TRAIN], 15);
    assert_int_equal(file.token_count[LS_SPLIT_VALIDATION], 5);
    assert_int_equal(file.document_count[LS_SPLIT_TRAIN], 3);
    const int64_t ends[] = {0, 4, 9, 15};
    assert_memory_equal(file.documents[LS_SPLIT_TRAIN], ends, sizeof ends);
    const int32_t expected[] = {'e', 256, 't', 'w', 'o', '\n', 256};
    int32_t tokens[7];
    CHECK_OK(ls_token_file_read(&file, LS_SPLIT_TRAIN, 2, 7, tokens));
    assert_memory_equal(tokens, expected, sizeof expected);
    CHECK_OK(ls_token_file_read(&file, LS_SPLIT_TRAIN, 15, 0, tokens));
    ls_token_file_close(&file);
    assert_int_equal(check_count_files(), 1); /* no partial file is left */
}

static void test_empty_split(void **state)
{
    (void)state;
    ls_token_file file;
    data_write_token_file("a.h5", TRAIN, NONE);
    CHECK_OK(ls_token_file_open(&file, "a.h5"));
    assert_int_equal(file.token_count[LS_SPLIT_VALIDATION], 0);
    assert_int_equal(file.document_count[LS_SPLIT_VALIDATION], 0);
    ls_token_file_close(&file);
}

/* An end-of-text token within the ids begins a new document; one at the end is not doubled. */
static void test_end_of_text_divides(void **state)
{
    (void)state;
    ls_token_file file;
    ls_token_writer *writer;
    ls_tokenizer *tokenizer = data_byte_tokenizer();
    const int32_t ids[] = {7, 256, 8, 9, 256};
    CHECK_OK(ls_token_writer_create(&writer, "a.h5", tokenizer));
    CHECK_OK(ls_token_writer_add(writer, LS_SPLIT_TRAIN, ids, 5));
    CHECK_OK(ls_token_writer_add(writer, LS_SPLIT_TRAIN, ids, 3));
    assert_int_equal(ls_token_writer_tokens(writer, LS_SPLIT_TRAIN), 9);
    assert_int_equal(ls_token_writer_documents(writer, LS_SPLIT_TRAIN), 4);
    CHECK_OK(ls_token_writer_commit(writer, ""));
    ls_token_writer_destroy(writer);
    ls_tokenizer_free(tokenizer);
    CHECK_OK(ls_token_file_open(&file, "a.h5"));
    const int64_t ends[] = {0, 2, 5, 7, 9};
    assert_memory_equal(file.documents[LS_SPLIT_TRAIN], ends, sizeof ends);
    ls_token_file_close(&file);
}

/* The tokenizer's template stands around each document, and is not doubled. */
static void test_template_around_documents(void **state)
{
    (void)state;
    ls_token_file file;
    ls_token_writer *writer;
    ls_tokenizer *tokenizer;
    cJSON *patch =
        cJSON_Parse("{\"post_processor\":{\"type\":\"BertProcessing\",\"cls\":[\"x\",5],\"sep\":[\"y\",6]}}");
    CHECK_OK(data_read_tokenizer(&tokenizer, data_patched_json(patch)));
    assert_int_equal(ls_tokenizer_end_of_text(tokenizer), 6); /* what ends the template, not <|endoftext|> */
    const int32_t ids[] = {7, 6, 5, 9, 6, 6, 8};
    CHECK_OK(ls_token_writer_create(&writer, "a.h5", tokenizer));
    CHECK_OK(ls_token_writer_add(writer, LS_SPLIT_TRAIN, ids, 7));
    CHECK_OK(ls_token_writer_commit(writer, ""));
    ls_token_writer_destroy(writer);
    ls_tokenizer_free(tokenizer);
    cJSON_Delete(patch);
    CHECK_OK(ls_token_file_open(&file, "a.h5"));
    static const int32_t expected[] = {5, 7, 6, 5, 9, 6, 5, 6, 5, 8, 6};
    static const int64_t ends[] = {0, 3, 6, 8, 11};
    int32_t tokens[11];
    assert_int_equal(file.token_count[LS_SPLIT_TRAIN], 11);
    CHECK_OK(ls_token_file_read(&file, LS_SPLIT_TRAIN, 0, 11, tokens));
    assert_memory_equal(tokens, expected, sizeof expected);
    assert_memory_equal(file.documents[LS_SPLIT_TRAIN], ends, sizeof ends);
    ls_token_file_close(&file);
}

static void test_records_are_read(void **state)
{
    (void)state;
    ls_token_file file;
    data_write_record_file("a.h5", RECORDS, NONE);
    CHECK_OK(ls_token_file_open(&file, "a.h5"));
    assert_true(file.records);
    assert_int_equal(file.document_count[LS_SPLIT_TRAIN], 3);
    const int64_t ends[] = {0, 5, 7, 9};
    assert_memory_equal(file.documents[LS_SPLIT_TRAIN], ends, sizeof ends);
    const uint8_t expected[] = {0, 0, 1, 1, 1, 0, 1, 0, 1}; /* "e" begins its record: nothing predicts it */
    uint8_t targets[9];
    CHECK_OK(ls_token_file_read_targets(&file, LS_SPLIT_TRAIN, 0, 9, targets));
    assert_memory_equal(targets, expected, sizeof expected);
    CHECK_OK(ls_token_file_read_targets(&file, LS_SPLIT_TRAIN, 3, 4, targets));
    assert_memory_equal(targets, expected + 3, 4);
    assert_int_equal(file.target_count[LS_SPLIT_TRAIN], 5);
    assert_int_equal(file.target_count[LS_SPLIT_VALIDATION], 0);
    const uint64_t hash = file.targets_hash[LS_SPLIT_TRAIN];
    ls_token_file_close(&file);
    static const char *const other[] = {"a|bcd", "|e", "f|", NULL};
    data_write_record_file("a.h5", other, NONE);
    CHECK_OK(ls_token_file_open(&file, "a.h5"));
    assert_true(file.targets_hash[LS_SPLIT_TRAIN] != hash);
    ls_token_file_close(&file);
    data_write_token_file("a.h5", TRAIN, VALIDATION);
    CHECK_OK(ls_token_file_open(&file, "a.h5"));
    assert_false(file.records);
    ls_token_file_close(&file);
}

/* The tokens around a record are those around a document; those behind it are to be learnt. */
static void test_template_around_records(void **state)
{
    (void)state;
    ls_token_file file;
    ls_token_writer *writer;
    ls_tokenizer *tokenizer;
    cJSON *patch =
        cJSON_Parse("{\"post_processor\":{\"type\":\"BertProcessing\",\"cls\":[\"x\",5],\"sep\":[\"y\",6]}}");
    CHECK_OK(data_read_tokenizer(&tokenizer, data_patched_json(patch)));
    CHECK_OK(ls_token_writer_create_records(&writer, "a.h5", tokenizer));
    const int32_t ids[] = {5, 7, 6, 8, 6};
    const uint8_t learnt[] = {1, 1, 0, 1, 1}, none[] = {0, 0, 0, 0, 0};
    CHECK_OK(ls_token_writer_add_record(writer, LS_SPLIT_TRAIN, ids, learnt, 5));         /* as it is */
    CHECK_OK(ls_token_writer_add_record(writer, LS_SPLIT_TRAIN, ids + 1, learnt + 1, 1)); /* with both around it */
    CHECK_REFUSED(ls_token_writer_add_record(writer, LS_SPLIT_VALIDATION, ids, none, 5), LS_BAD_INPUT,
                  "nothing to learn");
    CHECK_OK(ls_token_writer_commit(writer, ""));
    ls_token_writer_destroy(writer);
    ls_tokenizer_free(tokenizer);
    cJSON_Delete(patch);
    CHECK_OK(ls_token_file_open(&file, "a.h5"));
    static const int32_t expected[] = {5, 7, 6, 8, 6, 5, 7, 6};
    static const uint8_t expected_targets[] = {0, 1, 0, 1, 1, 0, 1, 1};
    int32_t tokens[8];
    uint8_t targets[8];
    assert_int_equal(file.token_count[LS_SPLIT_TRAIN], 8);
    assert_int_equal(file.token_count[LS_SPLIT_VALIDATION], 0);
    CHECK_OK(ls_token_file_read(&file, LS_SPLIT_TRAIN, 0, 8, tokens));
    CHECK_OK(ls_token_file_read_targets(&file, LS_SPLIT_TRAIN, 0, 8, targets));
    assert_memory_equal(tokens, expected, sizeof expected);
    assert_memory_equal(targets, expected_targets, sizeof expected_targets);
    ls_token_file_close(&file);
}

/* Several chunks of both widths of tokens, read across their seams. */
static void check_large(ls_tokenizer *tokenizer, int64_t vocab_size)
{
    enum { COUNT = 2500000 };
    ls_token_writer *writer;
    ls_token_file file;
    int32_t *ids = ls_text_memory(NULL, COUNT * sizeof *ids), *back = ls_text_memory(NULL, COUNT * sizeof *back);
    for (int64_t i = 0; i < COUNT; i++) ids[i] = (int32_t)(1 + i * 7919 % (vocab_size - 1));
    CHECK_OK(ls_token_writer_create(&writer, "large.h5", tokenizer));
    for (int64_t at = 0; at < COUNT; at += 1000) CHECK_OK(ls_token_writer_add(writer, LS_SPLIT_TRAIN, ids + at, 1000));
    CHECK_OK(ls_token_writer_commit(writer, ""));
    ls_token_writer_destroy(writer);
    CHECK_OK(ls_token_file_open(&file, "large.h5"));
    assert_int_equal(file.token_count[LS_SPLIT_TRAIN], COUNT + 2500);
    CHECK_OK(ls_token_file_read(&file, LS_SPLIT_TRAIN, 0, COUNT, back));
    for (int64_t i = 0; i < COUNT; i++) {
        const int32_t expected = i % 1001 == 1000 ? 0 : ids[i - i / 1001];
        if (back[i] != expected) fail_msg("token %lld is %d, not %d", (long long)i, back[i], expected);
    }
    int32_t seam[4];
    CHECK_OK(ls_token_file_read(&file, LS_SPLIT_TRAIN, (1 << 20) - 2, 4, seam));
    assert_memory_equal(seam, back + (1 << 20) - 2, sizeof seam);
    ls_token_file_close(&file);
    free(ids);
    free(back);
}

static void test_chunks(void **state)
{
    (void)state;
    ls_tokenizer *tokenizer;
    CHECK_OK(ls_tokenizer_open(&tokenizer, data_source_path("data/tokenizers/python-4096")));
    check_large(tokenizer, 4096);
    ls_tokenizer_free(tokenizer);
    cJSON *patch = cJSON_Parse("{\"added_tokens\":[{\"id\":0,\"content\":\"<|endoftext|>\"},"
                               "{\"id\":70000,\"content\":\"<|far|>\"}]}");
    CHECK_OK(data_read_tokenizer(&tokenizer, data_patched_json(patch)));
    cJSON_Delete(patch);
    check_large(tokenizer, 70001);
    ls_tokenizer_free(tokenizer);
}

/* Opens a.h5 for writing without the checks; the caller closes it. */
static hid_t reopen(void) { return H5Fopen("a.h5", H5F_ACC_RDWR, H5P_DEFAULT); }

static void replace_array(const char *name, hid_t type, int64_t count, const void *data)
{
    const hid_t file = reopen();
    assert_true(H5Ldelete(file, name, H5P_DEFAULT) >= 0);
    CHECK_OK(ls_hdf5_write_array(file, name, type, count, 0, data));
    assert_true(H5Fclose(file) >= 0);
}

static void replace_number(const char *name, int64_t value)
{
    const hid_t file = reopen();
    CHECK_OK(ls_hdf5_write_int(file, name, value));
    assert_true(H5Fclose(file) >= 0);
}

#define CHECK_OPEN_REFUSED(part)                                                                                       \
    do {                                                                                                               \
        ls_token_file refused;                                                                                         \
        CHECK_REFUSED(ls_token_file_open(&refused, "a.h5"), LS_BAD_INPUT, (part));                                     \
        assert_null(refused.path);                                                                                     \
        data_write_token_file("a.h5", TRAIN, VALIDATION);                                                              \
    } while (0)

static void test_damage_is_refused(void **state)
{
    (void)state;
    data_write_token_file("a.h5", TRAIN, VALIDATION);
    replace_number("vocab_size", 0);
    CHECK_OPEN_REFUSED("vocabulary of 0");
    replace_number("end_of_text", 257);
    CHECK_OPEN_REFUSED("end of text 257");
    replace_number("tokenizer_hash", 1);
    CHECK_OPEN_REFUSED("its tokenizer is not the one");
    const int64_t too_long[] = {0, 4, 9, 16}, falling[] = {0, 9, 4, 15}, late[] = {1, 4, 9, 15};
    replace_array("train/documents", H5T_NATIVE_INT64, 4, too_long);
    CHECK_OPEN_REFUSED("train/documents does not divide");
    replace_array("train/documents", H5T_NATIVE_INT64, 4, falling);
    CHECK_OPEN_REFUSED("train/documents does not divide");
    replace_array("train/documents", H5T_NATIVE_INT64, 4, late);
    CHECK_OPEN_REFUSED("train/documents does not divide");
    replace_array("train/documents", H5T_NATIVE_INT64, 0, NULL);
    CHECK_OPEN_REFUSED("is empty");
    const float numbers[15] = {0};
    replace_array("train/tokens", H5T_NATIVE_FLOAT, 15, numbers);
    CHECK_OPEN_REFUSED("another type of number");
    const hid_t file = reopen();
    assert_true(H5Ldelete(file, "validation", H5P_DEFAULT) >= 0);
    assert_true(H5Fclose(file) >= 0);
    CHECK_OPEN_REFUSED("validation/tokens");
}

static void test_damaged_targets_are_refused(void **state)
{
    (void)state;
    const uint8_t targets[9] = {0, 0, 1, 1, 1, 0, 2, 0, 1}, first[9] = {0, 0, 1, 1, 1, 1, 1, 0, 1};
    const uint16_t wide[9] = {0};
    const struct {
        hid_t type;
        int64_t count;
        const void *values;
        const char *says;
    } damages[] = {
        {H5T_NATIVE_UINT8, 9, targets, "target 6 of the train split is 2"},
        {H5T_NATIVE_UINT8, 9, first, "token 5 of the train split begins a record"},
        {H5T_NATIVE_UINT8, 8, targets, "train/targets has 8 entries for 9 tokens"},
        {H5T_NATIVE_UINT16, 9, wide, "another type of number than targets"},
    };
    for (size_t i = 0; i < sizeof damages / sizeof damages[0]; i++) {
        data_write_record_file("a.h5", RECORDS, NONE);
        replace_array("train/targets", damages[i].type, damages[i].count, damages[i].values);
        CHECK_OPEN_REFUSED(damages[i].says);
    }
    data_write_record_file("a.h5", RECORDS, NONE);
    replace_number("records", 2);
    CHECK_OPEN_REFUSED("its attribute records is 2");
    data_write_record_file("a.h5", RECORDS, NONE);
    const hid_t file = reopen();
    assert_true(H5Ldelete(file, "validation/targets", H5P_DEFAULT) >= 0);
    assert_true(H5Fclose(file) >= 0);
    CHECK_OPEN_REFUSED("validation/targets");
}

static void test_foreign_files_are_refused(void **state)
{
    (void)state;
    ls_token_file file;
    CHECK_REFUSED(ls_token_file_open(&file, "missing.h5"), LS_IO, "missing.h5");
    check_write_file("a.h5", "");
    CHECK_REFUSED(ls_token_file_open(&file, "a.h5"), LS_BAD_INPUT, "empty");
    check_write_file("a.h5", "this is not HDF5 at all, is it");
    CHECK_REFUSED(ls_token_file_open(&file, "a.h5"), LS_BAD_INPUT, "not HDF5");
    hid_t other;
    CHECK_OK(ls_hdf5_create(&other, "b.h5", "checkpoint"));
    CHECK_OK(ls_hdf5_close(other, "b.h5"));
    CHECK_REFUSED(ls_token_file_open(&file, "b.h5"), LS_BAD_INPUT, "checkpoint");
}

/* Cut anywhere, the file is refused or, where only what nobody reads is missing, read in full. */
static void test_cut_files_are_refused(void **state)
{
    (void)state;
    for (int records = 0; records < 2; records++) {
        char *bytes;
        size_t length;
        if (records)
            data_write_record_file("whole.h5", RECORDS, NONE);
        else
            data_write_token_file("whole.h5", TRAIN, VALIDATION);
        CHECK_OK(ls_file_read(&bytes, &length, "whole.h5"));
        for (size_t cut = 0; cut < length; cut += 1 + length / 97) {
            ls_token_file file;
            CHECK_OK(ls_file_write_atomic("cut.h5", bytes, cut));
            ls_error_clear();
            assert_int_equal(ls_token_file_open(&file, "cut.h5"), LS_BAD_INPUT);
            ls_error_clear();
        }
        free(bytes);
    }
}

/* A file that shrinks after it was opened: a sentence, not a signal. */
static void test_cut_while_open(void **state)
{
    (void)state;
    ls_token_file file;
    int32_t tokens[15];
    data_write_token_file("a.h5", TRAIN, VALIDATION);
    CHECK_OK(ls_token_file_open(&file, "a.h5"));
    assert_int_equal(truncate("a.h5", 100), 0);
    CHECK_REFUSED(ls_token_file_read(&file, LS_SPLIT_TRAIN, 0, 15, tokens), LS_BAD_INPUT, "cut short");
    ls_token_file_close(&file);
}

static void test_ids_beyond_the_vocabulary_are_refused(void **state)
{
    (void)state;
    ls_token_file file;
    int32_t tokens[15];
    uint16_t ids[15] = {0};
    ids[11] = 257;
    data_write_token_file("a.h5", TRAIN, VALIDATION);
    replace_array("train/tokens", H5T_NATIVE_UINT16, 15, ids); /* contiguous: that is read, too */
    CHECK_OK(ls_token_file_open(&file, "a.h5"));
    CHECK_OK(ls_token_file_read(&file, LS_SPLIT_TRAIN, 0, 11, tokens));
    CHECK_REFUSED(ls_token_file_read(&file, LS_SPLIT_TRAIN, 5, 10, tokens), LS_BAD_INPUT,
                  "token 11 of the train split is 257, beyond the vocabulary of 257");
    ls_token_file_close(&file);
}

static void test_compressed_tokens_are_refused(void **state)
{
    (void)state;
    data_write_token_file("a.h5", TRAIN, VALIDATION);
    const hid_t file = reopen(), layout = H5Pcreate(H5P_DATASET_CREATE);
    const hsize_t count = 15;
    const hid_t space = H5Screate_simple(1, &count, NULL);
    assert_true(H5Pset_chunk(layout, 1, &count) >= 0 && H5Pset_shuffle(layout) >= 0);
    assert_true(H5Ldelete(file, "train/tokens", H5P_DEFAULT) >= 0);
    const hid_t dataset = H5Dcreate2(file, "train/tokens", H5T_STD_U16LE, space, H5P_DEFAULT, layout, H5P_DEFAULT);
    const uint16_t ids[15] = {0};
    assert_true(H5Dwrite(dataset, H5T_NATIVE_UINT16, H5S_ALL, H5S_ALL, H5P_DEFAULT, ids) >= 0);
    (void)H5Dclose(dataset);
    (void)H5Sclose(space);
    (void)H5Pclose(layout);
    assert_true(H5Fclose(file) >= 0);
    CHECK_OPEN_REFUSED("compressed");
}

/* A failure leaves the older file as it was, and nothing beside it. */
static void test_failed_write_keeps_the_old_file(void **state)
{
    (void)state;
    data_write_token_file("a.h5", TRAIN, VALIDATION);
    char *before, *after;
    size_t before_length, after_length;
    CHECK_OK(ls_file_read(&before, &before_length, "a.h5"));
    ls_tokenizer *tokenizer = data_byte_tokenizer();
    ls_token_writer *writer;
    const int32_t id = 1;
    CHECK_OK(ls_token_writer_create(&writer, "a.h5", tokenizer));
    CHECK_OK(ls_token_writer_add(writer, LS_SPLIT_TRAIN, &id, 1));
    ls_token_writer_destroy(writer); /* without a commit */
    CHECK_OK(ls_file_read(&after, &after_length, "a.h5"));
    assert_int_equal(after_length, before_length);
    assert_memory_equal(after, before, before_length);
    free(before);
    free(after);
    CHECK_REFUSED(ls_token_writer_create(&writer, ".", tokenizer), LS_BAD_INPUT, "folder");
    CHECK_REFUSED(ls_token_writer_create(&writer, "nowhere/a.h5", tokenizer), LS_IO, "nowhere");
    ls_tokenizer_free(tokenizer);
    assert_int_equal(check_count_files(), 1);
}

/* A full disk, played by a limit on the size of files. */
static void write_beyond_limit(void *context)
{
    (void)context;
    ls_tokenizer *tokenizer = data_byte_tokenizer();
    ls_token_writer *writer;
    static const int32_t ids[100000];
    check_limit_files(1 << 20);
    CHECK_OK(ls_token_writer_create(&writer, "a.h5", tokenizer));
    ls_status status = LS_OK;
    for (int i = 0; status == LS_OK && i < 30; i++) status = ls_token_writer_add(writer, LS_SPLIT_TRAIN, ids, 100000);
    if (status == LS_OK) status = ls_token_writer_commit(writer, "");
    ls_token_writer_destroy(writer);
    ls_tokenizer_free(tokenizer);
    _exit(status == LS_IO && strstr(ls_error_text(), "a.h5") != NULL ? 3 : 4);
}

static void test_full_disk(void **state)
{
    (void)state;
    char output[1000];
    data_write_token_file("a.h5", TRAIN, VALIDATION);
    const int status = check_in_child(write_beyond_limit, NULL, 2, output, sizeof output);
    CHECK_CHILD_EXITS(status, 3);
    ls_token_file file;
    CHECK_OK(ls_token_file_open(&file, "a.h5"));
    assert_int_equal(file.token_count[LS_SPLIT_TRAIN], 15);
    ls_token_file_close(&file);
    assert_int_equal(check_count_files(), 1);
}

#define IN_SCRATCH(test) cmocka_unit_test_setup_teardown(test, check_enter_scratch, check_leave_scratch)

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_SCRATCH(test_written_is_read),
        IN_SCRATCH(test_empty_split),
        IN_SCRATCH(test_end_of_text_divides),
        IN_SCRATCH(test_template_around_documents),
        IN_SCRATCH(test_chunks),
        IN_SCRATCH(test_damage_is_refused),
        IN_SCRATCH(test_records_are_read),
        IN_SCRATCH(test_template_around_records),
        IN_SCRATCH(test_damaged_targets_are_refused),
        IN_SCRATCH(test_foreign_files_are_refused),
        IN_SCRATCH(test_cut_files_are_refused),
        IN_SCRATCH(test_cut_while_open),
        IN_SCRATCH(test_ids_beyond_the_vocabulary_are_refused),
        IN_SCRATCH(test_compressed_tokens_are_refused),
        IN_SCRATCH(test_failed_write_keeps_the_old_file),
        IN_SCRATCH(test_full_disk),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
