/* A small model with a batch and a plan, for the tests of model/. cmocka's headers come with it. */
#ifndef LS_TESTS_MODEL_FIXTURE_H
#define LS_TESTS_MODEL_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "model/training.h"

#define assert_ok(call) assert_int_equal((call), LS_OK)

/* A failing call with the sentence it must hold; clears the error. */
void assert_fails(ls_status status, ls_status expected, const char *sentence_part);

/* H*D differs from C, sizes are no round numbers. */
ls_model_config small_config(int64_t layers, bool tied);

typedef struct trial {
    ls_exec exec;
    ls_model model;
    float *master; /* [elements] the fp32 weights that model.weights was made from */
    ls_batch batch;
    int32_t *tokens, *targets, *first_key, *positions; /* [B,T], the batch's */
    ls_step_plan plan;
    double *loss;     /* [L] */
    float *gradients; /* [elements] */
    double target_count;
} trial;

/* Weights with a spread that makes every term count, norms around one, biases around zero, tokens and targets at
 * random, every fifth target absent, no documents, the plain plan. */
void trial_create(trial *out, ls_device device, ls_dtype dtype, const ls_model_config *config, int64_t B, int64_t T);
void trial_destroy(trial *t);
/* master -> model.weights, in the compute type. */
void trial_publish(trial *t);
/* Two documents in each sample, of different lengths, with positions that start again. */
void trial_add_documents(trial *t);
/* Layers 1.. drop some samples, one layer drops all where L > 3, exits 0, L/2 and L-1 are on, one scale is not 1. */
void trial_add_recipe(trial *t);
void trial_drop(trial *t, int layer, int sample);
/* Counts the targets, then one pass on fresh buffers: loss, and gradients from zero when asked. */
ls_status trial_run(trial *t, bool with_gradients, bool recompute);
double trial_objective(const trial *t); /* sum_l weight[l] * loss[l] / target_count */

float random_normal(uint32_t a, uint32_t b); /* of the test stream */
bool same_bits(const void *a, const void *b, size_t bytes);
/* |a-b| / |b| in the Euclidean norm over `count` elements; infinite when something is not finite. */
double relative_distance(const float *a, const float *b, int64_t count);

#endif
