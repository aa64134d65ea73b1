/* Tables of characters to rewrite: the longest match, tokens that are kept, base64, and tables that are damaged. */
#include "data_check.h"

#include "core/random.h"
#include "core/text.h"
#include "data/charsmap.h"

#include <endian.h>
#include <stdlib.h>
#include <string.h>

enum { UNITS = 0x50 };

/* A table that rewrites "A" as "bc" and "AB" as nothing. */
static ls_text make_table(void)
{
    uint32_t units[1 + UNITS] = {htole32(UNITS * sizeof(uint32_t))};
    uint32_t *trie = units + 1;
    trie[0] = htole32(0x01U << 10);                         /* children at 1 ^ byte */
    trie[0x40] = htole32(0x48U << 10 | 1 << 8 | 'A');       /* "A": its leaf at 0x40 ^ 0x48, children at that ^ byte */
    trie[0x08] = htole32(1U << 31 | 1);                     /* to be "bc" */
    trie[0x08 ^ 'B'] = htole32(0x07U << 10 | 1 << 8 | 'B'); /* "AB", at 0x4a: its leaf at 0x4a ^ 0x07 */
    trie[0x4d] = htole32(1U << 31);                         /* to be nothing */
    ls_text table = {0};
    ls_text_add(&table, (const char *)units, sizeof units);
    ls_text_add(&table, "\0bc\0", 4);
    return table;
}

static void check_run(const ls_charsmap *map, const ls_added_tokens *kept, const char *text, const char *expected)
{
    ls_buffer out = {0};
    CHECK_OK(ls_charsmap_run(map, kept, &out, text, strlen(text)));
    assert_int_equal(out.length, strlen(expected));
    assert_memory_equal(out.bytes, expected, out.length);
    ls_buffer_destroy(&out);
}

static void test_rewriting(void **state)
{
    (void)state;
    ls_text table = make_table();
    ls_charsmap map;
    CHECK_OK(ls_charsmap_create(&map, table.bytes, table.length, "test"));
    check_run(&map, NULL, "xA\xC3\xA9 AABAC", "xbc\xC3\xA9 bcbcC");
    ls_added_tokens kept;
    const ls_added_token token = {.text = "AA", .length = 2, .id = 0};
    CHECK_OK(ls_added_tokens_create(&kept, &token, 1));
    check_run(&map, &kept, "AAA", "AAbc");
    ls_added_tokens_destroy(&kept);
    ls_charsmap_destroy(&map);
    free(table.bytes);
}

static void test_base64(void **state)
{
    (void)state;
    ls_text table = make_table();
    for (size_t cut = 0; cut < 4; cut++) { /* tables of every length modulo 3 */
        ls_text_add(&table, "\0", 1);
        char *text = ls_charsmap_to_base64(table.bytes, table.length);
        ls_charsmap map;
        CHECK_OK(ls_charsmap_from_base64(&map, text, "test"));
        assert_int_equal(map.text_bytes, 5 + cut);
        check_run(&map, NULL, "A", "bc");
        ls_charsmap_destroy(&map);
        free(text);
    }
    char *text = ls_charsmap_to_base64("\xFB\xF0", 2);
    assert_string_equal(text, "+/A=");
    free(text);
    free(table.bytes);
}

static void test_damage(void **state)
{
    (void)state;
    ls_text table = make_table();
    ls_charsmap map;
    for (size_t length = 0; length < sizeof(uint32_t) * (1 + UNITS); length++)
        CHECK_REFUSED(ls_charsmap_create(&map, table.bytes, length, "x.model"), LS_BAD_INPUT, "x.model");
    CHECK_REFUSED(ls_charsmap_create(&map, table.bytes, table.length - 1, "x.model"), LS_BAD_INPUT, "damaged");
    CHECK_REFUSED(ls_charsmap_from_base64(&map, "a*b=", "x.json"), LS_BAD_INPUT, "base64");
    for (uint32_t trial = 0; trial < 2000; trial++) { /* whatever the units are, nothing outside of them is read */
        char *copy = ls_text_copy(table.bytes, table.length);
        for (uint32_t i = 0; i < 4; i++) {
            const size_t place = ls_random_below(1, LS_STREAM_TEST, trial, i, 0, 4 * UNITS) + 4;
            copy[place] = (char)ls_random_below(1, LS_STREAM_TEST, trial, i, 1, 256);
        }
        CHECK_OK(ls_charsmap_create(&map, copy, table.length, "test"));
        ls_buffer out = {0};
        CHECK_OK(ls_charsmap_run(&map, NULL, &out, "AB\xC3\xA9 ABA", 8));
        ls_buffer_destroy(&out);
        ls_charsmap_destroy(&map);
        free(copy);
    }
    free(table.bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rewriting),
        cmocka_unit_test(test_base64),
        cmocka_unit_test(test_damage),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
