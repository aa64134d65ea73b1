/* A stand-in for CUDA's runtime library: what the project calls of it, on the CPU. This file: errors, and which devices
 * there are; memory.cpp: allocations and copies; streams.cpp: streams and events; graphs.cpp: captures; launch.cpp:
 * kernels, and the entry points of objects made by nvcc, for programs that nvcc linked. */
#include "device.h"

#include <stdio.h>
#include <string.h>
#include <vector>

namespace hostcuda
{

/* ---- errors ------------------------------------------------------------------------------------------------------ */

cudaError_t sticky;
static thread_local cudaError_t last_error;
static int calls_to_failure = -1;
static cudaError_t failure = cudaErrorUnknown; /* what the call then gives */
static const char *failing;                    /* only launches of this kernel count; NULL: all calls do */

cudaError_t result(cudaError_t status)
{
    if (status != cudaSuccess) last_error = status;
    return status;
}

static cudaError_t count() { return calls_to_failure >= 0 && calls_to_failure-- == 0 ? failure : cudaSuccess; }

cudaError_t entry()
{
    if (sticky != cudaSuccess) return sticky;
    return failing == nullptr ? count() : cudaSuccess;
}

cudaError_t launch_entry(const std::string &kernel)
{
    return failing != nullptr && kernel.find(failing) != std::string::npos ? count() : cudaSuccess;
}

/* ---- devices ----------------------------------------------------------------------------------------------------- */

static int capability = 90;
static int devices = 1, current_device;
static std::vector<int> visible; /* which of the machine's GPUs they are, where that matters */

} // namespace hostcuda

using namespace hostcuda;

extern "C" {

/* ---- what tests steer -------------------------------------------------------------------------------------------- */

void hostcuda_set_devices(int count) { devices = count; }
void hostcuda_set_visible(int number) { visible.push_back(number); }
int hostcuda_gpu(void)
{
    const auto index = static_cast<size_t>(current_device);
    return index < visible.size() ? visible[index] : current_device;
}
void hostcuda_fail_in(int calls) { calls_to_failure = calls; }
void hostcuda_fail_at(const char *kernel) { failing = kernel; }
void hostcuda_set_failure(int error) { failure = static_cast<cudaError_t>(error); }
void hostcuda_set_capability(int version) { capability = version; }
void hostcuda_reset(void)
{
    sticky = last_error = cudaSuccess;
    calls_to_failure = -1;
    drop_queues();
}

void hostcuda_library_reports(const char *kind, const char *text) { report(kind, "%s", text); }

/* ---- calls ------------------------------------------------------------------------------------------------------- */

cudaError_t cudaGetDeviceCount(int *count)
{
    *count = devices;
    return devices > 0 ? cudaSuccess : result(cudaErrorNoDevice);
}
cudaError_t cudaSetDevice(int device)
{
    if (device < 0 || device >= devices) return result(cudaErrorInvalidDevice);
    current_device = device;
    return cudaSuccess;
}
cudaError_t cudaGetDevice(int *device)
{
    *device = current_device;
    return cudaSuccess;
}
cudaError_t cudaGetDeviceProperties(cudaDeviceProp *out, int device)
{
    if (device < 0 || device >= devices) return result(cudaErrorInvalidDevice);
    *out = cudaDeviceProp();
    (void)snprintf(out->name, sizeof out->name, "CPU stand-in");
    if (device < static_cast<int>(visible.size()))
        memcpy(out->uuid.bytes, &visible[static_cast<size_t>(device)], sizeof(int));
    out->major = capability / 10;
    out->minor = capability % 10;
    out->multiProcessorCount = 4;
    out->totalGlobalMem = memory_limit;
    out->sharedMemPerBlock = 48 * 1024;
    out->sharedMemPerBlockOptin = MOST_SHARED;
    out->warpSize = 32;
    out->maxThreadsPerBlock = MOST_THREADS;
    out->maxThreadsPerMultiProcessor = 2048;
    out->regsPerBlock = 65536;
    return cudaSuccess;
}
cudaError_t cudaDeviceGetAttribute(int *value, cudaDeviceAttr attribute, int device)
{
    if (device < 0 || device >= devices) return result(cudaErrorInvalidDevice);
    *value = attribute == cudaDevAttrMultiProcessorCount            ? 4
             : attribute == cudaDevAttrComputeCapabilityMajor       ? capability / 10
             : attribute == cudaDevAttrMaxSharedMemoryPerBlockOptin ? static_cast<int>(MOST_SHARED)
                                                                    : 0;
    return cudaSuccess;
}
cudaError_t cudaGetLastError(void)
{
    const cudaError_t status = last_error;
    last_error = cudaSuccess;
    return status;
}
cudaError_t cudaPeekAtLastError(void) { return last_error; }
const char *cudaGetErrorName(cudaError_t status)
{
    switch (status) {
    case cudaSuccess:
        return "cudaSuccess";
    case cudaErrorMemoryAllocation:
        return "cudaErrorMemoryAllocation";
    case cudaErrorInvalidValue:
        return "cudaErrorInvalidValue";
    case cudaErrorLaunchFailure:
        return "cudaErrorLaunchFailure";
    case cudaErrorInvalidConfiguration:
        return "cudaErrorInvalidConfiguration";
    case cudaErrorStreamCaptureUnsupported:
        return "cudaErrorStreamCaptureUnsupported";
    case cudaErrorStreamCaptureInvalidated:
        return "cudaErrorStreamCaptureInvalidated";
    default:
        return "cudaErrorUnknown";
    }
}
const char *cudaGetErrorString(cudaError_t status) { return cudaGetErrorName(status); }
}
