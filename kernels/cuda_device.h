/* The CUDA devices that this process sees. Built from cuda_device.cu with the preset cuda, else
 * from cuda_device.c. */
#ifndef MOEBIUS_KERNELS_CUDA_DEVICE_H
#define MOEBIUS_KERNELS_CUDA_DEVICE_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* How many devices there are; 0 when there are none, when the driver is missing, or in a build
 * without CUDA: then `reason` (size bytes) says which. Local. */
int32_t cuda_device_count(char *reason, size_t size);

/* "NVIDIA H100 80GB HBM3, compute 9.0, 79.1 GiB" for device 0 <= device < cuda_device_count().
 * Returns 0, or -1 with the driver's reason in `text`. Local. */
int cuda_device_describe(int32_t device, char *text, size_t size);

#ifdef __cplusplus
}
#endif

#endif
