/* Messages and the progress line, behind one lock. */
#include "core/log.h"

#include "core/clock.h"
#include "core/text.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define SECONDS_BETWEEN_LINES 10.0 /* of progress, where it cannot be redrawn */

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static bool silent;
static bool drawn;       /* a progress line stands on the terminal, without its newline */
static ls_text waiting;  /* the newest progress line, where it is not printed yet */
static bool printed_any; /* a progress line was printed at `printed_at` */
static double printed_at;

static bool on_terminal(void)
{
    const char *kind = getenv("TERM");
    return isatty(STDERR_FILENO) == 1 && kind != NULL && strcmp(kind, "dumb") != 0;
}

/* Bytes of `text` that fit the terminal's width: a line that wraps cannot be redrawn in place. */
static size_t fitting(const char *text)
{
    struct winsize window;
    size_t columns = 80, i = 0;
    if (ioctl(STDERR_FILENO, TIOCGWINSZ, &window) == 0 && window.ws_col > 1) columns = window.ws_col;
    for (size_t used = 0; text[i] != '\0'; i++) {
        if (((unsigned char)text[i] & 0xC0) != 0x80 && ++used == columns) break;
    }
    return i;
}

static void finish_line(void)
{
    if (drawn) (void)fputc('\n', stderr);
    drawn = false;
}

static void print_message(const char *prefix, const char *format, va_list arguments)
{
    (void)pthread_mutex_lock(&lock);
    finish_line();
    (void)fputs(prefix, stderr);
    (void)vfprintf(stderr, format, arguments);
    (void)fputc('\n', stderr);
    (void)fflush(stderr);
    (void)pthread_mutex_unlock(&lock);
}

void ls_log_info(const char *format, ...)
{
    if (silent) return;
    va_list arguments;
    va_start(arguments, format);
    print_message("", format, arguments);
    va_end(arguments);
}

void ls_log_warning(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    print_message("warning: ", format, arguments);
    va_end(arguments);
}

/* Where the line cannot be redrawn: prints the waiting one when it is due. */
static void print_waiting(bool due)
{
    if (waiting.length == 0) return;
    const double now = ls_seconds_now();
    if (!due && printed_any && now - printed_at < SECONDS_BETWEEN_LINES) return;
    (void)fprintf(stderr, "%s\n", waiting.bytes);
    (void)fflush(stderr);
    waiting.length = 0;
    printed_any = true;
    printed_at = now;
}

void ls_log_progress(const char *format, ...)
{
    if (silent) return;
    char line[1024];
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    (void)pthread_mutex_lock(&lock);
    if (on_terminal()) {
        (void)fprintf(stderr, "\r%.*s\033[K", (int)fitting(line), line);
        (void)fflush(stderr);
        drawn = true;
    } else {
        waiting.length = 0;
        ls_text_add(&waiting, line, strlen(line));
        print_waiting(false);
    }
    (void)pthread_mutex_unlock(&lock);
}

void ls_log_progress_end(void)
{
    (void)pthread_mutex_lock(&lock);
    finish_line();
    print_waiting(true);
    free(waiting.bytes);
    waiting = (ls_text){0};
    printed_any = false;
    (void)pthread_mutex_unlock(&lock);
}

void ls_log_set_quiet(int quiet) { silent = quiet != 0; }
