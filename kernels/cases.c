/* Runs cases: buffers between bands, inputs from a seed, comparison. What an op needs is in case_ops.c, or, of
 * decoding, in case_decoding.c. */
#include "kernels/case_ops.h"

#include "core/random.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#ifdef __has_feature
#if __has_feature(address_sanitizer)
#define POISON_BANDS 1
#endif
#endif
#if defined(__SANITIZE_ADDRESS__) && !defined(POISON_BANDS)
#define POISON_BANDS 1
#endif
#ifdef POISON_BANDS
#include <sanitizer/asan_interface.h>
#endif

enum {
    BAND = 256,     /* bytes between buffers, at least: two vectors of an unrolled loop */
    SENTINEL = 0xFF /* NaN as fp32, bf16 and double, -1 as an index */
};

const char *const ls_op_names[LS_OP_COUNT] = {
#define LS_OP_NAME(op) #op,
    LS_OP_LIST(LS_OP_NAME)
#undef LS_OP_NAME
};

const ls_case_op *ls_case_op_of(ls_op op)
{
    return ls_case_ops[op].call != NULL ? &ls_case_ops[op] : &ls_case_decoding_ops[op];
}

/* ---- elements ---------------------------------------------------------------------------------------------------- */

static size_t element_size(ls_element element)
{
    return element == LS_ELEMENT_BF16 ? 2 : element == LS_ELEMENT_F64 ? 8 : 4;
}

static size_t buffer_bytes(const ls_case_buffer *buffer)
{
    return (size_t)buffer->count * element_size(buffer->element);
}

double ls_case_get(const ls_case_buffer *buffer, int64_t i)
{
    switch (buffer->element) {
    case LS_ELEMENT_F32:
        return (double)((const float *)buffer->data)[i];
    case LS_ELEMENT_BF16:
        return (double)ls_bf16_to_float(((const uint16_t *)buffer->data)[i]);
    case LS_ELEMENT_I32:
        return (double)((const int32_t *)buffer->data)[i];
    case LS_ELEMENT_F64:
        break;
    }
    return ((const double *)buffer->data)[i];
}

void ls_case_set(ls_case_buffer *buffer, int64_t i, double value)
{
    const float narrow = buffer->rounded ? ls_bf16_to_float(ls_float_to_bf16((float)value)) : (float)value;
    switch (buffer->element) {
    case LS_ELEMENT_F32:
        ((float *)buffer->data)[i] = narrow;
        break;
    case LS_ELEMENT_BF16:
        ((uint16_t *)buffer->data)[i] = ls_float_to_bf16(narrow);
        break;
    case LS_ELEMENT_I32:
        ((int32_t *)buffer->data)[i] = (int32_t)value;
        break;
    case LS_ELEMENT_F64:
        ((double *)buffer->data)[i] = value;
        break;
    }
}

ls_case_buffer *ls_case_find(const ls_case_run *run, const char *name)
{
    for (int i = 0; i < run->buffers; i++)
        if (strcmp(run->buffer[i].name, name) == 0) return (ls_case_buffer *)(uintptr_t)&run->buffer[i];
    return NULL;
}

/* ---- filling ----------------------------------------------------------------------------------------------------- */

/* A buffer's random words depend on its name alone, so the backward of an op sees what its forward saw. */
static uint32_t name_number(const char *name)
{
    uint32_t hash = 2166136261u;
    for (; *name != '\0'; name++) hash = (hash ^ (unsigned char)*name) * 16777619u;
    return hash;
}

static uint32_t random_word(uint64_t seed, const char *name, int64_t i)
{
    return ls_random(seed, LS_STREAM_TEST, (uint32_t)(i / 4), name_number(name), 0).word[i % 4];
}

static double uniform(uint32_t word) { return ((double)word + 0.5) * 0x1p-32; }

static double spread(uint32_t word) { return (2.0 * uniform(word) - 1.0) * 1.7320508075688772; }

static double float_value(ls_fill fill, uint32_t word)
{
    switch (fill) {
    case LS_FILL_NONZERO:
        return (word & 1u ? -1.0 : 1.0) * (0.5 + uniform(word));
    case LS_FILL_POSITIVE:
        return 0.01 + uniform(word);
    case LS_FILL_LOGITS:
        return 8.0 * (2.0 * uniform(word) - 1.0);
    default:
        return spread(word);
    }
}

/* Four numbers a draw: large buffers would otherwise take longer to fill than to compute on. */
static void fill_floats(ls_case_buffer *buffer, uint64_t seed)
{
    const uint32_t stream = name_number(buffer->name);
    for (int64_t i = 0; i < buffer->count; i += 4) {
        const ls_random_words words = ls_random(seed, LS_STREAM_TEST, (uint32_t)(i / 4), stream, 0);
        for (int64_t k = i; k < i + 4 && k < buffer->count; k++)
            ls_case_set(buffer, k, float_value((ls_fill)buffer->fill, words.word[k - i]));
    }
}

/* Every second token is one of the first three: rows that many gradients meet. Targets are -1 now and then. */
static void fill_tokens(ls_case_buffer *buffer, uint64_t seed, int64_t V)
{
    for (int64_t i = 0; i < buffer->count; i++) {
        const uint32_t word = random_word(seed, buffer->name, i);
        const int64_t bound = word & 1u && V > 3 ? 3 : V;
        const bool none = buffer->fill == LS_FILL_TARGET && (word >> 1) % 5 == 0;
        ((int32_t *)buffer->data)[i] = none ? -1 : (int32_t)(uniform(word) * (double)bound);
    }
}

/* The first n of B in a random order when samples are dropped, all in order otherwise; plus `offset`. */
static void fill_samples(ls_case_buffer *buffer, const ls_case *what, uint64_t seed, const char *stream, int64_t offset)
{
    int32_t *const list = buffer->data;
    int32_t *const order = malloc(sizeof *order * (size_t)(what->B + 1));
    LS_ASSERT(order != NULL);
    for (int64_t b = 0; b < what->B; b++) order[b] = (int32_t)b;
    for (int64_t j = 0; j < what->n; j++) {
        const int64_t left = what->options & LS_CASE_DROPPED ? what->B - j : 1;
        const int64_t other = j + (int64_t)(uniform(random_word(seed, stream, j)) * (double)left);
        const int32_t taken = order[other];
        order[other] = order[j];
        order[j] = taken;
        list[j] = (int32_t)(taken + offset);
    }
    free(order);
}

/* [B,T]: the start of the document that position t is in, or the position inside of it. */
static void fill_documents(ls_case_buffer *buffer, int64_t T, uint64_t seed)
{
    for (int64_t i = 0, first = 0; i < buffer->count; i++) {
        const int64_t t = i % T;
        if (t == 0 || random_word(seed, "first_key", i) % 6 == 0) first = t;
        ((int32_t *)buffer->data)[i] = (int32_t)(buffer->fill == LS_FILL_POSITION ? t - first : first);
    }
}

static void fill_rotation(ls_case_buffer *buffer, int64_t D)
{
    const int64_t half = D / 2;
    for (int64_t i = 0; i < buffer->count; i++) {
        const double angle = (double)(i / half) * pow(10000.0, -2.0 * (double)(i % half) / (double)D);
        ls_case_set(buffer, i, buffer->fill == LS_FILL_COSINE ? cos(angle) : sin(angle));
    }
}

static void fill(ls_case_buffer *buffer, const ls_case *what, uint64_t seed)
{
    const bool in_place = (what->options & LS_CASE_IN_PLACE) != 0;
    switch ((ls_fill)buffer->fill) {
    case LS_FILL_NOTHING:
    case LS_FILL_PREPARED:
        break;
    case LS_FILL_SPREAD:
    case LS_FILL_NONZERO:
    case LS_FILL_POSITIVE:
    case LS_FILL_LOGITS:
        fill_floats(buffer, seed);
        break;
    case LS_FILL_TOKEN:
    case LS_FILL_TARGET:
        fill_tokens(buffer, seed, what->V);
        break;
    case LS_FILL_SAMPLE:
        fill_samples(buffer, what, seed, buffer->name, 0);
        break;
    case LS_FILL_OUT_SLOT:
        fill_samples(buffer, what, seed, "in_slot", in_place ? 0 : what->B);
        break;
    case LS_FILL_FIRST_KEY:
    case LS_FILL_POSITION:
        fill_documents(buffer, what->T, seed);
        break;
    case LS_FILL_COSINE:
    case LS_FILL_SINE:
        fill_rotation(buffer, what->D);
        break;
    }
}

/* ---- running ----------------------------------------------------------------------------------------------------- */

static void declare(ls_case_run *run, const ls_case *what, ls_exec *exec, uint64_t seed, unsigned options)
{
    /* A conversion is its rounding: there is nothing to widen. */
    const bool wide = options & LS_RUN_WIDE && what->op != LS_OP_convert;
    *run = (ls_case_run){.what = *what, .exec = exec, .seed = seed};
    run->dtype = wide ? LS_F32 : what->dtype;
    run->out_dtype = wide ? LS_F32 : what->out_dtype;
    ls_case_op_of(what->op)->declare(run);
}

/* Places the buffers at `base`, each after a band; returns the bytes that all take. */
static size_t place(ls_case_run *run, unsigned char *base, bool shifted)
{
    size_t end = 0;
    for (int i = 0; i < run->buffers; i++) {
        ls_case_buffer *const buffer = &run->buffer[i];
        const size_t start = (end + BAND + 63) / 64 * 64 + (shifted ? element_size(buffer->element) : 0);
        if (base != NULL) buffer->data = base + start;
        end = start + buffer_bytes(buffer);
    }
    return end + BAND;
}

ls_status ls_case_prepare(ls_case_run *run, const ls_case *what, ls_exec *exec, uint64_t seed, unsigned options)
{
    declare(run, what, exec, seed, options);
    const bool shifted = (options & LS_RUN_SHIFTED) != 0;
    run->bytes = place(run, NULL, shifted);
    void *block;
    LS_TRY(ls_exec_allocate(exec, &block, run->bytes, "a kernel test case"));
    run->device = block;
    run->block = exec->memory->host ? block : malloc(run->bytes);
    if (run->block == NULL) {
        ls_case_finish(run);
        return LS_FAIL(LS_NO_MEMORY, "out of memory for a kernel test case");
    }
    memset(run->block, SENTINEL, run->bytes);
    (void)place(run, run->block, shifted);
    for (int i = 0; i < run->buffers; i++) fill(&run->buffer[i], what, seed);
    if (ls_case_op_of(what->op)->prepare != NULL) ls_case_op_of(what->op)->prepare(run);
    for (int i = 0; i < run->buffers; i++) {
        ls_case_buffer *const buffer = &run->buffer[i];
        if (buffer->fill != LS_FILL_PREPARED || !buffer->rounded) continue;
        for (int64_t k = 0; k < buffer->count; k++) ls_case_set(buffer, k, ls_case_get(buffer, k));
    }
    if (options & LS_RUN_GUARDED) {
        run->before = malloc(run->bytes);
        if (run->before == NULL) {
            ls_case_finish(run);
            return LS_FAIL(LS_NO_MEMORY, "out of memory for a kernel test case");
        }
        memcpy(run->before, run->block, run->bytes);
    }
    return exec->memory->host ? LS_OK : ls_exec_upload(exec, run->device, run->block, run->bytes);
}

#ifdef POISON_BANDS
static void guard(const ls_case_run *run)
{
    __asan_poison_memory_region(run->block, run->bytes);
    for (int i = 0; i < run->buffers; i++)
        __asan_unpoison_memory_region(run->buffer[i].data, buffer_bytes(&run->buffer[i]));
}

static void unguard(const ls_case_run *run) { __asan_unpoison_memory_region(run->block, run->bytes); }
#else
static void guard(const ls_case_run *run) { (void)run; }
static void unguard(const ls_case_run *run) { (void)run; }
#endif

/* Points the buffers into another copy of the block. */
static void move(ls_case_run *run, unsigned char *to, const unsigned char *from)
{
    for (int i = 0; i < run->buffers; i++)
        run->buffer[i].data = to + ((const unsigned char *)run->buffer[i].data - from);
}

void ls_case_launch(ls_case_run *run)
{
    move(run, run->device, run->block);
    ls_case_op_of(run->what.op)->call(run);
    move(run, run->block, run->device);
}

void ls_case_call(ls_case_run *run)
{
    const bool host = run->exec->memory->host;
    ls_status status = LS_OK;
    guard(run);
    if (!host) status = ls_exec_upload(run->exec, run->device, run->block, run->bytes);
    if (status == LS_OK) ls_case_launch(run);
    if (status == LS_OK && !host) status = ls_exec_download(run->exec, run->block, run->device, run->bytes);
    unguard(run);
    if (run->exec->status == LS_OK) run->exec->status = status;
}

void ls_case_finish(ls_case_run *run)
{
    if (run->block != run->device) free(run->block);
    ls_exec_free(run->exec, run->device, run->bytes);
    free(run->before);
    *run = (ls_case_run){0};
}

/* ---- judging ----------------------------------------------------------------------------------------------------- */

/* Offset of the first byte of [start, end) that changed; `end` when none. */
static size_t changed(const ls_case_run *run, size_t start, size_t end)
{
    if (start >= end || memcmp(run->before + start, run->block + start, end - start) == 0) return end;
    while (run->before[start] == run->block[start]) start++;
    return start;
}

bool ls_case_intact(const ls_case_run *run, char *text, size_t size)
{
    LS_ASSERT(run->before != NULL);
    size_t end = 0;
    for (int i = 0; i < run->buffers; i++) {
        const ls_case_buffer *const buffer = &run->buffer[i];
        const size_t start = (size_t)((const unsigned char *)buffer->data - run->block);
        size_t at = changed(run, end, start);
        if (at < start) {
            (void)snprintf(text, size, "wrote %zu bytes before %s", start - at, buffer->name);
            return false;
        }
        end = start + buffer_bytes(buffer);
        at = buffer->written ? end : changed(run, start, end);
        if (at < end) {
            (void)snprintf(text, size, "wrote into %s, element %zu", buffer->name,
                           (at - start) / element_size(buffer->element));
            return false;
        }
    }
    const size_t at = changed(run, end, run->bytes);
    if (at == run->bytes) return true;
    (void)snprintf(text, size, "wrote %zu bytes behind %s", at - end + 1, run->buffer[run->buffers - 1].name);
    return false;
}

/* The error in units of what is allowed: not above 1 passes. What is not finite passes only as the same infinity. */
static double error_ratio(double got, double want, double allowed)
{
    if (got == want) return 0.0;
    const double error = fabs(got - want);
    if (!isfinite(error) || !(allowed > 0.0)) return INFINITY;
    return error / allowed;
}

bool ls_case_equal(const ls_case_run *got, const ls_case_run *want, ls_case_difference *difference)
{
    *difference = (ls_case_difference){.buffer = "", .element = -1};
    for (int b = 0; b < got->buffers; b++) {
        const ls_case_buffer *const mine = &got->buffer[b];
        if (!mine->written) continue;
        const ls_case_buffer *const other = ls_case_find(want, mine->name);
        LS_ASSERT(other != NULL && other->count == mine->count);
        for (int64_t i = 0; i < mine->count; i++) {
            const double a = ls_case_get(mine, i), w = ls_case_get(other, i);
            const double allowed = mine->absolute + mine->relative * fabs(w);
            const double ratio = error_ratio(a, w, allowed);
            if (ratio > difference->worst) *difference = (ls_case_difference){mine->name, i, a, w, allowed, ratio};
        }
    }
    return difference->worst <= 1.0;
}

bool ls_case_identical(const ls_case_run *got, const ls_case_run *want, ls_case_difference *difference)
{
    *difference = (ls_case_difference){.buffer = "", .element = -1};
    for (int b = 0; b < got->buffers; b++) {
        const ls_case_buffer *const mine = &got->buffer[b];
        const ls_case_buffer *const other = ls_case_find(want, mine->name);
        if (!mine->written) continue;
        LS_ASSERT(other != NULL && other->count == mine->count && other->element == mine->element);
        const size_t size = element_size(mine->element);
        const unsigned char *const x = mine->data, *const y = other->data;
        for (int64_t i = 0; i < mine->count; i++) {
            if (memcmp(x + (size_t)i * size, y + (size_t)i * size, size) == 0) continue;
            *difference =
                (ls_case_difference){mine->name, i, ls_case_get(mine, i), ls_case_get(other, i), 0.0, INFINITY};
            return false;
        }
    }
    return true;
}

/* ---- describing -------------------------------------------------------------------------------------------------- */

double ls_case_flop(const ls_case *what) { return ls_case_op_of(what->op)->flop(what); }

double ls_case_bytes(const ls_case *what)
{
    ls_case_run run;
    declare(&run, what, NULL, 0, 0);
    double bytes = 0.0;
    for (int i = 0; i < run.buffers; i++)
        bytes += (double)run.buffer[i].traffic * (double)element_size(run.buffer[i].element);
    return bytes;
}

static void append(char *text, size_t size, const char *format, ...) __attribute__((format(printf, 3, 4)));
static void append(char *text, size_t size, const char *format, ...)
{
    const size_t used = strlen(text);
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(text + used, size - used, format, arguments);
    va_end(arguments);
}

void ls_case_name(const ls_case *what, char *text, size_t size)
{
    const ls_case *const c = what;
    const struct {
        const char *letter;
        int64_t value;
    } sizes[] = {{"M", c->M},        {"R", c->R}, {"N", c->N},         {"K", c->K},         {"n", c->n},
                 {"T", c->T},        {"C", c->C}, {"V", c->V},         {"F", c->F},         {"H", c->H},
                 {"G", c->G},        {"D", c->D}, {"start", c->start}, {"count", c->count}, {"sampling", c->sampling},
                 {"first", c->first}};
    static const char *const options[] = {"dropped", "documents", "no-list", "in-place", "no-extra",
                                          "inverse", "",          "ended",   "base"};
    static const char *const flags[] = {"transpose-a", "transpose-b", "accumulate"};
    text[0] = '\0';
    append(text, size, "%s %s", ls_op_names[c->op], ls_dtype_name(c->dtype));
    if (c->out_dtype != c->dtype) append(text, size, "->%s", ls_dtype_name(c->out_dtype));
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++)
        if (sizes[i].value != 0) append(text, size, " %s=%lld", sizes[i].letter, (long long)sizes[i].value);
    for (size_t i = 0; i < sizeof flags / sizeof flags[0]; i++)
        if (c->flags >> i & 1u) append(text, size, " %s", flags[i]);
    for (size_t i = 0; i < sizeof options / sizeof options[0]; i++)
        if (c->options >> i & 1u && options[i][0] != '\0') append(text, size, " %s", options[i]);
}
