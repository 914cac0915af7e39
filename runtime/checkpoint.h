/* A checkpoint folder: model.safetensors, or the shards that model.safetensors.index.json names.
 * Names come from the index and the headers only, never from guesses. Nothing but headers is read
 * here. */
#ifndef MOEBIUS_RUNTIME_CHECKPOINT_H
#define MOEBIUS_RUNTIME_CHECKPOINT_H

#include "runtime/safetensors.h"

struct checkpoint;

/* Opens and checks every shard: index entries that name a missing file, a tensor that is not in its
 * file, tensors in a shard that the index does not name, one name in two shards, a wrong total_size
 * (warning only), path separators or .. in file names. Where both forms lie in the folder,
 * model.safetensors is taken (as transformers does; warning). STATUS_IO, STATUS_BAD_CHECKPOINT or
 * STATUS_NO_MEMORY, one line logged. Every shard stays open: one descriptor each. Local. */
enum status checkpoint_open(const char *folder, struct checkpoint **checkpoint);
void checkpoint_close(struct checkpoint *checkpoint); /* NULL allowed */

/* Tensors of all shards, in the order of their names (bytewise); infos and names live until the
 * checkpoint is closed. Local. */
int32_t checkpoint_count(const struct checkpoint *checkpoint);
const struct tensor_info *checkpoint_at(const struct checkpoint *checkpoint, int32_t index);
const struct tensor_info *checkpoint_find(const struct checkpoint *checkpoint,
                                          const char *name);   /* NULL: none */
int64_t checkpoint_bytes(const struct checkpoint *checkpoint); /* of all tensors */

int32_t checkpoint_shards(const struct checkpoint *checkpoint);
const char *checkpoint_shard_path(const struct checkpoint *checkpoint, int32_t shard);

/* The tensor's bytes in the mapped file: any alignment, read-only. A file that shrinks while mapped
 * is caught by checkpoint_read only. */
const void *checkpoint_data(const struct checkpoint *checkpoint, const struct tensor_info *tensor);

/* Reads bytes [first, first + bytes) of the tensor into buffer by pread: short reads and errors are
 * STATUS_IO (logged). A range outside the tensor is our bug (ASSERT). Thread-safe. Local. */
enum status checkpoint_read(const struct checkpoint *checkpoint, const struct tensor_info *tensor,
                            int64_t first, int64_t bytes, void *buffer);

#endif
