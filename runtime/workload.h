/* Requests to load a server with, from the files that people publish, as they are. Formats are told
 * apart by what stands in them:
 *
 *   - CSV with TIMESTAMP,ContextTokens,GeneratedTokens (Azure LLM inference traces): arrivals and
 *     lengths;
 *   - JSON lines with timestamp (ms), input_length, output_length, hash_ids (Mooncake): arrivals,
 *     lengths, and blocks of 512 tokens that requests share;
 *   - JSON lines with input_tok_ids, output_toks, arrival_time_ns (ShareGPT as token ids);
 *   - JSON lines with turns (MT-Bench, Spec-Bench: the first turn), prompt, question or text. */
#ifndef MOEBIUS_RUNTIME_WORKLOAD_H
#define MOEBIUS_RUNTIME_WORKLOAD_H

#include <stddef.h>
#include <stdint.h>

#include "kernels/base/status.h"

#define WORKLOAD_HASH_TOKENS 512 /* of a Mooncake block */

struct workload_item {
    int64_t arrival_ns;    /* from the first request of the file; -1: the file does not say */
    int32_t output_tokens; /* 0: the file does not say */
    /* The prompt: text, or ids, or only a length (then made up, see workload_make_ids). */
    char *text; /* NULL: none; UTF-8, NUL-terminated */
    int32_t *ids;
    int32_t prompt_tokens; /* of ids, or the length; 0 for text */
    int64_t *hashes;       /* [hash_count]: blocks; equal hashes are equal tokens */
    int32_t hash_count;
};

struct workload {
    struct workload_item *items;
    int32_t count, capacity;
};

/* Reads up to `most` requests (0: all). STATUS_IO (logged); STATUS_BAD_REQUEST (logged: file, line,
 * expected, got); STATUS_NO_MEMORY (logged). Free with workload_deinit, also after an error. Local.
 */
enum status workload_load(const char *path, int32_t most, struct workload *workload);
void workload_deinit(struct workload *workload);

/* Token ids of an item for a model with `vocabulary` ids, written to ids[item->prompt_tokens]: its
 * own ids modulo the vocabulary, or made up from its hashes or from `seed` and `number`; the same
 * every time. Only for items without text. Local. */
void workload_make_ids(const struct workload_item *item, int32_t number, uint64_t seed,
                       int32_t vocabulary, int32_t *ids);

#endif
