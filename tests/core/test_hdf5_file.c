/* HDF5 files: round trips, refusals of what is not ours or not whole, and a disk that fills at any byte. */
#include "core_check.h"
#include "core/file.h"
#include "core/hdf5_file.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { ROWS = 37, COLS = 11 };

static void fill(float *values)
{
    for (int i = 0; i < ROWS * COLS; i++) values[i] = (float)i / 7;
}

static ls_status write_contents(hid_t file)
{
    static float values[ROWS * COLS];
    static const uint32_t tokens[5] = {0, 1, UINT32_MAX, 3, 4};
    fill(values);
    LS_TRY(ls_hdf5_write_int(file, "step", INT64_MIN));
    LS_TRY(ls_hdf5_write_int(file, "step", 1234567890123));
    LS_TRY(ls_hdf5_write_double(file, "theta", 1.0 / 3));
    LS_TRY(ls_hdf5_write_array(file, "parameters/layers.0/q", H5T_NATIVE_FLOAT, ROWS, COLS, values));
    LS_TRY(ls_hdf5_write_array(file, "parameters/norm", H5T_NATIVE_FLOAT, ROWS, 0, values));
    LS_TRY(ls_hdf5_write_array(file, "tokens", H5T_NATIVE_UINT32, 5, 0, tokens));
    LS_TRY(ls_hdf5_write_array(file, "nothing", H5T_NATIVE_FLOAT, 0, 0, NULL));
    LS_TRY(ls_hdf5_write_text(file, "tokenizer", "caf\xc3\xa9\n"));
    return ls_hdf5_write_text(file, "empty", "");
}

static void write_file(const char *path)
{
    hid_t file;
    CHECK_OK(ls_hdf5_create(&file, path, "checkpoint"));
    CHECK_OK(write_contents(file));
    CHECK_OK(ls_hdf5_close(file, path));
}

static ls_status read_contents(hid_t file, const char *path)
{
    float values[ROWS * COLS], expected[ROWS * COLS];
    uint32_t tokens[5];
    int64_t step = 0, length = 0;
    double theta = 0;
    char *text = NULL;
    fill(expected);
    LS_TRY(ls_hdf5_read_int(file, path, "step", &step));
    LS_TRY(ls_hdf5_read_double(file, path, "theta", &theta));
    assert_true(step == 1234567890123 && theta == 1.0 / 3);
    LS_TRY(ls_hdf5_read_array(file, path, "parameters/layers.0/q", H5T_NATIVE_FLOAT, ROWS, COLS, values));
    assert_memory_equal(values, expected, sizeof values);
    LS_TRY(ls_hdf5_read_array(file, path, "parameters/norm", H5T_NATIVE_FLOAT, ROWS, 0, values));
    LS_TRY(ls_hdf5_array_length(file, path, "tokens", &length));
    assert_int_equal(length, 5);
    LS_TRY(ls_hdf5_read_array(file, path, "tokens", H5T_NATIVE_UINT32, 5, 0, tokens));
    assert_int_equal(tokens[2], UINT32_MAX);
    LS_TRY(ls_hdf5_read_array(file, path, "nothing", H5T_NATIVE_FLOAT, 0, 0, NULL));
    LS_TRY(ls_hdf5_read_text(file, path, "tokenizer", &text));
    assert_string_equal(text, "caf\xc3\xa9\n");
    free(text);
    LS_TRY(ls_hdf5_read_text(file, path, "empty", &text));
    assert_string_equal(text, "");
    free(text);
    return LS_OK;
}

static void what_is_written_reads_back(void **state)
{
    (void)state;
    hid_t file;
    write_file("a.h5");
    CHECK_OK(ls_hdf5_open(&file, "a.h5", "checkpoint"));
    CHECK_OK(read_contents(file, "a.h5"));
    CHECK_OK(ls_hdf5_close(file, "a.h5"));
    write_file("a.h5"); /* over the old one */
    CHECK_OK(ls_hdf5_open(&file, "a.h5", "checkpoint"));
    CHECK_OK(read_contents(file, "a.h5"));
    CHECK_OK(ls_hdf5_close(file, "a.h5"));
    assert_int_equal(H5Fget_obj_count((hid_t)H5F_OBJ_ALL, H5F_OBJ_ALL), 0); /* every handle was given back */
}

static void the_same_content_makes_the_same_file(void **state)
{
    (void)state;
    char *bytes[2];
    size_t lengths[2];
    for (int i = 0; i < 2; i++) {
        write_file("a.h5");
        CHECK_OK(ls_file_read(&bytes[i], &lengths[i], "a.h5"));
        if (i == 0) (void)usleep(1100000); /* HDF5's time stamps count seconds */
    }
    assert_int_equal(lengths[0], lengths[1]);
    assert_memory_equal(bytes[0], bytes[1], lengths[0]);
    free(bytes[0]);
    free(bytes[1]);
}

static void write_foreign_hdf5(const char *path)
{
    const hid_t file = H5Fcreate(path, H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT);
    assert_true(file >= 0 && H5Fclose(file) >= 0);
}

static void other_files_are_refused(void **state)
{
    (void)state;
    static const struct {
        const char *path;
        ls_status status;
        const char *sentence;
    } cases[] = {
        {"missing.h5", LS_IO, "cannot open missing.h5: No such file or directory"},
        {".", LS_BAD_INPUT, ". is a folder, not a tokens file"},
        {"/dev/null", LS_BAD_INPUT, "/dev/null is no regular file, not a tokens file"},
        {"empty.h5", LS_BAD_INPUT, "empty.h5 is empty, not a tokens file"},
        {"text.h5", LS_BAD_INPUT, "text.h5 is not a tokens file (it is not HDF5)"},
        {"short.h5", LS_BAD_INPUT, "short.h5 is not a tokens file (it is not HDF5)"},
        {"foreign.h5", LS_BAD_INPUT, "foreign.h5 is not a tokens file (it is HDF5 from another program)"},
        {"checkpoint.h5", LS_BAD_INPUT, "checkpoint.h5 is a checkpoint file, not a tokens file"},
    };
    check_write_file("empty.h5", "");
    check_write_file("text.h5", "def main():\n    pass\n");
    check_write_file("short.h5", "\x89HDF");
    write_foreign_hdf5("foreign.h5");
    write_file("checkpoint.h5");
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        hid_t file = 0;
        CHECK_REFUSED(ls_hdf5_open(&file, cases[i].path, "tokens"), cases[i].status, cases[i].sentence);
        assert_true(file < 0);
    }
    hid_t file = 0;
    CHECK_REFUSED(ls_hdf5_create(&file, "no/folder.h5", "tokens"), LS_IO, "cannot create no/folder.h5: No such file");
}

static void newer_versions_are_refused(void **state)
{
    (void)state;
    hid_t file = 0;
    CHECK_OK(ls_hdf5_create(&file, "new.h5", "tokens"));
    CHECK_OK(ls_hdf5_write_int(file, LS_HDF5_VERSION, LS_HDF5_NEWEST_VERSION + 1));
    CHECK_OK(ls_hdf5_close(file, "new.h5"));
    CHECK_REFUSED(ls_hdf5_open(&file, "new.h5", "tokens"), LS_BAD_INPUT, "new.h5 has file version 3");
}

static ls_status open_and_read(const char *path)
{
    hid_t file;
    LS_TRY(ls_hdf5_open(&file, path, "checkpoint"));
    const ls_status status = read_contents(file, path);
    (void)H5Fclose(file);
    return status;
}

/* A file cut at any length is refused: at the latest when what is missing is read. */
static void truncated_files_are_refused(void **state)
{
    (void)state;
    char *bytes = NULL;
    size_t length = 0;
    write_file("whole.h5");
    CHECK_OK(ls_file_read(&bytes, &length, "whole.h5"));
    for (size_t cut = 0; cut < length; cut += cut < 200 ? 1 : 97) {
        CHECK_OK(ls_file_write_atomic("cut.h5", bytes, cut));
        CHECK_REFUSED(open_and_read("cut.h5"), LS_BAD_INPUT, "cut.h5");
    }
    CHECK_OK(ls_file_write_atomic("cut.h5", bytes, length - 1));
    CHECK_REFUSED(open_and_read("cut.h5"), LS_BAD_INPUT, "cut.h5 is cut short: parts of the file are missing");
    CHECK_OK(ls_file_write_atomic("cut.h5", bytes, length));
    CHECK_OK(open_and_read("cut.h5"));
    free(bytes);
}

static void wrong_contents_are_refused(void **state)
{
    (void)state;
    hid_t file;
    int64_t number = 0;
    double real = 0;
    float values[ROWS * COLS];
    int32_t small[5];
    char *text = NULL;
    write_file("a.h5");
    CHECK_OK(ls_hdf5_open(&file, "a.h5", "checkpoint"));
    CHECK_REFUSED(ls_hdf5_read_int(file, "a.h5", "stepp", &number), LS_BAD_INPUT, "a.h5 lacks the attribute stepp");
    CHECK_REFUSED(ls_hdf5_read_int(file, "a.h5", "theta", &number), LS_BAD_INPUT,
                  "the attribute theta of a.h5 is not a number of the right type");
    CHECK_REFUSED(ls_hdf5_read_double(file, "a.h5", "layerskip_kind", &real), LS_BAD_INPUT, "right type");
    CHECK_REFUSED(ls_hdf5_read_array(file, "a.h5", "parameters/no", H5T_NATIVE_FLOAT, ROWS, 0, values), LS_BAD_INPUT,
                  "a.h5 lacks the dataset parameters/no");
    CHECK_REFUSED(ls_hdf5_read_array(file, "a.h5", "no/q", H5T_NATIVE_FLOAT, ROWS, 0, values), LS_BAD_INPUT, "no/q");
    CHECK_REFUSED(ls_hdf5_read_array(file, "a.h5", "parameters", H5T_NATIVE_FLOAT, ROWS, 0, values), LS_BAD_INPUT,
                  "lacks the dataset parameters");
    CHECK_REFUSED(ls_hdf5_read_array(file, "a.h5", "parameters/layers.0/q", H5T_NATIVE_FLOAT, COLS, ROWS, values),
                  LS_BAD_INPUT, "the dataset parameters/layers.0/q of a.h5 has the shape [37, 11], not [11, 37]");
    CHECK_REFUSED(ls_hdf5_read_array(file, "a.h5", "parameters/norm", H5T_NATIVE_FLOAT, ROWS, 1, values), LS_BAD_INPUT,
                  "has the shape [37], not [37, 1]");
    CHECK_REFUSED(ls_hdf5_read_array(file, "a.h5", "tokens", H5T_NATIVE_INT32, 5, 0, small), LS_BAD_INPUT,
                  "another type of number");
    CHECK_REFUSED(ls_hdf5_read_array(file, "a.h5", "tokens", H5T_NATIVE_UINT16, 5, 0, small), LS_BAD_INPUT,
                  "another type of number");
    CHECK_REFUSED(ls_hdf5_read_array(file, "a.h5", "tokens", H5T_NATIVE_FLOAT, 5, 0, small), LS_BAD_INPUT,
                  "another type of number");
    CHECK_REFUSED(ls_hdf5_array_length(file, "a.h5", "parameters/layers.0/q", &number), LS_BAD_INPUT, "is not a list");
    CHECK_REFUSED(ls_hdf5_read_text(file, "a.h5", "parameters/norm", &text), LS_BAD_INPUT, "another type");
    assert_null(text);
    CHECK_OK(ls_hdf5_close(file, "a.h5"));
    assert_int_equal(H5Fget_obj_count((hid_t)H5F_OBJ_ALL, H5F_OBJ_ALL), 0);
}

static void name_taken_twice(void **state)
{
    (void)state;
    hid_t file;
    CHECK_OK(ls_hdf5_create(&file, "twice.h5", "tokens"));
    CHECK_OK(ls_hdf5_write_text(file, "a", "x"));
    CHECK_REFUSED(ls_hdf5_write_text(file, "a", "y"), LS_IO, "cannot write a to twice.h5");
    CHECK_OK(ls_hdf5_close(file, "twice.h5"));
}

static void provoke_hdf5(void *context)
{
    (void)context;
    hid_t file;
    int64_t length;
    check_write_file("bad.h5", "\x89HDF\r\n\x1a\n and then nothing of use");
    if (ls_hdf5_open(&file, "bad.h5", "tokens") != LS_BAD_INPUT) _exit(1);
    ls_error_clear();
    if (ls_hdf5_create(&file, "good.h5", "tokens") != LS_OK) _exit(2);
    if (ls_hdf5_array_length(file, "good.h5", "no/such", &length) != LS_BAD_INPUT) _exit(3);
    ls_error_clear();
    if (ls_hdf5_close(file, "good.h5") != LS_OK) _exit(4);
}

static void hdf5_itself_is_silent(void **state)
{
    (void)state;
    char output[4096];
    CHECK_CHILD_EXITS(check_in_child(provoke_hdf5, NULL, 2, output, sizeof output), 0);
    assert_string_equal(output, "");
}

/* ---- a full disk ---- */

typedef struct shortage {
    size_t limit;    /* bytes that fit */
    bool goes_on;    /* the caller overlooks failed writes */
    bool never_ends; /* the caller never closes: HDF5 does, when the process ends */
} shortage;

/* Exits with 0 when the shortage was noticed and told, 1 when all went well, else 2. */
static void write_in_shortage(void *context)
{
    const shortage *const self = context;
    static float large[5000];
    bool noticed = false;
    hid_t file;
    check_limit_files(self->limit);
    if (ls_hdf5_create(&file, "full.h5", "checkpoint") != LS_OK) _exit(2);
    for (int i = 0; i < 4 && (!noticed || self->goes_on); i++) {
        char name[32];
        (void)snprintf(name, sizeof name, "group%d/values", i);
        noticed |= ls_hdf5_write_array(file, name, H5T_NATIVE_FLOAT, 5000, 0, large) != LS_OK;
        noticed |= ls_hdf5_write_int(file, "step", i) != LS_OK;
    }
    if (self->never_ends) exit(noticed ? 0 : 1);
    const bool noticed_before = noticed, closed = ls_hdf5_close(file, "full.h5") == LS_OK;
    if (noticed_before && closed) _exit(2);
    if (closed) exit(1);
    if (strcmp(ls_error_text(), "cannot write full.h5: it would exceed the file size limit of this process or disk") !=
        0)
        _exit(2);
    exit(0); /* through HDF5's own end */
}

/* 80 KB of numbers: whatever fits is followed by a clean refusal, never by a crash, a hang or silence. */
static void a_full_disk_is_reported(void **state)
{
    (void)state;
    char output[512];
    int told = 0, went_well = 0;
    for (size_t limit = 0; limit < 100000; limit += limit < 4000 ? 333 : 3001) {
        for (int way = 0; way < 2; way++) {
            shortage situation = {limit, way == 1, false};
            const int status = check_in_child(write_in_shortage, &situation, 2, output, sizeof output);
            if (!WIFEXITED(status) || WEXITSTATUS(status) > 1 || output[0] != '\0')
                fail_msg("limit %zu, way %d: status %d, output '%s'", limit, way, status, output);
            if (WEXITSTATUS(status) == 1) {
                hid_t file;
                CHECK_OK(ls_hdf5_open(&file, "full.h5", "checkpoint"));
                CHECK_OK(ls_hdf5_close(file, "full.h5"));
                went_well++;
            } else {
                told++;
            }
        }
    }
    assert_true(told >= 60 && went_well >= 2);
}

static void ending_without_close_is_no_crash(void **state)
{
    (void)state;
    char output[512];
    for (size_t limit = 1000; limit < 90000; limit += 20000) {
        shortage situation = {limit, true, true};
        const int status = check_in_child(write_in_shortage, &situation, 2, output, sizeof output);
        assert_true(WIFEXITED(status) && WEXITSTATUS(status) <= 1);
    }
}

/* The failure of one file is not laid at the next one's door. */
static void the_next_file_starts_clean(void **state)
{
    (void)state;
    write_file("a.h5");
    char output[512];
    shortage situation = {3000, true, false};
    CHECK_CHILD_EXITS(check_in_child(write_in_shortage, &situation, 2, output, sizeof output), 0);
    write_file("a.h5");
    CHECK_OK(open_and_read("a.h5"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_written_reads_back),
        cmocka_unit_test(the_same_content_makes_the_same_file),
        cmocka_unit_test(other_files_are_refused),
        cmocka_unit_test(newer_versions_are_refused),
        cmocka_unit_test(truncated_files_are_refused),
        cmocka_unit_test(wrong_contents_are_refused),
        cmocka_unit_test(name_taken_twice),
        cmocka_unit_test(hdf5_itself_is_silent),
        cmocka_unit_test(a_full_disk_is_reported),
        cmocka_unit_test(ending_without_close_is_no_crash),
        cmocka_unit_test(the_next_file_starts_clean),
    };
    return cmocka_run_group_tests(tests, check_enter_scratch, check_leave_scratch);
}
