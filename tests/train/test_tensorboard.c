/* An events file read back record by record: framing, checksums, and what the events say. */
#include "train/tensorboard.h"

#include "core/file.h"
#include "event.pb-c.h"
#include "tests/core/core_check.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static uint64_t little_endian(const unsigned char *bytes, size_t count)
{
    uint64_t value = 0;
    for (size_t i = count; i > 0; i--) value = value << 8 | bytes[i - 1];
    return value;
}

/* CRC32C by the definition: the remainder of the message as a polynomial over GF(2), highest power first. */
static uint32_t reflected(uint32_t value, int bits)
{
    uint32_t out = 0;
    for (int i = 0; i < bits; i++) out |= (value >> i & 1u) << (bits - 1 - i);
    return out;
}

static uint32_t plain_crc32c(const unsigned char *bytes, size_t length)
{
    uint32_t remainder = 0xffffffffu;
    for (size_t i = 0; i < length; i++) {
        remainder ^= reflected(bytes[i], 8) << 24;
        for (int bit = 0; bit < 8; bit++) remainder = remainder << 1 ^ (remainder & 0x80000000u ? 0x1edc6f41u : 0u);
    }
    return ~reflected(remainder, 32);
}

static void test_checksum(void **state)
{
    (void)state;
    /* The check value of CRC-32C is 0xe3069283. */
    assert_int_equal(plain_crc32c((const unsigned char *)"123456789", 9), 0xe3069283u);
    const uint32_t crc = 0xe3069283u;
    assert_int_equal(ls_tensorboard_masked_crc("123456789", 9), (crc >> 15 | crc << 17) + 0xa282ead8u);
}

/* Unpacks the record at *at and moves on. */
static LsEvent *next_event(const unsigned char *file, size_t length, size_t *at)
{
    assert_true(*at + 16 <= length);
    const size_t size = (size_t)little_endian(file + *at, 8);
    assert_true(*at + 16 + size <= length);
    assert_int_equal(little_endian(file + *at + 8, 4), ls_tensorboard_masked_crc(file + *at, 8));
    const unsigned char *event = file + *at + 12;
    assert_int_equal(little_endian(event + size, 4), ls_tensorboard_masked_crc(event, size));
    *at += 16 + size;
    LsEvent *unpacked = ls_event__unpack(NULL, size, event);
    assert_non_null(unpacked);
    assert_true(unpacked->wall_time > 1.6e9);
    return unpacked;
}

static void check_scalar(const unsigned char *file, size_t length, size_t *at, int64_t step, const char *tag,
                         float value)
{
    LsEvent *event = next_event(file, length, at);
    assert_int_equal(event->step, step);
    assert_int_equal(event->summary->n_value, 1);
    assert_string_equal(event->summary->value[0]->tag, tag);
    assert_true(event->summary->value[0]->has_simple_value);
    assert_true(event->summary->value[0]->simple_value == value);
    ls_event__free_unpacked(event, NULL);
}

static void test_read_back(void **state)
{
    (void)state;
    ls_tensorboard tensorboard;
    assert_int_equal(ls_tensorboard_open(&tensorboard, ".", 40), LS_OK);
    char *path = strdup(tensorboard.path);
    assert_non_null(strstr(path, "/events.out.tfevents."));
    ls_tensorboard_scalar(&tensorboard, 41, "loss", 2.5);
    ls_tensorboard_scalar(&tensorboard, 41, "exit_loss/layer_03", 0.0); /* a zero is a value, too */
    assert_int_equal(ls_tensorboard_flush(&tensorboard), LS_OK);

    char *text;
    size_t length, at = 0;
    assert_int_equal(ls_file_read(&text, &length, path), LS_OK);
    const unsigned char *file = (const unsigned char *)text;
    LsEvent *version = next_event(file, length, &at);
    assert_string_equal(version->file_version, "brain.Event:2");
    ls_event__free_unpacked(version, NULL);
    LsEvent *start = next_event(file, length, &at);
    assert_int_equal(start->step, 40);
    assert_int_equal(start->session_log->status, LS_SESSION_LOG__STATUS__START);
    ls_event__free_unpacked(start, NULL);
    check_scalar(file, length, &at, 41, "loss", 2.5f);
    check_scalar(file, length, &at, 41, "exit_loss/layer_03", 0.0f);
    assert_int_equal(at, length);
    assert_int_equal(ls_tensorboard_close(&tensorboard), LS_OK);
    free(text);
    free(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_checksum),
        cmocka_unit_test(test_read_back),
    };
    return cmocka_run_group_tests(tests, check_enter_scratch, check_leave_scratch);
}
