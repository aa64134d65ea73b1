/* A small random model with a decoder on it, for the tests of eval/. cmocka's headers come with it.
 *
 * Later layers add little (their output projections are scaled down), so early exits agree with the last layer often
 * but not always. The first layers of two such models are the same, whatever their number of layers. */
#ifndef LS_TESTS_EVAL_SMALL_MODEL_H
#define LS_TESTS_EVAL_SMALL_MODEL_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "data/token_file.h"
#include "eval/decoder.h"

enum { SMALL_HIDDEN = 48, SMALL_CONTEXT = 1100, SMALL_MOST_DRAFT = 40 };

typedef struct small_model {
    ls_exec exec;
    ls_model model;
    ls_decoder *decoder;
} small_model;

void small_model_open(small_model *out, ls_device device, ls_dtype dtype, int64_t layers, int64_t vocabulary,
                      int threads, int64_t capacity);
void small_model_close(small_model *small);

enum { BYTES_VOCABULARY = 257, BYTES_END_OF_TEXT = 256 };

/* A token file of random byte tokens: held-out documents of these lengths (end of text comes on top), and one short
 * document to train on. */
void token_file_create(ls_token_file *out, const char *path, const int64_t *lengths, int count);
/* The same with records held out: given[i] tokens, then learnt[i] (end of text comes on top). */
void record_file_create(ls_token_file *out, const char *path, const int64_t *given, const int64_t *learnt, int count);

#endif
