/* Between the files of the stand-in for CUDA's runtime library (cudart.cpp tells which). */
#ifndef HOSTCUDA_DEVICE_H
#define HOSTCUDA_DEVICE_H

#include "runtime.h"

#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace hostcuda
{

/* ---- errors (cudart.cpp) ----------------------------------------------------------------------------------------- */

extern cudaError_t sticky;              /* a failed kernel's: every later call gives it too */
cudaError_t result(cudaError_t status); /* a call's own, which cudaGetLastError gives too */
cudaError_t entry(); /* what a call begins with: the sticky error, or the failure that a test asked for */
cudaError_t launch_entry(const std::string &kernel); /* the same of a launch alone */

#define ENTRY()                                                                                                        \
    do {                                                                                                               \
        const cudaError_t at_entry = entry();                                                                          \
        if (at_entry != cudaSuccess) return result(at_entry);                                                          \
    } while (0)

/* ---- memory (memory.cpp) ----------------------------------------------------------------------------------------- */

extern size_t memory_limit;

/* Device memory can be touched in this object's scope. */
class Open
{
    const bool was;

  public:
    Open();
    ~Open();
};

/* ---- streams (streams.cpp) --------------------------------------------------------------------------------------- */

struct Event {
    bool timed = true, recorded = false, done = false;
    double milliseconds = 0; /* on the host's clock, when it was done */
};

struct Operation {
    std::function<cudaError_t()> run;
    std::shared_ptr<Event> wait, record;
    std::function<bool()> ready; /* of what other processes have to do with; asked again until it is true */
};

/* What a capture has kept. */
struct Graph {
    std::vector<std::function<cudaError_t()>> work;
};

struct Stream {
    std::deque<Operation> queue;
    bool blocking = true;           /* waits for the default stream, and that for it */
    std::shared_ptr<Graph> capture; /* work goes there instead */
    bool spoiled = false;           /* by a call that a capture forbids */
};

extern size_t waits; /* of the host, for work that was not over */
Stream *stream_of(cudaStream_t stream);
cudaError_t run_all();
cudaError_t run_stream(Stream *stream);
cudaError_t enqueue(Stream *stream, std::function<cudaError_t()> work);
void drop_queues();
bool capturing(); /* some stream does */
/* What must not be called meanwhile: the call fails with what this returns, and so will the capture's end. */
cudaError_t forbid(const char *call);

/* A call that a capture forbids. */
#define ENTRY_UNCAPTURED()                                                                                             \
    do {                                                                                                               \
        ENTRY();                                                                                                       \
        if (capturing()) return result(forbid(__func__));                                                              \
    } while (0)

} // namespace hostcuda
#endif
