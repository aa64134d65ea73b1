/* The driver's calls that need a device: looked up by cuDNN, refused if called. Declared without <cuda.h>, whose types
 * of their parameters do not matter. */
enum { NOT_SUPPORTED = 801 };

#define REFUSE(name)                                                                                                   \
    int name(void);                                                                                                    \
    int name(void) { return NOT_SUPPORTED; }

REFUSE(cuCtxGetCurrent)
REFUSE(cuCtxGetLimit)
REFUSE(cuCtxPopCurrent)
REFUSE(cuCtxPushCurrent)
REFUSE(cuStreamGetCtx)
REFUSE(cuLinkCreate)
REFUSE(cuLinkAddData)
REFUSE(cuLinkComplete)
REFUSE(cuLinkDestroy)
REFUSE(cuLaunchKernel)
REFUSE(cuLaunchKernelEx)
REFUSE(cuLaunchCooperativeKernel)
REFUSE(cuDeviceGetCount)
REFUSE(cuDeviceGet)
REFUSE(cuLibraryLoadFromFile)
REFUSE(cuOccupancyMaxPotentialClusterSize)
