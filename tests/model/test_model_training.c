/* A pass under a plan: what is computed for whom, bit for bit on the reference backend. */
#include "fixture.h"

#include "core/memory.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* A sanitizer keeps freed memory back, so the peak says nothing about the program. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define PEAK_IS_MEANINGFUL false
#elif defined(__has_feature)
#define PEAK_IS_MEANINGFUL !(__has_feature(address_sanitizer) || __has_feature(thread_sanitizer))
#else
#define PEAK_IS_MEANINGFUL true
#endif

static size_t gradient_bytes(const trial *t) { return sizeof(float) * (size_t)t->model.table.elements; }

static float *copy_gradients(const trial *t)
{
    float *copy = malloc(gradient_bytes(t));
    memcpy(copy, t->gradients, gradient_bytes(t));
    return copy;
}

/* Only sample `sample` has targets from now on. */
static void keep_targets_of(trial *t, int64_t sample)
{
    const int64_t T = t->batch.T;
    for (int64_t r = 0; r < t->batch.B * T; r++)
        if (r / T != sample) t->targets[r] = -1;
}

/* Copies the parameters that both tables name, `layer_of[l]` being the layer of `from` that becomes layer l. */
static void copy_weights(trial *to, const trial *from, const int *layer_of)
{
    for (int i = 0; i < to->model.table.count; i++) {
        const ls_parameter *entry = &to->model.table.entries[i];
        const int from_layer = entry->layer < 0 ? -1 : layer_of[entry->layer];
        const char *tail = entry->layer < 0 ? entry->name : strchr(entry->name + strlen("model.layers."), '.');
        bool found = false;
        for (int k = 0; k < from->model.table.count && !found; k++) {
            const ls_parameter *source = &from->model.table.entries[k];
            const char *end = source->layer < 0 ? source->name : strchr(source->name + strlen("model.layers."), '.');
            if (source->layer != from_layer || strcmp(end, tail) != 0) continue;
            memcpy(to->master + entry->offset, from->master + source->offset,
                   sizeof(float) * (size_t)(entry->rows * entry->cols));
            found = true;
        }
        assert_true(found);
    }
    trial_publish(to);
}

static void all_exits_on(trial *t)
{
    for (int l = 0; l < t->plan.layers; l++) t->plan.exit_weight[l] = 1.0f / (float)t->plan.layers;
}

/* Largest magnitude of the gradient of layer l; -1: of everything outside layers. */
static double layer_gradient(const trial *t, int layer)
{
    double largest = 0.0;
    for (int i = 0; i < t->model.table.count; i++) {
        const ls_parameter *entry = &t->model.table.entries[i];
        if (entry->layer != layer) continue;
        for (int64_t e = 0; e < entry->rows * entry->cols; e++) {
            const double value = fabs((double)t->gradients[entry->offset + e]);
            if (!(value <= largest)) largest = value;
        }
    }
    return largest;
}

/* ---- exits ---------------------------------------------------------------------------------------------------------
 */

/* Exit l sees the output of block l. When block l adds nothing, exit l equals exit l-1; an exit that sees its block's
 * input would equal exit l+1 instead. With ordinary blocks all exits differ. */
static void exit_sees_output_of_its_block(void **state)
{
    (void)state;
    const ls_model_config config = small_config(4, true);
    trial t;
    trial_create(&t, LS_DEVICE_REFERENCE, LS_F32, &config, 2, 7);
    all_exits_on(&t);
    assert_ok(trial_run(&t, true, false));
    for (int l = 1; l < 4; l++) assert_true(t.loss[l] != t.loss[l - 1]);
    for (int l = 1; l < 4; l++) {
        const ls_layer_offsets *at = &t.model.table.layers[l];
        float *weights = t.model.weights;
        memset(weights + at->attention_out, 0, sizeof(float) * 12 * 16);
        memset(weights + at->down, 0, sizeof(float) * 12 * 20);
        assert_ok(trial_run(&t, true, false));
        assert_true(t.loss[l] == t.loss[l - 1]);
        if (l < 3) assert_true(t.loss[l] != t.loss[l + 1]);
        trial_publish(&t);
    }
    trial_destroy(&t);
}

/* What comes after an exit does not reach it: exit l equals the last exit of the model cut after block l. */
static void exit_equals_the_model_cut_there(void **state)
{
    (void)state;
    const ls_model_config config = small_config(4, true);
    trial whole;
    trial_create(&whole, LS_DEVICE_REFERENCE, LS_F32, &config, 2, 7);
    all_exits_on(&whole);
    assert_ok(trial_run(&whole, true, false));
    for (int l = 0; l < 4; l++) {
        const ls_model_config cut_config = small_config(l + 1, true);
        trial cut;
        trial_create(&cut, LS_DEVICE_REFERENCE, LS_F32, &cut_config, 2, 7);
        copy_weights(&cut, &whole, (const int[]){0, 1, 2, 3});
        assert_ok(trial_run(&cut, false, false));
        assert_true(cut.loss[l] == whole.loss[l]);
        trial_destroy(&cut);
    }
    trial_destroy(&whole);
}

static void last_block_learns_from_the_last_exit(void **state)
{
    (void)state;
    const ls_model_config config = small_config(3, true);
    trial t;
    trial_create(&t, LS_DEVICE_REFERENCE, LS_F32, &config, 2, 7);
    assert_ok(trial_run(&t, true, false));
    for (int i = 0; i < t.model.table.count; i++) {
        const ls_parameter *entry = &t.model.table.entries[i];
        double largest = 0.0;
        for (int64_t e = 0; e < entry->rows * entry->cols; e++)
            largest = fmax(largest, fabs((double)t.gradients[entry->offset + e]));
        if (!(largest > 1e-6)) fail_msg("%s has no gradient", entry->name);
    }
    trial_destroy(&t);
}

static void middle_exit_leaves_later_blocks_alone(void **state)
{
    (void)state;
    const ls_model_config config = small_config(4, false);
    trial t;
    trial_create(&t, LS_DEVICE_REFERENCE, LS_F32, &config, 2, 7);
    t.plan.exit_weight[3] = 0.0f;
    t.plan.exit_weight[1] = 1.0f;
    t.loss[0] = t.loss[3] = -5.0;
    assert_ok(trial_run(&t, true, false));
    assert_true(t.loss[0] == -5.0 && t.loss[3] == -5.0); /* exits that are off are not touched */
    assert_true(layer_gradient(&t, 0) > 1e-6 && layer_gradient(&t, 1) > 1e-6);
    assert_true(layer_gradient(&t, 2) == 0.0 && layer_gradient(&t, 3) == 0.0);
    trial_destroy(&t);
}

static void forward_only_gives_the_same_losses(void **state)
{
    (void)state;
    const ls_model_config config = small_config(4, true);
    trial t;
    trial_create(&t, LS_DEVICE_REFERENCE, LS_F32, &config, 3, 7);
    trial_add_recipe(&t);
    assert_ok(trial_run(&t, true, false));
    double losses[4];
    memcpy(losses, t.loss, sizeof losses);
    memset(t.loss, 0, sizeof losses);
    assert_ok(trial_run(&t, false, true));
    for (int l = 0; l < 4; l++)
        if (t.plan.exit_weight[l] > 0.0f) assert_true(t.loss[l] == losses[l]);
    assert_true(layer_gradient(&t, -1) == 0.0);
    trial_destroy(&t);
}

/* ---- dropout -------------------------------------------------------------------------------------------------------
 */

/* A batch equals its samples one at a time: nothing leaks between samples, whatever slots they get. */
static void batch_equals_its_samples(void **state)
{
    (void)state;
    const ls_model_config config = small_config(4, true);
    trial t, one;
    trial_create(&t, LS_DEVICE_REFERENCE, LS_F32, &config, 3, 7);
    trial_create(&one, LS_DEVICE_REFERENCE, LS_F32, &config, 1, 7);
    trial_add_documents(&t);
    all_exits_on(&t);
    all_exits_on(&one);
    assert_ok(trial_run(&t, false, false));
    double sum[4] = {0};
    for (int b = 0; b < 3; b++) {
        one.batch.tokens = t.tokens + b * 7;
        one.batch.targets = t.targets + b * 7;
        one.batch.first_key = t.first_key + b * 7;
        one.batch.positions = t.positions + b * 7;
        memcpy(one.targets, t.targets + b * 7, 7 * sizeof(int32_t)); /* for the count */
        assert_ok(trial_run(&one, false, false));
        for (int l = 0; l < 4; l++) sum[l] += one.loss[l];
    }
    for (int l = 0; l < 4; l++) assert_true(fabs(sum[l] - t.loss[l]) <= 1e-12 * sum[l]);
    trial_destroy(&t);
    trial_destroy(&one);
}

/* Two documents packed into one sample equal the two alone, to the bit: nothing crosses the boundary, and positions
 * start again. */
static void packed_documents_do_not_meet(void **state)
{
    (void)state;
    enum { FIRST = 4, T = 11 };
    const ls_model_config config = small_config(3, true);
    trial packed, alone;
    trial_create(&packed, LS_DEVICE_REFERENCE, LS_F32, &config, 1, T);
    for (int32_t t = FIRST; t < T; t++) {
        packed.first_key[t] = FIRST;
        packed.positions[t] = t - FIRST;
    }
    packed.batch.first_key = packed.first_key;
    packed.batch.positions = packed.positions;
    for (int part = 0; part < 2; part++) {
        const int start = part == 0 ? 0 : FIRST, length = part == 0 ? FIRST : T - FIRST;
        trial_create(&alone, LS_DEVICE_REFERENCE, LS_F32, &config, 1, length);
        memcpy(alone.tokens, packed.tokens + start, sizeof(int32_t) * (size_t)length);
        for (int i = 0; i < T; i++) packed.targets[i] = i >= start && i < start + length ? i : -1;
        memcpy(alone.targets, packed.targets + start, sizeof(int32_t) * (size_t)length);
        assert_ok(trial_run(&packed, false, false));
        assert_ok(trial_run(&alone, false, false));
        assert_true(packed.loss[2] == alone.loss[2]);
        trial_destroy(&alone);
    }
    trial_destroy(&packed);
}

/* The head applied to the embedding, by hand. */
static double loss_without_blocks(trial *t)
{
    const ls_backend *ops = t->exec.ops;
    const int64_t rows = t->batch.B * t->batch.T, C = t->model.config.hidden_size, V = t->model.config.vocab_size;
    const size_t R = (size_t)rows;
    float *x = calloc(R * (size_t)C, sizeof *x), *normed = calloc(R * (size_t)C, sizeof *x);
    float *logits = calloc(R * (size_t)V, sizeof *x), *loss = calloc(R, sizeof *x);
    const int32_t slot = 0;
    ops->embedding_forward(&t->exec, x, t->tokens, ls_model_weight(&t->model, t->model.table.embedding), LS_F32, rows,
                           V, C);
    ops->rmsnorm_forward(&t->exec, normed, NULL, x, &slot, ls_model_weight(&t->model, t->model.table.final_norm),
                         LS_F32, 1, rows, C, (float)t->model.config.rms_norm_eps);
    ops->matmul(&t->exec, logits, LS_F32, normed, ls_model_weight(&t->model, t->model.table.head), LS_F32, rows, V, C,
                LS_TRANSPOSE_B);
    ops->cross_entropy(&t->exec, loss, logits, t->targets, LS_F32, 0.0f, rows, V);
    double sum = 0.0;
    for (int64_t r = 0; r < rows; r++) sum += (double)loss[r];
    free(x);
    free(normed);
    free(logits);
    free(loss);
    return sum;
}

static void dropping_everyone_is_the_identity(void **state)
{
    (void)state;
    const ls_model_config config = small_config(3, false);
    trial t;
    trial_create(&t, LS_DEVICE_REFERENCE, LS_F32, &config, 2, 7);
    all_exits_on(&t);
    for (int l = 0; l < 3; l++)
        for (int b = 0; b < 2; b++) trial_drop(&t, l, b);
    for (int recompute = 0; recompute < 2; recompute++) {
        assert_ok(trial_run(&t, true, recompute != 0));
        for (int l = 0; l < 3; l++) {
            assert_true(t.loss[l] == loss_without_blocks(&t));
            assert_true(layer_gradient(&t, l) == 0.0);
        }
        assert_true(layer_gradient(&t, -1) > 1e-6);
    }
    trial_destroy(&t);
}

/* For a sample dropped in layer l, layer l is not there: same losses and gradients as the model without it. */
static void dropped_sample_skips_one_layer(void **state)
{
    (void)state;
    const ls_model_config config = small_config(4, false), shorter = small_config(3, false);
    trial t, removed;
    trial_create(&t, LS_DEVICE_REFERENCE, LS_F32, &config, 2, 7);
    trial_create(&removed, LS_DEVICE_REFERENCE, LS_F32, &shorter, 2, 7);
    copy_weights(&removed, &t, (const int[]){0, 2, 3});
    all_exits_on(&t);
    for (int l = 0; l < 3; l++) removed.plan.exit_weight[l] = 0.25f;
    removed.plan.exit_weight[0] = 0.5f; /* exit 1 of the dropped sample sees what exit 0 sees */
    trial_drop(&t, 1, 1);
    keep_targets_of(&t, 1);
    keep_targets_of(&removed, 1);
    assert_ok(trial_run(&t, true, false));
    assert_ok(trial_run(&removed, true, false));
    assert_true(t.loss[0] == removed.loss[0] && t.loss[1] == removed.loss[0]);
    assert_true(t.loss[2] == removed.loss[1] && t.loss[3] == removed.loss[2]);
    assert_true(layer_gradient(&t, 1) == 0.0);
    const int of[] = {0, 2, 3};
    for (int l = 0; l < 3; l++) {
        const ls_layer_offsets *a = &t.model.table.layers[of[l]], *b = &removed.model.table.layers[l];
        const int64_t count = t.model.table.layers[1].input_norm - t.model.table.layers[0].input_norm;
        /* Exit 0 weighs once with 0.5 here and twice with 0.25 there: layer 0 differs by a rounding. */
        assert_true(relative_distance(t.gradients + a->input_norm, removed.gradients + b->input_norm, count) <=
                    (l == 0 ? 1e-6 : 0.0));
    }
    trial_destroy(&t);
    trial_destroy(&removed);
}

/* Documents and positions follow a sample whose neighbours leave the batch, and its result does not know of them. */
static void sample_does_not_know_its_neighbours(void **state)
{
    const ls_device device = *(const ls_device *)*state;
    const ls_model_config config = small_config(3, true);
    trial t;
    trial_create(&t, device, LS_F32, &config, 3, 9);
    trial_add_documents(&t);
    all_exits_on(&t);
    keep_targets_of(&t, 2);
    assert_ok(trial_run(&t, true, false));
    double alone[3];
    memcpy(alone, t.loss, sizeof alone);
    float *gradients = copy_gradients(&t);
    for (int mask = 1; mask < 8; mask++) {
        ls_step_plan_set_plain(&t.plan);
        all_exits_on(&t);
        for (int l = 0; l < 3; l++)
            for (int b = 0; b < 2; b++)
                if (mask >> l & 1 && (b == l % 2 || mask == 7)) trial_drop(&t, l, b);
        assert_ok(trial_run(&t, true, false));
        for (int l = 0; l < 3; l++) /* The CPU's products may sum in another order when the number of rows changes. */
            assert_true(fabs(t.loss[l] - alone[l]) <= (device == LS_DEVICE_REFERENCE ? 0.0 : 1e-5 * alone[l]));
        assert_true(relative_distance(t.gradients, gradients, t.model.table.elements) <=
                    (device == LS_DEVICE_REFERENCE ? 0.0 : 1e-5));
    }
    free(gradients);
    trial_destroy(&t);
}

/* ---- the pass ------------------------------------------------------------------------------------------------------
 */

static void recomputation_changes_nothing(void **state)
{
    const ls_device device = *(const ls_device *)*state;
    const ls_model_config config = small_config(5, true);
    for (int recipe = 0; recipe < 3; recipe++)
        for (int dtype = LS_F32; dtype <= LS_BF16; dtype++) {
            trial t;
            trial_create(&t, device, (ls_dtype)dtype, &config, 3, 7);
            trial_add_documents(&t);
            if (recipe > 0) trial_add_recipe(&t);
            if (recipe == 2) /* nobody in the last layer */
                for (int b = 0; b < 3; b++)
                    if ((4 + b) % 2 == 0) trial_drop(&t, 4, b);
            assert_ok(trial_run(&t, true, false));
            float *gradients = copy_gradients(&t);
            double losses[5];
            memcpy(losses, t.loss, sizeof losses);
            assert_ok(trial_run(&t, true, true));
            assert_true(same_bits(losses, t.loss, sizeof losses));
            assert_true(same_bits(gradients, t.gradients, gradient_bytes(&t)));
            free(gradients);
            trial_destroy(&t);
        }
}

typedef struct places {
    const ls_parameter_table *table;
    float *of[7]; /* by part + 1 */
    int told[7], order[7], count;
    bool asked_too_late;
} places;

static float *place_of(void *context, int part)
{
    places *p = context;
    p->asked_too_late = p->asked_too_late || p->told[part + 1] > 0;
    return p->of[part + 1];
}

static void part_told(void *context, int part)
{
    places *p = context;
    p->told[part + 1]++;
    if (p->count < 7) p->order[p->count++] = part;
}

/* Each part in memory of its own: the bits of the one block. Each is told once, after which its place is not asked for;
 * ls_training_tell tells them in the same order. */
static void gradients_go_where_asked(void **state)
{
    (void)state;
    for (int tied = 0; tied < 2; tied++) {
        const ls_model_config config = small_config(5, tied != 0);
        trial t;
        ls_training *training;
        trial_create(&t, LS_DEVICE_REFERENCE, LS_F32, &config, 3, 7);
        trial_add_recipe(&t);
        t.plan.exit_weight[0] = t.plan.exit_weight[4] = 0.0f; /* the one in the middle is the highest and the lowest */
        assert_ok(trial_run(&t, true, false));
        places p = {.table = &t.model.table};
        for (int part = -1; part <= 5; part++) {
            const int64_t count = ls_parameter_part(p.table, part + 1) - ls_parameter_part(p.table, part);
            p.of[part + 1] = calloc((size_t)count, sizeof(float));
        }
        assert_ok(ls_training_create(&training, &t.model, 3, 7, false));
        ls_training_watch(training, (ls_backward_watch){part_told, place_of, &p});
        assert_ok(ls_training_run(training, t.loss, NULL, &t.batch, &t.plan, t.target_count));
        assert_false(p.asked_too_late);
        assert_int_equal(p.count, 7);
        for (int part = -1; part <= 5; part++) {
            const int64_t first = ls_parameter_part(p.table, part), end = ls_parameter_part(p.table, part + 1);
            assert_int_equal(p.told[part + 1], 1);
            assert_true(same_bits(t.gradients + first, p.of[part + 1], sizeof(float) * (size_t)(end - first)));
            free(p.of[part + 1]);
        }
        places again = {.table = &t.model.table};
        ls_training_watch(training, (ls_backward_watch){part_told, place_of, &again});
        ls_training_tell(training, &t.plan);
        assert_true(same_bits(p.order, again.order, sizeof p.order));
        ls_training_destroy(training);
        trial_destroy(&t);
    }
}

/* One object serves smaller batches too, leaves nothing behind from one pass to the next, and adds to gradients. */
static void buffers_are_reused(void **state)
{
    (void)state;
    const ls_model_config config = small_config(4, true);
    for (int recompute = 0; recompute < 2; recompute++) {
        trial t;
        ls_training *training;
        trial_create(&t, LS_DEVICE_REFERENCE, LS_F32, &config, 2, 5);
        trial_add_recipe(&t);
        assert_ok(trial_run(&t, true, recompute != 0));
        float *expected = copy_gradients(&t);
        const double loss = t.loss[3];
        assert_ok(ls_training_create(&training, &t.model, 3, 9, recompute != 0));
        memset(t.gradients, 0, gradient_bytes(&t));
        assert_ok(ls_training_run(training, t.loss, t.gradients, &t.batch, &t.plan, t.target_count));
        assert_true(same_bits(expected, t.gradients, gradient_bytes(&t)));
        assert_ok(ls_training_run(training, t.loss, t.gradients, &t.batch, &t.plan, t.target_count));
        assert_true(t.loss[3] == loss);
        for (int64_t i = 0; i < t.model.table.elements; i++) expected[i] *= 2.0f;
        assert_true(relative_distance(t.gradients, expected, t.model.table.elements) <= 1e-6);
        ls_training_destroy(training);
        free(expected);
        trial_destroy(&t);
    }
}

/* More rows than a chunk: 36 x 15 positions of which four in five count make 432 rows, all of them 540. */
static void chunks_add_up(void **state)
{
    (void)state;
    const ls_model_config config = small_config(1, true);
    for (int64_t missing = 0; missing < 3; missing++) {
        trial t;
        trial_create(&t, LS_DEVICE_REFERENCE, LS_F32, &config, 36, 15);
        for (int64_t r = 0; r < 540; r++) t.targets[r] = (int32_t)(r * 7 % 29);
        /* The last chunk has 28 rows, one row, none. */
        for (int64_t r = 0; r < (missing == 0 ? 0 : 26 + missing); r++) t.targets[r * 11] = -1;
        assert_ok(trial_run(&t, true, false));
        float *whole = copy_gradients(&t), *sum = calloc(1, gradient_bytes(&t));
        const double loss = t.loss[0], count = t.target_count;
        double loss_sum = 0.0;
        for (int64_t part = 0; part < 2; part++) {
            t.batch.B = t.plan.samples = 18;
            ls_step_plan_set_plain(&t.plan);
            t.batch.tokens = t.tokens + part * 270;
            t.batch.targets = t.targets + part * 270;
            ls_training *training;
            assert_ok(ls_training_create(&training, &t.model, 18, 15, false));
            assert_ok(ls_training_run(training, t.loss, sum, &t.batch, &t.plan, count));
            ls_training_destroy(training);
            loss_sum += t.loss[0];
        }
        assert_true(fabs(loss - loss_sum) <= 1e-12 * loss);
        assert_true(relative_distance(whole, sum, t.model.table.elements) <= 1e-6);
        free(whole);
        free(sum);
        trial_destroy(&t);
    }
}

/* The logits of all exits at once would be 8 exits x 512 rows x 4096 entries x 4 bytes = 64 MiB. */
static void memory_does_not_depend_on_exits(void **state)
{
    (void)state;
    ls_model_config config = small_config(8, true);
    config.vocab_size = 4096;
    trial t;
    trial_create(&t, LS_DEVICE_CPU, LS_F32, &config, 8, 64);
    ls_training *training;
    assert_ok(ls_training_create(&training, &t.model, 8, 64, false));
    assert_ok(ls_training_run(training, t.loss, t.gradients, &t.batch, &t.plan, 512.0));
    const size_t bytes = ls_training_bytes(training), peak = ls_memory_peak_resident();
    all_exits_on(&t);
    assert_ok(ls_training_run(training, t.loss, t.gradients, &t.batch, &t.plan, 512.0));
    assert_int_equal(ls_training_bytes(training), bytes);
    const size_t peak_of_all = ls_memory_peak_resident();
    assert_true(peak > 0);
    if (PEAK_IS_MEANINGFUL && !((double)peak_of_all <= 1.03 * (double)peak))
        fail_msg("peak memory %zu with all exits, %zu with one", peak_of_all, peak);
    ls_training_destroy(training);
    trial_destroy(&t);
}

/* ---- refusals ------------------------------------------------------------------------------------------------------
 */

static void bad_loss_names_its_layer(void **state)
{
    (void)state;
    const ls_model_config config = small_config(4, true);
    trial t;
    trial_create(&t, LS_DEVICE_REFERENCE, LS_F32, &config, 2, 7);
    all_exits_on(&t);
    t.master[t.model.table.layers[2].down + 5] = NAN;
    trial_publish(&t);
    assert_fails(trial_run(&t, true, false), LS_NOT_FINITE, "layer 2");
    t.master[t.model.table.layers[2].down + 5] = 0.0f;
    t.master[t.model.table.layers[1].gate_up] = INFINITY;
    trial_publish(&t);
    assert_fails(trial_run(&t, false, false), LS_NOT_FINITE, "layer 1");
    trial_destroy(&t);
}

static void bad_batches_are_refused(void **state)
{
    (void)state;
    const ls_model_config config = small_config(2, true);
    trial t;
    trial_create(&t, LS_DEVICE_REFERENCE, LS_F32, &config, 2, 7);
    t.tokens[3] = 29;
    assert_fails(trial_run(&t, true, false), LS_BAD_INPUT, "token id 29 is outside the model's vocabulary of 29");
    t.tokens[3] = 28;
    t.targets[3] = -2;
    assert_fails(trial_run(&t, true, false), LS_BAD_INPUT, "token id -2");
    t.targets[3] = 1;
    trial_add_documents(&t);
    t.first_key[6] = 7;
    assert_fails(trial_run(&t, true, false), LS_BAD_INPUT, "attends from 7");
    t.first_key[6] = 0; /* behind the position before it */
    assert_fails(trial_run(&t, true, false), LS_BAD_INPUT, "attends from 0");
    t.batch.first_key = NULL;
    t.positions[1] = 64;
    assert_fails(trial_run(&t, true, false), LS_BAD_INPUT, "numbered 64");
    t.batch.positions = NULL;
    t.plan.survivors[1] = 0;
    assert_fails(trial_run(&t, true, false), LS_INTERNAL, "ascending");
    t.plan.survivors[1] = 1;
    t.plan.samples = 1;
    assert_fails(trial_run(&t, true, false), LS_INTERNAL, "plan [2,1]");
    t.plan.samples = 2;
    for (int r = 0; r < 14; r++) t.targets[r] = -1;
    assert_fails(trial_run(&t, true, false), LS_BAD_INPUT, "no target tokens");
    ls_training *training;
    assert_fails(ls_training_create(&training, &t.model, 2, 65, false), LS_BAD_INPUT, "max_position_embeddings (64)");
    assert_fails(ls_training_create(&training, &t.model, INT32_MAX, 64, false), LS_BAD_INPUT, "too large");
    trial_destroy(&t);
}

int main(void)
{
    static ls_device reference = LS_DEVICE_REFERENCE, cpu = LS_DEVICE_CPU;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(memory_does_not_depend_on_exits), /* first: the peak only grows */
        cmocka_unit_test(exit_sees_output_of_its_block),
        cmocka_unit_test(exit_equals_the_model_cut_there),
        cmocka_unit_test(last_block_learns_from_the_last_exit),
        cmocka_unit_test(middle_exit_leaves_later_blocks_alone),
        cmocka_unit_test(forward_only_gives_the_same_losses),
        cmocka_unit_test(batch_equals_its_samples),
        cmocka_unit_test(packed_documents_do_not_meet),
        cmocka_unit_test(dropping_everyone_is_the_identity),
        cmocka_unit_test(dropped_sample_skips_one_layer),
        cmocka_unit_test_prestate(sample_does_not_know_its_neighbours, &reference),
        cmocka_unit_test_prestate(sample_does_not_know_its_neighbours, &cpu),
        cmocka_unit_test_prestate(recomputation_changes_nothing, &reference),
        cmocka_unit_test_prestate(recomputation_changes_nothing, &cpu),
        cmocka_unit_test(gradients_go_where_asked),
        cmocka_unit_test(buffers_are_reused),
        cmocka_unit_test(chunks_add_up),
        cmocka_unit_test(bad_loss_names_its_layer),
        cmocka_unit_test(bad_batches_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
