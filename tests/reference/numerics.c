/* What the model computes for a batch that another program chose: numerics MODEL CASE.h5 RESULT.h5 fp32|bf16
 *
 * CASE (kind "case"): attributes samples, length, rows_at_once, recompute, gradients; int32 [B,T] tokens, targets,
 * first_key, positions; int32 [L,B] survivors (1: the sample runs through the layer); fp32 [L] residual_scale,
 * exit_weight. RESULT (kind "result"): fp32 [B*T,V] logits of decoding, rows_at_once positions a call; where gradients
 * is not 0, fp64 [L] exit_loss, 0 for exits that are off, and fp32 gradients/NAME of every parameter. The compare_*.py
 * beside make the one and judge the other. */
#include "model/decode.h"
#include "model/model_file.h"
#include "model/training.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct problem {
    int64_t B, T, rows_at_once, recompute, gradients;
    int32_t *tokens, *targets, *first_key, *positions;
    ls_step_plan plan;
    double target_count;
} problem;

static void *memory(size_t count, size_t size)
{
    void *block = calloc(count + 1, size);
    LS_ASSERT(block != NULL);
    return block;
}

static ls_status read_rows(hid_t file, const char *path, const char *name, int64_t rows, int64_t cols, int32_t **out)
{
    *out = memory((size_t)(rows * cols), sizeof **out);
    return ls_hdf5_read_array(file, path, name, H5T_NATIVE_INT32, rows, cols, *out);
}

static ls_status read_plan(hid_t file, const char *path, problem *p, int layers)
{
    int32_t *alive;
    LS_TRY(ls_step_plan_create(&p->plan, layers, (int)p->B));
    LS_TRY(read_rows(file, path, "survivors", layers, p->B, &alive));
    for (int l = 0; l < layers; l++) {
        int32_t *row = p->plan.survivors + (int64_t)l * p->B;
        p->plan.survivor_count[l] = 0;
        for (int32_t b = 0; b < p->B; b++)
            if (alive[l * p->B + b] != 0) row[p->plan.survivor_count[l]++] = b;
    }
    free(alive);
    LS_TRY(ls_hdf5_read_array(file, path, "residual_scale", H5T_NATIVE_FLOAT, layers, 0, p->plan.residual_scale));
    return ls_hdf5_read_array(file, path, "exit_weight", H5T_NATIVE_FLOAT, layers, 0, p->plan.exit_weight);
}

static ls_status read_problem(hid_t file, const char *path, problem *p, int layers)
{
    LS_TRY(ls_hdf5_read_int(file, path, "samples", &p->B));
    LS_TRY(ls_hdf5_read_int(file, path, "length", &p->T));
    LS_TRY(ls_hdf5_read_int(file, path, "rows_at_once", &p->rows_at_once));
    LS_TRY(ls_hdf5_read_int(file, path, "recompute", &p->recompute));
    LS_TRY(ls_hdf5_read_int(file, path, "gradients", &p->gradients));
    LS_TRY(read_rows(file, path, "tokens", p->B, p->T, &p->tokens));
    LS_TRY(read_rows(file, path, "targets", p->B, p->T, &p->targets));
    LS_TRY(read_rows(file, path, "first_key", p->B, p->T, &p->first_key));
    LS_TRY(read_rows(file, path, "positions", p->B, p->T, &p->positions));
    for (int64_t r = 0; r < p->B * p->T; r++) p->target_count += p->targets[r] >= 0;
    return read_plan(file, path, p, layers);
}

static ls_status decode_sample(const ls_model *model, ls_decode *decode, float *hidden, float *logits,
                               const int32_t *tokens, const problem *p)
{
    const int64_t C = model->config.hidden_size, V = model->config.vocab_size;
    for (int64_t first = 0; first < p->T; first += p->rows_at_once) {
        const int64_t left = p->T - first, rows = left < p->rows_at_once ? left : p->rows_at_once;
        LS_TRY(ls_decode_embed(decode, hidden + first * C, tokens + first, rows));
        LS_TRY(
            ls_decode_layers(decode, hidden + first * C, 0, (int)model->config.num_hidden_layers, NULL, first, rows));
        LS_TRY(ls_decode_logits(decode, logits + first * V, hidden + first * C, rows));
    }
    return LS_OK;
}

static ls_status write_logits(hid_t out, const ls_model *model, const problem *p)
{
    const size_t C = (size_t)model->config.hidden_size, V = (size_t)model->config.vocab_size, T = (size_t)p->T;
    const size_t hidden_bytes = T * C * sizeof(float), logit_bytes = T * V * sizeof(float);
    void *hidden, *logits;
    float *all = memory((size_t)p->B * T * V, sizeof *all);
    LS_TRY(ls_exec_allocate(model->exec, &hidden, hidden_bytes, "hidden states"));
    LS_TRY(ls_exec_allocate(model->exec, &logits, logit_bytes, "logits"));
    for (int64_t b = 0; b < p->B; b++) {
        ls_decode *decode;
        LS_TRY(ls_decode_create(&decode, model, p->T, p->rows_at_once));
        LS_TRY(decode_sample(model, decode, hidden, logits, p->tokens + b * p->T, p));
        LS_TRY(ls_exec_download(model->exec, all + (size_t)b * T * V, logits, logit_bytes));
        ls_decode_destroy(decode);
    }
    ls_exec_free(model->exec, hidden, hidden_bytes);
    ls_exec_free(model->exec, logits, logit_bytes);
    const ls_status status = ls_hdf5_write_array(out, "logits", H5T_NATIVE_FLOAT, p->B * p->T, (int64_t)V, all);
    free(all);
    return status;
}

static ls_status write_gradients(hid_t out, const ls_model *model, const problem *p)
{
    const size_t bytes = sizeof(float) * (size_t)model->table.elements;
    const int64_t L = model->config.num_hidden_layers;
    const ls_batch batch = {p->B, p->T, p->tokens, p->targets, p->first_key, p->positions};
    double *loss = memory((size_t)L, sizeof *loss);
    float *values = memory((size_t)model->table.elements, sizeof *values);
    void *gradients;
    ls_training *training;
    LS_TRY(ls_exec_allocate(model->exec, &gradients, bytes, "gradients"));
    LS_TRY(ls_training_create(&training, model, p->B, p->T, p->recompute != 0));
    LS_TRY(ls_training_run(training, loss, gradients, &batch, &p->plan, p->target_count));
    LS_TRY(ls_exec_download(model->exec, values, gradients, bytes));
    ls_training_destroy(training);
    ls_exec_free(model->exec, gradients, bytes);
    LS_TRY(ls_hdf5_write_array(out, "exit_loss", H5T_NATIVE_DOUBLE, L, 0, loss));
    for (int i = 0; i < model->table.count; i++) {
        const ls_parameter *entry = &model->table.entries[i];
        char name[128];
        (void)snprintf(name, sizeof name, "gradients/%s", entry->name);
        LS_TRY(ls_hdf5_write_array(out, name, H5T_NATIVE_FLOAT, entry->rows * entry->cols, 0, values + entry->offset));
    }
    free(loss);
    free(values);
    return LS_OK;
}

static ls_status run(char **arguments)
{
    ls_exec exec;
    ls_model model;
    char *tokenizer;
    hid_t in, out;
    problem p = {0};
    LS_TRY(ls_exec_create(&exec, LS_DEVICE_CPU, 1));
    LS_TRY(
        ls_model_load(&model, &tokenizer, &exec, arguments[1], strcmp(arguments[4], "bf16") == 0 ? LS_BF16 : LS_F32));
    LS_TRY(ls_hdf5_open(&in, arguments[2], "case"));
    LS_TRY(read_problem(in, arguments[2], &p, (int)model.config.num_hidden_layers));
    (void)H5Fclose(in);
    LS_TRY(ls_hdf5_create(&out, arguments[3], "result"));
    LS_TRY(write_logits(out, &model, &p));
    if (p.gradients != 0) LS_TRY(write_gradients(out, &model, &p));
    LS_TRY(ls_hdf5_close(out, arguments[3]));
    ls_step_plan_destroy(&p.plan);
    free(p.tokens), free(p.targets), free(p.first_key), free(p.positions), free(tokenizer);
    ls_model_destroy(&model);
    ls_exec_destroy(&exec);
    return LS_OK;
}

int main(int argc, char **argv)
{
    if (argc != 5) {
        (void)fprintf(stderr, "usage: numerics MODEL CASE.h5 RESULT.h5 fp32|bf16\n");
        return 2;
    }
    if (run(argv) == LS_OK) return 0;
    (void)fprintf(stderr, "numerics: %s\n", ls_error_text());
    return 2;
}
