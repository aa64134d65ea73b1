/* The table of cases. Sizes are 1, a prime, and those around the tiles that kernels use (16 floats a vector; blocks of
 * 32, 64, 256, 512), for each type; ops that take lists, masks, NULL or aliases meet them. Each op also has a case of
 * more than 64 KB, which kernels cut among threads. */
#include "kernels/case_ops.h"

#include <stdlib.h>

#define COUNT(array) (sizeof(array) / sizeof(array)[0])

static const int64_t AROUND_TILES[] = {1, 15, 16, 17, 31, 32, 33, 37, 63, 64, 65};
static const int64_t WIDTHS[] = {1, 15, 16, 17, 31, 32, 33, 37, 63, 64, 65, 129, 576};
static const ls_dtype DTYPES[] = {LS_F32, LS_BF16};

static bool add_case(ls_case_list *list, ls_case what)
{
    if (list->count == list->room) {
        const int room = list->room > 0 ? 2 * list->room : 1024;
        ls_case *const cases = realloc(list->cases, sizeof *cases * (size_t)room);
        if (cases == NULL) return false;
        list->cases = cases;
        list->room = room;
    }
    list->cases[list->count++] = what;
    return true;
}

/* Adding is all there is to do, and memory all that can fail: a failure is remembered in `room`. */
static void add(ls_case_list *list, ls_case what)
{
    if (list->room >= 0 && !add_case(list, what)) list->room = -1;
}

/* Both types, result in the same. */
static void add_both(ls_case_list *list, ls_case what)
{
    for (size_t d = 0; d < COUNT(DTYPES); d++) {
        what.dtype = what.out_dtype = DTYPES[d];
        add(list, what);
    }
}

/* Both types, and bf16 in, fp32 out. */
static void add_products(ls_case_list *list, ls_case what)
{
    if (!(what.flags & LS_ACCUMULATE)) {
        add_both(list, what);
    } else {
        what.dtype = what.out_dtype = LS_F32;
        add(list, what);
    }
    what.dtype = LS_BF16;
    what.out_dtype = LS_F32;
    add(list, what);
}

static void matmul_cases(ls_case_list *list)
{
    static const int64_t shapes[][3] = {{1, 1, 1}, {7, 37, 29}, {33, 65, 17}};
    static const int64_t large[][3] = {{513, 31, 16}, {1030, 19, 7},  {19, 257, 33},
                                       {5, 1100, 12}, {530, 270, 65}, {65, 67, 1031}};
    static const int64_t empty[][3] = {{0, 5, 4}, {5, 0, 4}, {5, 4, 0}};
    for (unsigned flags = 0; flags < 8; flags++) {
        for (size_t i = 0; i < COUNT(shapes); i++)
            add_products(
                list,
                (ls_case){.op = LS_OP_matmul, .M = shapes[i][0], .N = shapes[i][1], .K = shapes[i][2], .flags = flags});
        for (size_t i = 0; i < COUNT(empty); i++)
            add_products(
                list,
                (ls_case){.op = LS_OP_matmul, .M = empty[i][0], .N = empty[i][1], .K = empty[i][2], .flags = flags});
    }
    for (size_t i = 0; i < COUNT(AROUND_TILES); i++) {
        const int64_t size = AROUND_TILES[i];
        const unsigned flags = (unsigned)i % 8; /* every size meets some of them, every one of them some sizes */
        add_products(list, (ls_case){.op = LS_OP_matmul, .M = size, .N = 37, .K = 29, .flags = flags});
        add_products(list, (ls_case){.op = LS_OP_matmul, .M = 37, .N = size, .K = 29, .flags = (flags + 3) % 8});
        add_products(list, (ls_case){.op = LS_OP_matmul, .M = 37, .N = 29, .K = size, .flags = (flags + 5) % 8});
    }
    for (size_t i = 0; i < COUNT(large); i++)
        for (unsigned flags = 0; flags < 8; flags += 1 + (unsigned)i % 2)
            add_products(
                list,
                (ls_case){.op = LS_OP_matmul, .M = large[i][0], .N = large[i][1], .K = large[i][2], .flags = flags});
}

static void matmul_bias_cases(ls_case_list *list)
{
    static const int64_t shapes[][3] = {{1, 1, 1},   {7, 37, 29},   {64, 64, 32},  {19, 257, 33},
                                        {65, 67, 3}, {530, 270, 5}, {5, 1100, 12}, {513, 31, 16},
                                        {0, 5, 4},   {5, 0, 4},     {5, 4, 0}};
    for (unsigned flags = 0; flags < LS_ACCUMULATE; flags++)
        for (size_t i = 0; i < COUNT(shapes); i++)
            add_both(
                list,
                (ls_case){
                    .op = LS_OP_matmul_bias, .M = shapes[i][0], .N = shapes[i][1], .K = shapes[i][2], .flags = flags});
}

static void matmul_rows_cases(ls_case_list *list)
{
    static const int64_t rows[] = {0, 1, 2, 3, 4, 5, 7, 8, 9, 12, 15, 16, 17, 33, 49};
    for (size_t i = 0; i < COUNT(rows); i++) {
        add_products(list, (ls_case){.op = LS_OP_matmul_rows, .R = rows[i], .N = 37, .K = 101});
        add_products(list, (ls_case){.op = LS_OP_matmul_rows, .R = rows[i], .N = 130, .K = 64});
    }
    for (size_t i = 0; i < COUNT(WIDTHS); i++) {
        add_products(list, (ls_case){.op = LS_OP_matmul_rows, .R = 3, .N = WIDTHS[i], .K = 37});
        add_products(list, (ls_case){.op = LS_OP_matmul_rows, .R = 3, .N = 19, .K = WIDTHS[i]});
        add_products(list, (ls_case){.op = LS_OP_matmul_rows, .R = 1, .N = 67, .K = WIDTHS[i]});
        add_products(list, (ls_case){.op = LS_OP_matmul_rows, .R = 9, .N = WIDTHS[i], .K = 192});
    }
    add_products(list, (ls_case){.op = LS_OP_matmul_rows, .R = 2, .N = 1531, .K = 1536});
    add_products(list, (ls_case){.op = LS_OP_matmul_rows, .R = 2, .N = 0, .K = 16});
}

static void bias_cases(ls_case_list *list, ls_op op)
{
    static const int64_t rows[] = {0, 1, 2, 31, 32, 33, 67, 257};
    for (size_t i = 0; i < COUNT(WIDTHS); i++) add_both(list, (ls_case){.op = op, .R = 5, .N = WIDTHS[i]});
    for (size_t i = 0; i < COUNT(rows); i++) add_both(list, (ls_case){.op = op, .R = rows[i], .N = 41});
    add_both(list, (ls_case){.op = op, .R = 5000, .N = 19});
    add_both(list, (ls_case){.op = op, .R = 67, .N = 1031});
    add_both(list, (ls_case){.op = op, .R = 3, .N = 0});
}

static void embedding_cases(ls_case_list *list)
{
    static const int64_t rows[] = {0, 1, 64, 257};
    static const int64_t tables[][2] = {{97, 33}, {1, 33}, {97, 577}};
    for (size_t i = 0; i < COUNT(WIDTHS); i++) {
        add_both(list, (ls_case){.op = LS_OP_embedding_forward, .R = 11, .V = 5, .C = WIDTHS[i]});
        add(list, (ls_case){.op = LS_OP_embedding_backward, .R = 11, .V = 5, .C = WIDTHS[i]});
    }
    for (size_t i = 0; i < COUNT(rows); i++)
        for (size_t t = 0; t < COUNT(tables); t++) {
            const int64_t V = tables[t][0], C = tables[t][1];
            add_both(list, (ls_case){.op = LS_OP_embedding_forward, .R = rows[i], .V = V, .C = C});
            add(list, (ls_case){.op = LS_OP_embedding_backward, .R = rows[i], .V = V, .C = C});
        }
}

/* Ops on slabs [T,C] with lists: widths, then shapes of the batch, kept whole and thinned out. */
static void slab_cases(ls_case_list *list, ls_op op, unsigned options)
{
    static const int64_t batches[][3] = {{1, 1, 1}, {1, 3, 40},  {3, 3, 5}, {7, 4, 7},
                                         {9, 1, 3}, {40, 17, 1}, {6, 0, 4}};
    for (size_t i = 0; i < COUNT(WIDTHS); i++)
        add_both(list,
                 (ls_case){.op = op, .B = 5, .n = 2, .T = 3, .C = WIDTHS[i], .options = options | LS_CASE_DROPPED});
    for (size_t i = 0; i < COUNT(batches); i++) {
        ls_case what = {
            .op = op, .B = batches[i][0], .n = batches[i][1], .T = batches[i][2], .C = 37, .options = options};
        if (what.n < what.B)
            what.options |= LS_CASE_DROPPED;
        else
            what.B = what.n;
        add_both(list, what);
    }
    add_both(list, (ls_case){.op = op, .B = 9, .n = 7, .T = 65, .C = 131, .options = options | LS_CASE_DROPPED});
}

static void rope_cases(ls_case_list *list)
{
    static const int64_t heads[][3] = {{1, 1, 2},  {2, 1, 6},  {3, 3, 32}, {4, 2, 34},
                                       {9, 3, 64}, {2, 2, 80}, {1, 1, 128}};
    static const unsigned options[] = {0,
                                       LS_CASE_INVERSE,
                                       LS_CASE_NO_LIST,
                                       LS_CASE_DROPPED,
                                       LS_CASE_DOCUMENTS,
                                       LS_CASE_DOCUMENTS | LS_CASE_NO_LIST | LS_CASE_INVERSE,
                                       LS_CASE_DOCUMENTS | LS_CASE_DROPPED,
                                       LS_CASE_DOCUMENTS | LS_CASE_DROPPED | LS_CASE_INVERSE};
    for (size_t h = 0; h < COUNT(heads); h++)
        for (size_t o = 0; o < COUNT(options); o++) {
            ls_case what = {.op = LS_OP_rope,
                            .B = 3,
                            .n = 3,
                            .T = 11,
                            .H = heads[h][0],
                            .G = heads[h][1],
                            .D = heads[h][2],
                            .options = options[o]};
            if (options[o] & LS_CASE_DROPPED) what.B = 7;
            add_both(list, what);
        }
    add_both(list,
             (ls_case){.op = LS_OP_rope, .B = 4, .n = 0, .T = 5, .H = 2, .G = 1, .D = 8, .options = LS_CASE_DROPPED});
    add_both(list, (ls_case){.op = LS_OP_rope, .B = 1, .n = 1, .T = 131, .H = 2, .G = 1, .D = 8});
    add_both(list, (ls_case){.op = LS_OP_rope,
                             .B = 5,
                             .n = 3,
                             .T = 131,
                             .H = 9,
                             .G = 3,
                             .D = 34,
                             .options = LS_CASE_DROPPED | LS_CASE_DOCUMENTS});
}

static void attention_cases(ls_case_list *list, ls_op op)
{
    static const int64_t lengths[] = {1, 2, 15, 16, 17, 31, 32, 33, 63, 64, 65, 97, 129};
    static const int64_t heads[][3] = {{1, 1, 2},  {2, 1, 6},  {3, 3, 10}, {4, 2, 16}, {4, 1, 24},
                                       {2, 2, 32}, {9, 3, 64}, {2, 1, 80}, {2, 1, 128}};
    static const unsigned options[] = {0,
                                       LS_CASE_NO_LIST,
                                       LS_CASE_DOCUMENTS,
                                       LS_CASE_DROPPED,
                                       LS_CASE_DOCUMENTS | LS_CASE_DROPPED,
                                       LS_CASE_DOCUMENTS | LS_CASE_NO_LIST};
    for (size_t i = 0; i < COUNT(lengths); i++) {
        add_both(list, (ls_case){.op = op, .B = 1, .n = 1, .T = lengths[i], .H = 2, .G = 1, .D = 16});
        add_both(list, (ls_case){.op = op,
                                 .B = 3,
                                 .n = 2,
                                 .T = lengths[i],
                                 .H = 3,
                                 .G = 1,
                                 .D = 64,
                                 .options = LS_CASE_DROPPED | LS_CASE_DOCUMENTS});
    }
    for (size_t h = 0; h < COUNT(heads); h++)
        for (size_t o = 0; o < COUNT(options); o++) {
            const bool dropped = options[o] & LS_CASE_DROPPED;
            add_both(list, (ls_case){.op = op,
                                     .B = dropped ? 5 : 2,
                                     .n = 2,
                                     .T = 37,
                                     .H = heads[h][0],
                                     .G = heads[h][1],
                                     .D = heads[h][2],
                                     .options = options[o]});
        }
    add_both(list, (ls_case){.op = op, .B = 4, .n = 0, .T = 5, .H = 2, .G = 1, .D = 8, .options = LS_CASE_DROPPED});
    add_both(list, (ls_case){.op = op, .B = 1, .n = 1, .T = 300, .H = 2, .G = 1, .D = 64});
    static const int64_t large_heads[] = {130, 192, 256};
    for (size_t i = 0; i < COUNT(large_heads); i++)
        add_both(list, (ls_case){.op = op,
                                 .B = 3,
                                 .n = 2,
                                 .T = 69,
                                 .H = 2,
                                 .G = 1,
                                 .D = large_heads[i],
                                 .options = LS_CASE_DROPPED | LS_CASE_DOCUMENTS});
}

static void cache_cases(ls_case_list *list, ls_op op)
{
    static const int64_t starts[] = {0, 1, 15, 16, 17, 63, 64, 65, 127, 128, 255, 256, 511, 600};
    static const int64_t rows[] = {0, 1, 2, 3, 8, 9, 15, 16, 17, 33, 70};
    static const int64_t heads[][3] = {{1, 1, 2},  {3, 3, 10}, {4, 2, 16},  {4, 1, 24},
                                       {9, 3, 64}, {2, 1, 80}, {2, 1, 128}, {2, 1, 256}};
    for (size_t i = 0; i < COUNT(starts); i++) {
        add_both(list,
                 (ls_case){.op = op, .start = starts[i], .R = 1, .H = 3, .G = 1, .D = 64, .capacity = starts[i] + 9});
        add_both(list,
                 (ls_case){.op = op, .start = starts[i], .R = 5, .H = 2, .G = 2, .D = 32, .capacity = starts[i] + 5});
    }
    for (size_t i = 0; i < COUNT(rows); i++)
        add_both(list, (ls_case){.op = op, .start = 29, .R = rows[i], .H = 6, .G = 2, .D = 16, .capacity = 101});
    for (size_t i = 0; i < COUNT(starts); i += 2) /* the position in memory, room behind it */
        for (int64_t R = 1; R <= 33; R += 4 * R)
            add_both(list, (ls_case){.op = op,
                                     .start = starts[i],
                                     .R = R,
                                     .H = 4,
                                     .G = 2,
                                     .D = 16,
                                     .capacity = starts[i] + 300,
                                     .options = LS_CASE_BASE});
    for (size_t i = 0; i < COUNT(heads); i++) {
        const int64_t H = heads[i][0], G = heads[i][1], D = heads[i][2];
        add_both(list, (ls_case){.op = op, .start = 0, .R = 40, .H = H, .G = G, .D = D, .capacity = 43});
        add_both(list, (ls_case){.op = op, .start = 67, .R = 3, .H = H, .G = G, .D = D, .capacity = 71});
        add_both(list, (ls_case){.op = op, .start = 3, .R = 70, .H = H, .G = G, .D = D, .capacity = 74});
    }
}

static void sampling_cases(ls_case_list *list)
{
    static const int64_t vocabularies[] = {1, 2, 15, 33, 64, 257, 1000, 4099};
    static const unsigned kinds[] = {0, LS_CASE_NO_LIST, LS_CASE_ENDED};
    for (int sampling = 0; sampling < 6; sampling++) {
        const ls_case draft = {.op = LS_OP_draft_token, .sampling = sampling};
        const ls_case accept = {.op = LS_OP_accept_drafts, .sampling = sampling, .start = 40, .n = 3, .R = 4, .V = 33};
        for (size_t i = 0; i < COUNT(vocabularies); i++) {
            ls_case what = draft;
            what.V = vocabularies[i];
            add(list, what);
            what.options = LS_CASE_IN_PLACE, what.start = 400, what.n = 4;
            add(list, what);
        }
        for (size_t k = 0; k < COUNT(kinds); k++)
            for (int64_t V = 33; V <= 258; V += 225) {
                ls_case what = accept;
                what.options = kinds[k], what.V = V;
                add(list, what);
            }
        static const int64_t sizes[][4] = {{0, 0, 1, 33}, {0, 1, 2, 1},  {0, 15, 16, 17},
                                           {2, 5, 4, 64}, {0, 3, 0, 17}, {0, 5, 1, 4099}}; /* first, n, R, V */
        for (size_t i = 0; i < COUNT(sizes); i++) {
            ls_case what = accept;
            what.first = sizes[i][0], what.n = sizes[i][1], what.R = sizes[i][2], what.V = sizes[i][3];
            add(list, what);
        }
    }
}

static void swiglu_cases(ls_case_list *list)
{
    static const unsigned options[] = {0, LS_CASE_IN_PLACE, LS_CASE_NO_EXTRA, LS_CASE_IN_PLACE | LS_CASE_NO_EXTRA};
    static const int64_t rows[] = {0, 1, 8, 67};
    for (size_t i = 0; i < COUNT(WIDTHS); i++) {
        add_both(list, (ls_case){.op = LS_OP_swiglu_forward, .R = 3, .F = WIDTHS[i]});
        for (size_t o = 0; o < COUNT(options); o++)
            add_both(list, (ls_case){.op = LS_OP_swiglu_backward, .R = 3, .F = WIDTHS[i], .options = options[o]});
    }
    for (size_t i = 0; i < COUNT(rows); i++) {
        add_both(list, (ls_case){.op = LS_OP_swiglu_forward, .R = rows[i], .F = 41});
        add_both(list, (ls_case){.op = LS_OP_swiglu_backward, .R = rows[i], .F = 41});
    }
    add_both(list, (ls_case){.op = LS_OP_swiglu_forward, .R = 67, .F = 577});
    add_both(list, (ls_case){.op = LS_OP_swiglu_backward, .R = 67, .F = 577});
}

static void cross_entropy_cases(ls_case_list *list)
{
    static const int64_t rows[] = {0, 1, 2, 33};
    for (unsigned extra = 0; extra <= LS_CASE_NO_EXTRA; extra += LS_CASE_NO_EXTRA) {
        for (size_t i = 0; i < COUNT(WIDTHS); i++)
            add_both(list, (ls_case){.op = LS_OP_cross_entropy, .R = 7, .V = WIDTHS[i], .options = extra});
        for (size_t i = 0; i < COUNT(rows); i++)
            add_both(list, (ls_case){.op = LS_OP_cross_entropy, .R = rows[i], .V = 4099, .options = extra});
    }
}

static void flat_cases(ls_case_list *list)
{
    static const int64_t counts[] = {0, 1, 15, 16, 17, 31, 32, 33, 63, 64, 65, 1009, 4096, 4097, 66000};
    for (size_t i = 0; i < COUNT(counts); i++) {
        add_both(list, (ls_case){.op = LS_OP_adamw, .count = counts[i]});
        add(list, (ls_case){.op = LS_OP_adamw, .count = counts[i], .options = LS_CASE_IN_PLACE});
        add_both(list, (ls_case){.op = LS_OP_adamw, .count = counts[i], .options = LS_CASE_NO_EXTRA});
    }
    for (size_t i = 0; i < COUNT(counts); i++) add(list, (ls_case){.op = LS_OP_sum_of_squares, .count = counts[i]});
    add(list, (ls_case){.op = LS_OP_sum_of_squares, .count = 300007});
    static const int64_t widths[] = {0, 1, 31, 256, 257, 1000};
    for (size_t i = 0; i < COUNT(widths); i++)
        for (int64_t R = 1; R <= 7; R += 3) add(list, (ls_case){.op = LS_OP_row_sums, .R = R, .N = widths[i]});
    add(list, (ls_case){.op = LS_OP_row_sums, .R = 0, .N = 5});
    for (size_t i = 0; i < COUNT(counts); i++)
        for (size_t d = 0; d < 4; d++)
            add(list,
                (ls_case){.op = LS_OP_convert, .count = counts[i], .dtype = DTYPES[d / 2], .out_dtype = DTYPES[d % 2]});
}

/* ---- sizes that matter for speed --------------------------------------------------------------------------------- */

typedef struct shape {
    int64_t B, T, C, H, G, D, F, V;
} shape;

static const shape SHAPES[] = {
    {4, 512, 576, 9, 3, 64, 1536, 49152}, /* 135M parameters in 30 layers */
    {16, 256, 256, 4, 2, 64, 704, 4096},  /* 8 layers */
};
enum { HEAD_ROWS = 512 }; /* the exit head works in chunks of about so many rows */

/* One linear layer of `rows`: forward, gradient of its input, gradient of its weight [N,K]. */
static void linear_benchmarks(ls_case_list *list, int64_t rows, int64_t N, int64_t K)
{
    ls_case what = {
        .op = LS_OP_matmul, .options = LS_CASE_BENCHMARK, .M = rows, .N = N, .K = K, .flags = LS_TRANSPOSE_B};
    add_both(list, what);
    what.N = K, what.K = N, what.flags = 0;
    add_both(list, what);
    what.M = N, what.K = rows, what.flags = LS_TRANSPOSE_A | LS_ACCUMULATE;
    what.dtype = what.out_dtype = LS_F32;
    add(list, what);
    what.dtype = LS_BF16;
    add(list, what);
}

static void product_benchmarks(ls_case_list *list, const shape *s)
{
    const int64_t linear[][2] = {{(s->H + 2 * s->G) * s->D, s->C}, {s->C, s->H * s->D}, {2 * s->F, s->C}, {s->C, s->F}};
    static const int64_t rows[] = {1, 8, 16};
    for (size_t i = 0; i < COUNT(linear); i++) linear_benchmarks(list, s->B * s->T, linear[i][0], linear[i][1]);
    linear_benchmarks(list, HEAD_ROWS, s->V, s->C);
    add_both(list, (ls_case){.op = LS_OP_matmul_bias,
                             .options = LS_CASE_BENCHMARK,
                             .M = s->B * s->T,
                             .N = linear[0][0],
                             .K = s->C,
                             .flags = LS_TRANSPOSE_B});
    for (size_t r = 0; r < COUNT(rows); r++) {
        ls_case what = {.op = LS_OP_matmul_rows, .options = LS_CASE_BENCHMARK, .R = rows[r]};
        for (size_t i = 0; i < COUNT(linear); i++) {
            what.N = linear[i][0], what.K = linear[i][1];
            add_both(list, what);
        }
        what.N = s->V, what.K = s->C;
        add_both(list, what);
    }
}

static void other_benchmarks(ls_case_list *list, const shape *s)
{
    const unsigned mark = LS_CASE_BENCHMARK;
    const int64_t rows = s->B * s->T;
    static const ls_op slab[] = {LS_OP_rmsnorm_forward, LS_OP_rmsnorm_backward, LS_OP_residual_add,
                                 LS_OP_residual_add_rmsnorm, LS_OP_gather_cast};
    for (size_t i = 0; i < COUNT(slab); i++)
        add_both(list, (ls_case){.op = slab[i], .options = mark, .B = s->B, .n = s->B, .T = s->T, .C = s->C});
    static const ls_op sequence[] = {LS_OP_rope, LS_OP_attention_forward, LS_OP_attention_backward};
    for (size_t i = 0; i < COUNT(sequence); i++)
        add_both(
            list,
            (ls_case){
                .op = sequence[i], .options = mark, .B = s->B, .n = s->B, .T = s->T, .H = s->H, .G = s->G, .D = s->D});
    static const int64_t new_rows[] = {1, 8};
    for (size_t i = 0; i < COUNT(new_rows); i++) {
        const ls_case what = {
            .options = mark, .start = s->T, .R = new_rows[i], .H = s->H, .G = s->G, .D = s->D, .capacity = 2 * s->T};
        for (int op = 0; op < 2; op++) {
            ls_case one = what;
            one.op = op == 0 ? LS_OP_rope_append : LS_OP_attention_cached;
            add_both(list, one);
        }
    }
    add_both(list, (ls_case){.op = LS_OP_attention_cached,
                             .options = mark,
                             .R = s->T,
                             .H = s->H,
                             .G = s->G,
                             .D = s->D,
                             .capacity = 2 * s->T});
    const int64_t projected = (s->H + 2 * s->G) * s->D;
    add_both(list, (ls_case){.op = LS_OP_bias_add, .options = mark, .R = rows, .N = projected});
    add_both(list, (ls_case){.op = LS_OP_bias_backward, .options = mark, .R = rows, .N = projected});
    for (int sampling = 0; sampling <= 4; sampling += 4) {
        add(list, (ls_case){.op = LS_OP_draft_token, .options = mark, .sampling = sampling, .V = s->V});
        add(list,
            (ls_case){.op = LS_OP_accept_drafts, .options = mark, .sampling = sampling, .n = 8, .R = 9, .V = s->V});
    }
    add_both(list, (ls_case){.op = LS_OP_swiglu_forward, .options = mark, .R = rows, .F = s->F});
    add_both(list, (ls_case){.op = LS_OP_swiglu_backward, .options = mark, .R = rows, .F = s->F});
    add_both(list, (ls_case){.op = LS_OP_cross_entropy, .options = mark, .R = HEAD_ROWS, .V = s->V});
    add_both(list, (ls_case){.op = LS_OP_embedding_forward, .options = mark, .R = rows, .V = s->V, .C = s->C});
    add(list, (ls_case){.op = LS_OP_embedding_backward, .options = mark, .R = rows, .V = s->V, .C = s->C});
    const int64_t weights = s->V * s->C;
    add_both(list, (ls_case){.op = LS_OP_adamw, .options = mark, .count = weights});
    add(list, (ls_case){.op = LS_OP_sum_of_squares, .options = mark, .count = weights});
    add(list, (ls_case){.op = LS_OP_row_sums, .options = mark, .R = 4, .N = rows});
    add(list, (ls_case){.op = LS_OP_convert, .options = mark, .count = weights, .dtype = LS_F32, .out_dtype = LS_BF16});
}

/* Stable: within an op the order is the table's. */
static ls_status group_by_op(ls_case_list *list)
{
    ls_case *const sorted = malloc(sizeof *sorted * (size_t)list->count);
    if (sorted == NULL) return LS_FAIL(LS_NO_MEMORY, "out of memory for the table of kernel cases");
    int count = 0;
    for (int op = 0; op < (int)LS_OP_COUNT; op++)
        for (int i = 0; i < list->count; i++)
            if ((int)list->cases[i].op == op) sorted[count++] = list->cases[i];
    free(list->cases);
    *list = (ls_case_list){.cases = sorted, .count = count, .room = count};
    return LS_OK;
}

ls_status ls_case_list_make(ls_case_list *out)
{
    static const ls_op slab[] = {LS_OP_rmsnorm_forward, LS_OP_rmsnorm_backward, LS_OP_residual_add,
                                 LS_OP_residual_add_rmsnorm, LS_OP_gather_cast};
    *out = (ls_case_list){0};
    matmul_cases(out);
    matmul_bias_cases(out);
    matmul_rows_cases(out);
    bias_cases(out, LS_OP_bias_add);
    bias_cases(out, LS_OP_bias_backward);
    embedding_cases(out);
    for (size_t i = 0; i < COUNT(slab); i++) slab_cases(out, slab[i], 0);
    slab_cases(out, LS_OP_rmsnorm_forward, LS_CASE_NO_EXTRA);
    slab_cases(out, LS_OP_residual_add, LS_CASE_IN_PLACE);
    slab_cases(out, LS_OP_residual_add_rmsnorm, LS_CASE_IN_PLACE | LS_CASE_NO_EXTRA);
    rope_cases(out);
    attention_cases(out, LS_OP_attention_forward);
    attention_cases(out, LS_OP_attention_backward);
    cache_cases(out, LS_OP_rope_append);
    cache_cases(out, LS_OP_attention_cached);
    sampling_cases(out);
    swiglu_cases(out);
    cross_entropy_cases(out);
    flat_cases(out);
    for (size_t i = 0; i < COUNT(SHAPES); i++) {
        product_benchmarks(out, &SHAPES[i]);
        other_benchmarks(out, &SHAPES[i]);
    }
    const ls_status status =
        out->room < 0 ? LS_FAIL(LS_NO_MEMORY, "out of memory for the table of kernel cases") : group_by_op(out);
    if (status != LS_OK) ls_case_list_free(out);
    return status;
}

void ls_case_list_free(ls_case_list *list)
{
    free(list->cases);
    *list = (ls_case_list){0};
}
