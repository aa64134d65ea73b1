/* What the ops of a run took, step after step, and the table of it that ends the run. Called by train/loop.c. */
#ifndef LS_TRAIN_PROFILE_SUMMARY_H
#define LS_TRAIN_PROFILE_SUMMARY_H

#include "kernels/profile.h"

typedef struct ls_profile_summary {
    ls_profile_table table; /* of `steps` steps */
    double seconds;         /* that they took in all */
    int64_t steps;
    bool first_alone; /* only the first step has been added */
} ls_profile_summary;

/* A step's. The first one plans products and touches memory first: the second takes its place. */
void ls_profile_summary_add(ls_profile_summary *summary, const ls_profile_table *step, double seconds);
/* On standard error: ops by their time, the shortest ones together. */
void ls_profile_summary_tell(const ls_profile_summary *summary);

#endif
