/* RUN_DIR/report.html: one file that needs nothing else, made from what the run folder holds. */
#ifndef LS_EVAL_REPORT_H
#define LS_EVAL_REPORT_H

#include "core/status.h"

/* Reads metrics.jsonl (required), config.yaml, sweep.json and sample.json (each shown where it exists) and writes
 * report.html. *path: malloc'ed, where it lies. */
ls_status ls_report_write(char **path, const char *run_dir);

#endif
