/* The held-out documents: about the fraction asked for, at least one on either side, the same each time. */
#include "data_check.h"

#include "core/random.h"
#include "core/text.h"
#include "data/validation_split.h"

#include <math.h>
#include <string.h>

enum { MOST = 5000 };

/* `count` documents of 1..spread bytes. */
static ls_corpus make_corpus(ls_document *documents, int64_t count, uint64_t spread)
{
    ls_corpus corpus = {.documents = documents, .count = count};
    for (int64_t i = 0; i < count; i++) {
        documents[i] = (ls_document){
            .length = 1 + (int64_t)ls_random_below(3, LS_STREAM_TEST, (uint32_t)i, (uint32_t)count, 0, spread)};
        corpus.bytes += documents[i].length;
    }
    return corpus;
}

static double held_out_bytes(const ls_corpus *corpus, const bool *held_out, int64_t *documents)
{
    double bytes = 0;
    *documents = 0;
    for (int64_t i = 0; i < corpus->count; i++) {
        if (!held_out[i]) continue;
        bytes += (double)corpus->documents[i].length;
        (*documents)++;
    }
    return bytes;
}

static void test_fraction_is_met(void **state)
{
    (void)state;
    static ls_document documents[MOST];
    static bool held_out[MOST];
    static const int64_t counts[] = {2, 3, 10, 100, MOST};
    static const double fractions[] = {0.001, 0.02, 0.1, 0.5};
    for (size_t c = 0; c < 5; c++) {
        for (size_t f = 0; f < 4; f++) {
            const uint64_t spread = 20000;
            const ls_corpus corpus = make_corpus(documents, counts[c], spread);
            int64_t taken;
            CHECK_OK(ls_validation_choose(held_out, &corpus, fractions[f], 1));
            const double bytes = held_out_bytes(&corpus, held_out, &taken);
            assert_in_range(taken, 1, corpus.count - 1);
            /* The last document taken overshoots by less than half of itself. */
            assert_true(fabs(bytes - fractions[f] * (double)corpus.bytes) <= (double)spread);
            if (counts[c] == MOST) assert_true(fabs(bytes / (double)corpus.bytes - fractions[f]) < 2.5e-4);
        }
    }
}

static void test_choice_depends_on_the_seed(void **state)
{
    (void)state;
    static ls_document documents[MOST];
    static bool first[MOST], again[MOST], other[MOST];
    const ls_corpus corpus = make_corpus(documents, MOST, 100);
    CHECK_OK(ls_validation_choose(first, &corpus, 0.1, 1));
    CHECK_OK(ls_validation_choose(again, &corpus, 0.1, 1));
    CHECK_OK(ls_validation_choose(other, &corpus, 0.1, 2));
    assert_memory_equal(first, again, sizeof first);
    assert_memory_not_equal(first, other, sizeof first);
    int64_t early = 0; /* spread over the whole list: about 250 of 500 in its first half (standard deviation 15) */
    for (int64_t i = 0; i < MOST / 2; i++) early += first[i];
    assert_in_range(early, 170, 330);
}

/* A document that alone is far beyond the aim is never held out, whichever comes first. */
static void test_large_documents_stay(void **state)
{
    (void)state;
    static ls_document documents[100];
    bool held_out[100];
    ls_corpus corpus = make_corpus(documents, 100, 100);
    corpus.bytes += 10000 - documents[7].length;
    documents[7].length = 10000;
    for (uint64_t seed = 0; seed < 200; seed++) {
        int64_t taken;
        CHECK_OK(ls_validation_choose(held_out, &corpus, 0.05, seed));
        assert_false(held_out[7]);
        assert_true(fabs(held_out_bytes(&corpus, held_out, &taken) - 0.05 * (double)corpus.bytes) <= 50);
    }
}

static void test_nothing_to_choose(void **state)
{
    (void)state;
    ls_document documents[2];
    bool held_out[2] = {true, true};
    ls_corpus corpus = make_corpus(documents, 2, 10);
    CHECK_OK(ls_validation_choose(held_out, &corpus, 0, 1));
    assert_false(held_out[0] || held_out[1]);
    corpus = make_corpus(documents, 1, 10);
    CHECK_OK(ls_validation_choose(held_out, &corpus, 0.5, 1));
    assert_false(held_out[0]);
}

static void test_cut(void **state)
{
    (void)state;
    assert_int_equal(ls_validation_cut("aaaa\nbbb\ncc", 11, 0.2), 5);
    assert_int_equal(ls_validation_cut("0123456789", 10, 0.2), 8);
    assert_int_equal(ls_validation_cut("012345\xE2\x82\xAC"
                                       "9",
                                       10, 0.2),
                     6); /* not within a character */
    assert_int_equal(ls_validation_cut("", 0, 0.5), 0);
    assert_int_equal(ls_validation_cut("a", 1, 0.5), 1);
    assert_int_equal(ls_validation_cut("a\n456789", 8, 0.25), 6); /* the line break is too far before */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fraction_is_met),
        cmocka_unit_test(test_choice_depends_on_the_seed),
        cmocka_unit_test(test_large_documents_stay),
        cmocka_unit_test(test_nothing_to_choose),
        cmocka_unit_test(test_cut),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
