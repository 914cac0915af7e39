/* Between the forward and the sampler: puts the parts of the vocabulary side by side. */
#include "runtime/logit_gather.h"

#include <stdlib.h>
#include <string.h>

#include "kernels/base/log.h"

static struct tensor_shard shard_of(const struct logit_gather *gather, int32_t member) {
    const struct model *model = gather->model;
    return tensor_shard_of(model->spec, member, model->ranks.tensor.count,
                           model->kernels->ops->panel);
}

enum status logit_gather_init(struct logit_gather *gather, const struct model *model) {
    int32_t members = model->ranks.tensor.count;
    *gather = (struct logit_gather){.model = model};
    if (members <= 1 || model->ranks.tensor.self > 0)
        return STATUS_OK;
    size_t count = (size_t)members, rows = (size_t)model->limits.logit_rows;
    size_t part = rows * (size_t)shard_of(gather, 0).ids * sizeof(float); /* the first is largest */
    gather->part_bytes = (int64_t)part;
    gather->full = malloc(rows * (size_t)model->spec->vocabulary * sizeof(float));
    gather->parts = malloc(count * part);
    gather->into = malloc(count * sizeof *gather->into);
    gather->sizes = malloc(count * sizeof *gather->sizes);
    if (!gather->full || !gather->parts || !gather->into || !gather->sizes) {
        LOG_ERROR("logits: cannot take buffers for %zu rows of %d ids from %d ranks", rows,
                  model->spec->vocabulary, members);
        logit_gather_deinit(gather);
        return STATUS_NO_MEMORY;
    }
    for (size_t i = 0; i < count; i++)
        gather->into[i] = gather->parts + i * part;
    return STATUS_OK;
}

void logit_gather_deinit(struct logit_gather *gather) {
    free(gather->full);
    free(gather->parts);
    free(gather->into);
    free(gather->sizes);
    *gather = (struct logit_gather){0};
}

enum status logit_gather_run(struct logit_gather *gather, int32_t count, const float **logits) {
    const struct model *model = gather->model;
    const struct collective_group *group = &model->ranks.tensor;
    size_t vocabulary = (size_t)model->spec->vocabulary;
    if (group->count <= 1 || count == 0)
        return STATUS_OK;
    struct transport_scope scope = {.step = model->step, .layer = -1, .kind = TRAFFIC_ROWS};
    int64_t own = (int64_t)count * model->weights.shard.ids * (int64_t)sizeof(float);
    RETURN_IF_ERROR(collective_gather(group, &scope, *logits, own, gather->into, gather->part_bytes,
                                      gather->sizes));
    if (group->self > 0)
        return STATUS_OK;
    for (int32_t member = 0; member < group->count; member++) {
        struct tensor_shard shard = shard_of(gather, member);
        size_t bytes = (size_t)shard.ids * sizeof(float);
        if (gather->sizes[member] != count * (int64_t)bytes)
            return transport_garbled(group->transport, &scope, group->members[member],
                                     gather->sizes[member]);
        for (int32_t row = 0; row < count; row++)
            memcpy(gather->full + (size_t)row * vocabulary + shard.first_id,
                   (const char *)gather->into[member] + (size_t)row * bytes, bytes);
    }
    *logits = gather->full;
    return STATUS_OK;
}
