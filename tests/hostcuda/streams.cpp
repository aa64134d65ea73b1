/* Streams of the stand-in device: queues that run only when the host waits for them, interleaved at random or by
 * demand, so that a missing wait shows. */
#include "device.h"

#include <algorithm>
#include <chrono>
#include <stdlib.h>
#include <unistd.h>
#include <utility>
#include <vector>

namespace hostcuda
{

size_t waits;

static Stream default_stream;
static std::vector<Stream *> streams{&default_stream};
static bool deferred = true;
static int streams_order = HOSTCUDA_STREAMS_RANDOM;
static uint64_t random_state = 88172645463325252ull;

static size_t random_below(size_t bound)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return static_cast<size_t>(random_state >> 33) % bound;
}

Stream *stream_of(cudaStream_t stream)
{
    const bool is_default = stream == nullptr || stream == cudaStreamLegacy;
    return is_default ? &default_stream : reinterpret_cast<Stream *>(stream);
}

/* Whose queue holds the recording of `event`; NULL: nobody's. */
static Stream *recorder(const std::shared_ptr<Event> &event)
{
    const auto records = [&event](const Operation &operation) { return operation.record == event; };
    for (Stream *const stream : streams)
        if (std::any_of(stream->queue.begin(), stream->queue.end(), records)) return stream;
    return nullptr;
}

/* The one that must go on for `stream` to go on: itself, or who records the event that it waits for. */
static Stream *needed_for(Stream *stream)
{
    for (size_t hops = 0; stream != nullptr && !stream->queue.empty() && hops <= streams.size(); hops++) {
        const std::shared_ptr<Event> &event = stream->queue.front().wait;
        if (!event || event->done) break;
        stream = recorder(event);
    }
    return stream;
}

static bool can_run(const Stream *stream)
{
    if (stream->queue.empty()) return false;
    const Operation &first = stream->queue.front();
    return (!first.wait || first.wait->done) && (!first.ready || first.ready());
}

static bool waits_for_others(const Stream *stream) { return !stream->queue.empty() && stream->queue.front().ready; }

static void finish(Event *event)
{
    const auto now = std::chrono::steady_clock::now().time_since_epoch();
    event->milliseconds = std::chrono::duration<double, std::milli>(now).count();
    event->done = true;
}

static void run_first(Stream *stream)
{
    const Operation operation = stream->queue.front();
    if (operation.run && sticky == cudaSuccess) {
        const Open open;
        sticky = operation.run();
    }
    if (operation.record) finish(operation.record.get());
    stream->queue.pop_front();
}

/* Of those that can run. Late: nothing that the host's wait for `wanted` does not need. Early: all else first. */
static Stream *choose(const std::vector<Stream *> &ready, Stream *wanted)
{
    const size_t pick = random_below(ready.size());
    if (streams_order == HOSTCUDA_STREAMS_RANDOM) return ready[pick];
    Stream *const needed = needed_for(wanted);
    const bool can = std::find(ready.begin(), ready.end(), needed) != ready.end();
    if (streams_order == HOSTCUDA_STREAMS_LATE) return can ? needed : ready[pick];
    return ready[pick] == needed ? ready[(pick + 1) % ready.size()] : ready[pick];
}

/* Runs queued work, in an order of streams that a test chooses, until `done`: what `wanted` holds, NULL: all. */
static cudaError_t run_until(const std::function<bool()> &done, Stream *wanted)
{
    if (done()) return sticky;
    const Open open; /* once for all that runs now: it costs a walk through the pages */
    while (!done()) {
        std::vector<Stream *> ready;
        std::copy_if(streams.begin(), streams.end(), std::back_inserter(ready), can_run);
        if (ready.empty() && std::any_of(streams.begin(), streams.end(), waits_for_others)) {
            (void)usleep(50);
            continue;
        }
        if (ready.empty()) {
            report("stream-deadlock", "streams wait for events that cannot come");
            return sticky = cudaErrorLaunchFailure;
        }
        run_first(choose(ready, wanted));
    }
    return sticky;
}

cudaError_t run_all()
{
    return run_until(
        [] { return std::all_of(streams.begin(), streams.end(), [](Stream *s) { return s->queue.empty(); }); },
        nullptr);
}

cudaError_t run_stream(Stream *stream)
{
    return run_until([stream] { return stream->queue.empty(); }, stream);
}

bool capturing()
{
    return std::any_of(streams.begin(), streams.end(), [](Stream *s) { return s->capture != nullptr; });
}

cudaError_t forbid(const char *call)
{
    report("capture", "%s while a stream captures", call);
    for (Stream *const stream : streams) stream->spoiled = stream->spoiled || stream->capture != nullptr;
    return cudaErrorStreamCaptureUnsupported;
}

cudaError_t enqueue(Stream *stream, std::function<cudaError_t()> work)
{
    if (stream->spoiled) return cudaErrorStreamCaptureInvalidated;
    if (stream->capture) {
        stream->capture->work.push_back(std::move(work));
        return cudaSuccess;
    }
    if (stream == &default_stream && capturing()) return forbid("work in the default stream");
    if (stream == &default_stream) {
        for (Stream *const other : streams)
            if (other != stream && other->blocking) (void)run_stream(other);
    } else if (stream->blocking) {
        (void)run_stream(&default_stream);
    }
    stream->queue.push_back({std::move(work), nullptr, nullptr, {}});
    return deferred ? sticky : run_stream(stream);
}

void drop_queues()
{
    for (Stream *const stream : streams) {
        stream->queue.clear();
        stream->capture.reset();
        stream->spoiled = false;
    }
}

} // namespace hostcuda

using namespace hostcuda;

extern "C" {

/* ---- what tests steer -------------------------------------------------------------------------------------------- */

void hostcuda_set_deferred(int on, uint64_t seed)
{
    deferred = on != 0;
    random_state = 88172645463325252ull ^ (seed * 0x9E3779B97F4A7C15ull);
}
void hostcuda_set_streams(int order) { streams_order = order; }
size_t hostcuda_waits(void) { return waits; }

/* ---- calls ------------------------------------------------------------------------------------------------------- */

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *out, unsigned flags)
{
    ENTRY();
    Stream *const stream = new Stream;
    stream->blocking = (flags & cudaStreamNonBlocking) == 0;
    streams.push_back(stream);
    *out = reinterpret_cast<cudaStream_t>(stream);
    return cudaSuccess;
}
cudaError_t cudaStreamCreate(cudaStream_t *out) { return cudaStreamCreateWithFlags(out, 0); }
cudaError_t cudaStreamDestroy(cudaStream_t stream)
{
    if (capturing()) return result(forbid(__func__));
    Stream *const own = stream_of(stream);
    const cudaError_t status = run_stream(own);
    streams.erase(std::remove(streams.begin(), streams.end(), own), streams.end());
    delete own;
    return result(status);
}
cudaError_t cudaStreamSynchronize(cudaStream_t stream)
{
    ENTRY_UNCAPTURED();
    waits += !stream_of(stream)->queue.empty();
    return result(run_stream(stream_of(stream)));
}
cudaError_t cudaDeviceSynchronize(void)
{
    ENTRY_UNCAPTURED();
    waits++;
    return result(run_all());
}
cudaError_t cudaEventCreateWithFlags(cudaEvent_t *out, unsigned flags)
{
    ENTRY();
    auto *const event = new std::shared_ptr<Event>(new Event);
    (*event)->timed = (flags & cudaEventDisableTiming) == 0;
    *out = reinterpret_cast<cudaEvent_t>(event);
    return cudaSuccess;
}
cudaError_t cudaEventCreate(cudaEvent_t *out) { return cudaEventCreateWithFlags(out, 0); }
cudaError_t cudaEventDestroy(cudaEvent_t event)
{
    delete reinterpret_cast<std::shared_ptr<Event> *>(event);
    return cudaSuccess;
}
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream)
{
    ENTRY_UNCAPTURED();
    auto &own = *reinterpret_cast<std::shared_ptr<Event> *>(event);
    const bool timed = own->timed;
    own = std::make_shared<Event>();
    own->timed = timed;
    own->recorded = true;
    Stream *const queue = stream_of(stream);
    if (queue->queue.empty())
        finish(own.get());
    else
        queue->queue.push_back({nullptr, nullptr, own, {}});
    return cudaSuccess;
}
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned)
{
    ENTRY_UNCAPTURED();
    const auto own = *reinterpret_cast<std::shared_ptr<Event> *>(event);
    if (own->recorded && !own->done) stream_of(stream)->queue.push_back({nullptr, own, nullptr, {}});
    return cudaSuccess;
}
cudaError_t cudaEventSynchronize(cudaEvent_t event)
{
    if (capturing()) return result(forbid(__func__));
    const auto own = *reinterpret_cast<std::shared_ptr<Event> *>(event);
    waits += own->recorded && !own->done;
    return result(own->recorded ? run_until([own] { return own->done; }, recorder(own)) : cudaSuccess);
}
cudaError_t cudaEventQuery(cudaEvent_t event)
{
    if (capturing()) return result(forbid(__func__));
    const auto own = *reinterpret_cast<std::shared_ptr<Event> *>(event);
    return own->recorded && !own->done ? cudaErrorNotReady : cudaSuccess;
}
cudaError_t cudaEventElapsedTime(float *milliseconds, cudaEvent_t from, cudaEvent_t to)
{
    const Event &first = **reinterpret_cast<std::shared_ptr<Event> *>(from);
    const Event &last = **reinterpret_cast<std::shared_ptr<Event> *>(to);
    if (!first.timed || !last.timed || !first.recorded || !last.recorded) return result(cudaErrorInvalidResourceHandle);
    if (!first.done || !last.done) return result(cudaErrorNotReady);
    *milliseconds = static_cast<float>(last.milliseconds - first.milliseconds);
    return cudaSuccess;
}

/* ---- for stand-ins of other libraries ---------------------------------------------------------------------------- */

/* `work` runs in the stream's turn. */
int hostcuda_enqueue(cudaStream_t stream, int (*work)(void *), void *argument)
{
    if (const cudaError_t error = entry(); error != cudaSuccess) return error;
    const std::shared_ptr<void> kept(argument, free); /* a graph may run the work again */
    return enqueue(stream_of(stream), [=] { return work(kept.get()) ? cudaErrorLaunchFailure : cudaSuccess; });
}
/* The same for work that other processes have a part in: `ready` is asked, when all before it in the stream is done,
 * until it gives true. */
int hostcuda_enqueue_when(cudaStream_t stream, int (*ready)(void *), int (*work)(void *), void *argument)
{
    if (entry() != cudaSuccess) return 1;
    if (capturing() && forbid(__func__) != cudaSuccess) return 1;
    Operation operation;
    operation.run = [=] {
        const int failed = work(argument);
        free(argument);
        return failed ? cudaErrorLaunchFailure : cudaSuccess;
    };
    operation.ready = [=] { return ready(argument) != 0; };
    stream_of(stream)->queue.push_back(operation);
    return 0;
}
/* A piece of queued work, now and then: a device works on while the host waits for something else. */
void hostcuda_progress(void)
{
    if (in_kernel || sticky != cudaSuccess || random_below(4) > 0) return;
    if (std::all_of(streams.begin(), streams.end(), [](Stream *s) { return s->queue.empty(); })) return;
    const Open open;
    std::vector<Stream *> ready;
    std::copy_if(streams.begin(), streams.end(), std::back_inserter(ready), can_run);
    if (!ready.empty()) run_first(ready[random_below(ready.size())]);
}
}
