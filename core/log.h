/* Messages for people, always on standard error: standard output belongs to results. */
#ifndef LS_CORE_LOG_H
#define LS_CORE_LOG_H

void ls_log_info(const char *format, ...) __attribute__((format(printf, 1, 2)));
void ls_log_warning(const char *format, ...) __attribute__((format(printf, 1, 2))); /* "warning: " before it */

/* One line that is redrawn in place on a terminal, and printed now and then (at most every 10 s, and the last one)
 * elsewhere. Any message above first finishes the line. */
void ls_log_progress(const char *format, ...) __attribute__((format(printf, 1, 2)));
void ls_log_progress_end(void); /* leaves the last line standing */

void ls_log_set_quiet(int quiet); /* drops info and progress; warnings stay */

#endif
