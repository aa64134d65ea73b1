#include "kernel_check.h"

#include <stdio.h>

enum { MOST_PRINTED = 20 };
static const uint64_t SEED = 20240416;

ls_exec open_reference(void)
{
    ls_exec exec;
    assert_int_equal(ls_exec_create(&exec, LS_DEVICE_REFERENCE, 2), LS_OK);
    return exec;
}

void report_failure(int *failures, const char *where, const ls_case *what, const char *why)
{
    char name[160];
    ls_case_name(what, name, sizeof name);
    if (++*failures <= MOST_PRINTED) print_error("%s: %s: %s\n", where, name, why);
}

void report_difference(int *failures, const char *where, const ls_case *what, const ls_case_difference *difference)
{
    char why[200];
    (void)snprintf(why, sizeof why, "%s[%lld] is %.9g, should be %.9g within %.3g", difference->buffer,
                   (long long)difference->element, difference->got, difference->want, difference->allowed);
    report_failure(failures, where, what, why);
}

void run_guarded(ls_case_run *run, const ls_case *what, ls_exec *exec, unsigned options, const char *where,
                 int *failures)
{
    char why[128];
    assert_int_equal(ls_case_prepare(run, what, exec, SEED, options | LS_RUN_GUARDED), LS_OK);
    ls_case_call(run);
    if (ls_exec_status(exec) != LS_OK) report_failure(failures, where, what, ls_error_text());
    if (!ls_case_intact(run, why, sizeof why)) report_failure(failures, where, what, why);
}

ls_case_list all_cases(void)
{
    ls_case_list list;
    assert_int_equal(ls_case_list_make(&list), LS_OK);
    return list;
}
