/* Asks the CUDA runtime which devices there are. The first file of the CUDA backend: nothing
 * computes here yet. */
#include "kernels/cuda_device.h"

#include <cuda_runtime.h>
#include <stdio.h>

extern "C" int32_t cuda_device_count(char *reason, size_t size) {
    int count = 0;
    cudaError_t error = cudaGetDeviceCount(&count);
    if (error != cudaSuccess || count == 0) {
        snprintf(reason, size, "%s",
                 error != cudaSuccess ? cudaGetErrorString(error) : "no device");
        return 0;
    }
    return count;
}

extern "C" int cuda_device_describe(int32_t device, char *text, size_t size) {
    cudaDeviceProp properties;
    cudaError_t error = cudaGetDeviceProperties(&properties, device);
    if (error != cudaSuccess) {
        snprintf(text, size, "device %d: %s", device, cudaGetErrorString(error));
        return -1;
    }
    snprintf(text, size, "%s, compute %d.%d, %.1f GiB", properties.name, properties.major,
             properties.minor, (double)properties.totalGlobalMem / (1 << 30));
    return 0;
}
