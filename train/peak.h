/* The machine's best matrix product, which throughput is reported as a share of. */
#ifndef LS_TRAIN_PEAK_H
#define LS_TRAIN_PEAK_H

#include "kernels/exec.h"

/* FLOP/s of the fastest of repeated square products in the compute type, within about 0.3 s. *out is 0 on the reference
 * device, whose speed means nothing. */
ls_status ls_measure_peak(double *out, ls_exec *exec, ls_dtype dtype);
double ls_seconds_now(void); /* of a clock that never goes back */

#endif
