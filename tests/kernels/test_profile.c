/* Profiles: calls and times land on their op, results stay, marks beyond the room are left out, and nothing is read
 * before the device was waited for. */
#include "kernel_check.h"

#include "core/clock.h"
#include "kernels/profile.h"

#include <stdlib.h>

enum { COUNT = 1000, MARKS = 8 };

/* A device whose marks are moments of a clock that goes on by a second a mark. */
static struct {
    int64_t created, marked;
    double at[MARKS];
} fake;

static ls_status create_marks(ls_exec *exec, int64_t marks)
{
    (void)exec;
    assert_true(marks <= MARKS);
    fake.created = marks;
    return LS_OK;
}

static void mark(ls_exec *exec, int64_t index)
{
    (void)exec;
    assert_true(index >= 0 && index < fake.created);
    fake.at[index] = (double)++fake.marked;
}

static ls_status between(ls_exec *exec, int64_t from, int64_t to, double *seconds)
{
    *seconds = fake.at[to] - fake.at[from];
    return exec->status;
}

static const ls_exec_timer fake_timer = {.create = create_marks, .mark = mark, .between = between};

static float x[COUNT], y[COUNT], out[COUNT];

static void copy(ls_exec *exec) { exec->ops->convert(exec, out, LS_F32, x, LS_F32, COUNT); }

static double squares(ls_exec *exec)
{
    double sum = -1.0;
    exec->ops->sum_of_squares(exec, &sum, x, COUNT);
    return sum;
}

static void host_times_fall_within_the_call(void **state)
{
    (void)state;
    ls_exec exec = open_reference();
    ls_profile *profile;
    ls_profile_table table;
    for (int i = 0; i < COUNT; i++) x[i] = (float)i / 7.0f;
    const ls_backend *own = exec.ops;
    const double expected = squares(&exec);
    copy(&exec);
    memcpy(y, out, sizeof y);

    assert_int_equal(ls_profile_create(&profile, &exec), LS_OK);
    assert_ptr_equal(exec.ops, own); /* not before start */
    assert_int_equal(ls_profile_reserve(profile, 1), LS_OK);
    const double begin = ls_seconds_now();
    ls_profile_start(profile);
    assert_string_equal(exec.ops->name, own->name);
    for (int i = 0; i < 3; i++) copy(&exec);
    assert_true(squares(&exec) == expected);
    ls_profile_stop(profile);
    const double whole = ls_seconds_now() - begin;
    assert_ptr_equal(exec.ops, own);
    assert_memory_equal(out, y, sizeof y);
    copy(&exec); /* not in it */

    assert_int_equal(ls_profile_settle(profile), LS_OK);
    ls_profile_take(profile, &table);
    for (int op = 0; op < LS_PROFILE_OPS; op++) {
        const int64_t calls = op == LS_PROFILE_convert ? 3 : op == LS_PROFILE_sum_of_squares;
        assert_int_equal(table.calls[op], calls);
        assert_true(table.calls[op] > 0 ? table.seconds[op] > 0.0 : table.seconds[op] == 0.0);
    }
    assert_true(ls_profile_seconds(&table) <= whole);
    assert_string_equal(ls_profile_names[LS_PROFILE_convert], "convert");
    ls_profile_take(profile, &table);
    assert_true(ls_profile_seconds(&table) == 0.0);
    assert_int_equal(table.calls[LS_PROFILE_convert], 0);
    ls_profile_destroy(profile);
    assert_null(exec.profile);
    ls_exec_destroy(&exec);
}

static void device_times_come_with_the_wait(void **state)
{
    (void)state;
    ls_exec exec = open_reference();
    ls_profile *profile;
    ls_profile_table table;
    exec.timer = &fake_timer;
    assert_int_equal(ls_profile_create(&profile, &exec), LS_OK);
    ls_profile_start(profile);
    copy(&exec);
    (void)squares(&exec);
    assert_int_equal(ls_profile_counted(profile), 2); /* no room yet */
    assert_int_equal(fake.marked, 0);
    assert_int_equal(ls_profile_reserve(profile, 3), LS_OK);
    assert_int_equal(ls_profile_counted(profile), 0);
    assert_int_equal(fake.created, 6);

    for (int round = 0; round < 2; round++) {
        copy(&exec);
        (void)squares(&exec);
        ls_profile_take(profile, &table);
        assert_int_equal(table.calls[LS_PROFILE_convert], 0); /* they may be under way still */
        assert_int_equal(ls_profile_settle(profile), LS_OK);
        ls_profile_take(profile, &table);
        assert_int_equal(table.calls[LS_PROFILE_convert], 1);
        assert_int_equal(table.calls[LS_PROFILE_sum_of_squares], 1);
        assert_true(table.seconds[LS_PROFILE_convert] == 1.0); /* a mark before, a mark after */
        assert_true(ls_profile_seconds(&table) == 2.0);
    }

    for (int i = 0; i < 5; i++) copy(&exec); /* room for three */
    assert_true(squares(&exec) > 0.0);
    assert_int_equal(ls_profile_settle(profile), LS_OK);
    ls_profile_take(profile, &table);
    assert_int_equal(table.calls[LS_PROFILE_convert], 3);
    assert_int_equal(table.calls[LS_PROFILE_sum_of_squares], 0);
    ls_profile_destroy(profile);
    exec.timer = NULL;
    ls_exec_destroy(&exec);
}

static void a_failed_device_tells_nothing(void **state)
{
    (void)state;
    ls_exec exec = open_reference();
    ls_profile *profile;
    ls_profile_table table;
    exec.timer = &fake_timer;
    assert_int_equal(ls_profile_create(&profile, &exec), LS_OK);
    assert_int_equal(ls_profile_reserve(profile, 3), LS_OK);
    ls_profile_start(profile);
    copy(&exec);
    exec.status = LS_IO;
    assert_int_equal(ls_profile_settle(profile), LS_IO);
    ls_profile_take(profile, &table);
    assert_int_equal(table.calls[LS_PROFILE_convert], 0);
    ls_profile_destroy(profile);
    exec.timer = NULL;
    exec.status = LS_OK;
    ls_exec_destroy(&exec);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(host_times_fall_within_the_call),
        cmocka_unit_test(device_times_come_with_the_wait),
        cmocka_unit_test(a_failed_device_tells_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
