/* Time for measuring: seconds of a clock that never goes back. */
#ifndef LS_CORE_CLOCK_H
#define LS_CORE_CLOCK_H

double ls_seconds_now(void);

#endif
