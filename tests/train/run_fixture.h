/* A folder with a token file of bytes and a tiny run's config, for the tests of this room. */
#ifndef LS_TESTS_TRAIN_RUN_FIXTURE_H
#define LS_TESTS_TRAIN_RUN_FIXTURE_H

#include "train/config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

typedef struct run_fixture {
    char *folder;
    char *tokens; /* token file of `bytes` text */
} run_fixture;

/* Documents of uneven length, some shorter than a sample, over a small alphabet; `seed` gives other text. */
void run_fixture_create(run_fixture *out, int64_t bytes, uint64_t seed);
void run_fixture_destroy(run_fixture *fixture);
/* malloc'ed path of a file in the folder. */
char *run_fixture_path(const run_fixture *fixture, const char *name);
void run_fixture_write_tokens(const char *path, int64_t bytes, uint64_t seed, const char *tokenizer);
/* Fine-tuning records of 3 to 21 tokens: letters and ':', then those letters again, the other way round. In the split
 * held out a quarter as many. `all`: the prompts are to be learnt, too. */
void run_fixture_write_records(const char *path, int count, uint64_t seed, bool all);
/* The tiny config (4 layers, dropout and a rotation on, two micro-batches a step) with NULL-terminated overrides. */
void run_fixture_config(ls_train_config *out, const run_fixture *fixture, const char *run_name,
                        const char *const *overrides);
extern const char run_fixture_yaml[];

void expect_ok(ls_status status);
/* The status and, in the sentence, the text; clears the error. */
void expect_failure(ls_status status, ls_status expected, const char *text);

#endif
