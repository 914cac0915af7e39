/* How much memory a server gives its KV cache. */
#ifndef MOEBIUS_LAUNCHER_SERVE_MEMORY_H
#define MOEBIUS_LAUNCHER_SERVE_MEMORY_H

#include <stdint.h>

#include "kernels/base/status.h"
#include "launcher/serve_run.h"

/* "512M", "4G", "1073741824": bytes; suffixes K, M, G, T count in 1024s, a following "iB" or "B" is
 * allowed. STATUS_USAGE (logged with the flag's name). Local. */
enum status serve_memory_parse(const char *flag, const char *text, int64_t *bytes);

/* Sets options->positions (--max-model-len, or the model's, or 8192 if that is less) and
 * options->kv_tokens, the same on all ranks: what --kv-cache-memory holds, or a quarter of this
 * machine's share for each rank but no more than all sequences at their full length need; at least
 * one sequence of that length. options->ranks is set. STATUS_USAGE, STATUS_PEER (logged), or that
 * of config.json. Collective. */
enum status serve_memory_choose(const struct serve_flags *flags, struct engine_options *options);

#endif
