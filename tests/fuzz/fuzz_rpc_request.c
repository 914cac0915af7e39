/* Requests of the wire: whatever the bytes are, each message type unpacks them or does not, within
 * its cap of memory, and a GenerateRequest maps to a request or is refused in one line. */
#include <stdint.h>
#include <string.h>

#include "kernels/base/check.h"
#include "proto/moebius/v1/admin.pb-c.h"
#include "runtime/rpc_generate_request.h"

#define ARENA_BYTES_MAX ((size_t)4 << 20)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Stands in for runtime/generation_request.c, which needs the whole tokenizer. */
struct generation_request generation_request_default(void) {
    return (struct generation_request){.sampling = sampling_params_default(), .n = 1};
}

static const ProtobufCMessageDescriptor *const types[] = {
    &moebius__v1__generate_request__descriptor,       &moebius__v1__tokenize_request__descriptor,
    &moebius__v1__detokenize_request__descriptor,     &moebius__v1__abort_request__descriptor,
    &moebius__v1__get_model_info_request__descriptor, &moebius__v1__get_stats_request__descriptor,
    &moebius__v1__drain_request__descriptor,          &moebius__v1__generate_chunk__descriptor,
    &moebius__v1__reload_plan_request__descriptor,
};

static void check_mapping(const void *wire, struct rpc_arena *arena) {
    struct generation_request request;
    struct generation_message message = {.text = ""};
    enum generation_error error = rpc_generate_request_map(wire, arena, &request, &message);
    ASSERT(error == GENERATION_ERROR_NONE ? request.n >= 1 : message.text[0] != '\0');
    ASSERT(strlen(message.text) < sizeof message.text && strchr(message.text, '\n') == NULL);
    for (int32_t i = 0; error == GENERATION_ERROR_NONE && i < request.stop_count; i++)
        ASSERT(request.stop[i][0] != '\0');
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct rpc_arena arena;
    rpc_arena_init(&arena, ARENA_BYTES_MAX);
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
        rpc_arena_reset(&arena);
        const ProtobufCMessage *wire =
            protobuf_c_message_unpack(types[i], &arena.allocator, size, data);
        if (wire != NULL && i == 0)
            check_mapping(wire, &arena);
    }
    rpc_arena_deinit(&arena);
    return 0;
}
