/* Helpers of the tests in this folder: refusals, a scratch folder, child processes whose output is caught. */
#ifndef LS_TESTS_CORE_CHECK_H
#define LS_TESTS_CORE_CHECK_H

#include "core/status.h"

#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

/* `call` must give exactly `status`, with a sentence that holds `part`; the error text is cleared after it. */
#define CHECK_REFUSED(call, status, part)                                                                              \
    do {                                                                                                               \
        ls_error_clear();                                                                                              \
        assert_int_equal((call), (status));                                                                            \
        check_error_has((part), __FILE__, __LINE__);                                                                   \
    } while (0)
/* `call` must succeed; its error text is shown otherwise. */
#define CHECK_OK(call)                                                                                                 \
    do {                                                                                                               \
        ls_error_clear();                                                                                              \
        if ((call) != LS_OK) fail_msg("%s", ls_error_text());                                                          \
    } while (0)

void check_error_has(const char *part, const char *file, int line);
void check_text_has(const char *text, const char *part);

/* A fresh folder, entered; the one before is removed. Group setup and teardown for cmocka. */
int check_enter_scratch(void **state);
int check_leave_scratch(void **state);
void check_write_file(const char *path, const char *text);
int check_count_files(void); /* names in the current folder */

/* Runs `body` in a child and returns its wait status (as of waitpid); what it writes to `descriptor` (1 or 2) lands in
 * `output`, NUL-terminated; the other of the two is dropped. A body that returns ends the child with status 0. */
int check_in_child(void (*body)(void *context), void *context, int descriptor, char *output, size_t size);
#define CHECK_CHILD_EXITS(status, code)                                                                                \
    do {                                                                                                               \
        assert_true(WIFEXITED(status));                                                                                \
        assert_int_equal(WEXITSTATUS(status), (code));                                                                 \
    } while (0)

/* Files larger than this are refused to this process with EFBIG, as a full disk refuses them. */
void check_limit_files(size_t bytes);

#endif
