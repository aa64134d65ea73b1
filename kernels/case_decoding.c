/* How the ops of decoding are run as cases: the key/value cache, then drafting and accepting tokens. */
#include "core/random.h"
#include "kernels/case_declare.h"

/* ---- key/value cache --------------------------------------------------------------------------------------------- */

/* Where positions are counted from, in memory, and what the host adds to it. */
static int64_t base_of(const ls_case *c) { return has(c, LS_CASE_BASE) ? c->start - c->start / 3 : 0; }

static void add_base(ls_case_run *run)
{
    if (has(&run->what, LS_CASE_BASE)) add_int(run, "base", 1, LS_FILL_PREPARED);
}

static void prepare_base(const ls_case_run *run)
{
    int32_t *const base = DATA("base");
    if (base != NULL) *base = (int32_t)base_of(&run->what);
}

static void rope_append_declare(ls_case_run *run)
{
    const ls_case *const c = &run->what;
    ls_case_buffer *const qkv = add_typed(run, "qkv", c->R * (c->H + 2 * c->G) * c->D, LS_FILL_SPREAD);
    ls_case_buffer *const keys = add_typed(run, "key_cache", c->G * c->capacity * c->D, LS_FILL_SPREAD);
    ls_case_buffer *const values = add_typed(run, "value_cache", c->G * c->capacity * c->D, LS_FILL_SPREAD);
    writes(qkv, FEW_F32, FEW_F32);
    writes(keys, FEW_F32, FEW_F32);
    writes(values, 0.0, 0.0);
    qkv->traffic = c->R * (2 * c->H + 2 * c->G) * c->D;
    keys->traffic = values->traffic = c->R * c->G * c->D;
    add_rotation_tables(run, c->capacity);
    add_base(run);
}

static void rope_append_call(const ls_case_run *run)
{
    const ls_case *const c = &run->what;
    OPS->rope_append(run->exec, DATA("qkv"), DATA("key_cache"), DATA("value_cache"), DATA("cos_table"),
                     DATA("sin_table"), run->dtype, DATA("base"), c->start - base_of(c), c->R, c->H, c->G, c->D,
                     c->capacity);
}

static double rope_append_flop(const ls_case *c) { return 3.0 * (double)(c->R * (c->H + c->G) * c->D); }

static void attention_cached_declare(ls_case_run *run)
{
    const ls_case *const c = &run->what;
    writes(add_typed(run, "out", c->R * c->H * c->D, LS_FILL_NOTHING), attention_error(c), FEW_F32);
    add_typed(run, "qkv", c->R * (c->H + 2 * c->G) * c->D, LS_FILL_SPREAD)->traffic = c->R * c->H * c->D;
    ls_case_buffer *const keys = add_typed(run, "key_cache", c->G * c->capacity * c->D, LS_FILL_SPREAD);
    ls_case_buffer *const values = add_typed(run, "value_cache", c->G * c->capacity * c->D, LS_FILL_SPREAD);
    keys->traffic = values->traffic = c->R > 0 ? (c->start + c->R) * c->G * c->D : 0;
    add_base(run);
}

/* What lies behind the last position is left from cropped drafts: NaN here, so that reading it shows. */
static void attention_cached_prepare(const ls_case_run *run)
{
    const ls_case *const c = &run->what;
    prepare_base(run);
    for (int64_t g = 0; g < c->G; g++)
        for (int64_t i = (c->start + c->R) * c->D; i < c->capacity * c->D; i++) {
            ls_case_set(ls_case_find(run, "key_cache"), g * c->capacity * c->D + i, NAN);
            ls_case_set(ls_case_find(run, "value_cache"), g * c->capacity * c->D + i, NAN);
        }
}

static void attention_cached_call(const ls_case_run *run)
{
    const ls_case *const c = &run->what;
    OPS->attention_cached(run->exec, DATA("out"), DATA("qkv"), DATA("key_cache"), DATA("value_cache"), run->dtype,
                          attention_scale(c), DATA("base"), c->start - base_of(c), c->R, c->H, c->G, c->D, c->capacity);
}

static double attention_cached_flop(const ls_case *c)
{
    const double pairs = (double)c->R * (double)c->start + (double)c->R * (double)(c->R + 1) / 2.0;
    return 4.0 * (double)c->D * (double)c->H * pairs;
}

/* ---- sampling and acceptance ------------------------------------------------------------------------------------- */

enum { ROUND_WORDS = sizeof(ls_round) / sizeof(int32_t), ROUND_TOKENS = 20 };

/* By ls_case.sampling. Shares of top_p are none that equal weights could add up to: rounding alone would decide. */
static const ls_sampling SAMPLINGS[] = {{0.0, 0, 1.0, 3},     {1.0, 0, 1.0, 4},      {0.7, 5, 1.0, 5},
                                        {1.3, 0, 0.80137, 6}, {0.9, 37, 0.90137, 7}, {2.5, 0, 0.99137, 8}};

static const ls_sampling *sampling_of(const ls_case *c) { return &SAMPLINGS[c->sampling]; }

/* A distribution's sums of V terms in double, and the exponentials' last places. */
static const double DISTRIBUTION_ERROR = 1e-11;

/* In place: a draft that is less sure than its logits allow is not made. */
static double confidence_of(const ls_case *c) { return has(c, LS_CASE_IN_PLACE) ? 0.2 : 0.0; }

static void draft_token_declare(ls_case_run *run)
{
    const ls_case *const c = &run->what;
    writes(add_int(run, "round", ROUND_WORDS + ROUND_TOKENS, LS_FILL_PREPARED), 0.0, 0.0);
    if (c->sampling > 0)
        writes(add(run, "q", LS_ELEMENT_F64, c->V, confidence_of(c) > 0.0 ? LS_FILL_SPREAD : LS_FILL_NOTHING), 0.0,
               DISTRIBUTION_ERROR);
    add_float(run, "logits", c->V, LS_FILL_LOGITS);
}

static void prepare_round(const ls_case_run *run)
{
    const ls_case *const c = &run->what;
    ls_round *const round = DATA("round");
    memset(round, 0, sizeof *round + ROUND_TOKENS * sizeof round->token[0]);
    round->position = (int32_t)c->start;
    round->drafted = (int32_t)c->n;
    round->accepted = round->count = (int32_t)c->first;
    round->stopped = has(c, LS_CASE_ENDED) ? LS_ROUND_ENDED : LS_ROUND_OPEN;
}

/* Logits on a grid of 1/4, so that ties are common, in the odd settings. */
static void coarsen(const ls_case_run *run)
{
    ls_case_buffer *const logits = ls_case_find(run, "logits");
    for (int64_t i = 0; i < logits->count && run->what.V % 2 == 1; i++)
        ls_case_set(logits, i, floor(4.0 * ls_case_get(logits, i)) / 4.0);
}

static void draft_token_prepare(const ls_case_run *run)
{
    prepare_round(run);
    coarsen(run);
}

static void draft_token_call(const ls_case_run *run)
{
    const ls_case *const c = &run->what;
    OPS->draft_token(run->exec, DATA("round"), DATA("q"), DATA("logits"), sampling_of(c), confidence_of(c), 0, c->V);
}

static double draft_token_flop(const ls_case *c) { return c->sampling > 0 ? 8.0 * (double)c->V : 0.0; }

static void accept_drafts_declare(ls_case_run *run)
{
    const ls_case *const c = &run->what;
    writes(add_int(run, "round", ROUND_WORDS + ROUND_TOKENS, LS_FILL_PREPARED), 0.0, 0.0);
    if (c->sampling > 0 && !has(c, LS_CASE_NO_LIST)) add(run, "q", LS_ELEMENT_F64, c->n * c->V, LS_FILL_PREPARED);
    add_float(run, "logits", c->R * c->V, LS_FILL_LOGITS);
}

/* Drafts are mostly the full model's largest logits, and their distributions are not far from its own. Now and then the
 * draft is its smallest and q is 1 everywhere else: where top_k cuts that, nothing is left of p - q to draw from. */
static void accept_drafts_prepare(const ls_case_run *run)
{
    const ls_case *const c = &run->what;
    ls_round *const round = DATA("round");
    ls_case_buffer *const q = ls_case_find(run, "q");
    const float *const logits = DATA("logits");
    prepare_round(run);
    coarsen(run);
    for (int64_t i = c->first; i < c->n && i < c->first + c->R; i++) {
        const float *const row = logits + (i - c->first) * c->V;
        const ls_random_words words = ls_random(run->seed, LS_STREAM_TEST, (uint32_t)i, (uint32_t)c->V, 7);
        const bool last = words.word[0] % 8 == 1;
        int64_t best = 0, worst = 0;
        double total = 0.0;
        for (int64_t v = 0; v < c->V; v++) {
            if (row[v] > row[best]) best = v;
            if (row[v] < row[worst]) worst = v;
            total += exp((double)row[v] / (v % 3 == 0 ? 2.0 : 1.0));
        }
        round->token[i + 1] = (int32_t)(words.word[0] % 4 == 0 ? words.word[1] % c->V : last ? worst : best);
        for (int64_t v = 0; q != NULL && v < c->V; v++)
            ls_case_set(q, i * c->V + v,
                        last ? (double)(v != worst) : exp((double)row[v] / (v % 3 == 0 ? 2.0 : 1.0)) / total);
    }
}

static void accept_drafts_call(const ls_case_run *run)
{
    const ls_case *const c = &run->what;
    OPS->accept_drafts(run->exec, DATA("round"), DATA("q"), DATA("logits"), sampling_of(c), c->first, c->R, c->V);
}

static double accept_drafts_flop(const ls_case *c) { return (double)c->R * draft_token_flop(c); }

const ls_case_op ls_case_decoding_ops[LS_OP_COUNT] = {
    [LS_OP_rope_append] = {rope_append_declare, prepare_base, rope_append_call, rope_append_flop},
    [LS_OP_attention_cached] = {attention_cached_declare, attention_cached_prepare, attention_cached_call,
                                attention_cached_flop},
    [LS_OP_draft_token] = {draft_token_declare, draft_token_prepare, draft_token_call, draft_token_flop},
    [LS_OP_accept_drafts] = {accept_drafts_declare, accept_drafts_prepare, accept_drafts_call, accept_drafts_flop},
};
