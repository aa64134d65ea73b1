/* The moments' way through the device when they live in the host's memory: a lane at a time.
 *
 * Lane k holds elements k*elements onwards of both moments. While ops work on it, lane k+1 comes and lane k-1 goes
 * home, each in a queue of its own (kernels/exec.h), so three lanes have a place on the device. A lane comes when the
 * one that had its place is home; ops start on it when it is there; it leaves when they are done. The host waits for
 * none of it. Moments that live on the device are one lane, which stays. Called by optim/optimizer.c. */
#ifndef LS_OPTIM_LANES_H
#define LS_OPTIM_LANES_H

#include "kernels/exec.h"

enum { LS_MOMENTS = 2, LS_LANE_PLACES = 3 };

typedef struct ls_lanes {
    ls_exec *exec;
    bool offload;
    float *home[LS_MOMENTS];                   /* [count] fp32: pinned with offload, else the device's */
    float *place[LS_LANE_PLACES * LS_MOMENTS]; /* [elements] each, of the device; NULL without offload */
    int64_t count, elements;
    int64_t current; /* the lane that ops work on; -1: none */
} ls_lanes;

/* Moments of `count` elements, zero. Offload means something where the device has queues of copies; a lane then has
 * lane_elements or a few more of each moment. */
ls_status ls_lanes_create(ls_lanes *out, ls_exec *exec, int64_t count, bool offload, int64_t lane_elements);
void ls_lanes_destroy(ls_lanes *lanes);
int64_t ls_lanes_number(const ls_lanes *lanes); /* how many there are */
/* Where ops find the moments of element `first`, and of as many from there on as is returned. Elements are asked for in
 * ascending order, then comes ls_lanes_end. */
int64_t ls_lanes_take(ls_lanes *lanes, int64_t first, float *moments[LS_MOMENTS]);
void ls_lanes_end(ls_lanes *lanes); /* the last lane goes home */

#endif
