/* A build without CUDA has no devices, and says so. */
#include "kernels/cuda_device.h"

#include <stdio.h>

int32_t cuda_device_count(char *reason, size_t size) {
    snprintf(reason, size, "this build has no CUDA (preset cuda)");
    return 0;
}

int cuda_device_describe(int32_t device, char *text, size_t size) {
    snprintf(text, size, "device %d: this build has no CUDA", device);
    return -1;
}
