/* A safetensors file being written: declare all tensors, then append the data of each in the
 * declared order. Used by --dump-logits and --dump-routing. */
#ifndef MOEBIUS_RUNTIME_SAFETENSORS_WRITER_H
#define MOEBIUS_RUNTIME_SAFETENSORS_WRITER_H

#include <stddef.h>
#include <stdint.h>

#include "kernels/base/status.h"
#include "runtime/safetensors.h"

struct safetensors_writer;

/* Whether safetensors_writer_create could write this file; leaves what is there as it is, and
 * nothing where nothing was. STATUS_IO, logged. Local. */
enum status safetensors_writer_check(const char *path);

/* Creates (or truncates) the file at path and writes its header; name, type, dimensions and shape
 * of each tensor are read, the rest follows from them. Names that repeat or are no UTF-8, and sizes
 * that overflow, are our bugs (ASSERT). STATUS_IO, logged: cannot be created, is no regular file.
 * Local. */
enum status safetensors_writer_create(const char *path, const struct tensor_info *tensors,
                                      int32_t count, struct safetensors_writer **writer);

/* Appends the next bytes of the data, from any tensor on into the next. More than was declared is
 * our bug (ASSERT). STATUS_IO, logged: disk full and the like; call abandon then. Local. */
enum status safetensors_writer_append(struct safetensors_writer *writer, const void *data,
                                      size_t bytes);

/* Checks that exactly the declared bytes were written (fewer: STATUS_INTERNAL, logged) and closes
 * the file. On any error the file is removed. Frees the writer in any case. Local. */
enum status safetensors_writer_finish(struct safetensors_writer *writer);

/* Gives up: removes the file, frees the writer. NULL allowed. Local. */
void safetensors_writer_abandon(struct safetensors_writer *writer);

#endif
