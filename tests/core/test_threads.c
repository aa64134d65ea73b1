/* The process starts itself anew with a short spinning limit, unless the environment has an opinion of its own. */
#include "core/threads.h"
#include "core_check.h"

#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { NEW_WITH_LIMIT = 40, NEW_WITHOUT_LIMIT, SAME_PROCESS };

/* How the process that called ls_threads_settle under these settings ended. */
static int settle(const char *name, const char *value)
{
    const pid_t child = fork();
    if (child == 0) {
        (void)unsetenv("GOMP_SPINCOUNT");
        (void)unsetenv("OMP_WAIT_POLICY");
        if (name != NULL) (void)setenv(name, value, 1);
        ls_threads_settle((char *[]){"test_threads", "started anew", NULL});
        _exit(SAME_PROCESS);
    }
    int status = 0;
    assert_true(child > 0);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static void starts_anew_once(void **state)
{
    (void)state;
    assert_int_equal(settle(NULL, NULL), NEW_WITH_LIMIT);
}

static void leaves_a_choice_alone(void **state)
{
    (void)state;
    assert_int_equal(settle("OMP_WAIT_POLICY", "passive"), SAME_PROCESS);
    assert_int_equal(settle("GOMP_SPINCOUNT", "5"), SAME_PROCESS);
}

int main(int argc, char **argv)
{
    if (argc == 2 && strcmp(argv[1], "started anew") == 0) {
        ls_threads_settle(argv); /* must not start a third */
        const char *limit = getenv("GOMP_SPINCOUNT");
        return limit != NULL && atoi(limit) > 0 ? NEW_WITH_LIMIT : NEW_WITHOUT_LIMIT;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(starts_anew_once),
        cmocka_unit_test(leaves_a_choice_alone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
