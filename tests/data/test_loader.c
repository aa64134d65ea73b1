/* The loader: samples, targets, document masks; the cursor alone decides what is read, read ahead or not. */
#include "data_check.h"

#include "core/hdf5_file.h"
#include "data/loader.h"

#include <stdlib.h>
#include <string.h>

static const char *const TRAIN[] = {"abcdefg", "hi", "j", "klmnopqrstuvwxyz", "0123456789", NULL};
static const char *const VALIDATION[] = {"ABC", NULL};
enum { TOKENS = 41, END = 256 }; /* the letters and digits, and five ends of text */

typedef struct rows {
    int32_t tokens[1000], targets[1000], first_key[1000], positions[1000];
} rows;

static ls_status read_rows(rows *out, ls_loader *loader, int64_t cursor, int64_t count)
{
    memset(out, 0x55, sizeof *out);
    const ls_samples samples = {out->tokens, out->targets, out->first_key, out->positions};
    return ls_loader_read(loader, cursor, count, &samples);
}

static ls_loader *open_loader(ls_token_file *file, int64_t T, bool shuffle, bool mask, uint64_t seed)
{
    ls_loader *loader;
    const ls_loader_options options = {
        .split = LS_SPLIT_TRAIN, .sequence_length = T, .shuffle = shuffle, .document_mask = mask, .seed = seed};
    data_write_token_file("a.h5", TRAIN, VALIDATION);
    CHECK_OK(ls_token_file_open(file, "a.h5"));
    assert_int_equal(file->token_count[LS_SPLIT_TRAIN], TOKENS);
    CHECK_OK(ls_loader_create(&loader, file, &options));
    return loader;
}

static void close_loader(ls_loader *loader, ls_token_file *file)
{
    ls_loader_destroy(loader);
    ls_token_file_close(file);
}

/* Targets are the tokens one further on; every position but the split's last few is some sample's input. */
static void test_samples_cover_the_split(void **state)
{
    (void)state;
    ls_token_file file;
    rows r;
    int32_t all[TOKENS];
    for (int64_t T = 1; T <= 40; T++) {
        ls_loader *loader = open_loader(&file, T, false, false, 0);
        CHECK_OK(ls_token_file_read(&file, LS_SPLIT_TRAIN, 0, TOKENS, all));
        const int64_t samples = ls_loader_samples_per_epoch(loader);
        assert_int_equal(samples, (TOKENS - 1) / T);
        CHECK_OK(read_rows(&r, loader, 0, samples));
        for (int64_t i = 0; i < samples * T; i++) {
            assert_int_equal(r.tokens[i], all[i]);
            assert_int_equal(r.targets[i], all[i + 1]);
            assert_int_equal(r.first_key[i], 0);
            assert_int_equal(r.positions[i], i % T);
        }
        assert_int_equal(r.tokens[samples * T], 0x55555555); /* nothing beyond the rows is written */
        close_loader(loader, &file);
    }
}

/* By the definition, from the document offsets, for every sample length. */
static void test_document_masks(void **state)
{
    (void)state;
    ls_token_file file;
    rows r;
    int32_t all[TOKENS];
    for (int64_t T = 1; T <= 40; T++) {
        ls_loader *loader = open_loader(&file, T, false, true, 0);
        CHECK_OK(ls_token_file_read(&file, LS_SPLIT_TRAIN, 0, TOKENS, all));
        const int64_t samples = ls_loader_samples_per_epoch(loader);
        CHECK_OK(read_rows(&r, loader, 0, samples));
        for (int64_t i = 0; i < samples * T; i++) {
            int64_t first = i; /* of its document within the sample */
            while (first % T != 0 && all[first - 1] != END) first--;
            assert_int_equal(r.first_key[i], first % T);
            assert_int_equal(r.positions[i], i - first);
            assert_int_equal(r.targets[i], all[i] == END ? -1 : all[i + 1]);
        }
        close_loader(loader, &file);
    }
}

/* With a tail, every token but the first is a target once. */
static void test_tail(void **state)
{
    (void)state;
    ls_token_file file;
    rows r;
    int32_t all[TOKENS];
    for (int mask = 0; mask < 2; mask++) {
        for (int64_t T = 1; T <= 60; T++) {
            ls_loader *loader = open_loader(&file, 1, false, false, 0);
            ls_loader_destroy(loader);
            const ls_loader_options options = {
                .split = LS_SPLIT_TRAIN, .sequence_length = T, .document_mask = mask != 0, .tail = true};
            CHECK_OK(ls_loader_create(&loader, &file, &options));
            CHECK_OK(ls_token_file_read(&file, LS_SPLIT_TRAIN, 0, TOKENS, all));
            const int64_t samples = ls_loader_samples_per_epoch(loader);
            assert_int_equal(samples, (TOKENS - 2 + T) / T);
            CHECK_OK(read_rows(&r, loader, 0, samples));
            for (int64_t i = 0; i < samples * T; i++) {
                const bool real = i + 1 < TOKENS;
                assert_int_equal(r.tokens[i], real ? all[i] : 0);
                assert_int_equal(r.targets[i], real && !(mask && all[i] == END) ? all[i + 1] : -1);
                if (!real) assert_int_equal(r.first_key[i], i % T);
            }
            close_loader(loader, &file);
        }
    }
}

static void test_one_row_by_hand(void **state)
{
    (void)state;
    ls_token_file file;
    rows r;
    ls_loader *loader = open_loader(&file, 8, false, true, 0);
    CHECK_OK(read_rows(&r, loader, 1, 1)); /* tokens 8..15: h i END j END k l m */
    const int32_t tokens[] = {'h', 'i', END, 'j', END, 'k', 'l', 'm'};
    const int32_t targets[] = {'i', END, -1, END, -1, 'l', 'm', 'n'};
    const int32_t first_key[] = {0, 0, 0, 3, 3, 5, 5, 5};
    const int32_t positions[] = {0, 1, 2, 0, 1, 0, 1, 2};
    assert_memory_equal(r.tokens, tokens, sizeof tokens);
    assert_memory_equal(r.targets, targets, sizeof targets);
    assert_memory_equal(r.first_key, first_key, sizeof first_key);
    assert_memory_equal(r.positions, positions, sizeof positions);
    close_loader(loader, &file);
}

static void test_every_epoch_is_a_permutation(void **state)
{
    (void)state;
    ls_token_file file;
    ls_loader *loader = open_loader(&file, 3, true, false, 9);
    const int64_t samples = ls_loader_samples_per_epoch(loader);
    int different = 0;
    for (int64_t epoch = 0; epoch < 20; epoch++) {
        int seen[64] = {0};
        for (int64_t k = 0; k < samples; k++) {
            const int64_t sample = ls_loader_sample_at(loader, epoch * samples + k);
            assert_in_range(sample, 0, samples - 1);
            assert_int_equal(seen[sample]++, 0);
            different += sample != ls_loader_sample_at(loader, k);
        }
    }
    assert_true(different > 100);
    close_loader(loader, &file);
}

/* However the run is cut into reads, and wherever it is taken up again, the samples are the same. */
static void test_cursor_decides(void **state)
{
    (void)state;
    enum { RUN = 60, T = 4 };
    ls_token_file file;
    rows whole, part;
    ls_loader *loader = open_loader(&file, T, true, true, 3);
    CHECK_OK(read_rows(&whole, loader, 0, RUN));
    for (int64_t step = 1; step <= 7; step++) {
        for (int64_t cursor = 0; cursor + step <= RUN; cursor += step) {
            CHECK_OK(read_rows(&part, loader, cursor, step));
            assert_memory_equal(part.tokens, whole.tokens + cursor * T, (size_t)(step * T) * sizeof(int32_t));
            assert_memory_equal(part.targets, whole.targets + cursor * T, (size_t)(step * T) * sizeof(int32_t));
            assert_memory_equal(part.first_key, whole.first_key + cursor * T, (size_t)(step * T) * sizeof(int32_t));
            assert_memory_equal(part.positions, whole.positions + cursor * T, (size_t)(step * T) * sizeof(int32_t));
        }
    }
    CHECK_OK(read_rows(&part, loader, 0, 0));
    close_loader(loader, &file);
    loader = open_loader(&file, T, true, true, 3); /* a new process, in effect */
    CHECK_OK(read_rows(&part, loader, 17, 5));
    assert_memory_equal(part.tokens, whole.tokens + 17 * T, 5 * T * sizeof(int32_t));
    close_loader(loader, &file);
    loader = open_loader(&file, T, true, true, 4);
    CHECK_OK(read_rows(&part, loader, 0, 10));
    assert_memory_not_equal(part.tokens, whole.tokens, 10 * T * sizeof(int32_t));
    close_loader(loader, &file);
}

static void test_short_splits_are_refused(void **state)
{
    (void)state;
    ls_token_file file;
    ls_loader *loader = open_loader(&file, 40, false, false, 0);
    ls_loader_destroy(loader);
    ls_loader_options options = {.split = LS_SPLIT_TRAIN, .sequence_length = 41};
    CHECK_REFUSED(ls_loader_create(&loader, &file, &options), LS_BAD_INPUT, "the train split has 41 tokens");
    options = (ls_loader_options){.split = LS_SPLIT_VALIDATION, .sequence_length = 4};
    CHECK_REFUSED(ls_loader_create(&loader, &file, &options), LS_BAD_INPUT, "the validation split has 4 tokens");
    ls_token_file_close(&file);
}

/* A failure while reading ahead is the next caller's, with its sentence, each time. */
static void test_failures_reach_the_caller(void **state)
{
    (void)state;
    ls_token_file file;
    rows r;
    ls_loader *loader = open_loader(&file, 4, false, false, 0);
    close_loader(loader, &file);
    const hid_t damaged = H5Fopen("a.h5", H5F_ACC_RDWR, H5P_DEFAULT);
    uint16_t ids[TOKENS] = {0};
    ids[13] = 300; /* of sample 3 */
    assert_true(H5Ldelete(damaged, "train/tokens", H5P_DEFAULT) >= 0);
    CHECK_OK(ls_hdf5_write_array(damaged, "train/tokens", H5T_NATIVE_UINT16, TOKENS, 0, ids));
    assert_true(H5Fclose(damaged) >= 0);
    CHECK_OK(ls_token_file_open(&file, "a.h5"));
    const ls_loader_options options = {.split = LS_SPLIT_TRAIN, .sequence_length = 4};
    CHECK_OK(ls_loader_create(&loader, &file, &options));
    for (int again = 0; again < 2; again++) {
        CHECK_OK(read_rows(&r, loader, 0, 2));
        CHECK_REFUSED(read_rows(&r, loader, 2, 2), LS_BAD_INPUT, "token 13");
        CHECK_REFUSED(read_rows(&r, loader, 2, 2), LS_BAD_INPUT, "token 13");
    }
    close_loader(loader, &file);
}

#define IN_SCRATCH(test) cmocka_unit_test_setup_teardown(test, check_enter_scratch, check_leave_scratch)

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_SCRATCH(test_samples_cover_the_split),
        IN_SCRATCH(test_document_masks),
        IN_SCRATCH(test_tail),
        IN_SCRATCH(test_one_row_by_hand),
        IN_SCRATCH(test_every_epoch_is_a_permutation),
        IN_SCRATCH(test_cursor_decides),
        IN_SCRATCH(test_short_splits_are_refused),
        IN_SCRATCH(test_failures_reach_the_caller),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
