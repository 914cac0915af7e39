/* The KV cache's share of memory, decided once by the coordinator before anything is loaded. */
#include "launcher/serve_memory.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "comm/collective.h"
#include "kernels/base/log.h"
#include "runtime/family.h"
#include "runtime/kv_cache.h"
#include "runtime/memory_plan.h"

#define SHARE_OF_MEMORY 4  /* a quarter, where nothing else is said */
#define POSITIONS_MAX 8192 /* of a sequence, where nothing else is said */
#define TOKENS_MAX (INT64_C(1) << 40)

enum status serve_memory_parse(const char *flag, const char *text, int64_t *bytes) {
    static const char suffixes[] = "KMGT";
    char *end;
    errno = 0;
    long long number = strtoll(text, &end, 10);
    int shift = 0;
    const char *suffix = *end != '\0' ? strchr(suffixes, *end) : NULL;
    if (suffix != NULL) {
        shift = 10 * (int)(suffix - suffixes + 1);
        end++;
    }
    bool ends = *end == '\0' || strcmp(end, "B") == 0 || (shift > 0 && strcmp(end, "iB") == 0);
    if (end == text || !ends || errno != 0 || number < 1 || number > INT64_MAX >> shift) {
        LOG_ERROR("--%s: expected bytes such as 512M or 4G, got '%s'", flag, text);
        return STATUS_USAGE;
    }
    *bytes = (int64_t)number << shift;
    return STATUS_OK;
}

static int64_t tokens_in(int64_t bytes, const struct model_spec *spec,
                         const struct engine_options *options) {
    bool f32 = options->dtype == ENGINE_DTYPE_F32 ||
               (options->dtype == ENGINE_DTYPE_AUTO && spec->stored_dtype == DTYPE_F32);
    int32_t share = spec->attention.kv_heads / options->ranks->tp_size;
    struct kv_shape shape = {.kv_heads = share > 0 ? share : 1,
                             .head_dim = spec->attention.head_dim,
                             .dtype = f32 ? DTYPE_F32 : DTYPE_BF16};
    int64_t block = (int64_t)kv_cache_block_bytes(&shape, spec->layers);
    return bytes / block * KV_BLOCK_TOKENS;
}

/* On the coordinator. */
static enum status choose(const struct serve_flags *flags, const struct engine_options *options,
                          int32_t *positions_out, int64_t *tokens) {
    const struct family *family;
    static struct model_spec spec; /* large, and one is enough */
    RETURN_IF_ERROR(family_parse(options->model_folder, &family, &spec));
    int64_t positions = options->positions > 0               ? options->positions
                        : spec.max_positions < POSITIONS_MAX ? spec.max_positions
                                                             : POSITIONS_MAX;
    *positions_out = (int32_t)positions;
    int64_t groups = options->ranks->dp_size;
    int64_t sequences = (options->requests + groups - 1) / groups;
    int64_t bytes = memory_plan_available();
    if (flags->kv_cache_memory != NULL)
        RETURN_IF_ERROR(serve_memory_parse("kv-cache-memory", flags->kv_cache_memory, &bytes));
    else if (bytes < INT64_MAX)
        bytes /= SHARE_OF_MEMORY * (int64_t)options->ranks->node_size;
    *tokens = tokens_in(bytes, &spec, options);
    if (flags->kv_cache_memory == NULL && *tokens > sequences * positions)
        *tokens = sequences * positions;
    if (*tokens >= positions && *tokens <= TOKENS_MAX)
        return STATUS_OK;
    if (flags->kv_cache_memory == NULL && *tokens < positions) {
        *tokens = positions; /* whether that fits is the memory plan's to say */
        return STATUS_OK;
    }
    LOG_ERROR("--kv-cache-memory: expected room for at least one sequence of --max-model-len %lld, "
              "got room for %lld tokens",
              (long long)positions, (long long)*tokens);
    return STATUS_USAGE;
}

enum status serve_memory_choose(const struct serve_flags *flags, struct engine_options *options) {
    const struct rank_group *ranks = options->ranks;
    int32_t members[TRANSPORT_RANKS_MAX];
    struct {
        int64_t tokens;
        int32_t positions, status;
    } chosen = {0};
    for (int32_t rank = 0; rank < ranks->size; rank++)
        members[rank] = rank;
    if (ranks->rank == 0)
        chosen.status = (int32_t)choose(flags, options, &chosen.positions, &chosen.tokens);
    struct collective_group world = {.transport = ranks->transport,
                                     .members = members,
                                     .count = ranks->size,
                                     .self = ranks->rank};
    struct transport_scope scope = {.layer = -1, .kind = TRAFFIC_PLAN};
    int64_t bytes = sizeof chosen;
    if (ranks->size > 1)
        RETURN_IF_ERROR(
            collective_broadcast(&world, &scope, false, &chosen, sizeof chosen, &bytes));
    options->kv_tokens = chosen.tokens;
    options->positions = chosen.positions;
    return (enum status)chosen.status;
}
