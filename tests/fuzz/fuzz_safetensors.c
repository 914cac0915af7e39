/* Any bytes as a safetensors file. A file that passes the check must be self-consistent: the same
 * bytes with one more at the end, or one less, must not pass. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/base/check.h"
#include "runtime/safetensors.h"

#define LENGTH_BYTES 8

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t size_max, unsigned seed);
size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t size_max);

/* Blind changes nearly always break the length first, and never get any further: so most of the
 * time it is made to fit again, up to the last brace. */
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t size_max, unsigned seed) {
    if (seed % 8 == 0 || size <= LENGTH_BYTES || size_max <= LENGTH_BYTES)
        return LLVMFuzzerMutate(data, size, size_max);
    size = LENGTH_BYTES +
           LLVMFuzzerMutate(data + LENGTH_BYTES, size - LENGTH_BYTES, size_max - LENGTH_BYTES);
    size_t end = size;
    while (end > LENGTH_BYTES && data[end - 1] != '}')
        end--;
    uint64_t length = end - LENGTH_BYTES;
    for (int i = 0; i < LENGTH_BYTES; i++)
        data[i] = (uint8_t)(length >> (8 * i));
    return size;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    enum status status = safetensors_check("fuzz", data, size);
    ASSERT(status == STATUS_OK || status == STATUS_BAD_CHECKPOINT);
    if (status != STATUS_OK)
        return 0;
    uint8_t *longer = malloc(size + 1);
    if (longer == NULL)
        return 0;
    memcpy(longer, data, size);
    longer[size] = 0;
    ASSERT(safetensors_check("fuzz", longer, size + 1) == STATUS_BAD_CHECKPOINT);
    ASSERT(safetensors_check("fuzz", longer, size - 1) == STATUS_BAD_CHECKPOINT);
    free(longer);
    return 0;
}
