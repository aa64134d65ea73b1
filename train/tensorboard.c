/* TFRecord framing: length (8 bytes, little endian), its masked CRC (4), the event, the event's masked CRC (4).
 * Events are packed on the stack: a step allocates nothing. Called by train/loop.c. */
#include "train/tensorboard.h"

#include "core/file.h"
#include "event.pb-c.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { EVENT_BYTES = 512, TAG_BYTES = 120 };

/* Castagnoli's polynomial, bits reversed; events are short and few, so a bit at a time is enough. */
static uint32_t crc32c(const unsigned char *bytes, size_t length)
{
    uint32_t crc = 0xffffffffu;
    for (size_t i = 0; i < length; i++) {
        crc ^= bytes[i];
        for (int bit = 0; bit < 8; bit++) crc = crc >> 1 ^ (crc & 1u ? 0x82f63b78u : 0u);
    }
    return ~crc;
}

uint32_t ls_tensorboard_masked_crc(const void *bytes, size_t length)
{
    const uint32_t crc = crc32c(bytes, length);
    return (crc >> 15 | crc << 17) + 0xa282ead8u;
}

static void store_little_endian(unsigned char *out, uint64_t value, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++) out[i] = (unsigned char)(value >> 8 * i);
}

static void write_event(FILE *file, LsEvent *event)
{
    unsigned char packed[EVENT_BYTES], head[12], tail[4];
    struct timespec now;
    (void)clock_gettime(CLOCK_REALTIME, &now);
    event->has_wall_time = 1;
    event->wall_time = (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
    const size_t length = ls_event__get_packed_size(event);
    LS_ASSERT(length <= sizeof packed);
    (void)ls_event__pack(event, packed);
    store_little_endian(head, length, 8);
    store_little_endian(head + 8, ls_tensorboard_masked_crc(head, 8), 4);
    store_little_endian(tail, ls_tensorboard_masked_crc(packed, length), 4);
    (void)fwrite(head, 1, sizeof head, file);
    (void)fwrite(packed, 1, length, file);
    (void)fwrite(tail, 1, sizeof tail, file);
}

static void write_opening(FILE *file, int64_t step)
{
    LsEvent version = LS_EVENT__INIT;
    char text[] = "brain.Event:2";
    version.file_version = text;
    write_event(file, &version);

    LsSessionLog log = LS_SESSION_LOG__INIT;
    log.has_status = 1;
    log.status = LS_SESSION_LOG__STATUS__START;
    LsEvent start = LS_EVENT__INIT;
    start.has_step = 1;
    start.step = step;
    start.session_log = &log;
    write_event(file, &start);
}

ls_status ls_tensorboard_open(ls_tensorboard *out, const char *run_dir, int64_t step)
{
    char host[65] = "localhost", name[160];
    memset(out, 0, sizeof *out);
    (void)gethostname(host, sizeof host - 1);
    (void)snprintf(name, sizeof name, "events.out.tfevents.%010lld.%s.%lld", (long long)time(NULL), host,
                   (long long)getpid());
    out->path = ls_file_join(run_dir, name);
    if (out->path == NULL) return LS_FAIL(LS_NO_MEMORY, "no memory for the name of an events file in %s", run_dir);
    out->file = fopen(out->path, "wbe");
    if (out->file == NULL) {
        const ls_status status = LS_FAIL(LS_IO, "cannot write %s: %s", out->path, ls_file_reason(errno));
        free(out->path);
        out->path = NULL;
        return status;
    }
    write_opening(out->file, step);
    return ls_tensorboard_flush(out);
}

ls_status ls_tensorboard_close(ls_tensorboard *tensorboard)
{
    ls_status status = LS_OK;
    if (tensorboard->file != NULL && fclose(tensorboard->file) != 0)
        status = LS_FAIL(LS_IO, "cannot write %s: %s", tensorboard->path, ls_file_reason(errno));
    free(tensorboard->path);
    memset(tensorboard, 0, sizeof *tensorboard);
    return status;
}

void ls_tensorboard_scalar(ls_tensorboard *tensorboard, int64_t step, const char *tag, double value)
{
    char text[TAG_BYTES + 1];
    (void)snprintf(text, sizeof text, "%s", tag);
    LsScalar scalar = LS_SCALAR__INIT;
    scalar.tag = text;
    scalar.has_simple_value = 1;
    scalar.simple_value = (float)value;
    LsScalar *scalars[] = {&scalar};
    LsSummary summary = LS_SUMMARY__INIT;
    summary.n_value = 1;
    summary.value = scalars;
    LsEvent event = LS_EVENT__INIT;
    event.has_step = 1;
    event.step = step;
    event.summary = &summary;
    write_event(tensorboard->file, &event);
}

ls_status ls_tensorboard_flush(ls_tensorboard *tensorboard)
{
    if (fflush(tensorboard->file) != 0 || ferror(tensorboard->file))
        return LS_FAIL(LS_IO, "cannot write %s: %s", tensorboard->path, ls_file_reason(errno));
    return LS_OK;
}
