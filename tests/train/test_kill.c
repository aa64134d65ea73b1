/* kill -9 at random instants of a real `layerskip train`: whatever the instant, the checkpoints that are there are
 * whole, and the run that is resumed again and again ends as the one that was never disturbed, bit for bit. */
#include "run_fixture.h"

#include "core/file.h"
#include "core/json.h"
#include "core/random.h"
#include "core/text.h"
#include "train/trainer.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { KILLS = 20, MOST_RUNS = 20, STEPS = 120 };

static run_fixture fixture;

/* Starts the program on the fixture's config; messages go to log.txt in the folder. */
static pid_t start(const char *run_name, const char *threads, bool resume)
{
    char *config = run_fixture_path(&fixture, "config.yaml"), *log = run_fixture_path(&fixture, "log.txt");
    char *tokens = ls_text_format("data.tokens=%s", fixture.tokens);
    char *run_dir = ls_text_format("run_dir=%s/%s", fixture.folder, run_name);
    char *arguments[] = {"layerskip",
                         "train",
                         config,
                         tokens,
                         run_dir,
                         "training.steps=120",
                         "checkpoint.every=2",
                         "evaluation.every=50",
                         (char *)(uintptr_t)threads,
                         resume ? "--resume" : NULL,
                         NULL};
    const pid_t child = fork();
    if (child == 0) {
        const int out = open(log, O_WRONLY | O_CREAT | O_APPEND, 0666);
        (void)dup2(out, STDERR_FILENO);
        (void)execv(LAYERSKIP, arguments);
        _exit(127);
    }
    assert_true(child > 0);
    free(run_dir);
    free(tokens);
    free(log);
    free(config);
    return child;
}

static int wait_for(pid_t child)
{
    int status;
    pid_t done;
    do done = waitpid(child, &status, 0);
    while (done < 0 && errno == EINTR);
    assert_int_equal(done, child);
    return status;
}

static void expect_success(int status)
{
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return;
    char *path = run_fixture_path(&fixture, "log.txt"), *text = NULL;
    size_t length;
    expect_ok(ls_file_read(&text, &length, path));
    fail_msg("layerskip ended with status 0x%x: %s", (unsigned)status, length > 2000 ? text + length - 2000 : text);
}

static void sleep_seconds(double seconds)
{
    const struct timespec span = {(time_t)seconds, (long)(1e9 * (seconds - (double)(time_t)seconds))};
    (void)nanosleep(&span, NULL);
}

static int64_t newest_step(const char *run_name)
{
    char *run_dir = run_fixture_path(&fixture, run_name), *path;
    int64_t step = -1;
    expect_ok(ls_checkpoint_newest(&path, run_dir));
    if (path != NULL) {
        ls_checkpoint saved;
        expect_ok(ls_checkpoint_read(&saved, path)); /* whole, whenever the process died */
        step = saved.step;
        ls_checkpoint_free(&saved);
    }
    free(path);
    free(run_dir);
    return step;
}

/* Waits until the process has saved beyond `step`, or has ended. */
static void wait_for_progress(pid_t child, const char *run_name, int64_t step)
{
    char *run_dir = run_fixture_path(&fixture, run_name);
    siginfo_t info = {0};
    for (;;) {
        char *path;
        long long found = -1;
        expect_ok(ls_checkpoint_newest(&path, run_dir));
        if (path != NULL) (void)sscanf(strrchr(path, '/'), "/step-%lld", &found);
        free(path);
        if (found > step) break;
        if (waitid(P_PID, (id_t)child, &info, WEXITED | WNOHANG | WNOWAIT) == 0 && info.si_pid == child) break;
        sleep_seconds(0.002);
    }
    free(run_dir);
}

/* The lines of metrics.jsonl without what depends on the clock. */
static char *metrics_text(const char *run_name)
{
    char *name = ls_text_format("%s/metrics.jsonl", run_name), *path = run_fixture_path(&fixture, name), *text;
    size_t length;
    expect_ok(ls_file_read(&text, &length, path));
    ls_text out = {0};
    for (const char *at = text, *end; (end = strchr(at, '\n')) != NULL; at = end + 1) {
        cJSON *line;
        expect_ok(ls_json_parse(&line, at, (size_t)(end - at), path));
        cJSON_DeleteItemFromObject(line, "tokens_per_second");
        cJSON_DeleteItemFromObject(line, "share_of_peak");
        cJSON_DeleteItemFromObject(line, "seconds");
        char *printed = cJSON_PrintUnformatted(line);
        ls_text_addf(&out, "%s\n", printed);
        free(printed);
        cJSON_Delete(line);
    }
    free(text);
    free(path);
    free(name);
    return out.bytes;
}

static void check_same_end(const char *one, const char *two)
{
    static const char *const overrides[] = {"training.steps=120", NULL};
    const char *names[] = {one, two};
    ls_train_config configs[2];
    ls_trainer trainers[2];
    for (int i = 0; i < 2; i++) {
        char *path;
        run_fixture_config(&configs[i], &fixture, names[i], overrides);
        expect_ok(ls_checkpoint_newest(&path, configs[i].run_dir));
        expect_ok(ls_trainer_create(&trainers[i], &configs[i]));
        expect_ok(ls_trainer_resume(&trainers[i], path));
        assert_int_equal(trainers[i].step, STEPS);
        free(path);
    }
    const size_t bytes = sizeof(float) * (size_t)trainers[0].model.table.elements;
    assert_memory_equal(trainers[0].optimizer.master, trainers[1].optimizer.master, bytes);
    assert_memory_equal(trainers[0].optimizer.moment1, trainers[1].optimizer.moment1, bytes);
    assert_memory_equal(trainers[0].optimizer.moment2, trainers[1].optimizer.moment2, bytes);
    for (int i = 0; i < 2; i++) {
        ls_trainer_destroy(&trainers[i]);
        ls_train_config_free(&configs[i]);
    }
    char *first = metrics_text(one), *second = metrics_text(two);
    assert_string_equal(first, second);
    free(first);
    free(second);
}

/* Kills run number `run` again and again until it ends or KILLS are reached, lets it end, and compares. */
static void kill_one_run(int run, int *kills, uint32_t *starts)
{
    char *name = ls_text_format("killed-%d", run);
    for (int64_t before = -1; before < STEPS && *kills < KILLS; before = newest_step(name)) {
        const uint32_t i = (*starts)++;
        const pid_t child = start(name, i % 2 == 0 ? "threads=1" : "threads=2", before >= 0);
        /* Mostly while it trains and saves, now and then while it starts. */
        if (i % 5 != 4) wait_for_progress(child, name, before);
        sleep_seconds(0.06 * ls_random_uniform(1, LS_STREAM_TEST, i, 0, 0));
        (void)kill(child, SIGKILL);
        const int status = wait_for(child);
        if (WIFSIGNALED(status))
            ++*kills;
        else
            expect_success(status);
    }
    const int64_t reached = newest_step(name);
    if (reached < STEPS) expect_success(wait_for(start(name, "threads=2", reached >= 0)));
    check_same_end("whole", name);
    free(name);
}

static void test_kill_and_resume(void **state)
{
    (void)state;
    int kills = 0;
    uint32_t starts = 0;
    expect_success(wait_for(start("whole", "threads=2", false)));
    for (int run = 0; kills < KILLS; run++) {
        assert_true(run < MOST_RUNS);
        kill_one_run(run, &kills, &starts);
    }
}

static int set_up(void **state)
{
    (void)state;
    run_fixture_create(&fixture, 1500, 1);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    run_fixture_destroy(&fixture);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_kill_and_resume)};
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
