/* Collects logits and routing of one request for --dump-logits and --dump-routing. */
#include "launcher/generate_dump.h"

#include <stdlib.h>
#include <string.h>

#include "kernels/base/log.h"
#include "runtime/safetensors_writer.h"

static int32_t moe_layers_before(const struct model_spec *spec, int32_t layer) {
    int32_t count = 0;
    for (int32_t i = 0; i < layer; i++)
        count += spec->layer[i].moe ? 1 : 0;
    return count;
}

/* Observes a step: the batch holds rows of one request, in order of position. */
static void see(void *context, enum model_point point, int32_t layer, const void *data,
                int64_t columns) {
    struct generate_dump *dump = context;
    if (point != MODEL_ROUTER_IDS && point != MODEL_ROUTER_WEIGHTS)
        return;
    int64_t rows = engine_batch(dump->engine)->rows;
    if (rows > dump->capacity - dump->routing_rows)
        return;
    int64_t moe_layer = moe_layers_before(engine_spec(dump->engine), layer);
    char *to = point == MODEL_ROUTER_IDS ? (char *)dump->expert_ids : (char *)dump->expert_weights;
    for (int64_t row = 0; row < rows; row++)
        memcpy(to + 4 * columns * ((dump->routing_rows + row) * dump->moe_layers + moe_layer),
               (const char *)data + 4 * columns * row, 4 * (size_t)columns);
    if (point == MODEL_ROUTER_WEIGHTS && moe_layer == dump->moe_layers - 1)
        dump->routing_rows += rows;
}

enum status generate_dump_check_paths(const char *logits, const char *routing) {
    if (logits != NULL && routing != NULL && strcmp(logits, routing) == 0) {
        LOG_ERROR("--dump-routing: expected another file than --dump-logits, got '%s' for both",
                  routing);
        return STATUS_USAGE;
    }
    if (logits != NULL)
        RETURN_IF_ERROR(safetensors_writer_check(logits));
    return routing != NULL ? safetensors_writer_check(routing) : STATUS_OK;
}

enum status generate_dump_init(struct generate_dump *dump, const struct engine *engine,
                               bool wants_logits, bool wants_routing, int64_t positions) {
    const struct model_spec *spec = engine_spec(engine);
    *dump = (struct generate_dump){.engine = engine,
                                   .wants_logits = wants_logits,
                                   .wants_routing = wants_routing,
                                   .moe_layers = moe_layers_before(spec, spec->layers),
                                   .capacity = positions,
                                   .observer = {.see = see, .context = dump}};
    if (wants_routing && dump->moe_layers == 0) {
        LOG_ERROR("--dump-routing: expected a model with experts, got the dense family %s",
                  spec->family);
        return STATUS_BAD_REQUEST;
    }
    size_t rows = (size_t)positions;
    size_t pairs = rows * (size_t)dump->moe_layers * (size_t)spec->moe.router.top_k;
    if (wants_logits)
        dump->logits = malloc(sizeof(float) * rows * (size_t)spec->vocabulary);
    if (wants_routing) {
        dump->expert_ids = malloc(sizeof(int32_t) * pairs);
        dump->expert_weights = malloc(sizeof(float) * pairs);
    }
    if ((wants_logits && dump->logits == NULL) ||
        (wants_routing && (dump->expert_ids == NULL || dump->expert_weights == NULL))) {
        LOG_ERROR("dump: cannot take memory for %lld positions", (long long)positions);
        generate_dump_deinit(dump);
        return STATUS_NO_MEMORY;
    }
    return STATUS_OK;
}

void generate_dump_deinit(struct generate_dump *dump) {
    free(dump->logits);
    free(dump->expert_ids);
    free(dump->expert_weights);
    *dump = (struct generate_dump){0};
}

void generate_dump_add_logits(struct generate_dump *dump, const float *logits) {
    size_t vocabulary = (size_t)engine_spec(dump->engine)->vocabulary;
    if (!dump->wants_logits || dump->logit_rows == dump->capacity)
        return;
    memcpy(dump->logits + (size_t)dump->logit_rows * vocabulary, logits,
           sizeof(float) * vocabulary);
    dump->logit_rows++;
}

static enum status write_tensors(const char *path, const struct tensor_info *tensors,
                                 const void *const *data, int32_t count) {
    struct safetensors_writer *writer;
    RETURN_IF_ERROR(safetensors_writer_create(path, tensors, count, &writer));
    for (int32_t i = 0; i < count; i++) {
        int64_t bytes = tensor_type_bytes(tensors[i].type);
        for (int32_t d = 0; d < tensors[i].dimensions; d++)
            bytes *= tensors[i].shape[d];
        enum status status = safetensors_writer_append(writer, data[i], (size_t)bytes);
        if (status != STATUS_OK) {
            safetensors_writer_abandon(writer);
            return status;
        }
    }
    return safetensors_writer_finish(writer);
}

enum status generate_dump_write_logits(const struct generate_dump *dump, const char *path) {
    const struct tensor_info tensor = {
        .name = "logits",
        .type = TENSOR_F32,
        .dimensions = 2,
        .shape = {dump->logit_rows, engine_spec(dump->engine)->vocabulary}};
    const void *data = dump->logits;
    return write_tensors(path, &tensor, &data, 1);
}

enum status generate_dump_write_routing(const struct generate_dump *dump, const char *path) {
    int32_t top_k = engine_spec(dump->engine)->moe.router.top_k;
    const struct tensor_info tensors[2] = {
        {.name = "expert_ids",
         .type = TENSOR_I32,
         .dimensions = 3,
         .shape = {dump->routing_rows, dump->moe_layers, top_k}},
        {.name = "expert_weights",
         .type = TENSOR_F32,
         .dimensions = 3,
         .shape = {dump->routing_rows, dump->moe_layers, top_k}}};
    const void *data[2] = {dump->expert_ids, dump->expert_weights};
    return write_tensors(path, tensors, data, 2);
}
