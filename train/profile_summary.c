/* Summing and telling of a profile, see profile_summary.h. */
#include "train/profile_summary.h"

#include "core/log.h"

enum { SHOWN_OPS = 12 };

void ls_profile_summary_add(ls_profile_summary *summary, const ls_profile_table *step, double seconds)
{
    const bool first = summary->steps == 0;
    if (summary->first_alone) *summary = (ls_profile_summary){0};
    for (int op = 0; op < LS_PROFILE_OPS; op++) {
        summary->table.calls[op] += step->calls[op];
        summary->table.seconds[op] += step->seconds[op];
    }
    summary->seconds += seconds;
    summary->steps++;
    summary->first_alone = first;
}

/* The op with most time of those that are not `told`, -1: none of the rest was called. */
static int longest(const ls_profile_table *table, const bool *told)
{
    int most = -1;
    for (int op = 0; op < LS_PROFILE_OPS; op++)
        if (!told[op] && table->calls[op] > 0 && (most < 0 || table->seconds[op] > table->seconds[most])) most = op;
    return most;
}

static void tell_line(const ls_profile_summary *summary, const char *name, int64_t calls, double seconds)
{
    const double steps = (double)summary->steps;
    ls_log_info("  %-20s%10.1f%12.3f%9.1f %%", name, (double)calls / steps, 1e3 * seconds / steps,
                100.0 * seconds / ls_profile_seconds(&summary->table));
}

void ls_profile_summary_tell(const ls_profile_summary *summary)
{
    const ls_profile_table *table = &summary->table;
    const double steps = (double)summary->steps, ops = ls_profile_seconds(table);
    if (!(ops > 0.0)) return;
    bool told[LS_PROFILE_OPS] = {false};
    ls_log_info("a step took %.3f ms, its ops %.3f ms of that (mean of %lld steps)", 1e3 * summary->seconds / steps,
                1e3 * ops / steps, (long long)summary->steps);
    ls_log_info("  %-20s%10s%12s%11s", "op", "calls", "ms", "share");
    for (int line = 0; line < SHOWN_OPS; line++) {
        const int op = longest(table, told);
        if (op < 0) return;
        tell_line(summary, ls_profile_names[op], table->calls[op], table->seconds[op]);
        told[op] = true;
    }
    int64_t calls = 0;
    double seconds = 0.0;
    for (int op = 0; op < LS_PROFILE_OPS; op++) {
        calls += told[op] ? 0 : table->calls[op];
        seconds += told[op] ? 0.0 : table->seconds[op];
    }
    if (calls > 0) tell_line(summary, "the others", calls, seconds);
}
