/* Records in samples: each once and whole, none seeing another, and nothing but what is to be learnt as a target. */
#include "data_check.h"

#include "core/random.h"
#include "core/text.h"
#include "data/loader.h"

#include <stdlib.h>
#include <string.h>

enum { END = 256, RECORDS = 90, LONGEST = 40, CELLS = 20000 };

static const char *const NONE[] = {NULL};

typedef struct rows {
    int32_t tokens[CELLS], targets[CELLS], first_key[CELLS], positions[CELLS];
} rows;

static rows whole, part;

static void read_rows(rows *out, ls_loader *loader, int64_t cursor, int64_t count)
{
    memset(out, 0x55, sizeof *out);
    const ls_samples samples = {out->tokens, out->targets, out->first_key, out->positions};
    CHECK_OK(ls_loader_read(loader, cursor, count, &samples));
}

static ls_loader *open_loader(ls_token_file *file, int64_t T, bool shuffle, uint64_t seed)
{
    ls_loader *loader;
    const ls_loader_options options = {
        .split = LS_SPLIT_TRAIN, .sequence_length = T, .shuffle = shuffle, .document_mask = true, .seed = seed};
    CHECK_OK(ls_token_file_open(file, "a.h5"));
    CHECK_OK(ls_loader_create(&loader, file, &options));
    return loader;
}

static void close_loader(ls_loader *loader, ls_token_file *file)
{
    ls_loader_destroy(loader);
    ls_token_file_close(file);
}

static void test_one_sample_by_hand(void **state)
{
    (void)state;
    static const char *const texts[] = {"ab|cd", "e|f", "gh|", NULL};
    ls_token_file file;
    data_write_record_file("a.h5", texts, NONE);
    ls_loader *loader = open_loader(&file, 10, false, 0);
    assert_int_equal(ls_loader_samples_per_epoch(loader), 1);
    read_rows(&whole, loader, 0, 1);
    const int32_t tokens[] = {'a', 'b', 'c', 'd', 'e', 'f', 'g', 'h', 0, 0};
    const int32_t targets[] = {-1, 'c', 'd', END, 'f', END, -1, END, -1, -1};
    const int32_t first_key[] = {0, 0, 0, 0, 4, 4, 6, 6, 8, 9};
    const int32_t positions[] = {0, 1, 2, 3, 0, 1, 0, 1, 0, 0};
    assert_memory_equal(whole.tokens, tokens, sizeof tokens);
    assert_memory_equal(whole.targets, targets, sizeof targets);
    assert_memory_equal(whole.first_key, first_key, sizeof first_key);
    assert_memory_equal(whole.positions, positions, sizeof positions);
    assert_int_equal(whole.tokens[10], 0x55555555);
    close_loader(loader, &file);
}

/* Of a record longer than T + 1 the end is cut away; one that has no target before that is left out; what follows a
 * last target takes no room. */
static void test_long_records(void **state)
{
    (void)state;
    static const char *const texts[] = {"ab|cdefgh", "abcde|f", "x|y", NULL};
    ls_token_file file;
    data_write_record_file("a.h5", texts, NONE);
    ls_loader *loader = open_loader(&file, 4, false, 0);
    const ls_loader_records *about = ls_loader_about_records(loader);
    assert_int_equal(about->records, 3);
    assert_int_equal(about->cut, 2);
    assert_int_equal(about->left_out, 1);
    assert_int_equal(about->samples, 2);
    assert_int_equal(about->positions, 6);
    read_rows(&whole, loader, 0, 2);
    const int32_t tokens[] = {'a', 'b', 'c', 'd', 'x', 'y', 0, 0}, targets[] = {-1, 'c', 'd', 'e', 'y', END, -1, -1};
    assert_memory_equal(whole.tokens, tokens, sizeof tokens);
    assert_memory_equal(whole.targets, targets, sizeof targets);
    close_loader(loader, &file);
    static const char *const prompts[] = {"abcdef|g", NULL};
    data_write_record_file("a.h5", prompts, NONE);
    CHECK_OK(ls_token_file_open(&file, "a.h5"));
    ls_loader_options options = {.split = LS_SPLIT_TRAIN, .sequence_length = 5, .document_mask = true};
    CHECK_REFUSED(ls_loader_create(&loader, &file, &options), LS_BAD_INPUT,
                  "none has anything to learn in its first 6");
    options = (ls_loader_options){.split = LS_SPLIT_VALIDATION, .sequence_length = 5, .document_mask = true};
    CHECK_REFUSED(ls_loader_create(&loader, &file, &options), LS_BAD_INPUT, "of the 0 records of the validation split");
    options = (ls_loader_options){.split = LS_SPLIT_TRAIN, .sequence_length = 8};
    CHECK_REFUSED(ls_loader_create(&loader, &file, &options), LS_BAD_INPUT, "must not see each other");
    ls_token_file_close(&file);
}

/* A record as it ought to stand in a sample: pairs of token and target, malloc'ed. */
static char *expected_text(const char *text, int64_t T)
{
    ls_text out = {0};
    char letters[LONGEST + 4];
    bool learnt[LONGEST + 4];
    int count = 0;
    bool after = false;
    for (; *text != '\0'; text++) {
        if (*text == '|') {
            after = true;
            continue;
        }
        learnt[count] = after && count > 0;
        letters[count++] = *text;
    }
    learnt[count] = true;
    letters[count++] = '$';
    ls_text_add(&out, "", 0);
    int last = 0;
    for (int i = 1; i < count && i <= T; i++) last = learnt[i] ? i : last;
    for (int i = 0; i < last; i++) ls_text_addf(&out, "%c%c", letters[i], learnt[i + 1] ? letters[i + 1] : '-');
    return out.bytes;
}

static int by_text(const void *left, const void *right) { return strcmp(*(char *const *)left, *(char *const *)right); }

static char letter(int32_t token) { return token == END ? '$' : token < 0 ? '-' : (char)token; }

/* The records found in samples[count] of `whole`, and that masks and positions fit them; returns their number. */
static int collect(char **found, int64_t samples, int64_t T)
{
    int records = 0;
    for (int64_t i = 0; i < samples * T;) {
        const int64_t row = i / T * T, first = i - row;
        ls_text text = {0};
        int64_t n = 0;
        ls_text_add(&text, "", 0);
        for (; i < row + T && whole.first_key[i] == first; i++, n++) {
            assert_int_equal(whole.positions[i], n);
            ls_text_addf(&text, "%c%c", letter(whole.tokens[i]), letter(whole.targets[i]));
        }
        assert_true(n > 0);
        if (n == 1 && whole.tokens[row + first] == 0) { /* a position that no record takes */
            assert_int_equal(whole.targets[row + first], -1);
            free(text.bytes);
            continue;
        }
        found[records++] = text.bytes;
    }
    return records;
}

static void random_record(char *out, uint32_t trial, uint32_t number)
{
    const uint32_t length = 1 + (uint32_t)ls_random_below(5, LS_STREAM_TEST, trial, number, 0, LONGEST);
    const uint32_t border = (uint32_t)ls_random_below(5, LS_STREAM_TEST, trial, number, 1, length + 1);
    size_t at = 0;
    for (uint32_t i = 0; i <= length; i++) {
        if (i == border) out[at++] = '|';
        if (i < length) out[at++] = (char)('a' + ls_random_below(5, LS_STREAM_TEST, trial, number, 2 + i, 26));
    }
    out[at] = '\0';
}

static void test_every_record_once(void **state)
{
    (void)state;
    static char texts[RECORDS][LONGEST + 3];
    static const int64_t lengths[] = {1, 5, 17, 40, 41, 64, 200};
    for (uint32_t trial = 0; trial < sizeof lengths / sizeof lengths[0]; trial++) {
        const int64_t T = lengths[trial];
        const char *list[RECORDS + 1] = {NULL};
        char *expected[RECORDS], *found[2 * RECORDS];
        int count = 0;
        for (uint32_t i = 0; i < RECORDS; i++) {
            random_record(texts[i], trial, i);
            list[i] = texts[i];
            expected[count] = expected_text(texts[i], T);
            if (expected[count][0] == '\0')
                free(expected[count]);
            else
                count++;
        }
        ls_token_file file;
        data_write_record_file("a.h5", list, NONE);
        ls_loader *loader = open_loader(&file, T, true, trial);
        const int64_t samples = ls_loader_samples_per_epoch(loader);
        assert_true(samples * T <= CELLS);
        read_rows(&whole, loader, samples, samples); /* the second epoch */
        assert_int_equal(collect(found, samples, T), count);
        qsort(expected, (size_t)count, sizeof *expected, by_text);
        qsort(found, (size_t)count, sizeof *found, by_text);
        for (int i = 0; i < count; i++) {
            assert_string_equal(found[i], expected[i]);
            free(found[i]);
            free(expected[i]);
        }
        close_loader(loader, &file);
    }
}

/* However a run is cut into reads, and wherever it is taken up again, the samples are the same. */
static void test_cursor_decides(void **state)
{
    (void)state;
    enum { RUN = 60, T = 24 };
    static char texts[RECORDS][LONGEST + 3];
    const char *list[RECORDS + 1] = {NULL};
    for (uint32_t i = 0; i < RECORDS; i++) {
        random_record(texts[i], 99, i);
        list[i] = texts[i];
    }
    ls_token_file file;
    data_write_record_file("a.h5", list, NONE);
    ls_loader *loader = open_loader(&file, T, true, 3);
    read_rows(&whole, loader, 0, RUN);
    for (int64_t step = 1; step <= 7; step += 3) {
        for (int64_t cursor = 0; cursor + step <= RUN; cursor += step) {
            read_rows(&part, loader, cursor, step);
            const size_t bytes = (size_t)(step * T) * sizeof(int32_t);
            assert_memory_equal(part.tokens, whole.tokens + cursor * T, bytes);
            assert_memory_equal(part.targets, whole.targets + cursor * T, bytes);
            assert_memory_equal(part.first_key, whole.first_key + cursor * T, bytes);
            assert_memory_equal(part.positions, whole.positions + cursor * T, bytes);
        }
    }
    close_loader(loader, &file);
    loader = open_loader(&file, T, true, 3);
    read_rows(&part, loader, 17, 5);
    assert_memory_equal(part.tokens, whole.tokens + 17 * T, 5 * T * sizeof(int32_t));
    close_loader(loader, &file);
    loader = open_loader(&file, T, true, 4);
    read_rows(&part, loader, 0, 10);
    assert_memory_not_equal(part.tokens, whole.tokens, 10 * T * sizeof(int32_t));
    close_loader(loader, &file);
}

#define IN_SCRATCH(test) cmocka_unit_test_setup_teardown(test, check_enter_scratch, check_leave_scratch)

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_SCRATCH(test_one_sample_by_hand),
        IN_SCRATCH(test_long_records),
        IN_SCRATCH(test_every_record_once),
        IN_SCRATCH(test_cursor_decides),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
