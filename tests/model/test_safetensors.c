/* Safetensors: what is written is read, in parts and whole; odd but lawful files; what a header must not say. */
#include "fixture.h"

#include "core/file.h"
#include "core/text.h"
#include "model/safetensors.h"

#include <endian.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char path[] = "test_safetensors.safetensors";

static void write_file(const char *header, const void *data, size_t count)
{
    ls_text text = {0};
    const uint64_t length = htole64(strlen(header));
    ls_text_add(&text, (const char *)&length, sizeof length);
    ls_text_add(&text, header, strlen(header));
    ls_text_add(&text, data, count);
    assert_ok(ls_file_write_atomic(path, text.bytes, text.length));
    free(text.bytes);
}

static void test_written_is_read(void **state)
{
    (void)state;
    ls_safetensor_entry entries[] = {{"b", LS_STORED_F16, 3, 0},
                                     {"c", LS_STORED_BF16, 1, 2},
                                     {"a", LS_STORED_F16, 2, 2},
                                     {"d", LS_STORED_F32, 5, 0}};
    unsigned char data[64];
    size_t length;
    for (size_t i = 0; i < sizeof data; i++) data[i] = (unsigned char)(7 * i + 1);
    ls_safetensors_sort(entries, 4);
    const char *const order[] = {"d", "c", "a", "b"};
    for (int i = 0; i < 4; i++) assert_string_equal(entries[i].name, order[i]);
    char *header = ls_safetensors_header(entries, 4, &length);
    assert_int_equal(length % 8, 0);
    ls_text text = {0};
    ls_text_add(&text, header, length);
    ls_text_add(&text, (const char *)data, 20 + 4 + 8 + 6);
    assert_ok(ls_file_write_atomic(path, text.bytes, text.length));
    free(text.bytes);
    free(header);

    ls_safetensors file;
    unsigned char back[20];
    assert_ok(ls_safetensors_open_file(&file, path));
    assert_int_equal(file.count, 4);
    assert_null(ls_safetensors_find(&file, "e"));
    const ls_safetensor *a = ls_safetensors_find(&file, "a");
    assert_int_equal(a->type, LS_STORED_F16);
    assert_int_equal(a->rank, 2);
    assert_int_equal(a->shape[1], 2);
    assert_ok(ls_safetensors_read(&file, a, 3, 4, back));
    assert_memory_equal(back, data + 24 + 3, 4);
    assert_ok(ls_safetensors_read(&file, ls_safetensors_find(&file, "d"), 0, 20, back));
    assert_memory_equal(back, data, 20);
    assert_int_equal(truncate(path, (off_t)length + 10), 0);
    assert_fails(ls_safetensors_read(&file, ls_safetensors_find(&file, "d"), 0, 20, back), LS_BAD_INPUT, "cut short");
    ls_safetensors_close(&file);
}

/* No tensors; empty ones; scalars; any order in the header; types that are known but not read. */
static void test_lawful_files(void **state)
{
    (void)state;
    ls_safetensors file;
    const char data[16] = {0};
    write_file("{}", data, 0);
    assert_ok(ls_safetensors_open_file(&file, path));
    assert_int_equal(file.count, 0);
    ls_safetensors_close(&file);
    write_file("{\"z\":{\"dtype\":\"I64\",\"shape\":[],\"data_offsets\":[4,12]},"
               "\"e\":{\"dtype\":\"F32\",\"shape\":[3,0],\"data_offsets\":[4,4]},"
               "\"a\":{\"dtype\":\"BF16\",\"shape\":[2],\"data_offsets\":[0,4]}}  ",
               data, 12);
    assert_ok(ls_safetensors_open_file(&file, path));
    assert_int_equal(file.count, 3);
    assert_false(ls_safetensors_find(&file, "z")->is_float);
    assert_int_equal(ls_safetensors_find(&file, "z")->rank, 0);
    assert_int_equal(ls_safetensors_find(&file, "e")->bytes, 0);
    ls_safetensors_close(&file);
}

static void test_unlawful_files(void **state)
{
    (void)state;
    static const struct {
        const char *header, *says;
        size_t count;
    } cases[] = {
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]},"
         "\"b\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[8,12]}}",
         "4 bytes before the tensor b", 12},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]},"
         "\"b\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[4,12]}}",
         "a and b overlap", 12},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]},"
         "\"b\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}",
         "overlap", 4},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]},"
         "\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,8]}}",
         "the tensor a twice", 8},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}", "last 1 bytes", 5},
        {"{\"a\":{\"dtype\":\"F4\",\"shape\":[1],\"data_offsets\":[0,0]}}", "whole bytes", 0},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1,1,1,1,1,1,1,1,1],\"data_offsets\":[0,4]}}", "more than 8 dimensions",
         4},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[4294967296,4294967296],\"data_offsets\":[0,0]}}", "2^64", 0},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[4294967296,1073741824],\"data_offsets\":[0,0]}}", "2^64", 0},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[18014398509481985],\"data_offsets\":[0,4]}}", "other than a size", 4},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4,8]}}", "data_offsets", 4},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}}", "more text", 4},
        {"{\"a\\u0000\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}", "NUL", 4},
        {" {}", "brace", 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        ls_safetensors file;
        const char data[16] = {0};
        write_file(cases[i].header, data, cases[i].count);
        assert_fails(ls_safetensors_open_file(&file, path), LS_BAD_INPUT, cases[i].says);
        assert_int_equal(file.count, 0);
    }
}

static int clean_up(void **state)
{
    (void)state;
    (void)unlink(path);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_written_is_read), cmocka_unit_test(test_lawful_files),
                                       cmocka_unit_test(test_unlawful_files)};
    return cmocka_run_group_tests(tests, NULL, clean_up);
}
