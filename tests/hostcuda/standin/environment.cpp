/* What the stand-in runtime is told by the environment, since an unmodified program cannot be asked: which devices and
 * driver there are, and what fails.
 *
 *   HOSTCUDA_DEVICES=N  HOSTCUDA_CAPABILITY=75  HOSTCUDA_DRIVER=12040 (0: none)  HOSTCUDA_MEMORY=MiB
 *   HOSTCUDA_PINNED=MiB  HOSTCUDA_FAIL_IN=CALLS  HOSTCUDA_FAILURE=cudaError (2: out of memory)
 *   HOSTCUDA_SEED=N  HOSTCUDA_STREAMS=0 (at random), 1 (late), 2 (early)
 * At the end HOSTCUDA_LOG=FILE gets a line: misuse reported, allocations that were not freed, and how often the host
 * waited. */
#include "../runtime.h"

#include <stdio.h>
#include <stdlib.h>

static long number(const char *name, long otherwise)
{
    const char *const text = getenv(name);
    return text != nullptr && text[0] != '\0' ? strtol(text, nullptr, 10) : otherwise;
}

__attribute__((constructor)) static void begin()
{
    hostcuda_set_devices(static_cast<int>(number("HOSTCUDA_DEVICES", 1)));
    hostcuda_set_memory_limit(static_cast<size_t>(number("HOSTCUDA_MEMORY", 2048)) << 20);
    hostcuda_set_deferred(1, static_cast<uint64_t>(number("HOSTCUDA_SEED", 1)));
    hostcuda_set_schedule(HOSTCUDA_RANDOM, static_cast<uint64_t>(number("HOSTCUDA_SEED", 1)));
    hostcuda_set_pinned_limit(static_cast<size_t>(number("HOSTCUDA_PINNED", 4096)) << 20);
    hostcuda_set_streams(static_cast<int>(number("HOSTCUDA_STREAMS", HOSTCUDA_STREAMS_RANDOM)));
    hostcuda_set_capability(static_cast<int>(number("HOSTCUDA_CAPABILITY", 90)));
    hostcuda_set_failure(static_cast<int>(number("HOSTCUDA_FAILURE", cudaErrorUnknown)));
    hostcuda_fail_in(static_cast<int>(number("HOSTCUDA_FAIL_IN", -1)));
}

__attribute__((destructor)) static void end()
{
    const char *const path = getenv("HOSTCUDA_LOG");
    FILE *const file = path != nullptr ? fopen(path, "a") : nullptr;
    if (file == nullptr) return;
    (void)fprintf(
        file, "%d reports, %zu allocations left, %zu bytes at most, %zu pinned, %zu waits, %zu downloads; %s\n",
        hostcuda_reports(), hostcuda_live_allocations(), hostcuda_peak_bytes(), hostcuda_peak_pinned_bytes(),
        hostcuda_waits(), hostcuda_downloads(), hostcuda_reports() > 0 ? hostcuda_first_report() : "nothing to report");
    (void)fclose(file);
}

extern "C" {
cudaError_t cudaDriverGetVersion(int *version)
{
    *version = static_cast<int>(number("HOSTCUDA_DRIVER", CUDART_VERSION));
    return cudaSuccess;
}
cudaError_t cudaRuntimeGetVersion(int *version)
{
    *version = CUDART_VERSION;
    return cudaSuccess;
}
}
