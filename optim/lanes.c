/* See lanes.h. All order is in three waits of queues for one another; none may be left out:
 *
 *   ops for uploads        a lane is there before it is updated
 *   downloads for ops      it is updated before it goes home
 *   uploads for downloads  the lane that had the place is home, as is what this lane was in the step before
 */
#include "optim/lanes.h"

#include <string.h>

#define ALIGNMENT 64 /* elements: kernels see a lane's elements aligned as those of a whole block */

static size_t home_bytes(const ls_lanes *lanes) { return sizeof(float) * (size_t)lanes->count; }

static size_t place_bytes(const ls_lanes *lanes) { return sizeof(float) * (size_t)lanes->elements; }

static ls_status allocate_home(ls_lanes *lanes)
{
    static const char *const names[LS_MOMENTS] = {"the first moments", "the second moments"};
    for (int i = 0; i < LS_MOMENTS; i++) {
        void *memory;
        LS_TRY(lanes->offload ? ls_exec_allocate_pinned(lanes->exec, &memory, home_bytes(lanes), names[i])
                              : ls_exec_allocate(lanes->exec, &memory, home_bytes(lanes), names[i]));
        lanes->home[i] = memory;
    }
    return LS_OK;
}

ls_status ls_lanes_create(ls_lanes *out, ls_exec *exec, int64_t count, bool offload, int64_t lane_elements)
{
    *out = (ls_lanes){
        .exec = exec, .offload = offload && ls_exec_has_queues(exec), .count = count, .elements = count, .current = -1};
    ls_status status = allocate_home(out);
    if (out->offload && lane_elements < count) out->elements = (lane_elements + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    for (int i = 0; out->offload && i < LS_LANE_PLACES * LS_MOMENTS && status == LS_OK; i++) {
        void *memory;
        status = ls_exec_allocate(exec, &memory, place_bytes(out), "moments that are being updated");
        if (status == LS_OK) out->place[i] = memory;
    }
    if (status != LS_OK) ls_lanes_destroy(out);
    return status;
}

void ls_lanes_destroy(ls_lanes *lanes)
{
    if (lanes->exec == NULL) return;
    for (int i = LS_LANE_PLACES * LS_MOMENTS - 1; i >= 0; i--)
        ls_exec_free(lanes->exec, lanes->place[i], place_bytes(lanes));
    for (int i = LS_MOMENTS - 1; i >= 0; i--)
        if (lanes->offload)
            ls_exec_free_pinned(lanes->exec, lanes->home[i], home_bytes(lanes));
        else
            ls_exec_free(lanes->exec, lanes->home[i], home_bytes(lanes));
    memset(lanes, 0, sizeof *lanes);
}

int64_t ls_lanes_number(const ls_lanes *lanes)
{
    return lanes->count == 0 ? 0 : (lanes->count + lanes->elements - 1) / lanes->elements;
}

static float *place_of(const ls_lanes *lanes, int64_t lane, int moment)
{
    return lanes->place[lane % LS_LANE_PLACES * LS_MOMENTS + moment];
}

/* Lane number `lane` in the direction of the queue; nothing for one that does not exist. */
static void move(const ls_lanes *lanes, ls_exec_queue queue, int64_t lane)
{
    const int64_t first = lane * lanes->elements, left = lanes->count - first;
    if (lane < 0 || left <= 0) return;
    const size_t bytes = sizeof(float) * (size_t)(left < lanes->elements ? left : lanes->elements);
    for (int i = 0; i < LS_MOMENTS; i++) {
        float *home = lanes->home[i] + first, *place = place_of(lanes, lane, i);
        if (queue == LS_QUEUE_UPLOADS)
            ls_exec_queue_copy(lanes->exec, queue, place, home, bytes);
        else
            ls_exec_queue_copy(lanes->exec, queue, home, place, bytes);
    }
}

static void bring(const ls_lanes *lanes, int64_t lane)
{
    ls_exec_order(lanes->exec, LS_QUEUE_DOWNLOADS, LS_QUEUE_UPLOADS);
    move(lanes, LS_QUEUE_UPLOADS, lane);
}

/* Ops go on to the next lane, which was on its way. The lane after it is told to come before the one that they leave is
 * told to go: it shall not wait for that. */
static void advance(ls_lanes *lanes)
{
    if (lanes->current < 0) bring(lanes, 0);
    ls_exec_order(lanes->exec, LS_QUEUE_OPS, LS_QUEUE_DOWNLOADS);
    ls_exec_order(lanes->exec, LS_QUEUE_UPLOADS, LS_QUEUE_OPS);
    bring(lanes, lanes->current + 2);
    move(lanes, LS_QUEUE_DOWNLOADS, lanes->current);
    lanes->current++;
}

int64_t ls_lanes_take(ls_lanes *lanes, int64_t first, float *moments[LS_MOMENTS])
{
    const int64_t lane = lanes->offload ? first / lanes->elements : 0, at = first - lane * lanes->elements;
    while (lanes->offload && lanes->current < lane) advance(lanes);
    for (int i = 0; i < LS_MOMENTS; i++) moments[i] = (lanes->offload ? place_of(lanes, lane, i) : lanes->home[i]) + at;
    return lanes->elements - at;
}

void ls_lanes_end(ls_lanes *lanes)
{
    if (lanes->current < 0) return;
    ls_exec_order(lanes->exec, LS_QUEUE_OPS, LS_QUEUE_DOWNLOADS);
    move(lanes, LS_QUEUE_DOWNLOADS, lanes->current);
    lanes->current = -1;
}
