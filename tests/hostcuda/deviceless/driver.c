/* A stand-in for the NVIDIA driver's library, libcuda.so.1: there is no device, code "loads", nothing can run. With it
 * cuDNN makes plans for a device that is only described. */
#include <cuda.h>

#undef cuCtxPopCurrent
#undef cuCtxPushCurrent

static char anything; /* what handles point to */

/* X(name, parameters): succeeds and hands out a handle. */
#define HANDLES(X)                                                                                                     \
    X(cuLibraryLoadData, CUlibrary,                                                                                    \
      (CUlibrary * out, const void *code, CUjit_option *options, void **values, unsigned count, CUlibraryOption *more, \
       void **more_values, unsigned more_count))                                                                       \
    X(cuLibraryGetKernel, CUkernel, (CUkernel * out, CUlibrary library, const char *name))                             \
    X(cuKernelGetFunction, CUfunction, (CUfunction * out, CUkernel kernel))                                            \
    X(cuModuleLoadData, CUmodule, (CUmodule * out, const void *code))                                                  \
    X(cuModuleGetFunction, CUfunction, (CUfunction * out, CUmodule module, const char *name))

#define DEFINE_HANDLE(name, type, parameters)                                                                          \
    CUresult name parameters                                                                                           \
    {                                                                                                                  \
        *out = (type)(void *)&anything;                                                                                \
        return CUDA_SUCCESS;                                                                                           \
    }
#pragma GCC diagnostic ignored "-Wunused-parameter"
HANDLES(DEFINE_HANDLE)

CUresult cuInit(unsigned flags) { return CUDA_ERROR_NO_DEVICE; }

CUresult cuDriverGetVersion(int *version)
{
    *version = 13000;
    return CUDA_SUCCESS;
}

CUresult cuGetErrorString(CUresult error, const char **text)
{
    *text = "stand-in";
    return CUDA_SUCCESS;
}

CUresult cuGetErrorName(CUresult error, const char **text)
{
    *text = "stand-in";
    return CUDA_SUCCESS;
}

CUresult cuLibraryGetGlobal(CUdeviceptr *pointer, size_t *bytes, CUlibrary library, const char *name)
{
    *pointer = 4096;
    *bytes = 64;
    return CUDA_SUCCESS;
}

CUresult cuKernelGetAttribute(int *value, CUfunction_attribute attribute, CUkernel kernel, CUdevice device)
{
    *value = 0;
    return CUDA_SUCCESS;
}

CUresult cuFuncGetAttribute(int *value, CUfunction_attribute attribute, CUfunction function)
{
    *value = 0;
    return CUDA_SUCCESS;
}

CUresult cuLibraryUnload(CUlibrary library) { return CUDA_SUCCESS; }
CUresult cuModuleUnload(CUmodule module) { return CUDA_SUCCESS; }
CUresult cuFuncSetAttribute(CUfunction function, CUfunction_attribute attribute, int value) { return CUDA_SUCCESS; }
CUresult cuKernelSetAttribute(CUfunction_attribute attribute, int value, CUkernel kernel, CUdevice device)
{
    return CUDA_SUCCESS;
}
