/* The heap against the definition: join the best pair of all, again and again. Random merges over few letters, so that
 * overlapping and repeated pairs abound. */
#include "data_check.h"

#include "core/random.h"
#include "data/bpe.h"
#include "data/utf8.h"

#include <stdlib.h>
#include <string.h>

enum { LETTERS = 3, MERGES = 40, LONGEST = 60 };

typedef struct rule {
    int32_t left, right, id;
} rule;

typedef struct machine {
    ls_vocabulary vocabulary;
    ls_bpe bpe;
    rule rules[MERGES]; /* by rank */
    int rule_count;
} machine;

static uint32_t draw(uint32_t trial, uint32_t i, uint32_t bound)
{
    return (uint32_t)ls_random_below(2, LS_STREAM_TEST, trial, i, 7, bound);
}

/* Merges two random tokens that exist into a new one, MERGES times. */
static void make_machine(machine *m, uint32_t trial, bool whole_words)
{
    m->rule_count = 0;
    CHECK_OK(ls_vocabulary_create(&m->vocabulary, 256 + MERGES, 1 << 16));
    for (int byte = 0; byte < 256; byte++) {
        char text[4];
        const int size = ls_utf8_encode(text, ls_byte_alphabet_character((unsigned char)byte));
        ls_vocabulary_set(&m->vocabulary, byte, text, (size_t)size, true);
    }
    char texts[MERGES][16];
    for (uint32_t i = 0; i < MERGES; i++) {
        const uint32_t known = LETTERS + (uint32_t)m->rule_count;
        const uint32_t a = draw(trial, 2 * i, known), b = draw(trial, 2 * i + 1, known);
        const int32_t left = a < LETTERS ? 'a' + (int32_t)a : 256 + (int32_t)a - LETTERS;
        const int32_t right = b < LETTERS ? 'a' + (int32_t)b : 256 + (int32_t)b - LETTERS;
        const ls_piece x = m->vocabulary.pieces[left], y = m->vocabulary.pieces[right];
        char *text = texts[m->rule_count];
        if (x.length + y.length > 12) continue;
        memcpy(text, x.text, x.length);
        memcpy(text + x.length, y.text, y.length);
        if (ls_vocabulary_find(&m->vocabulary, text, x.length + y.length) >= 0) continue;
        const int32_t id = 256 + m->rule_count;
        ls_vocabulary_set(&m->vocabulary, id, text, x.length + y.length, true);
        m->rules[m->rule_count++] = (rule){left, right, id};
    }
    const ls_bpe_options options = {.byte_level = trial % 2 == 0, .whole_words = whole_words, .unknown = -1};
    CHECK_OK(ls_bpe_create(&m->bpe, &m->vocabulary, &options, MERGES));
    for (int i = 0; i < m->rule_count; i++)
        ls_bpe_add_merge(&m->bpe, m->rules[i].left, m->rules[i].right, i, m->rules[i].id);
}

static void destroy_machine(machine *m)
{
    ls_bpe_destroy(&m->bpe);
    ls_vocabulary_destroy(&m->vocabulary);
}

static int64_t encode_by_definition(const machine *m, const char *word, size_t length, int32_t *ids)
{
    int64_t count = (int64_t)length;
    for (size_t i = 0; i < length; i++) ids[i] = (unsigned char)word[i];
    for (int rank = 0; rank < m->rule_count;) {
        int64_t at = 0;
        while (at + 1 < count && (ids[at] != m->rules[rank].left || ids[at + 1] != m->rules[rank].right)) at++;
        if (at + 1 >= count) {
            rank++;
            continue;
        }
        ids[at] = m->rules[rank].id;
        memmove(ids + at + 1, ids + at + 2, (size_t)(count - at - 2) * sizeof *ids);
        count--;
        rank = 0; /* the new token may join by an earlier rule */
    }
    return count;
}

static void test_heap_equals_the_definition(void **state)
{
    (void)state;
    ls_bpe_scratch *scratch;
    for (uint32_t trial = 0; trial < 60; trial++) {
        machine m;
        make_machine(&m, trial, false);
        CHECK_OK(ls_bpe_scratch_create(&scratch));
        for (uint32_t word = 0; word < 200; word++) {
            char text[LONGEST];
            int32_t expected[LONGEST];
            const size_t length = 1 + word % LONGEST;
            for (uint32_t i = 0; i < length; i++) text[i] = (char)('a' + draw(trial, 1000 * word + i, LETTERS));
            const int64_t count = encode_by_definition(&m, text, length, expected);
            for (int again = 0; again < 2; again++) { /* the second time from the cache, where it fits */
                ls_ids ids = {0};
                CHECK_OK(ls_bpe_encode(&m.bpe, scratch, text, length, &ids));
                assert_int_equal(ids.count, count);
                assert_memory_equal(ids.values, expected, (size_t)count * sizeof *expected);
                free(ids.values);
            }
        }
        ls_bpe_scratch_destroy(scratch);
        destroy_machine(&m);
    }
}

/* A byte without a token vanishes before anything merges, so its neighbours may join. */
static void test_bytes_without_a_token_vanish(void **state)
{
    (void)state;
    ls_vocabulary vocabulary;
    ls_bpe bpe;
    ls_bpe_scratch *scratch;
    ls_ids ids = {0};
    CHECK_OK(ls_vocabulary_create(&vocabulary, 3, 64));
    ls_vocabulary_set(&vocabulary, 0, "a", 1, true);
    ls_vocabulary_set(&vocabulary, 1, "b", 1, true);
    ls_vocabulary_set(&vocabulary, 2, "ab", 2, true);
    const ls_bpe_options options = {.byte_level = true, .unknown = -1};
    CHECK_OK(ls_bpe_create(&bpe, &vocabulary, &options, 1));
    ls_bpe_add_merge(&bpe, 0, 1, 0, 2);
    CHECK_OK(ls_bpe_scratch_create(&scratch));
    CHECK_OK(ls_bpe_encode(&bpe, scratch, "xbax\x04yba", 8, &ids));
    const int32_t expected[] = {1, 2, 0};
    assert_int_equal(ids.count, 3);
    assert_memory_equal(ids.values, expected, sizeof expected);
    ids.count = 0;
    CHECK_OK(ls_bpe_encode(&bpe, scratch, "a\x04xb", 4, &ids));
    assert_int_equal(ids.count, 1);
    assert_int_equal(ids.values[0], 2);
    ids.count = 0;
    CHECK_OK(ls_bpe_encode(&bpe, scratch, "xyz", 3, &ids));
    assert_int_equal(ids.count, 0);
    free(ids.values);
    ls_bpe_scratch_destroy(scratch);
    ls_bpe_destroy(&bpe);
    ls_vocabulary_destroy(&vocabulary);
}

static void check_symbols(const ls_vocabulary *vocabulary, const ls_bpe_options *options, const char *word,
                          const int32_t *expected, int64_t count)
{
    ls_bpe bpe;
    ls_bpe_scratch *scratch;
    ls_ids ids = {0};
    CHECK_OK(ls_bpe_create(&bpe, vocabulary, options, 0));
    CHECK_OK(ls_bpe_scratch_create(&scratch));
    CHECK_OK(ls_bpe_encode(&bpe, scratch, word, strlen(word), &ids));
    assert_int_equal(ids.count, count);
    assert_memory_equal(ids.values, expected, (size_t)count * sizeof *expected);
    free(ids.values);
    ls_bpe_scratch_destroy(scratch);
    ls_bpe_destroy(&bpe);
}

/* What characters without a token become: bytes where all of them have one, unknown tokens apart or as one, nothing. */
static void test_characters_without_a_token(void **state)
{
    (void)state;
    ls_vocabulary vocabulary;
    static const char *const texts[] = {"<unk>", "a", "<0xC3>", "<0xA9>", "\xF0\x9F\x98\x80"};
    CHECK_OK(ls_vocabulary_create(&vocabulary, 5, 64));
    for (int i = 0; i < 5; i++) ls_vocabulary_set(&vocabulary, i, texts[i], strlen(texts[i]), true);
    static const char word[] = "a\xC3\xA9\xC3\xA8\xC3\xA8\xF0\x9F\x98\x80z";
    ls_bpe_options options = {.unknown = -1};
    check_symbols(&vocabulary, &options, word, (int32_t[]){1, 4}, 2);
    options.unknown = 0;
    check_symbols(&vocabulary, &options, word, (int32_t[]){1, 0, 0, 0, 4, 0}, 6);
    options.fuse_unknown = true;
    check_symbols(&vocabulary, &options, word, (int32_t[]){1, 0, 4, 0}, 4);
    options.byte_fallback = true;
    check_symbols(&vocabulary, &options, word, (int32_t[]){1, 2, 3, 0, 4, 0}, 6);
    ls_vocabulary_destroy(&vocabulary);
}

#define BLANK "\xE2\x96\x81" /* U+2581 */
#define BLANK_A BLANK "a"
#define A_BLANK "a" BLANK

/* Words end before a blank only where no token reaches over it. */
static void test_cutting_at_blanks_changes_nothing(void **state)
{
    (void)state;
    static const char *const texts[] = {"a", BLANK, BLANK_A, BLANK BLANK, A_BLANK};
    static const char word[] = "a" BLANK "a" BLANK BLANK BLANK "a";
    for (int reaching = 0; reaching < 2; reaching++) {
        ls_vocabulary vocabulary;
        ls_bpe bpe;
        ls_bpe_scratch *scratch;
        ls_ids ids = {0};
        CHECK_OK(ls_vocabulary_create(&vocabulary, 5, 64));
        for (int i = 0; i < 5; i++) ls_vocabulary_set(&vocabulary, i, texts[i], strlen(texts[i]), true);
        const ls_bpe_options options = {.unknown = -1};
        CHECK_OK(ls_bpe_create(&bpe, &vocabulary, &options, 3));
        if (reaching) ls_bpe_add_merge(&bpe, 0, 1, 0, 4);
        ls_bpe_add_merge(&bpe, 1, 1, 1, 3);
        ls_bpe_add_merge(&bpe, 1, 0, 2, 2);
        assert_true(bpe.cuts_at_blanks == (reaching == 0));
        CHECK_OK(ls_bpe_scratch_create(&scratch));
        CHECK_OK(ls_bpe_encode(&bpe, scratch, word, strlen(word), &ids));
        static const int32_t apart[] = {0, 2, 3, 2}, over[] = {4, 4, 3, 0};
        assert_int_equal(ids.count, 4);
        assert_memory_equal(ids.values, reaching ? over : apart, sizeof apart);
        free(ids.values);
        ls_bpe_scratch_destroy(scratch);
        ls_bpe_destroy(&bpe);
        ls_vocabulary_destroy(&vocabulary);
    }
}

static void test_whole_words(void **state)
{
    (void)state;
    machine m;
    ls_bpe_scratch *scratch;
    CHECK_OK(ls_bpe_scratch_create(&scratch));
    make_machine(&m, 0, true);
    for (int i = 0; i < m.rule_count; i++) {
        const ls_piece piece = m.vocabulary.pieces[m.rules[i].id];
        ls_ids ids = {0};
        CHECK_OK(ls_bpe_encode(&m.bpe, scratch, piece.text, piece.length, &ids));
        assert_int_equal(ids.count, 1);
        assert_int_equal(ids.values[0], m.rules[i].id);
        free(ids.values);
    }
    ls_bpe_scratch_destroy(scratch);
    destroy_machine(&m);
}

/* The cache pads words with zeros: words that differ only in NUL bytes at their end, often enough that some share a
 * slot. */
static void test_cache_tells_lengths_apart(void **state)
{
    (void)state;
    machine m;
    ls_bpe_scratch *scratch;
    CHECK_OK(ls_bpe_scratch_create(&scratch));
    make_machine(&m, 0, false);
    for (uint32_t word = 0; word < 3000; word++) {
        char text[24] = {0};
        for (uint32_t i = 0; i < 3; i++) text[i] = (char)(1 + draw(word, i, 255));
        for (int again = 0; again < 2; again++) {
            for (size_t length = 3; length <= 8; length++) {
                int32_t expected[24];
                ls_ids ids = {0};
                const int64_t count = encode_by_definition(&m, text, length, expected);
                CHECK_OK(ls_bpe_encode(&m.bpe, scratch, text, length, &ids));
                assert_int_equal(ids.count, count);
                assert_memory_equal(ids.values, expected, (size_t)count * sizeof *expected);
                free(ids.values);
            }
        }
    }
    ls_bpe_scratch_destroy(scratch);
    destroy_machine(&m);
}

static void test_byte_alphabet(void **state)
{
    (void)state;
    char bytes[16];
    size_t count;
    for (int byte = 0; byte < 256; byte++) {
        char text[4];
        const int size = ls_utf8_encode(text, ls_byte_alphabet_character((unsigned char)byte));
        assert_true(ls_byte_alphabet_decode(bytes, &count, text, (size_t)size));
        assert_int_equal(count, 1);
        assert_int_equal((unsigned char)bytes[0], byte);
    }
    assert_true(ls_byte_alphabet_decode(bytes, &count, "\xC4\xA0x\xC4\x8A", 5)); /* U+0120 x U+010A */
    assert_int_equal(count, 3);
    assert_memory_equal(bytes, " x\n", 3);
    assert_true(ls_byte_alphabet_decode(bytes, &count, "\xC4\xA1\xC5\x82\xC5\x83", 6)); /* U+0121 U+0142 U+0143 */
    assert_memory_equal(bytes, "\x7F\xA0\xAD", 3);
    assert_false(ls_byte_alphabet_decode(bytes, &count, " ", 1));
    assert_false(ls_byte_alphabet_decode(bytes, &count, "\xC5\x84", 2)); /* U+0144 */
    assert_false(ls_byte_alphabet_decode(bytes, &count, "\xC2\xAD", 2)); /* U+00AD */
    assert_false(ls_byte_alphabet_decode(bytes, &count, "\xC4", 1));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_heap_equals_the_definition),
        cmocka_unit_test(test_bytes_without_a_token_vanish),
        cmocka_unit_test(test_characters_without_a_token),
        cmocka_unit_test(test_cutting_at_blanks_changes_nothing),
        cmocka_unit_test(test_whole_words),
        cmocka_unit_test(test_cache_tells_lengths_apart),
        cmocka_unit_test(test_byte_alphabet),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
