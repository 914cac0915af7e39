/* Reads a placement file into lists and hands them to placement_from_lists; part of the start,
 * before anything is loaded. */
#include "runtime/placement_file.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

#include "kernels/base/log.h"
#include "runtime/json_file.h"

/* A file being read. */
struct reader {
    const char *path;
    const struct placement_need *need;
    int32_t *members;        /* [layers * ranks][experts] */
    const int32_t **experts; /* [layers * ranks]: into members */
    int32_t *counts;         /* [layers * ranks] */
};

/* "7", "a string", "nothing": what stands there, for messages. */
static const char *describe(const json_t *value, char *text, size_t size) {
    if (!json_is_integer(value))
        return json_file_kind(value);
    snprintf(text, size, "%" JSON_INTEGER_FORMAT, json_integer_value(value));
    return text;
}

static enum status refuse_field(const struct reader *reader, const char *key, int32_t expected,
                                const json_t *got) {
    char text[32];
    LOG_ERROR("%s: %s: expected %d, got %s", reader->path, key, expected,
              describe(got, text, sizeof text));
    return STATUS_BAD_CONFIG;
}

static enum status refuse_layer(const struct reader *reader, int32_t layer, const char *expected,
                                const json_t *got) {
    char text[32];
    LOG_ERROR("%s: layer %d: expected %s, got %s", reader->path, layer, expected,
              describe(got, text, sizeof text));
    return STATUS_BAD_CONFIG;
}

/* Lists one expert; whether the lists make sense is placement_from_lists' business. */
static enum status add(struct reader *reader, int32_t layer, int32_t rank, const json_t *expert) {
    const struct placement_need *need = reader->need;
    int32_t list = layer * need->ranks + rank;
    json_int_t id = json_integer_value(expert);
    char text[32];
    if (!json_is_integer(expert) || id < 0 || id >= need->experts) {
        LOG_ERROR("%s: layer %d, rank %d: expected an expert from 0 to %d, got %s", reader->path,
                  layer, rank, need->experts - 1, describe(expert, text, sizeof text));
        return STATUS_BAD_CONFIG;
    }
    if (reader->counts[list] == need->experts) {
        LOG_ERROR("%s: layer %d, rank %d: expected at most the model's %d experts, got more",
                  reader->path, layer, rank, need->experts);
        return STATUS_BAD_CONFIG;
    }
    reader->members[(int64_t)list * need->experts + reader->counts[list]++] = (int32_t)id;
    return STATUS_OK;
}

static enum status read_physical(struct reader *reader, int32_t layer, const json_t *logical,
                                 const json_t *ranks) {
    size_t count = json_array_size(logical), need_ranks = (size_t)reader->need->ranks;
    char expected[128];
    if (!json_is_array(logical))
        return refuse_layer(reader, layer, "physical_to_logical to be a list", logical);
    if (ranks == NULL && count % need_ranks != 0) {
        snprintf(expected, sizeof expected,
                 "physical_rank, as %zu physical experts are no equal shares of %zu ranks", count,
                 need_ranks);
        return refuse_layer(reader, layer, expected, ranks);
    }
    if (ranks != NULL && (!json_is_array(ranks) || json_array_size(ranks) != count)) {
        snprintf(expected, sizeof expected,
                 "physical_rank to be a list of %zu, one for each of physical_to_logical", count);
        LOG_ERROR("%s: layer %d: expected %s, got %s of %zu", reader->path, layer, expected,
                  json_file_kind(ranks), json_array_size(ranks));
        return STATUS_BAD_CONFIG;
    }
    for (size_t i = 0; i < count; i++) {
        const json_t *rank = ranks != NULL ? json_array_get(ranks, i) : NULL;
        json_int_t number =
            rank != NULL ? json_integer_value(rank) : (json_int_t)(i / (count / need_ranks));
        if ((rank != NULL && !json_is_integer(rank)) || number < 0 ||
            number >= reader->need->ranks) {
            snprintf(expected, sizeof expected, "physical_rank to name ranks from 0 to %d",
                     reader->need->ranks - 1);
            return refuse_layer(reader, layer, expected, rank);
        }
        RETURN_IF_ERROR(add(reader, layer, (int32_t)number, json_array_get(logical, i)));
    }
    return STATUS_OK;
}

static enum status read_rank_lists(struct reader *reader, int32_t layer, const json_t *lists) {
    char expected[64];
    if (!json_is_array(lists) || json_array_size(lists) != (size_t)reader->need->ranks) {
        LOG_ERROR("%s: layer %d: expected rank_experts to be a list of %d, got %s of %zu",
                  reader->path, layer, reader->need->ranks, json_file_kind(lists),
                  json_array_size(lists));
        return STATUS_BAD_CONFIG;
    }
    for (int32_t rank = 0; rank < reader->need->ranks; rank++) {
        const json_t *list = json_array_get(lists, (size_t)rank);
        if (!json_is_array(list)) {
            snprintf(expected, sizeof expected, "a list of experts of rank %d", rank);
            return refuse_layer(reader, layer, expected, list);
        }
        for (size_t i = 0; i < json_array_size(list); i++)
            RETURN_IF_ERROR(add(reader, layer, rank, json_array_get(list, i)));
    }
    return STATUS_OK;
}

static enum status read_layer(struct reader *reader, int32_t layer, const json_t *object) {
    if (!json_is_object(object))
        return refuse_layer(reader, layer, "an object", object);
    const json_t *logical = json_object_get(object, "physical_to_logical");
    const json_t *ranks = json_object_get(object, "physical_rank");
    const json_t *lists = json_object_get(object, "rank_experts");
    size_t keys = json_object_size(object);
    if (lists != NULL && keys == 1)
        return read_rank_lists(reader, layer, lists);
    if (logical != NULL && lists == NULL && keys == (ranks != NULL ? 2 : 1))
        return read_physical(reader, layer, logical, ranks);
    LOG_ERROR("%s: layer %d: expected physical_to_logical with or without physical_rank, or "
              "rank_experts alone, got %zu keys",
              reader->path, layer, keys);
    return STATUS_BAD_CONFIG;
}

static enum status read_root(struct reader *reader, const json_t *root) {
    const struct placement_need *need = reader->need;
    const json_t *ranks = json_object_get(root, "num_ranks");
    const json_t *experts = json_object_get(root, "num_logical_experts");
    const json_t *layers = json_object_get(root, "layers");
    if (!json_is_integer(ranks) || json_integer_value(ranks) != need->ranks)
        return refuse_field(reader, "num_ranks", need->ranks, ranks);
    if (!json_is_integer(experts) || json_integer_value(experts) != need->experts)
        return refuse_field(reader, "num_logical_experts", need->experts, experts);
    if (!json_is_array(layers) || json_array_size(layers) != (size_t)need->layers) {
        LOG_ERROR("%s: layers: expected a list of %d, one for each MoE layer, got %s of %zu",
                  reader->path, need->layers, json_file_kind(layers), json_array_size(layers));
        return STATUS_BAD_CONFIG;
    }
    for (int32_t layer = 0; layer < need->layers; layer++)
        RETURN_IF_ERROR(read_layer(reader, layer, json_array_get(layers, (size_t)layer)));
    return STATUS_OK;
}

enum status placement_file_load(const char *path, const struct placement_need *need,
                                struct placement **placement) {
    size_t lists = (size_t)need->layers * (size_t)need->ranks;
    struct reader reader = {.path = path, .need = need};
    json_t *root;
    RETURN_IF_ERROR(json_file_load(path, STATUS_BAD_CONFIG, &root));
    enum status status = STATUS_NO_MEMORY;
    reader.members = calloc(lists * (size_t)need->experts, sizeof *reader.members);
    reader.experts = calloc(lists, sizeof *reader.experts);
    reader.counts = calloc(lists, sizeof *reader.counts);
    if (reader.members == NULL || reader.experts == NULL || reader.counts == NULL) {
        LOG_ERROR("%s: cannot take lists of %d layers and %d ranks", path, need->layers,
                  need->ranks);
        goto free_lists;
    }
    for (size_t i = 0; i < lists; i++)
        reader.experts[i] = reader.members + i * (size_t)need->experts;
    status = read_root(&reader, root);
    if (status != STATUS_OK)
        goto free_lists;
    struct placement_source source = {
        .origin = path, .experts = reader.experts, .counts = reader.counts};
    status = placement_from_lists(need->layers, need->experts, need->ranks, &source, need->node_of,
                                  placement);
free_lists:
    free(reader.members);
    free(reader.experts);
    free(reader.counts);
    json_file_release(root);
    return status;
}
