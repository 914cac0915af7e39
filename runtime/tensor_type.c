/* The table of stored element types. Under safetensors. */
#include "runtime/tensor_type.h"

#include <string.h>

#include "kernels/base/check.h"

static const struct {
    const char *name;
    int64_t bytes;
} types[TENSOR_TYPE_COUNT] = {
    [TENSOR_F64] = {"F64", 8},         [TENSOR_F32] = {"F32", 4},
    [TENSOR_F16] = {"F16", 2},         [TENSOR_BF16] = {"BF16", 2},
    [TENSOR_F8_E4M3] = {"F8_E4M3", 1}, [TENSOR_F8_E5M2] = {"F8_E5M2", 1},
    [TENSOR_I64] = {"I64", 8},         [TENSOR_I32] = {"I32", 4},
    [TENSOR_I16] = {"I16", 2},         [TENSOR_I8] = {"I8", 1},
    [TENSOR_U64] = {"U64", 8},         [TENSOR_U32] = {"U32", 4},
    [TENSOR_U16] = {"U16", 2},         [TENSOR_U8] = {"U8", 1},
    [TENSOR_BOOL] = {"BOOL", 1},
};

const char *tensor_type_name(enum tensor_type type) {
    ASSERT((unsigned)type < TENSOR_TYPE_COUNT);
    return types[type].name;
}

int64_t tensor_type_bytes(enum tensor_type type) {
    ASSERT((unsigned)type < TENSOR_TYPE_COUNT);
    return types[type].bytes;
}

int tensor_type_parse(const char *name, enum tensor_type *type) {
    for (int i = 0; i < TENSOR_TYPE_COUNT; i++) {
        if (strcmp(name, types[i].name) == 0) {
            *type = (enum tensor_type)i;
            return 0;
        }
    }
    return -1;
}

const char *tensor_type_names(void) {
    return "F64 F32 F16 BF16 F8_E4M3 F8_E5M2 I64 I32 I16 I8 U64 U32 U16 U8 BOOL";
}
