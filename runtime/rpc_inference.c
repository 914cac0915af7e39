/* The methods of the public port: which handler has which path, and those that answer at once. */
#include "runtime/rpc_inference.h"

#include <stdio.h>
#include <string.h>

#include "runtime/rpc_generate.h"
#include "runtime/rpc_generate_request.h"
#include "runtime/rpc_message.h"
#include "runtime/rpc_tokenize.h"

static void describe_model(const struct generation_service_options *options,
                           Moebius__V1__GetModelInfoResponse *info) {
    const struct model_spec *spec = options->limits.spec;
    info->model = rpc_message_borrow(options->limits.model_names[0]);
    info->architecture = rpc_message_borrow(spec->family);
    info->dtype = rpc_message_borrow(options->dtype);
    info->vocab_size = (uint32_t)spec->vocabulary;
    info->max_context = (uint32_t)options->limits.positions;
    info->layers = (uint32_t)spec->layers;
    info->hidden_size = (uint32_t)spec->hidden;
    info->experts = (uint32_t)spec->moe.router.experts;
    info->experts_per_token = (uint32_t)spec->moe.router.top_k;
    info->shared_experts = spec->moe.shared_intermediate > 0 ? 1 : 0;
    if (spec->bos_id >= 0) {
        info->optional_bos_token_id_case =
            MOEBIUS__V1__GET_MODEL_INFO_RESPONSE__OPTIONAL_BOS_TOKEN_ID_BOS_TOKEN_ID;
        info->bos_token_id = (uint32_t)spec->bos_id;
    }
}

static void on_model_info(void *context, struct rpc_call *call, const uint8_t *data, size_t size) {
    const Moebius__V1__GetModelInfoRequest *wire = (const void *)rpc_message_unpack(
        call, &moebius__v1__get_model_info_request__descriptor, data, size);
    if (wire == NULL)
        return;
    const struct generation_service_options *options = generation_service_options(context);
    bool is_served = wire->model.len == 0;
    for (int32_t i = 0; i < options->limits.model_name_count && !is_served; i++)
        is_served = strlen(options->limits.model_names[i]) == wire->model.len &&
                    memcmp(options->limits.model_names[i], wire->model.data, wire->model.len) == 0;
    if (!is_served) {
        char text[256];
        snprintf(text, sizeof text, "model: expected %s, got another name",
                 options->limits.model_names[0]);
        rpc_call_finish(call, RPC_NOT_FOUND, text);
        return;
    }
    uint32_t moe_layers[MODEL_LAYERS_MAX], eos_ids[MODEL_EOS_IDS_MAX];
    Moebius__V1__GetModelInfoResponse info = MOEBIUS__V1__GET_MODEL_INFO_RESPONSE__INIT;
    describe_model(options, &info);
    info.moe_layers = moe_layers;
    info.eos_token_ids = eos_ids;
    for (int32_t i = 0; i < options->limits.spec->layers; i++)
        if (options->limits.spec->layer[i].moe)
            moe_layers[info.n_moe_layers++] = (uint32_t)i;
    for (int32_t i = 0; i < options->limits.spec->eos_count; i++)
        eos_ids[info.n_eos_token_ids++] = (uint32_t)options->limits.spec->eos_ids[i];
    rpc_message_reply(call, &info.base);
}

static void on_abort(void *context, struct rpc_call *call, const uint8_t *data, size_t size) {
    const Moebius__V1__AbortRequest *wire =
        (const void *)rpc_message_unpack(call, &moebius__v1__abort_request__descriptor, data, size);
    if (wire == NULL)
        return;
    Moebius__V1__AbortResponse response = MOEBIUS__V1__ABORT_RESPONSE__INIT;
    for (size_t i = 0; i < wire->n_request_ids; i++) {
        const char *id;
        struct generation_message message;
        enum generation_error error = rpc_generate_request_text(
            &wire->request_ids[i], "request_ids", rpc_call_arena(call), &id, &message);
        if (error != GENERATION_ERROR_NONE) {
            rpc_generate_refuse(call, error, &message);
            return;
        }
        if (id != NULL)
            response.aborted += (uint32_t)generation_service_abort(context, id);
    }
    rpc_message_reply(call, &response.base);
}

enum status rpc_inference_register(struct generation_service *service, struct rpc_server *server) {
    const struct rpc_method methods[] = {
        {.path = "/moebius.v1.Inference/Generate",
         .context = service,
         .on_message = rpc_generate_whole,
         .on_cancel = rpc_generate_on_cancel},
        {.path = "/moebius.v1.Inference/GenerateStream",
         .context = service,
         .on_message = rpc_generate_stream,
         .on_cancel = rpc_generate_on_cancel,
         .on_writable = rpc_generate_on_writable},
        {.path = "/moebius.v1.Inference/Tokenize",
         .context = service,
         .on_message = rpc_tokenize_text,
         .on_cancel = rpc_tokenize_on_cancel},
        {.path = "/moebius.v1.Inference/Detokenize",
         .context = service,
         .on_message = rpc_tokenize_ids,
         .on_cancel = rpc_tokenize_on_cancel},
        {.path = "/moebius.v1.Inference/GetModelInfo",
         .context = service,
         .on_message = on_model_info},
        {.path = "/moebius.v1.Inference/Abort", .context = service, .on_message = on_abort},
    };
    return rpc_server_register(server, methods, sizeof methods / sizeof methods[0]);
}
