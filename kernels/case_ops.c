/* How each op is run as a case (those on the key/value cache and on tokens: case_decoding.c): its buffers in the order
 * of kernels/ops.h, its call, its operations, and how far a result may be off. */
#include "kernels/case_declare.h"

static const float EPSILON = 1e-5f;
static const float RESIDUAL_SCALE = 0.7f;
static const ls_adamw_step ADAMW_STEP = {.learning_rate = 0.01f,
                                         .beta1 = 0.9f,
                                         .beta2 = 0.95f,
                                         .epsilon = 1e-8f,
                                         .weight_decay = 0.1f,
                                         .gradient_scale = 0.5f,
                                         .bias_correction1 = 0.271f,
                                         .bias_correction2 = 0.142625f};

void *ls_case_data(const ls_case_run *run, const char *name)
{
    const ls_case_buffer *const buffer = ls_case_find(run, name);
    return buffer == NULL ? NULL : buffer->data;
}

/* ---- matrix products --------------------------------------------------------------------------------------------- */

/* Sums of K products of numbers of variance 1 stay within a few sqrt(K), and gather at most K roundings of that size,
 * of random sign: 3 sqrt(K) * sqrt(K) halves of a unit, and a few more for K near 1. */
static double product_error(int64_t K) { return (3.0 * (double)K + 8.0) * HALF_ULP_F32; }

static void add_product_out(ls_case_run *run, int64_t count, bool accumulate)
{
    ls_case_buffer *const out =
        add(run, "out", (ls_element)run->out_dtype, count, accumulate ? LS_FILL_SPREAD : LS_FILL_NOTHING);
    writes(out, product_error(run->what.K), FEW_F32);
}

static void matmul_declare(ls_case_run *run)
{
    const ls_case *const c = &run->what;
    add_product_out(run, c->M * c->N, (c->flags & LS_ACCUMULATE) != 0);
    add_typed(run, "a", c->M * c->K, LS_FILL_SPREAD);
    add_typed(run, "b", c->K * c->N, LS_FILL_SPREAD);
}

static void matmul_call(const ls_case_run *run)
{
    const ls_case *const c = &run->what;
    OPS->matmul(run->exec, DATA("out"), run->out_dtype, DATA("a"), DATA("b"), run->dtype, c->M, c->N, c->K, c->flags);
}

static double matmul_flop(const ls_case *c) { return 2.0 * (double)c->M * (double)c->N * (double)c->K; }

static void matmul_bias_declare(ls_case_run *run)
{
    matmul_declare(run);
    add_typed(run, "bias", run->what.N, LS_FILL_SPREAD);
}

static void matmul_bias_call(const ls_case_run *run)
{
    const ls_case *const c = &run->what;
    OPS->matmul_bias(run->exec, DATA("out"), DATA("a"), DATA("b"), DATA("bias"), run->dtype, c->M, c->N, c->K,
                     c->flags);
}

static void matmul_rows_declare(ls_case_run *run)
{
    const ls_case *const c = &run->what;
    add_product_out(run, c->R * c->N, false);
    add_typed(run, "x", c->R * c->K, LS_FILL_SPREAD);
    add_typed(run, "weight", c->N * c->K, LS_FILL_SPREAD);
}

static void matmul_rows_call(const ls_case_run *run)
{
    const ls_case *const c = &run->what;
    OPS->matmul_rows(run->exec, DATA("out"), run->out_dtype, DATA("x"), DATA("weight"), run->dtype, c->R, c->N, c->K);
}

static double matmul_rows_flop(const ls_case *c) { return 2.0 * (double)c->R * (double)c->N * (double)c->K; }

/* ---- bias -------------------------------------------------------------------------------------------------------- */

static void bias_add_declare(ls_case_run *run)
{
    const ls_case *const c = &run->what;
    writes(add_typed(run, "x", c->R * c->N, LS_FILL_SPREAD), 0.0, HALF_ULP_F32); /* one sum, one store */
    add_typed(run, "bias", c->N, LS_FILL_SPREAD);
}

static void bias_add_call(const ls_case_run *run)
{
    OPS->bias_add(run->exec, DATA("x"), DATA("bias"), run->dtype, run->what.R, run->what.N);
}

static void bias_backward_declare(ls_case_run *run)
{
    const ls_case *const c = &run->what;
    writes(add_float(run, "dbias", c->N, LS_FILL_SPREAD), product_error(c->R), FEW_F32);
    add_typed(run, "dout", c->R * c->N, LS_FILL_SPREAD);
}

static void bias_backward_call(const ls_case_run *run)
{
    OPS->bias_backward(run->exec, DATA("dbias"), DATA("dout"), run->dtype, run->what.R, run->what.N);
}

static double bias_flop(const ls_case *c) { return (double)c->R * (double)c->N; }

/* ---- embedding --------------------------------------------------------------------------------------------------- */

static int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

static void embedding_forward_declare(ls_case_run *run)
{
    const ls_case *const c = &run->what;
    writes(add_float(run, "out", c->R * c->C, LS_FILL_NOTHING), 0.0, 0.0); /* a copy */
    add_int(run, "token", c->R, LS_FILL_TOKEN);
    add_typed(run, "weight", c->V * c->C, LS_FILL_SPREAD)->traffic = smaller(c->R, c->V) * c->C;
}

static void embedding_forward_call(const ls_case_run *run)
{
    const ls_case *const c = &run->what;
    OPS->embedding_forward(run->exec, DATA("out"), DATA("token"), DATA("weight"), run->dtype, c->R, c->V, c->C);
}

static void embedding_backward_declare(ls_case_run *run)
{
    const ls_case *const c = &run->what;
    ls_case_buffer *const dweight = add_float(run, "dweight", c->V * c->C, LS_FILL_SPREAD);
    writes(dweight, 0.0, 0.0); /* the order of the sum is part of the contract */
    dweight->traffic = 2 * smaller(c->R, c->V) * c->C;
    add_float(run, "dout", c->R * c->C, LS_FILL_SPREAD);
    add_int(run, "token", c->R, LS_FILL_TOKEN);
}

static void embedding_backward_call(const ls_case_run *run)
{
    const ls_case *const c = &run->what;
    OPS->embedding_backward(run->exec, DATA("dweight"), DATA("dout"), DATA("token"), c->R, c->V, c->C);
}

static double no_flop(const ls_case *c)
{
    (void)c;
    return 0.0;
}

static double embedding_backward_flop(const ls_case *c) { return (double)c->R * (double)c->C; }

/* ---- RMSNorm ----------------------------------------------------------------------------------------------------- */

static void rmsnorm_forward_declare(ls_case_run *run)
{
    const ls_case *const c = &run->what;
    /* The mean of C squares in fp32: C roundings of random sign relative to it. */
    const double error = FEW_F32 * (1.0 + sqrt((double)c->C) / 4.0);
    writes(add_typed(run, "out", c->n * c->T * c->C, LS_FILL_NOTHING), 0.0, error);
    if (!has(c, LS_CASE_NO_EXTRA)) writes(add_float(run, "rstd", c->n * c->T, LS_FILL_NOTHING), 0.0, error);
    add_float(run, "residual", c->B * c->T * c->C, LS_FILL_NONZERO)->traffic = c->n * c->T * c->C;
    add_int(run, "slot", c->n, LS_FILL_SAMPLE);
    add_typed(run, "weight", c->C, LS_FILL_SPREAD);
}

static void rmsnorm_forward_call(const ls_case_run *run)
{
    const ls_case *const c = &run->what;
    OPS->rmsnorm_forward(run->exec, DATA("out"), DATA("rstd"), DATA("residual"), DATA("slot"), DATA("weight"),
                         run->dtype, c->n, c->T, c->C, EPSILON);
}

static double rmsnorm_forward_flop(const ls_case *c) { return 4.0 * (double)(c->n * c->T) * (double)c->C; }

static void rmsnorm_backward_declare(ls_case_run *run)
{
    const ls_case *const c = &run->what;
    const int64_t rows = c->n * c->T;
    /* h - x rstd^2 mean(h x) cancels, wholly so at C = 1; its terms are at most about 6. The bf16 inputs are read
     * exactly and both outputs are fp32, so one tolerance serves both types. */
    ls_case_buffer *const dresidual = add_float(run, "dresidual", c->B * c->T * c->C, LS_FILL_SPREAD);
    writes(dresidual, 16.0 * FEW_F32, FEW_F32);
    dresidual->traffic = 2 * rows * c->C;
    writes(add_float(run, "dweight", c->C, LS_FILL_SPREAD), product_error(rows) * 2.0, FEW_F32);
    add_typed(run, "dout", rows * c->C, LS_FILL_SPREAD);
    add_float(run, "residual", c->B * c->T * c->C, LS_FILL_NONZERO)->traffic = rows * c->C;
    add_int(run, "slot", c->n, LS_FILL_SAMPLE);
    add_int(run, "sample", c->n, LS_FILL_SAMPLE);
    add_float(run, "rstd", rows, LS_FILL_PREPARED);
    add_typed(run, "weight", c->C, LS_FILL_SPREAD);
}

static void rmsnorm_backward_prepare(const ls_case_run *run)
{
    const ls_case *const c = &run->what;
    const float *const residual = DATA("residual");
    const int32_t *const slot = DATA("slot");
    float *const rstd = DATA("rstd");
    for (int64_t row = 0; row < c->n * c->T; row++) {
        const float *const x = residual + (slot[row / c->T] * c->T + row % c->T) * c->C;
        double squares = 0.0;
        for (int64_t i = 0; i < c->C; i++) squares += (double)x[i] * (double)x[i];
        rstd[row] = (float)(1.0 / sqrt(squares / (double)c->C + (double)EPSILON));
    }
}

static void rmsnorm_backward_call(const ls_case_run *run)
{
    const ls_case *const c = &run->what;
    OPS->rmsnorm_backward(run->exec, DATA("dresidual"), DATA("dweight"), DATA("dout"), DATA("residual"), DATA("slot"),
                          DATA("sample"), DATA("rstd"), DATA("weight"), run->dtype, c->n, c->T, c->C);
}

static double rmsnorm_backward_flop(const ls_case *c) { return 11.0 * (double)(c->n * c->T) * (double)c->C; }

/* ---- residual stream --------------------------------------------------------------------------------------------- */

static void residual_add_declare(ls_case_run *run)
{
    const ls_case *const c = &run->what;
    ls_case_buffer *const residual = add_float(run, "residual", 2 * c->B * c->T * c->C, LS_FILL_SPREAD);
    writes(residual, FEW_F32, FEW_F32);
    residual->traffic = 2 * c->n * c->T * c->C;
    add_int(run, "out_slot", c->n, LS_FILL_OUT_SLOT);
    add_int(run, "in_slot", c->n, LS_FILL_SAMPLE);
    add_typed(run, "y", c->n * c->T * c->C, LS_FILL_SPREAD);
}

static void residual_add_call(const ls_case_run *run)
{
    const ls_case *const c = &run->what;
    OPS->residual_add(run->exec, DATA("residual"), DATA("out_slot"), DATA("in_slot"), DATA("y"), run->dtype,
                      RESIDUAL_SCALE, c->n, c->T, c->C);
}

static double residual_flop(const ls_case *c) { return 2.0 * (double)(c->n * c->T) * (double)c->C; }

/* Backends round the sum alike, by one multiply-add, so the norm brings its own error alone. */
static void residual_add_rmsnorm_declare(ls_case_run *run)
{
    const ls_case *const c = &run->what;
    const double error = FEW_F32 * (1.0 + sqrt((double)c->C) / 4.0);
    residual_add_declare(run);
    writes(add_typed(run, "out", c->n * c->T * c->C, LS_FILL_NOTHING), 0.0, error);
    if (!has(c, LS_CASE_NO_EXTRA)) writes(add_float(run, "rstd", c->n * c->T, LS_FILL_NOTHING), 0.0, error);
    add_typed(run, "weight", c->C, LS_FILL_SPREAD);
}

static void residual_add_rmsnorm_call(const ls_case_run *run)
{
    const ls_case *const c = &run->what;
    OPS->residual_add_rmsnorm(run->exec, DATA("residual"), DATA("out"), DATA("rstd"), DATA("out_slot"), DATA("in_slot"),
                              DATA("y"), DATA("weight"), run->dtype, RESIDUAL_SCALE, c->n, c->T, c->C, EPSILON);
}

static double residual_add_rmsnorm_flop(const ls_case *c) { return 6.0 * (double)(c->n * c->T) * (double)c->C; }

static void gather_cast_declare(ls_case_run *run)
{
    const ls_case *const c = &run->what;
    writes(add_typed(run, "out", c->n * c->T * c->C, LS_FILL_NOTHING), 0.0, HALF_ULP_F32 * 2.0);
    add_float(run, "x", c->B * c->T * c->C, LS_FILL_SPREAD)->traffic = c->n * c->T * c->C;
    add_int(run, "slot", c->n, LS_FILL_SAMPLE);
}

static void gather_cast_call(const ls_case_run *run)
{
    const ls_case *const c = &run->what;
    OPS->gather_cast(run->exec, DATA("out"), DATA("x"), DATA("slot"), run->dtype, RESIDUAL_SCALE, c->n, c->T, c->C);
}

/* ---- rotary embedding -------------------------------------------------------------------------------------------- */

static void rope_declare(ls_case_run *run)
{
    const ls_case *const c = &run->what;
    ls_case_buffer *const qkv = add_typed(run, "qkv", c->n * c->T * (c->H + 2 * c->G) * c->D, LS_FILL_SPREAD);
    writes(qkv, FEW_F32, FEW_F32); /* the two products cancel */
    qkv->traffic = 2 * c->n * c->T * (c->H + c->G) * c->D;
    add_rotation_tables(run, c->T);
    if (has(c, LS_CASE_DOCUMENTS)) {
        add_int(run, "first_key", c->B * c->T, LS_FILL_FIRST_KEY)->traffic = 0;
        add_int(run, "position", c->B * c->T, LS_FILL_POSITION);
    }
    add_sample(run);
}

static void rope_call(const ls_case_run *run)
{
    const ls_case *const c = &run->what;
    OPS->rope(run->exec, DATA("qkv"), DATA("cos_table"), DATA("sin_table"), DATA("position"), DATA("sample"),
              run->dtype, has(c, LS_CASE_INVERSE), c->n, c->T, c->H, c->G, c->D);
}

static double rope_flop(const ls_case *c) { return 3.0 * (double)(c->n * c->T * (c->H + c->G) * c->D); }

/* ---- attention --------------------------------------------------------------------------------------------------- */

static void add_documents(ls_case_run *run)
{
    if (has(&run->what, LS_CASE_DOCUMENTS)) add_int(run, "first_key", run->what.B * run->what.T, LS_FILL_FIRST_KEY);
}

static void attention_forward_declare(ls_case_run *run)
{
    const ls_case *const c = &run->what;
    writes(add_typed(run, "out", c->n * c->T * c->H * c->D, LS_FILL_NOTHING), attention_error(c), FEW_F32);
    writes(add_float(run, "lse", c->n * c->H * c->T, LS_FILL_NOTHING), 8.0 * FEW_F32, FEW_F32);
    add_typed(run, "qkv", c->n * c->T * (c->H + 2 * c->G) * c->D, LS_FILL_SPREAD);
    add_documents(run);
    add_sample(run);
}

static void attention_forward_by(const ls_backend *ops, const ls_case_run *run)
{
    const ls_case *const c = &run->what;
    ops->attention_forward(run->exec, DATA("out"), DATA("lse"), DATA("qkv"), DATA("first_key"), DATA("sample"),
                           run->dtype, attention_scale(c), c->n, c->T, c->H, c->G, c->D);
}

static void attention_forward_call(const ls_case_run *run) { attention_forward_by(OPS, run); }

/* Pairs of query and key under the causal mask; documents would make them fewer. */
static double attention_pairs(const ls_case *c)
{
    return (double)(c->n * c->H) * (double)c->T * (double)(c->T + 1) / 2.0;
}

static double attention_forward_flop(const ls_case *c) { return 4.0 * (double)c->D * attention_pairs(c); }

/* dscore = p (dp - delta), with dp up to a few sqrt(D): rounded to bf16 it moves each term of dq and dk by at most
 * 2^-8 of itself, and with the scale of 1/sqrt(D) the terms are of order 1 at most; over many positions they are small
 * and their errors of random sign. dv sums p dout. A key head gathers from H/G query heads. */
static double attention_backward_error(const ls_case *c)
{
    const double heads = sqrt((double)c->H / (double)(c->G > 0 ? c->G : 1));
    return heads * (c->dtype == LS_F32 ? 64.0 * FEW_F32 : 4.0 * HALF_ULP_BF16);
}

static void attention_backward_declare(ls_case_run *run)
{
    const ls_case *const c = &run->what;
    const int64_t rows = c->n * c->T;
    writes(add_typed(run, "dqkv", rows * (c->H + 2 * c->G) * c->D, LS_FILL_NOTHING), attention_backward_error(c),
           FEW_F32);
    add_typed(run, "dout", rows * c->H * c->D, LS_FILL_SPREAD);
    add_typed(run, "qkv", rows * (c->H + 2 * c->G) * c->D, LS_FILL_SPREAD);
    add_typed(run, "out", rows * c->H * c->D, LS_FILL_PREPARED);
    add_float(run, "lse", c->n * c->H * c->T, LS_FILL_PREPARED);
    add_documents(run);
    add_sample(run);
}

static void attention_backward_prepare(const ls_case_run *run)
{
    ls_case_run here = *run;
    ls_exec cpu;
    if (!has(&run->what, LS_CASE_BENCHMARK)) {
        attention_forward_by(ls_backend_ref(), run);
    } else if (run->exec->memory->host) {
        attention_forward_by(OPS, run);
    } else if (ls_exec_create(&cpu, LS_DEVICE_CPU, 0) == LS_OK) { /* a device's ops cannot reach the host's copy */
        here.exec = &cpu;
        attention_forward_by(cpu.ops, &here);
        ls_exec_destroy(&cpu);
    }
}

static void attention_backward_call(const ls_case_run *run)
{
    const ls_case *const c = &run->what;
    OPS->attention_backward(run->exec, DATA("dqkv"), DATA("dout"), DATA("qkv"), DATA("out"), DATA("lse"),
                            DATA("first_key"), DATA("sample"), run->dtype, attention_scale(c), c->n, c->T, c->H, c->G,
                            c->D);
}

static double attention_backward_flop(const ls_case *c) { return 10.0 * (double)c->D * attention_pairs(c); }

/* ---- SwiGLU ------------------------------------------------------------------------------------------------------ */

static void swiglu_forward_declare(ls_case_run *run)
{
    const ls_case *const c = &run->what;
    writes(add_typed(run, "out", c->R * c->F, LS_FILL_NOTHING), 0.0, 2.0 * FEW_F32); /* products only, e^x in 2 ulp */
    add_typed(run, "gate_up", c->R * 2 * c->F, LS_FILL_LOGITS);
}

static void swiglu_forward_call(const ls_case_run *run)
{
    const ls_case *const c = &run->what;
    OPS->swiglu_forward(run->exec, DATA("out"), DATA("gate_up"), run->dtype, c->R, c->F);
}

static double swiglu_forward_flop(const ls_case *c) { return 5.0 * (double)(c->R * c->F); }

static void swiglu_backward_declare(ls_case_run *run)
{
    const ls_case *const c = &run->what;
    const bool in_place = has(c, LS_CASE_IN_PLACE);
    /* 1 + gate (1 - s) passes through zero at gate = -1.28, times up, at most 8, and dout. */
    writes(add_typed(run, "dgate_up", c->R * 2 * c->F, in_place ? LS_FILL_LOGITS : LS_FILL_NOTHING), 8.0 * FEW_F32,
           2.0 * FEW_F32);
    if (!has(c, LS_CASE_NO_EXTRA))
        writes(add_typed(run, "out", c->R * c->F, in_place ? LS_FILL_SPREAD : LS_FILL_NOTHING), 0.0, 2.0 * FEW_F32);
    if (!in_place || has(c, LS_CASE_NO_EXTRA)) add_typed(run, "dout", c->R * c->F, LS_FILL_SPREAD);
    if (!in_place) add_typed(run, "gate_up", c->R * 2 * c->F, LS_FILL_LOGITS);
}

static void swiglu_backward_call(const ls_case_run *run)
{
    const ls_case *const c = &run->what;
    void *const dgate_up = DATA("dgate_up"), *const out = DATA("out");
    const void *const dout = ls_case_find(run, "dout") != NULL ? DATA("dout") : out;
    const void *const gate_up = has(c, LS_CASE_IN_PLACE) ? dgate_up : DATA("gate_up");
    OPS->swiglu_backward(run->exec, dgate_up, out, dout, gate_up, run->dtype, c->R, c->F);
}

static double swiglu_backward_flop(const ls_case *c) { return 12.0 * (double)(c->R * c->F); }

/* ---- cross-entropy ----------------------------------------------------------------------------------------------- */

static void cross_entropy_declare(ls_case_run *run)
{
    const ls_case *const c = &run->what;
    /* A logarithm of at most about 20 less a logit of at most 8, and a sum of V exponentials, whose relative error
     * is that of their arguments. */
    writes(add_float(run, "loss", c->R, LS_FILL_NOTHING), 8.0 * FEW_F32, FEW_F32);
    ls_case_buffer *const logits = add_typed(run, "logits", c->R * c->V, LS_FILL_LOGITS);
    /* p to the relative error of e^x with an argument of up to 30; p - 1 cancels at the target. */
    if (!has(c, LS_CASE_NO_EXTRA)) writes(logits, HALF_ULP_F32, 8.0 * FEW_F32);
    add_int(run, "target", c->R, LS_FILL_TARGET);
}

static void cross_entropy_call(const ls_case_run *run)
{
    const ls_case *const c = &run->what;
    OPS->cross_entropy(run->exec, DATA("loss"), DATA("logits"), DATA("target"), run->dtype,
                       has(c, LS_CASE_NO_EXTRA) ? 0.0f : LS_CASE_GRADIENT_SCALE, c->R, c->V);
}

static double cross_entropy_flop(const ls_case *c) { return 6.0 * (double)(c->R * c->V); }

/* ---- flat blocks ------------------------------------------------------------------------------------------------- */

static void adamw_declare(ls_case_run *run)
{
    const ls_case *const c = &run->what;
    /* The step is at most some 10 times the learning rate, with a few roundings of its own. */
    const double step = 10.0 * (double)ADAMW_STEP.learning_rate * 2.0 * FEW_F32;
    writes(add_float(run, "weight", c->count, LS_FILL_SPREAD), step, 4.0 * HALF_ULP_F32);
    writes(add_float(run, "m", c->count, LS_FILL_SPREAD), 4.0 * HALF_ULP_F32, FEW_F32); /* its two terms may cancel */
    writes(add_float(run, "v", c->count, LS_FILL_POSITIVE), 0.0, FEW_F32);
    writes(add_float(run, "gradient", c->count, LS_FILL_SPREAD), 0.0, 0.0);
    if (!has(c, LS_CASE_NO_EXTRA | LS_CASE_IN_PLACE))
        writes(add_typed(run, "weight_out", c->count, LS_FILL_NOTHING), step, 4.0 * HALF_ULP_F32);
}

static void adamw_call(const ls_case_run *run)
{
    const ls_case *const c = &run->what;
    void *const weight = DATA("weight");
    OPS->adamw(run->exec, weight, DATA("m"), DATA("v"), DATA("gradient"),
               has(c, LS_CASE_IN_PLACE) ? weight : DATA("weight_out"), run->dtype, &ADAMW_STEP, c->count);
}

static double adamw_flop(const ls_case *c) { return 16.0 * (double)c->count; }

static void sum_of_squares_declare(ls_case_run *run)
{
    /* Blocks may be summed in fp32, all terms positive. */
    writes(add(run, "out", LS_ELEMENT_F64, 1, LS_FILL_NOTHING), 0.0, 2.0 * FEW_F32);
    add_float(run, "x", run->what.count, LS_FILL_SPREAD);
}

static void sum_of_squares_call(const ls_case_run *run)
{
    OPS->sum_of_squares(run->exec, DATA("out"), DATA("x"), run->what.count);
}

static double sum_of_squares_flop(const ls_case *c) { return 2.0 * (double)c->count; }

static void row_sums_declare(ls_case_run *run)
{
    const ls_case *const c = &run->what;
    /* Of at most N numbers below 2, in double: each sum is off by less than N roundings of 2 N. */
    const double N = (double)c->N;
    writes(add(run, "out", LS_ELEMENT_F64, c->R, LS_FILL_NOTHING), 2.0 * N * N * 0x1p-53, 0.0);
    add_float(run, "x", c->R * c->N, LS_FILL_SPREAD);
}

static void row_sums_call(const ls_case_run *run)
{
    OPS->row_sums(run->exec, DATA("out"), DATA("x"), run->what.R, run->what.N);
}

static double row_sums_flop(const ls_case *c) { return (double)c->R * (double)c->N; }

static void convert_declare(ls_case_run *run)
{
    const ls_case *const c = &run->what;
    writes(add(run, "out", (ls_element)run->out_dtype, c->count, LS_FILL_NOTHING), 0.0, 0.0);
    add_typed(run, "x", c->count, LS_FILL_SPREAD);
}

static void convert_call(const ls_case_run *run)
{
    OPS->convert(run->exec, DATA("out"), run->out_dtype, DATA("x"), run->dtype, run->what.count);
}

const ls_case_op ls_case_ops[LS_OP_COUNT] = {
    [LS_OP_matmul] = {matmul_declare, NULL, matmul_call, matmul_flop},
    [LS_OP_matmul_bias] = {matmul_bias_declare, NULL, matmul_bias_call, matmul_flop},
    [LS_OP_matmul_rows] = {matmul_rows_declare, NULL, matmul_rows_call, matmul_rows_flop},
    [LS_OP_bias_add] = {bias_add_declare, NULL, bias_add_call, bias_flop},
    [LS_OP_bias_backward] = {bias_backward_declare, NULL, bias_backward_call, bias_flop},
    [LS_OP_embedding_forward] = {embedding_forward_declare, NULL, embedding_forward_call, no_flop},
    [LS_OP_embedding_backward] = {embedding_backward_declare, NULL, embedding_backward_call, embedding_backward_flop},
    [LS_OP_rmsnorm_forward] = {rmsnorm_forward_declare, NULL, rmsnorm_forward_call, rmsnorm_forward_flop},
    [LS_OP_rmsnorm_backward] = {rmsnorm_backward_declare, rmsnorm_backward_prepare, rmsnorm_backward_call,
                                rmsnorm_backward_flop},
    [LS_OP_residual_add] = {residual_add_declare, NULL, residual_add_call, residual_flop},
    [LS_OP_residual_add_rmsnorm] = {residual_add_rmsnorm_declare, NULL, residual_add_rmsnorm_call,
                                    residual_add_rmsnorm_flop},
    [LS_OP_gather_cast] = {gather_cast_declare, NULL, gather_cast_call, residual_flop},
    [LS_OP_rope] = {rope_declare, NULL, rope_call, rope_flop},
    [LS_OP_attention_forward] = {attention_forward_declare, NULL, attention_forward_call, attention_forward_flop},
    [LS_OP_attention_backward] = {attention_backward_declare, attention_backward_prepare, attention_backward_call,
                                  attention_backward_flop},
    [LS_OP_swiglu_forward] = {swiglu_forward_declare, NULL, swiglu_forward_call, swiglu_forward_flop},
    [LS_OP_swiglu_backward] = {swiglu_backward_declare, NULL, swiglu_backward_call, swiglu_backward_flop},
    [LS_OP_cross_entropy] = {cross_entropy_declare, NULL, cross_entropy_call, cross_entropy_flop},
    [LS_OP_adamw] = {adamw_declare, NULL, adamw_call, adamw_flop},
    [LS_OP_sum_of_squares] = {sum_of_squares_declare, NULL, sum_of_squares_call, sum_of_squares_flop},
    [LS_OP_row_sums] = {row_sums_declare, NULL, row_sums_call, row_sums_flop},
    [LS_OP_convert] = {convert_declare, NULL, convert_call, no_flop},
};
