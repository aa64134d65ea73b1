/* Status codes and the error text.
 *
 * Every function that can fail returns an ls_status. The first failure keeps a sentence the user can act on, with
 * the file and line that raised it; callers pass the status up unchanged (LS_TRY). Only main.c exits.
 * The text is kept per thread. */
#ifndef LS_CORE_STATUS_H
#define LS_CORE_STATUS_H

#include <stdbool.h>

/* X(name, exit status, short description) */
#define LS_STATUS_LIST(X)                                                                                              \
    X(OK, 0, "success")                                                                                                \
    X(BAD_INPUT, 2, "bad input")   /* a file, option or value the user can correct */                                  \
    X(IO, 2, "input/output error") /* missing file, disk full, permission */                                           \
    X(NO_MEMORY, 2, "out of memory")                                                                                   \
    X(NOT_FINITE, 2, "value not finite")    /* NaN or infinity in a loss or gradient */                                \
    X(UNSUPPORTED, 2, "not supported here") /* this build or machine lacks it */                                       \
    X(LOST, 75, "process lost")             /* another process of the run; starting again may help */                  \
    X(DEVICE_FAILED, 75, "device failed")   /* a GPU, at what it has done before; likewise */                          \
    X(INTERNAL, 70, "internal error")       /* a bug of ours */                                                        \
    X(INTERRUPTED, 130, "interrupted")      /* SIGINT or SIGTERM, state saved */                                       \
    X(HELP_SHOWN, 0, "help shown")          /* nothing left to do and nothing to say */

typedef enum ls_status {
#define LS_STATUS_ENUM(name, exit_status, text) LS_##name,
    LS_STATUS_LIST(LS_STATUS_ENUM)
#undef LS_STATUS_ENUM
} ls_status;

/* Records the failure (the first one wins until ls_error_clear) and returns `status`. */
ls_status ls_fail_at(const char *file, int line, ls_status status, const char *format, ...)
    __attribute__((format(printf, 4, 5), cold));
#define LS_FAIL(status, ...) ls_fail_at(__FILE__, __LINE__, (status), __VA_ARGS__)

/* The same in place of what was recorded, which may be among the arguments: LS_REWORD(status, "%s: %s", path,
 * ls_error_text()). */
ls_status ls_reword_at(const char *file, int line, ls_status status, const char *format, ...)
    __attribute__((format(printf, 4, 5), cold));
#define LS_REWORD(status, ...) ls_reword_at(__FILE__, __LINE__, (status), __VA_ARGS__)

/* Passes a failure up. */
#define LS_TRY(call)                                                                                                   \
    do {                                                                                                               \
        const ls_status ls_try_status = (call);                                                                        \
        if (ls_try_status != LS_OK) return ls_try_status;                                                              \
    } while (0)

/* Leaves through a clean-up label: `status` must be a local ls_status. */
#define LS_TRY_GOTO(call, label)                                                                                       \
    do {                                                                                                               \
        status = (call);                                                                                               \
        if (status != LS_OK) goto label;                                                                               \
    } while (0)

const char *ls_error_text(void);  /* the sentence, "" when nothing failed */
const char *ls_error_place(void); /* "file.c:123", "" when nothing failed */
void ls_error_clear(void);
int ls_status_exit(ls_status status); /* process exit status for main.c */
const char *ls_status_name(ls_status status);

/* A broken invariant of our own: prints both operands' text and aborts, in release builds too. */
_Noreturn void ls_assert_failed(const char *file, int line, const char *what);
#define LS_ASSERT(condition)                                                                                           \
    do {                                                                                                               \
        if (!(condition)) ls_assert_failed(__FILE__, __LINE__, #condition);                                            \
    } while (0)

#endif
