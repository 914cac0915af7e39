/* Any bytes as a safetensors file. A file that passes the check must be self-consistent: the same
 * bytes with one more at the end, or one less, must not pass. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/base/check.h"
#include "runtime/safetensors.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

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
