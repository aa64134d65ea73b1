/* Three processes: the caller; a keeper, which has the namespaces, watches the clock and ends whatever is left; the
 * program. Keeper and program come from bare clone calls and use neither malloc nor stdio: another thread of the caller
 * may hold their locks. */
#include "eval/task/program_run.h"

#include "core/file.h"
#include "core/interrupt.h"
#include "core/text.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum {
    NOBODY = 65534,
    USERS = 1 << 30,       /* beyond any that there is: root's programs run as USERS + its process's number */
    PROCESSES = 128,       /* of the program at once */
    FILE_BYTES = 64 << 20, /* of a file that it writes */
    KEEPER_INTERRUPTED = 64,
    KEEPER_LOST = 65,
};

/* What keeper and program need; all of it is made before them. */
typedef struct run_plan {
    const ls_program *program;
    char folder[64];
    uid_t user;         /* that the program runs as, where the caller is root */
    char **arguments;   /* NULL-terminated */
    char **environment; /* NULL-terminated */
    int input, nowhere; /* standard input; standard output and error */
    int failure[2];     /* pipe: errno, where the command cannot be started */
    bool namespaces;
} run_plan;

/* ---- the program ------------------------------------------------------------------------------------------------- */

static void limit(int what, rlim_t value)
{
    const struct rlimit both = {value, value};
    (void)setrlimit((__rlimit_resource_t)what, &both);
}

static void set_limits(const ls_program *program)
{
    limit(RLIMIT_AS, (rlim_t)program->memory_limit << 20);
    limit(RLIMIT_CPU, (rlim_t)program->time_limit + 2);
    limit(RLIMIT_FSIZE, FILE_BYTES);
    limit(RLIMIT_NPROC, PROCESSES);
    limit(RLIMIT_NOFILE, 256);
    limit(RLIMIT_CORE, 0);
}

/* Root is not bound by the number of processes, and may do too much. That number counts all of a user's, so every
 * caller has a user of its own. By bare system calls: those of the C library wait until all threads of the process have
 * changed too, and of the caller's threads none is here. */
static bool become(uid_t user)
{
    if (geteuid() != 0) return true;
    return syscall(SYS_setgroups, 0L, 0L, 0L, 0L, 0L) == 0 &&
           syscall(SYS_setresgid, (long)user, (long)user, (long)user, 0L, 0L) == 0 &&
           syscall(SYS_setresuid, (long)user, (long)user, (long)user, 0L, 0L) == 0;
}

_Noreturn static void run_program(const run_plan *plan)
{
    for (int number = 1; number < NSIG; number++) (void)signal(number, SIG_DFL);
    (void)setsid();
    set_limits(plan->program);
    int report = plan->failure[1];
    bool ready = dup2(plan->input, 0) == 0 && dup2(plan->nowhere, 1) == 1 && dup2(plan->nowhere, 2) == 2 &&
                 dup3(report, 3, O_CLOEXEC) == 3;
    if (ready) {
        report = 3;
        if (close_range(4, ~0U, 0) != 0)
            for (int file = 4; file < 4096; file++) (void)close(file);
        ready = become(plan->user) && prctl(PR_SET_PDEATHSIG, SIGKILL) == 0;
    }
    if (ready) (void)execvpe(plan->arguments[0], plan->arguments, plan->environment);
    const int error = errno;
    (void)!write(report, &error, sizeof error);
    _exit(127);
}

/* ---- the keeper -------------------------------------------------------------------------------------------------- */

static volatile sig_atomic_t keeper_told;

static void tell_keeper(int number)
{
    (void)number;
    keeper_told = 1;
}

static double now(void)
{
    struct timespec time;
    (void)clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

static void pause_briefly(void)
{
    const struct timespec moment = {0, 2000000};
    (void)nanosleep(&moment, NULL);
}

/* Kills the keeper's children, which all that the program has left become in the end. False: it has none. */
static bool kill_children(void)
{
    char list[4096];
    const int file = open("/proc/thread-self/children", O_RDONLY | O_CLOEXEC);
    const ssize_t length = file < 0 ? -1 : read(file, list, sizeof list - 1);
    if (file >= 0) (void)close(file);
    if (length <= 0) return false;
    list[length] = '\0';
    for (char *at = list, *next; *at != '\0'; at = next) {
        const long child = strtol(at, &next, 10);
        if (next == at) break;
        if (child > 1 && (*next == ' ' || *next == '\0')) (void)kill((pid_t)child, SIGKILL);
        while (*next == ' ') next++;
    }
    return true;
}

/* With namespaces, the keeper's own end kills all that are in them. */
static void end_all(pid_t child, bool namespaces)
{
    if (namespaces) return;
    (void)kill(-child, SIGKILL);
    for (const double began = now(); now() - began < 10.0 && kill_children(); pause_briefly())
        while (waitpid(-1, NULL, WNOHANG) > 0) {
        }
}

_Noreturn static void keep(const run_plan *plan)
{
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    (void)prctl(PR_SET_CHILD_SUBREAPER, 1);
    (void)setsid();
    const struct sigaction told = {.sa_handler = tell_keeper};
    (void)sigaction(SIGTERM, &told, NULL);
    (void)signal(SIGCHLD, SIG_DFL);
    sigset_t none; /* the caller's threads block what one of them waits for */
    (void)sigemptyset(&none);
    (void)sigprocmask(SIG_SETMASK, &none, NULL);
    if (chdir(plan->folder) != 0) _exit(KEEPER_LOST);
    const double deadline = now() + plan->program->time_limit;
    const pid_t child = (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
    if (child < 0) _exit(KEEPER_LOST);
    if (child == 0) run_program(plan);
    int code = -1;
    while (code < 0) {
        int status;
        const pid_t ended = waitpid(-1, &status, WNOHANG);
        if (ended == child && WIFEXITED(status))
            code = WEXITSTATUS(status) == 0 ? LS_PROGRAM_PASSED : LS_PROGRAM_FAILED;
        else if (ended == child)
            code = LS_PROGRAM_KILLED;
        else if (keeper_told)
            code = KEEPER_INTERRUPTED;
        else if (now() >= deadline)
            code = LS_PROGRAM_TIMED_OUT;
        else if (ended <= 0)
            pause_briefly();
    }
    end_all(child, plan->namespaces);
    _exit(code);
}

/* ---- the caller -------------------------------------------------------------------------------------------------- */

static int remove_entry(const char *path, const struct stat *about, int kind, struct FTW *walk)
{
    (void)about;
    (void)kind;
    (void)walk;
    (void)remove(path);
    return 0;
}

static void clean_up(run_plan *plan)
{
    if (plan->input >= 0) (void)close(plan->input);
    if (plan->nowhere >= 0) (void)close(plan->nowhere);
    for (int i = 0; i < 2; i++)
        if (plan->failure[i] >= 0) (void)close(plan->failure[i]);
    if (plan->folder[0] != '\0') (void)nftw(plan->folder, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
    for (char **item = plan->environment; item != NULL && *item != NULL; item++) free(*item);
    free(plan->environment);
    free(plan->arguments);
}

static ls_status refuse_folder(const char *what)
{
    return LS_FAIL(LS_IO, "cannot make a folder to run a program in: %s: %s", what, ls_file_reason(errno));
}

/* A container may not know the user that the caller would have for itself. */
static bool give_away(run_plan *plan, const char *file)
{
    plan->user = USERS + (uid_t)getpid();
    if (chown(plan->folder, plan->user, plan->user) != 0) plan->user = NOBODY;
    return chown(plan->folder, plan->user, plan->user) == 0 && chown(file, plan->user, plan->user) == 0;
}

static ls_status make_folder(run_plan *plan, const ls_program *program)
{
    const char *place = getenv("TMPDIR");
    if (place == NULL || strlen(place) > sizeof plan->folder - 24) place = "/tmp";
    char folder[sizeof plan->folder];
    (void)snprintf(folder, sizeof folder, "%s/layerskip-XXXXXX", place);
    if (mkdtemp(folder) == NULL) return refuse_folder(folder);
    memcpy(plan->folder, folder, sizeof folder);
    char *file = ls_file_join(folder, "program");
    FILE *stream = fopen(file, "we");
    bool fine = stream != NULL && fputs(program->text, stream) >= 0;
    if (stream != NULL) fine = fclose(stream) == 0 && fine;
    if (fine && geteuid() == 0) fine = give_away(plan, file);
    const ls_status status = fine ? LS_OK : refuse_folder(file);
    free(file);
    return status;
}

static ls_status prepare(run_plan *plan, const ls_program *program)
{
    static char file_name[] = "program";
    *plan = (run_plan){.program = program, .input = -1, .nowhere = -1, .failure = {-1, -1}};
    LS_TRY(make_folder(plan, program));
    const ls_string_list *command = program->command;
    plan->arguments = ls_text_memory(NULL, ((size_t)command->count + 1) * sizeof(char *));
    bool named = false;
    for (int i = 0; i < command->count; i++) {
        const bool file = strcmp(command->values[i], "{file}") == 0;
        plan->arguments[i] = file ? file_name : command->values[i];
        named = named || file;
    }
    plan->arguments[command->count] = NULL;
    const char *path = getenv("PATH");
    plan->environment = ls_text_memory(NULL, 5 * sizeof(char *));
    plan->environment[0] = ls_text_format("PATH=%s", path == NULL ? "/usr/bin:/bin" : path);
    plan->environment[1] = ls_text_format("HOME=%s", plan->folder);
    plan->environment[2] = ls_text_format("TMPDIR=%s", plan->folder);
    plan->environment[3] = ls_text_format("LC_ALL=C.UTF-8");
    plan->environment[4] = NULL;
    char *file = ls_file_join(plan->folder, file_name);
    plan->input = open(named ? "/dev/null" : file, O_RDONLY | O_CLOEXEC);
    free(file);
    plan->nowhere = open("/dev/null", O_WRONLY | O_CLOEXEC);
    int ends[2] = {-1, -1};
    if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) == 0) {
        plan->failure[0] = ends[0];
        plan->failure[1] = fcntl(ends[1], F_DUPFD_CLOEXEC, 4); /* where the program's own do not land */
        (void)close(ends[1]);
    }
    if (plan->input < 0 || plan->nowhere < 0 || plan->failure[1] < 0)
        return LS_FAIL(LS_IO, "cannot open what a program reads and writes: %s", ls_file_reason(errno));
    return LS_OK;
}

/* As a process of its own namespaces, where the kernel gives them: to root as they are, to others inside a namespace of
 * users. */
static pid_t start_keeper(run_plan *plan)
{
    const int apart = CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWIPC;
    const int ways[] = {geteuid() == 0 ? apart : apart | CLONE_NEWUSER, 0};
    for (int i = 0; i < 2; i++) {
        plan->namespaces = ways[i] != 0;
        const pid_t keeper = (pid_t)syscall(SYS_clone, ways[i] | SIGCHLD, 0, 0, 0, 0);
        if (keeper == 0) keep(plan);
        if (keeper > 0) return keeper;
    }
    return -1;
}

static int await(pid_t keeper)
{
    int status;
    bool told = false;
    while (waitpid(keeper, &status, WNOHANG) == 0) {
        if (ls_interrupt_requested() && !told) (void)kill(keeper, SIGTERM);
        told = ls_interrupt_requested();
        pause_briefly();
    }
    return WIFEXITED(status) ? WEXITSTATUS(status) : KEEPER_LOST;
}

static ls_status judge(ls_program_end *end, int code, const run_plan *plan)
{
    int error;
    if (read(plan->failure[0], &error, sizeof error) == sizeof error)
        return LS_FAIL(LS_BAD_INPUT, "the command '%s' cannot be started%s: %s", plan->arguments[0],
                       geteuid() == 0 ? " as the user without rights that root's programs run as" : "",
                       strerror(error));
    if (code == KEEPER_INTERRUPTED) return LS_INTERRUPTED;
    if (code > LS_PROGRAM_TIMED_OUT) return LS_FAIL(LS_IO, "the process that watches a program was lost");
    *end = (ls_program_end)code;
    return LS_OK;
}

ls_status ls_program_run(ls_program_end *end, bool *isolated, const ls_program *program)
{
    run_plan plan;
    ls_status status = prepare(&plan, program);
    if (status == LS_OK) {
        const pid_t keeper = start_keeper(&plan);
        status = keeper < 0 ? LS_FAIL(LS_IO, "cannot start a process to run a program: %s", strerror(errno))
                            : judge(end, await(keeper), &plan);
        *isolated = plan.namespaces;
    }
    clean_up(&plan);
    return status;
}
