/* The error text, one a thread. */
#include "core/status.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static _Thread_local char error_text[1024];
static _Thread_local char error_place[256];

static const struct {
    const char *name;
    int exit_status;
} statuses[] = {
#define LS_STATUS_ROW(name, exit_status, text) {text, exit_status},
    LS_STATUS_LIST(LS_STATUS_ROW)
#undef LS_STATUS_ROW
};

/* The arguments may point to the text that is replaced. */
static void record(const char *file, int line, const char *format, va_list arguments)
{
    char text[sizeof error_text];
    (void)vsnprintf(text, sizeof text, format, arguments);
    memcpy(error_text, text, sizeof text);
    (void)snprintf(error_place, sizeof error_place, "%s:%d", file, line);
}

ls_status ls_fail_at(const char *file, int line, ls_status status, const char *format, ...)
{
    if (error_text[0] != '\0') return status;
    va_list arguments;
    va_start(arguments, format);
    record(file, line, format, arguments);
    va_end(arguments);
    return status;
}

ls_status ls_reword_at(const char *file, int line, ls_status status, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    record(file, line, format, arguments);
    va_end(arguments);
    return status;
}

const char *ls_error_text(void) { return error_text; }

const char *ls_error_place(void) { return error_place; }

void ls_error_clear(void)
{
    error_text[0] = '\0';
    error_place[0] = '\0';
}

int ls_status_exit(ls_status status) { return statuses[status].exit_status; }

const char *ls_status_name(ls_status status) { return statuses[status].name; }

void ls_assert_failed(const char *file, int line, const char *what)
{
    (void)fprintf(stderr, "layerskip: internal error at %s:%d: %s does not hold\n", file, line, what);
    abort();
}
