/* Any bytes as config.json, and as generation_config.json over a small model. What is taken must
 * hold what the rest of the program relies on. */
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/base/check.h"
#include "runtime/family.h"
#include "runtime/generation_config.h"
#include "runtime/rope_table.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_names(const struct family *family) {
    char name[256];
    for (int role = 0; role < ROLE_COUNT; role++)
        if (family->names[role] != NULL)
            family_tensor_name(family, (enum tensor_role)role, MODEL_LAYERS_MAX - 1,
                               MODEL_EXPERTS_MAX - 1, name, sizeof name);
}

static void check_tokens(const struct model_spec *spec) {
    ASSERT(spec->bos_id >= -1 && spec->bos_id < spec->vocabulary);
    ASSERT(spec->eos_count >= 0 && spec->eos_count <= MODEL_EOS_IDS_MAX);
    for (int32_t i = 0; i < spec->eos_count; i++)
        ASSERT(spec->eos_ids[i] >= 0 && spec->eos_ids[i] < spec->vocabulary);
    ASSERT(isfinite(spec->defaults.temperature) && spec->defaults.temperature >= 0.0f);
    ASSERT(spec->defaults.top_p >= 0.0f && spec->defaults.top_p <= 1.0f);
    ASSERT(spec->defaults.repetition_penalty > 0.0f && spec->defaults.top_k >= 0);
}

static void check_layers(const struct model_spec *spec) {
    const struct moe_spec *moe = &spec->moe;
    for (int32_t i = 0; i < spec->layers; i++) {
        ASSERT(spec->layer[i].window >= 0);
        if (spec->layer[i].moe)
            ASSERT(moe->router.experts >= 1 && moe->expert_intermediate >= 1);
        else
            ASSERT(spec->dense_intermediate >= 1);
    }
    ASSERT(moe->router.top_k <= moe->router.experts && moe->router.top_k <= MODEL_TOP_K_MAX);
    ASSERT(moe->router.experts <= MODEL_EXPERTS_MAX);
}

static void check_spec(const struct model_spec *spec) {
    const struct attention_spec *attention = &spec->attention;
    ASSERT(spec->hidden >= 1 && spec->vocabulary >= 1 && spec->max_positions >= 1);
    ASSERT(spec->layers >= 1 && spec->layers <= MODEL_LAYERS_MAX);
    ASSERT(spec->norm_epsilon > 0.0f && isfinite(spec->norm_epsilon));
    ASSERT(attention->heads % attention->kv_heads == 0);
    ASSERT(attention->head_dim % 2 == 0 && attention->head_dim <= ATTENTION_HEAD_DIM_MAX);
    ASSERT(spec->rope.rotary_dim <= attention->head_dim);
    check_layers(spec);
    check_tokens(spec);
    float table[3 * ATTENTION_HEAD_DIM_MAX];
    rope_table_fill(&spec->rope, 3, table);
    for (int32_t i = 0; i < 3 * spec->rope.rotary_dim; i++)
        ASSERT(isfinite(table[i]));
}

static void parse_generation(const char *text, size_t size) {
    struct model_spec spec = {.vocabulary = 512, .bos_id = -1};
    generation_config_init(&spec.defaults);
    struct config_reader config;
    if (config_reader_open_memory("fuzz", text, size, &config) != STATUS_OK)
        return;
    if (generation_config_parse(&config, &spec) == STATUS_OK)
        check_tokens(&spec);
    config_reader_close(&config);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    const struct family *family = NULL;
    struct model_spec spec;
    enum status status = family_parse_memory("fuzz", (const char *)data, size, &family, &spec);
    if (status == STATUS_OK) {
        check_names(family);
        check_spec(&spec);
    } else {
        ASSERT(status == STATUS_BAD_CONFIG || status == STATUS_UNSUPPORTED);
        ASSERT(family == NULL);
    }
    parse_generation((const char *)data, size);
    return 0;
}
