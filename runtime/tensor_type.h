/* The element types of stored tensors, as safetensors spells them. (What kernels compute in is
 * kernels/dtype.h.) */
#ifndef MOEBIUS_RUNTIME_TENSOR_TYPE_H
#define MOEBIUS_RUNTIME_TENSOR_TYPE_H

#include <stdint.h>

enum tensor_type {
    TENSOR_F64,
    TENSOR_F32,
    TENSOR_F16,
    TENSOR_BF16,
    TENSOR_F8_E4M3,
    TENSOR_F8_E5M2,
    TENSOR_I64,
    TENSOR_I32,
    TENSOR_I16,
    TENSOR_I8,
    TENSOR_U64,
    TENSOR_U32,
    TENSOR_U16,
    TENSOR_U8,
    TENSOR_BOOL,
    TENSOR_TYPE_COUNT
};

/* "F32", "BF16", ... as the format spells them. Local. */
const char *tensor_type_name(enum tensor_type type);

/* Bytes of one element. Local. */
int64_t tensor_type_bytes(enum tensor_type type);

/* Finds the type called `name`; 0, or -1 if there is none (*type is untouched). Local. */
int tensor_type_parse(const char *name, enum tensor_type *type);

/* All names, with a blank between: for messages. Local. */
const char *tensor_type_names(void);

#endif
