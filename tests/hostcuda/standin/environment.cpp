/* What the stand-in runtime is told by the environment, since an unmodified program cannot be asked: which devices and
 * driver there are, and what fails.
 *
 *   HOSTCUDA_DEVICES=N  CUDA_VISIBLE_DEVICES=0,2 of them  HOSTCUDA_CAPABILITY=75  HOSTCUDA_DRIVER=12040 (0: none)
 *   HOSTCUDA_MEMORY=MiB  HOSTCUDA_PINNED=MiB  HOSTCUDA_FAIL_IN=CALLS  HOSTCUDA_FAILURE=cudaError (2: out of memory)
 *   HOSTCUDA_FAIL_AT=KERNEL (calls are then its launches)
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

/* All of the machine's `count`, or those that CUDA_VISIBLE_DEVICES lists. */
static void choose_devices(int count)
{
    const char *const list = getenv("CUDA_VISIBLE_DEVICES");
    if (list == nullptr) {
        hostcuda_set_devices(count);
        for (int i = 0; i < count; i++) hostcuda_set_visible(i);
        return;
    }
    int found = 0;
    char *end = nullptr;
    for (const char *at = list; *at != '\0'; at = *end == ',' ? end + 1 : end) {
        const long device = strtol(at, &end, 10);
        if (end == at || device < 0 || device >= count) break; /* the rest is not seen, as with the real one */
        hostcuda_set_visible(static_cast<int>(device));
        found++;
    }
    hostcuda_set_devices(found);
}

__attribute__((constructor)) static void begin()
{
    choose_devices(static_cast<int>(number("HOSTCUDA_DEVICES", 1)));
    hostcuda_set_memory_limit(static_cast<size_t>(number("HOSTCUDA_MEMORY", 2048)) << 20);
    hostcuda_set_deferred(1, static_cast<uint64_t>(number("HOSTCUDA_SEED", 1)));
    hostcuda_set_schedule(HOSTCUDA_RANDOM, static_cast<uint64_t>(number("HOSTCUDA_SEED", 1)));
    hostcuda_set_pinned_limit(static_cast<size_t>(number("HOSTCUDA_PINNED", 4096)) << 20);
    hostcuda_set_streams(static_cast<int>(number("HOSTCUDA_STREAMS", HOSTCUDA_STREAMS_RANDOM)));
    hostcuda_set_capability(static_cast<int>(number("HOSTCUDA_CAPABILITY", 90)));
    hostcuda_set_failure(static_cast<int>(number("HOSTCUDA_FAILURE", cudaErrorUnknown)));
    const char *const failing = getenv("HOSTCUDA_FAIL_AT");
    if (failing != nullptr) hostcuda_fail_at(failing);
    hostcuda_fail_in(static_cast<int>(number("HOSTCUDA_FAIL_IN", -1)));
}

__attribute__((destructor)) static void end()
{
    const char *const path = getenv("HOSTCUDA_LOG");
    FILE *const file = path != nullptr ? fopen(path, "a") : nullptr;
    if (file == nullptr) return;
    (void)fprintf(file,
                  "%d reports, %zu allocations left, %zu bytes at most, %zu pinned, %zu waits, %zu downloads, %zu "
                  "graphs on GPU %d; %s\n",
                  hostcuda_reports(), hostcuda_live_allocations(), hostcuda_peak_bytes(), hostcuda_peak_pinned_bytes(),
                  hostcuda_waits(), hostcuda_downloads(), hostcuda_graph_launches(), hostcuda_gpu(),
                  hostcuda_reports() > 0 ? hostcuda_first_report() : "nothing to report");
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
