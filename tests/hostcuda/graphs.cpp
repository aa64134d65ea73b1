/* Captures and graphs of the stand-in device: work in a capturing stream is kept, with its arguments, and not run; a
 * launch puts it into a stream's turn. What CUDA forbids meanwhile fails, in the strictest of its modes, and spoils the
 * capture. Streams that join a capture by events are not known here: events are forbidden too. */
#include "device.h"

using namespace hostcuda;

static size_t alive, launches;

static Graph *graph_of(const void *handle) { return static_cast<Graph *>(const_cast<void *>(handle)); }

static cudaError_t destroy(const void *handle)
{
    delete graph_of(handle);
    alive--;
    return cudaSuccess;
}

extern "C" {

size_t hostcuda_graphs(void) { return alive; }
size_t hostcuda_graph_launches(void) { return launches; }

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode)
{
    ENTRY();
    Stream *const own = stream_of(stream);
    if (own == stream_of(nullptr) || own->capture) return result(forbid("a capture begins"));
    own->capture = std::make_shared<Graph>();
    own->spoiled = false;
    return cudaSuccess;
}
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t *out)
{
    Stream *const own = stream_of(stream);
    const std::shared_ptr<Graph> kept = own->capture; /* over in any case */
    const bool spoiled = own->spoiled;
    *out = nullptr;
    own->capture.reset();
    own->spoiled = false;
    ENTRY();
    if (!kept) return result(cudaErrorInvalidValue);
    if (spoiled) return result(cudaErrorStreamCaptureInvalidated);
    *out = reinterpret_cast<cudaGraph_t>(new Graph(*kept));
    alive++;
    return cudaSuccess;
}
cudaError_t cudaGraphInstantiate(cudaGraphExec_t *out, cudaGraph_t graph, unsigned long long)
{
    ENTRY();
    *out = reinterpret_cast<cudaGraphExec_t>(new Graph(*graph_of(graph)));
    alive++;
    return cudaSuccess;
}
cudaError_t cudaGraphDestroy(cudaGraph_t graph) { return destroy(graph); }
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t graph) { return destroy(graph); }
cudaError_t cudaGraphLaunch(cudaGraphExec_t graph, cudaStream_t stream)
{
    ENTRY();
    launches++;
    for (const auto &work : graph_of(graph)->work) {
        const cudaError_t status = enqueue(stream_of(stream), work);
        if (status != cudaSuccess) return result(status);
    }
    return cudaSuccess;
}
}
