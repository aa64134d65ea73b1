/* Decoding steps over lists of texts; see detokenizer.h. */
#include "data/detokenizer.h"

#include "data/utf8.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#define REPLACEMENT "\xEF\xBF\xBD" /* U+FFFD */
#define BLANK "\xE2\x96\x81"       /* U+2581 */

/* Texts, one behind the other. */
typedef struct list {
    ls_buffer bytes;
    size_t *ends; /* [capacity] */
    int64_t count, capacity;
} list;

typedef struct run {
    const ls_detokenizer_step *step;
    ls_regex_scratch *regex;
    const list *in;
    list *out;
} run;

void ls_detokenizer_destroy(ls_detokenizer *detokenizer)
{
    for (int i = 0; i < detokenizer->count; i++) ls_replacement_destroy(&detokenizer->steps[i].replacement);
    detokenizer->count = 0;
}

static ls_status list_create(list *out, int64_t capacity)
{
    LS_TRY(ls_buffer_reserve(&out->bytes, 1)); /* never NULL, even for texts that are all empty */
    out->ends = malloc((size_t)(capacity + 1) * sizeof *out->ends);
    out->capacity = capacity;
    return out->ends != NULL ? LS_OK
                             : LS_FAIL(LS_NO_MEMORY, "not enough memory to decode %lld tokens", (long long)capacity);
}

static void list_destroy(list *l)
{
    ls_buffer_destroy(&l->bytes);
    free(l->ends);
}

static const char *text_of(const list *l, int64_t i, size_t *length)
{
    const size_t start = i == 0 ? 0 : l->ends[i - 1];
    *length = l->ends[i] - start;
    return l->bytes.bytes + start;
}

static void end_text(list *l)
{
    LS_ASSERT(l->count < l->capacity);
    l->ends[l->count++] = l->bytes.length;
}

static ls_status add_text(list *l, const char *text, size_t length)
{
    LS_TRY(ls_buffer_add(&l->bytes, text, length));
    end_text(l);
    return LS_OK;
}

/* The byte that "<0xNN>" names; -1: the text is something else. */
static int fallback_byte(const char *text, size_t length)
{
    if (length != 6 || memcmp(text, "<0x", 3) != 0 || text[5] != '>') return -1;
    if (!isxdigit((unsigned char)text[3]) || !isxdigit((unsigned char)text[4])) return -1;
    const char digits[3] = {text[3], text[4], '\0'};
    return (int)strtol(digits, NULL, 16);
}

static ls_status run_byte_level(const run *r)
{
    for (int64_t i = 0; i < r->in->count; i++) {
        size_t length, count;
        const char *text = text_of(r->in, i, &length);
        ls_buffer *out = &r->out->bytes;
        LS_TRY(ls_buffer_reserve(out, length));
        if (length > 0 && ls_byte_alphabet_decode(out->bytes + out->length, &count, text, length))
            out->length += count;
        else
            LS_TRY(ls_buffer_add(out, text, length));
    }
    end_text(r->out);
    return LS_OK;
}

static ls_status run_replace(const run *r)
{
    for (int64_t i = 0; i < r->in->count; i++) {
        size_t length;
        const char *text = text_of(r->in, i, &length);
        LS_TRY(ls_replacement_run(&r->step->replacement, r->regex, &r->out->bytes, text, length));
        end_text(r->out);
    }
    return LS_OK;
}

/* bytes[count] as one text when they are valid UTF-8, else U+FFFD for each. */
static ls_status add_run(list *out, const char *bytes, size_t count)
{
    if (count == 0) return LS_OK;
    if (ls_utf8_valid_prefix(bytes, count) == count) return add_text(out, bytes, count);
    for (size_t i = 0; i < count; i++) LS_TRY(add_text(out, REPLACEMENT, strlen(REPLACEMENT)));
    return LS_OK;
}

static ls_status run_byte_fallback(const run *r)
{
    ls_buffer bytes = {0};
    ls_status status = LS_OK;
    for (int64_t i = 0; i <= r->in->count; i++) {
        size_t length = 0;
        const char *text = i < r->in->count ? text_of(r->in, i, &length) : "";
        const int byte = fallback_byte(text, length);
        const char character = (char)byte;
        if (byte >= 0) {
            LS_TRY_GOTO(ls_buffer_add(&bytes, &character, 1), done);
            continue;
        }
        LS_TRY_GOTO(add_run(r->out, bytes.bytes, bytes.length), done);
        bytes.length = 0;
        if (i < r->in->count) LS_TRY_GOTO(add_text(r->out, text, length), done);
    }
done:
    ls_buffer_destroy(&bytes);
    return status;
}

static ls_status run_fuse(const run *r) { return add_text(r->out, r->in->bytes.bytes, r->in->bytes.length); }

static ls_status run_strip(const run *r)
{
    const char *character = r->step->character;
    const size_t size = strlen(character);
    for (int64_t i = 0; i < r->in->count; i++) {
        size_t length;
        const char *text = text_of(r->in, i, &length);
        for (int n = 0; n < r->step->start && length >= size && memcmp(text, character, size) == 0; n++) {
            text += size;
            length -= size;
        }
        for (int n = 0; n < r->step->stop && length >= size && memcmp(text + length - size, character, size) == 0; n++)
            length -= size;
        LS_TRY(add_text(r->out, text, length));
    }
    return LS_OK;
}

/* Appends the text with every `character` a blank, or left out. */
static ls_status add_blanks(ls_buffer *out, const char *text, size_t length, const char *character, bool drop)
{
    const ls_replacement blank = {.literal = (char *)character,
                                  .literal_length = strlen(character),
                                  .content = " ",
                                  .content_length = drop ? 0 : 1};
    return ls_replacement_run(&blank, NULL, out, text, length);
}

static ls_status run_metaspace(const run *r)
{
    for (int64_t i = 0; i < r->in->count; i++) {
        size_t length;
        const char *text = text_of(r->in, i, &length);
        LS_TRY(add_blanks(&r->out->bytes, text, length, r->step->character, i == 0 && r->step->drops_first));
        end_text(r->out);
    }
    return LS_OK;
}

static ls_status run_blanks(const run *r)
{
    for (int64_t i = 0; i < r->in->count; i++) {
        size_t length;
        const char *text = text_of(r->in, i, &length);
        if (i > 0) LS_TRY(ls_buffer_add(&r->out->bytes, " ", 1));
        LS_TRY(add_text(r->out, text, length));
    }
    return LS_OK;
}

static ls_status run_step(const run *r)
{
    switch (r->step->kind) {
    case LS_DETOKENIZER_BYTE_LEVEL:
        return run_byte_level(r);
    case LS_DETOKENIZER_REPLACE:
        return run_replace(r);
    case LS_DETOKENIZER_BYTE_FALLBACK:
        return run_byte_fallback(r);
    case LS_DETOKENIZER_FUSE:
        return run_fuse(r);
    case LS_DETOKENIZER_STRIP:
        return run_strip(r);
    case LS_DETOKENIZER_METASPACE:
        return run_metaspace(r);
    case LS_DETOKENIZER_BLANKS:
        return run_blanks(r);
    case LS_DETOKENIZER_SENTENCEPIECE:
        break;
    }
    return LS_FAIL(LS_INTERNAL, "a decoder's step %d cannot run on texts", (int)r->step->kind);
}

/* Characters of bytes[count]; U+FFFD for each byte that belongs to none. */
static ls_status add_characters(ls_buffer *out, const char *bytes, size_t count)
{
    for (size_t at = 0; at < count;) {
        uint32_t character;
        const int size = ls_utf8_decode(bytes + at, count - at, &character);
        LS_TRY(size > 0 ? ls_buffer_add(out, bytes + at, (size_t)size)
                        : ls_buffer_add(out, REPLACEMENT, strlen(REPLACEMENT)));
        at += size > 0 ? (size_t)size : 1;
    }
    return LS_OK;
}

/* One token that is not a byte. *begins: the text has not begun, so that a blank is dropped. */
static ls_status add_sentencepiece(const ls_detokenizer *d, ls_buffer *out, int32_t id, const ls_piece *piece,
                                   bool *begins)
{
    const ls_detokenizer_step *step = &d->steps[0];
    if (out->length > 0) *begins = false;
    if (d->silent[id]) return LS_OK;
    if (id == d->unknown) return ls_buffer_add(out, step->replacement.content, step->replacement.content_length);
    const char *text = piece->text;
    size_t length = piece->length;
    if (*begins && step->drops_first && length >= strlen(BLANK) && memcmp(text, BLANK, strlen(BLANK)) == 0) {
        text += strlen(BLANK);
        length -= strlen(BLANK);
        *begins = step->drops_every_first;
    }
    return add_blanks(out, text, length, BLANK, false);
}

/* What the `sentencepiece` library does. */
static ls_status run_sentencepiece(const ls_detokenizer *d, const ls_piece *pieces, const int32_t *ids, int64_t count,
                                   ls_buffer *out)
{
    ls_buffer bytes = {0};
    ls_status status = LS_OK;
    bool begins = true;
    for (int64_t i = 0; i < count; i++) {
        const ls_piece *piece = &pieces[ids[i]];
        const int byte = fallback_byte(piece->text, piece->length);
        const char character = (char)byte;
        if (byte >= 0) {
            LS_TRY_GOTO(ls_buffer_add(&bytes, &character, 1), done);
            continue;
        }
        LS_TRY_GOTO(add_characters(out, bytes.bytes, bytes.length), done);
        bytes.length = 0;
        LS_TRY_GOTO(add_sentencepiece(d, out, ids[i], piece, &begins), done);
    }
    status = add_characters(out, bytes.bytes, bytes.length);
done:
    ls_buffer_destroy(&bytes);
    return status;
}

static ls_status finish(const ls_buffer *bytes, char **text, size_t *length)
{
    ls_buffer out = {0};
    const char *in = bytes->bytes;
    for (size_t at = 0; at < bytes->length;) {
        const size_t valid = ls_utf8_valid_prefix(in + at, bytes->length - at);
        ls_status status = ls_buffer_add(&out, in + at, valid);
        at += valid;
        if (status == LS_OK && at < bytes->length) {
            status = ls_buffer_add(&out, REPLACEMENT, strlen(REPLACEMENT));
            at += (size_t)ls_utf8_invalid(in + at, bytes->length - at);
        }
        if (status != LS_OK) {
            ls_buffer_destroy(&out);
            return status;
        }
    }
    const ls_status status = ls_buffer_add(&out, "", 1);
    *text = out.bytes;
    *length = status == LS_OK ? out.length - 1 : 0;
    return status;
}

static ls_status run_steps(const ls_detokenizer *d, list lists[2], int *last)
{
    ls_regex_scratch *regex = NULL;
    LS_TRY(ls_regex_scratch_create(&regex));
    ls_status status = LS_OK;
    for (int i = 0; i < d->count && status == LS_OK; i++) {
        list *out = &lists[1 - *last];
        out->bytes.length = 0;
        out->count = 0;
        const run r = {&d->steps[i], regex, &lists[*last], out};
        status = run_step(&r);
        *last = 1 - *last;
    }
    ls_regex_scratch_free(regex);
    return status;
}

static ls_status add_tokens(list *out, const ls_piece *pieces, const int32_t *ids, int64_t count)
{
    for (int64_t i = 0; i < count; i++) LS_TRY(add_text(out, pieces[ids[i]].text, pieces[ids[i]].length));
    return LS_OK;
}

/* *known: those of ids[count] that have a text; malloc'ed. */
static ls_status select_known(int32_t **known, int64_t *known_count, const ls_piece *pieces, int64_t piece_count,
                              const int32_t *ids, int64_t count)
{
    *known = malloc((size_t)(count + 1) * sizeof **known);
    if (*known == NULL) return LS_FAIL(LS_NO_MEMORY, "not enough memory to decode %lld tokens", (long long)count);
    for (int64_t i = 0; i < count; i++)
        if (ids[i] >= 0 && ids[i] < piece_count && pieces[ids[i]].text != NULL) (*known)[(*known_count)++] = ids[i];
    return LS_OK;
}

ls_status ls_detokenizer_run(const ls_detokenizer *detokenizer, const ls_piece *pieces, int64_t piece_count,
                             const int32_t *ids, int64_t count, char **text, size_t *length)
{
    list lists[2] = {0};
    int32_t *known = NULL;
    int64_t known_count = 0;
    int last = 0;
    ls_status status = LS_OK;
    LS_TRY_GOTO(select_known(&known, &known_count, pieces, piece_count, ids, count), done);
    LS_TRY_GOTO(list_create(&lists[0], count + 1), done);
    LS_TRY_GOTO(list_create(&lists[1], count + 1), done);
    if (detokenizer->count > 0 && detokenizer->steps[0].kind == LS_DETOKENIZER_SENTENCEPIECE) {
        LS_TRY_GOTO(run_sentencepiece(detokenizer, pieces, known, known_count, &lists[0].bytes), done);
    } else {
        LS_TRY_GOTO(add_tokens(&lists[0], pieces, known, known_count), done);
        LS_TRY_GOTO(run_steps(detokenizer, lists, &last), done);
    }
    status = finish(&lists[last].bytes, text, length);
done:
    list_destroy(&lists[0]);
    list_destroy(&lists[1]);
    free(known);
    return status;
}
