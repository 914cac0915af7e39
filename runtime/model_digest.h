/* What a model is, in one number: ranks that hold other weights than the rest make no sense
 * together, and nothing later would tell. */
#ifndef MOEBIUS_RUNTIME_MODEL_DIGEST_H
#define MOEBIUS_RUNTIME_MODEL_DIGEST_H

#include <stdint.h>

#include "runtime/checkpoint.h"

/* Digest of the bytes of config.json and generation_config.json (which may be missing) and of
 * samples of the weights: up to 64 tensors, spread evenly over all names, with name, shape and up
 * to 4 KiB from the middle of each (checkpoint NULL: no weights). Equal for a copy of the folder;
 * another for any other training, but not surely for weights that were changed in a few places.
 * STATUS_IO, STATUS_NO_MEMORY (logged). Local. */
enum status model_digest_take(const char *folder, const struct checkpoint *checkpoint,
                              int64_t *digest);

#endif
