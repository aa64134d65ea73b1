/* Streaming: whole characters only, colours where they belong, end of text silent. */
#include "eval/text_stream.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

typedef struct stream_fixture {
    ls_tokenizer *tokenizer;
    ls_text_stream stream;
    char *out;
    size_t length;
} stream_fixture;

static void open_stream(stream_fixture *fixture, bool colour)
{
    memset(fixture, 0, sizeof *fixture);
    assert_int_equal(ls_tokenizer_open(&fixture->tokenizer, "bytes"), LS_OK);
    fixture->stream = (ls_text_stream){.colour = colour, .end = ls_tokenizer_end_of_text(fixture->tokenizer)};
    ls_token_stream_begin(&fixture->stream.tokens, fixture->tokenizer, NULL, 0);
    fixture->stream.file = open_memstream(&fixture->out, &fixture->length);
}

static void write_bytes(stream_fixture *fixture, const char *bytes, int accepted)
{
    int32_t tokens[64];
    const int count = (int)strlen(bytes);
    for (int i = 0; i < count; i++) tokens[i] = (unsigned char)bytes[i];
    ls_text_stream_write(&fixture->stream, tokens, count, accepted);
}

static void close_stream(stream_fixture *fixture)
{
    (void)fclose(fixture->stream.file);
    free(fixture->out);
    ls_tokenizer_free(fixture->tokenizer);
}

static void character_waits_for_its_last_byte(void **state)
{
    (void)state;
    stream_fixture fixture;
    open_stream(&fixture, false);
    write_bytes(&fixture, "x\xE2\x82", 0);
    assert_string_equal(fixture.out, "x");
    write_bytes(&fixture, "\xACy", 0);
    assert_string_equal(fixture.out, "x\xE2\x82\xACy");
    write_bytes(&fixture, "\xF0\x9F", 0);
    assert_string_equal(fixture.out, "x\xE2\x82\xACy");
    ls_text_stream_end(&fixture.stream);
    assert_true(strncmp(fixture.out, "x\xE2\x82\xACy\xEF\xBF\xBD", 8) == 0);
    assert_true(fixture.out[fixture.length - 1] == '\n');
    close_stream(&fixture);
}

static void colours_tell_drafts_from_own_tokens(void **state)
{
    (void)state;
    stream_fixture fixture;
    open_stream(&fixture, true);
    write_bytes(&fixture, "abc", 2);
    write_bytes(&fixture, "de", 1);
    ls_text_stream_end(&fixture.stream);
    assert_string_equal(fixture.out, "\033[32mab\033[0mc\033[32md\033[0me\n");
    close_stream(&fixture);

    open_stream(&fixture, false);
    write_bytes(&fixture, "abc\n", 2);
    ls_text_stream_end(&fixture.stream);
    assert_string_equal(fixture.out, "abc\n");
    close_stream(&fixture);
}

static void end_of_text_shows_nothing(void **state)
{
    (void)state;
    stream_fixture fixture;
    open_stream(&fixture, false);
    const int32_t tokens[] = {'h', 'i', ls_tokenizer_end_of_text(fixture.tokenizer)};
    ls_text_stream_write(&fixture.stream, tokens, 3, 0);
    ls_text_stream_end(&fixture.stream);
    assert_string_equal(fixture.out, "hi\n");
    close_stream(&fixture);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(character_waits_for_its_last_byte),
        cmocka_unit_test(colours_tell_drafts_from_own_tokens),
        cmocka_unit_test(end_of_text_shows_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
