/* Which folder holds the model. */
#ifndef MOEBIUS_LAUNCHER_MODEL_FOLDER_H
#define MOEBIUS_LAUNCHER_MODEL_FOLDER_H

#include <stddef.h>

#include "kernels/base/status.h"

/* Copies `given` when it is a folder; when it is NULL, finds the demo model that comes with the
 * program, relative to the binary: in the source tree (build/<preset>/moebius) or installed
 * (bin/moebius and share/moebius/demo-moe). STATUS_IO (logged: what was looked for). Local. */
enum status model_folder_resolve(const char *given, char *folder, size_t size);

#endif
