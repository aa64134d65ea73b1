/* Kernels of the stand-in device: their registry, launches, and what objects made by nvcc call. */
#include "device.h"

#include <algorithm>
#include <dlfcn.h>
#include <string.h>
#include <string>
#include <unordered_map>
#include <vector>

namespace hostcuda
{

struct KernelEntry {
    void (*call)(void **);
    std::string name;
    size_t most_dynamic = 48 * 1024;
    std::vector<size_t> sizes;
};

static std::unordered_map<const void *, KernelEntry> &kernels()
{
    static std::unordered_map<const void *, KernelEntry> table; /* filled before main by static constructors */
    return table;
}

static std::unordered_map<std::string, const void *> &kernels_by_symbol()
{
    static std::unordered_map<std::string, const void *> table;
    return table;
}

static std::unordered_map<const void *, const void *> stubs; /* nvcc's host function of a kernel -> ours */

void register_kernel(const void *kernel, void (*call)(void **), const char *signature, const size_t *sizes, int count)
{
    KernelEntry entry;
    entry.call = call;
    entry.sizes.assign(sizes, sizes + count);
    const std::string all = signature; /* "... K = ls::adamw_kernel<float, 4>]", the last thing that compilers tell */
    const size_t name = all.rfind(" = ");
    entry.name =
        name != std::string::npos ? all.substr(name + 3, all.find_first_of(";]", name) - name - 3) : "a kernel";
    Dl_info info;
    if (dladdr(kernel, &info) != 0 && info.dli_sname != nullptr && info.dli_saddr == kernel)
        kernels_by_symbol()[info.dli_sname] = kernel;
    kernels()[kernel] = entry;
}

static KernelEntry *find_kernel(const void *kernel)
{
    const auto stub = stubs.find(kernel);
    const auto found = kernels().find(stub != stubs.end() ? stub->second : kernel);
    return found != kernels().end() ? &found->second : nullptr;
}

static bool bad_configuration(dim3 grid, dim3 threads)
{
    const uint64_t count = static_cast<uint64_t>(threads.x) * threads.y * threads.z;
    return grid.x == 0 || grid.x > 0x7fffffffu || grid.y == 0 || grid.z == 0 || grid.y > 65535 || grid.z > 65535 ||
           count == 0 || count > MOST_THREADS || threads.z > 64;
}

static cudaError_t launch_kernel(const void *function, dim3 grid, dim3 threads, void **argument, size_t shared,
                                 Stream *stream)
{
    const KernelEntry *const kernel = find_kernel(function);
    if (kernel == nullptr) return cudaErrorInvalidDeviceFunction;
    if (bad_configuration(grid, threads)) return cudaErrorInvalidConfiguration;
    if (shared > kernel->most_dynamic) return cudaErrorInvalidValue;
    const cudaError_t failed = launch_entry(kernel->name);
    if (failed != cudaSuccess) return failed;
    /* Arguments are copied at the launch, as the real one does. */
    const auto arguments = std::make_shared<std::vector<std::string>>();
    for (size_t i = 0; i < kernel->sizes.size(); i++)
        arguments->emplace_back(static_cast<const char *>(argument[i]), kernel->sizes[i]);
    const size_t most_shared = kernel->most_dynamic > 48 * 1024 ? MOST_SHARED : 48 * 1024;
    return enqueue(stream, [=] {
        alignas(16) static char constants[4096]; /* as many bytes of arguments as CUDA takes */
        std::vector<void *> pointers;
        size_t used = 0;
        for (const std::string &value : *arguments) {
            pointers.push_back(constants + used);
            memcpy(constants + used, value.data(), value.size());
            used += (value.size() + 15) / 16 * 16;
        }
        pointers.push_back(nullptr);
        return run_grid(kernel->call, pointers.data(), kernel->name.c_str(), grid, threads, shared, most_shared);
    });
}

} // namespace hostcuda

using namespace hostcuda;

extern "C" {

cudaError_t cudaFuncSetAttribute(const void *function, cudaFuncAttribute attribute, int value)
{
    KernelEntry *const kernel = find_kernel(function);
    if (kernel == nullptr) return result(cudaErrorInvalidDeviceFunction);
    if (attribute != cudaFuncAttributeMaxDynamicSharedMemorySize) return cudaSuccess;
    if (value < 0 || static_cast<size_t>(value) > MOST_SHARED) return result(cudaErrorInvalidValue);
    kernel->most_dynamic = std::max<size_t>(static_cast<size_t>(value), kernel->most_dynamic);
    return cudaSuccess;
}
cudaError_t cudaLaunchKernel(const void *function, dim3 grid, dim3 threads, void **argument, size_t shared,
                             cudaStream_t stream)
{
    ENTRY();
    return result(launch_kernel(function, grid, threads, argument, shared, stream_of(stream)));
}

/* Called by objects that nvcc made. */
void **__cudaRegisterFatBinary(void *)
{
    static void *handle;
    return &handle;
}
void __cudaRegisterFatBinaryEnd(void **) {}
void __cudaUnregisterFatBinary(void **) {}
char __cudaInitModule(void **) { return 1; }
void __cudaRegisterVar(void **, char *, char *, const char *, int, size_t, int, int) {}
void __cudaRegisterFunction(void **, const char *host_function, char *, const char *symbol, int, uint3 *, uint3 *,
                            dim3 *, dim3 *, int *)
{
    const auto found = kernels_by_symbol().find(symbol);
    if (found != kernels_by_symbol().end()) stubs[host_function] = found->second;
}

struct Configuration {
    dim3 grid, threads;
    size_t shared;
    cudaStream_t stream;
};
static std::vector<Configuration> configurations;
unsigned __cudaPushCallConfiguration(dim3 grid, dim3 threads, size_t shared, struct CUstream_st *stream)
{
    configurations.push_back({grid, threads, shared, stream});
    return 0;
}
cudaError_t __cudaPopCallConfiguration(dim3 *grid, dim3 *threads, size_t *shared, void *stream)
{
    const Configuration last = configurations.back();
    configurations.pop_back();
    *grid = last.grid;
    *threads = last.threads;
    *shared = last.shared;
    *static_cast<cudaStream_t *>(stream) = last.stream;
    return cudaSuccess;
}
cudaError_t __cudaGetKernel(cudaKernel_t *kernel, const void *function)
{
    *kernel = static_cast<cudaKernel_t>(const_cast<void *>(function));
    return cudaSuccess;
}
cudaError_t __cudaLaunchKernel(cudaKernel_t kernel, dim3 grid, dim3 threads, void **argument, size_t shared,
                               cudaStream_t stream)
{
    return cudaLaunchKernel(kernel, grid, threads, argument, shared, stream);
}
}
