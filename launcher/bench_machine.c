/* What bench latency and bench throughput hold their figures against. */
#include "launcher/bench_machine.h"

#include <math.h>
#include <stdlib.h>

#include "kernels/base/log.h"
#include "kernels/probe.h"

double bench_machine_step_bytes(const struct engine *engine, double rows, double positions) {
    const struct model *model = engine_model(engine);
    const struct model_spec *spec = engine_spec(engine);
    const struct weight_bytes_by_kind *bytes = &model->weights.bytes;
    double experts = 0.0;
    if (spec->moe.router.experts > 0) {
        double missed = 1.0 - (double)spec->moe.router.top_k / spec->moe.router.experts;
        experts = (double)bytes->experts * (1.0 - pow(missed, rows));
    }
    double output = (double)(spec->tied_embedding ? bytes->embedding : bytes->output);
    double kv = positions * 2.0 * spec->layers * spec->attention.kv_heads *
                spec->attention.head_dim * (double)dtype_bytes(model->kv.shape.dtype);
    return output +
           (double)(bytes->attention + bytes->dense + bytes->router + bytes->shared_expert +
                    bytes->norms) +
           experts + kv;
}

double bench_machine_flop(const struct engine *engine, double rows, double pairs, double logits) {
    const struct model_spec *spec = engine_spec(engine);
    const struct attention_spec *attention = &spec->attention;
    double hidden = spec->hidden, heads = (double)attention->heads * attention->head_dim;
    double per_row = 0.0;
    for (int32_t i = 0; i < spec->layers; i++) {
        per_row += hidden * (2.0 * heads + 2.0 * attention->kv_heads * attention->head_dim);
        if (spec->layer[i].moe)
            per_row += hidden * spec->moe.router.experts +
                       3.0 * hidden *
                           (spec->moe.router.top_k * (double)spec->moe.expert_intermediate +
                            spec->moe.shared_intermediate);
        else
            per_row += 3.0 * hidden * spec->dense_intermediate;
    }
    return 2.0 * (per_row * rows + 2.0 * heads * spec->layers * pairs +
                  hidden * spec->vocabulary * logits);
}

#define PROBE_TOKENS 12
#define PROBE_RANGES_MAX 65536

/* The ranges that decoding touches, token after token, with other experts for each: what a perfect
 * decoder would still have to read. */
struct touched {
    struct probe_range *ranges;
    int32_t count;
    uint64_t random;
};

static void touch(struct touched *touched, const struct weight *weight, int32_t group) {
    if (weight->data == NULL || touched->count == PROBE_RANGES_MAX)
        return;
    touched->ranges[touched->count++] =
        (struct probe_range){(const char *)weight->data + (size_t)group * weight->group_bytes,
                             (int64_t)weight->group_bytes};
}

/* top_k experts: a random start and a random odd stride (different ones where the number of experts
 * is a power of two, mostly so elsewhere). */
static void touch_experts(struct touched *touched, const struct moe_layer *moe) {
    int32_t experts = moe->router.experts;
    touched->random = touched->random * 6364136223846793005u + 1442695040888963407u;
    int32_t expert = (int32_t)((touched->random >> 33) % (uint64_t)experts);
    int32_t stride = experts % 2 == 0 ? (int32_t)((touched->random >> 20) % 64) * 2 + 1 : 1;
    for (int32_t i = 0; i < moe->router.top_k; i++) {
        touch(touched, &moe->gate_up, expert);
        touch(touched, &moe->down, expert);
        expert = (expert + stride) % experts;
    }
}

static void touch_token(struct touched *touched, const struct model *model) {
    for (int32_t layer = 0; layer < model->spec->layers; layer++) {
        const struct layer_weights *weights = &model->weights.layers[layer];
        touch(touched, &weights->qkv, 0);
        touch(touched, &weights->o, 0);
        if (model->spec->layer[layer].moe) {
            touch(touched, &weights->moe.router_weight, 0);
            touch_experts(touched, &weights->moe);
            touch(touched, &weights->moe.shared_gate_up, 0);
            touch(touched, &weights->moe.shared_down, 0);
        } else {
            touch(touched, &weights->dense_gate_up, 0);
            touch(touched, &weights->dense_down, 0);
        }
    }
    touch(touched, &model->weights.output, 0);
}

enum status bench_machine_read_bandwidth(const struct engine *engine, double *bytes_per_second) {
    struct touched touched = {.ranges = malloc(sizeof *touched.ranges * PROBE_RANGES_MAX)};
    if (touched.ranges == NULL) {
        LOG_ERROR("bench: cannot take a list of ranges");
        return STATUS_NO_MEMORY;
    }
    for (int i = 0; i < PROBE_TOKENS; i++)
        touch_token(&touched, engine_model(engine));
    enum status status = probe_read_bandwidth(engine_kernels(engine), touched.ranges, touched.count,
                                              bytes_per_second);
    free(touched.ranges);
    return status;
}
