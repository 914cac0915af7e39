/* The reflection service, in both packages that tools use (v1 and v1alpha: the same messages on the
 * wire, so one handler). */
#include "runtime/rpc_reflection.h"

#include <stdlib.h>
#include <string.h>

#include "kernels/base/log.h"
#include "proto/grpc/reflection/v1/reflection.pb-c.h"
#include "proto/moebius_proto_grpc_descriptor_set.h"
#include "runtime/rpc_arena.h"
#include "runtime/rpc_descriptor.h"
#include "runtime/rpc_message.h"
#include "runtime/rpc_server.h"

#define SETS 2 /* the caller's, and ours of health and reflection */

/* A server that has the service: its methods are what is listed. */
struct place {
    struct place *next;
    const struct rpc_reflection *reflection;
    const struct rpc_server *server;
};

struct rpc_reflection {
    struct rpc_descriptor sets[SETS];
    struct place *places;
};

typedef Grpc__Reflection__V1__ServerReflectionRequest reflection_request;
typedef Grpc__Reflection__V1__ServerReflectionResponse reflection_response;

enum status rpc_reflection_create(const uint8_t *descriptors, size_t size,
                                  struct rpc_reflection **reflection) {
    struct rpc_descriptor set = {.data = descriptors, .size = size};
    if (!rpc_descriptor_is_valid(set)) {
        LOG_ERROR("reflection: expected a FileDescriptorSet, got %zu other bytes", size);
        return STATUS_INTERNAL;
    }
    struct rpc_reflection *made = calloc(1, sizeof(*made));
    if (made == NULL)
        return STATUS_NO_MEMORY;
    made->sets[0] = set;
    made->sets[1] = (struct rpc_descriptor){.data = moebius_proto_grpc_descriptor_set,
                                            .size = moebius_proto_grpc_descriptor_set_size};
    *reflection = made;
    return STATUS_OK;
}

void rpc_reflection_destroy(struct rpc_reflection *reflection) {
    if (reflection == NULL)
        return;
    while (reflection->places != NULL) {
        struct place *next = reflection->places->next;
        free(reflection->places);
        reflection->places = next;
    }
    free(reflection);
}

static void send_error(struct rpc_call *call, reflection_response response, const char *text) {
    Grpc__Reflection__V1__ErrorResponse error = GRPC__REFLECTION__V1__ERROR_RESPONSE__INIT;
    error.error_code = RPC_NOT_FOUND;
    error.error_message.data = (uint8_t *)(uintptr_t)text;
    error.error_message.len = strlen(text);
    response.message_response_case =
        GRPC__REFLECTION__V1__SERVER_REFLECTION_RESPONSE__MESSAGE_RESPONSE_ERROR_RESPONSE;
    response.error_response = &error;
    if (rpc_message_send(call, &response.base) != STATUS_OK)
        rpc_call_finish(call, RPC_RESOURCE_EXHAUSTED, "answers are not read");
}

static void send_file(struct rpc_call *call, reflection_response response,
                      struct rpc_descriptor file) {
    Grpc__Reflection__V1__FileDescriptorResponse files =
        GRPC__REFLECTION__V1__FILE_DESCRIPTOR_RESPONSE__INIT;
    ProtobufCBinaryData bytes = {.data = (uint8_t *)(uintptr_t)file.data, .len = file.size};
    files.file_descriptor_proto = &bytes;
    files.n_file_descriptor_proto = 1;
    response.message_response_case =
        GRPC__REFLECTION__V1__SERVER_REFLECTION_RESPONSE__MESSAGE_RESPONSE_FILE_DESCRIPTOR_RESPONSE;
    response.file_descriptor_response = &files;
    if (rpc_message_send(call, &response.base) != STATUS_OK)
        rpc_call_finish(call, RPC_RESOURCE_EXHAUSTED, "answers are not read");
}

/* The length of the service's name in a method's path, "/package.Service/Method". */
static size_t service_length(const char *path) {
    return strcspn(path + 1, "/");
}

static bool is_new_service(const struct rpc_server *server, size_t index) {
    if (index == 0)
        return true;
    const char *path = rpc_server_method(server, index)->path;
    const char *before = rpc_server_method(server, index - 1)->path; /* they are sorted */
    return strncmp(path, before, service_length(path) + 2) != 0;
}

static void send_services(struct rpc_call *call, const struct rpc_server *server,
                          reflection_response response) {
    size_t count = 0;
    while (rpc_server_method(server, count) != NULL)
        count++;
    struct rpc_arena *arena = rpc_call_arena(call);
    Grpc__Reflection__V1__ServiceResponse *services =
        rpc_arena_take(arena, count * sizeof(*services));
    Grpc__Reflection__V1__ServiceResponse **list = rpc_arena_take(arena, count * sizeof(*list));
    if (services == NULL || list == NULL) {
        rpc_call_finish(call, RPC_RESOURCE_EXHAUSTED, "no memory");
        return;
    }
    Grpc__Reflection__V1__ListServiceResponse answer =
        GRPC__REFLECTION__V1__LIST_SERVICE_RESPONSE__INIT;
    for (size_t i = 0; i < count; i++) {
        if (!is_new_service(server, i))
            continue;
        const char *path = rpc_server_method(server, i)->path;
        grpc__reflection__v1__service_response__init(&services[answer.n_service]);
        services[answer.n_service].name.data = (uint8_t *)(uintptr_t)(path + 1);
        services[answer.n_service].name.len = service_length(path);
        list[answer.n_service] = &services[answer.n_service];
        answer.n_service++;
    }
    answer.service = list;
    response.message_response_case =
        GRPC__REFLECTION__V1__SERVER_REFLECTION_RESPONSE__MESSAGE_RESPONSE_LIST_SERVICES_RESPONSE;
    response.list_services_response = &answer;
    if (rpc_message_send(call, &response.base) != STATUS_OK)
        rpc_call_finish(call, RPC_RESOURCE_EXHAUSTED, "answers are not read");
}

typedef bool find_function(struct rpc_descriptor set, struct rpc_descriptor name,
                           struct rpc_descriptor *file);

static void answer_file(const struct rpc_reflection *reflection, struct rpc_call *call,
                        reflection_response response, find_function *find,
                        ProtobufCBinaryData name) {
    struct rpc_descriptor wanted = {.data = name.data, .size = name.len};
    struct rpc_descriptor file;
    for (int i = 0; i < SETS; i++) {
        if (find(reflection->sets[i], wanted, &file)) {
            send_file(call, response, file);
            return;
        }
    }
    send_error(call, response, "not found");
}

static void answer(void *context, struct rpc_call *call, const uint8_t *data, size_t size) {
    const struct place *place = context;
    const reflection_request *request = (const void *)rpc_message_unpack(
        call, &grpc__reflection__v1__server_reflection_request__descriptor, data, size);
    if (request == NULL)
        return;
    reflection_response response = GRPC__REFLECTION__V1__SERVER_REFLECTION_RESPONSE__INIT;
    response.valid_host = request->host;
    response.original_request = (reflection_request *)(uintptr_t)request;
    if (request->message_request_case ==
        GRPC__REFLECTION__V1__SERVER_REFLECTION_REQUEST__MESSAGE_REQUEST_LIST_SERVICES)
        send_services(call, place->server, response);
    else if (request->message_request_case ==
             GRPC__REFLECTION__V1__SERVER_REFLECTION_REQUEST__MESSAGE_REQUEST_FILE_BY_FILENAME)
        answer_file(place->reflection, call, response, rpc_descriptor_find_file,
                    request->file_by_filename);
    else if (
        request->message_request_case ==
        GRPC__REFLECTION__V1__SERVER_REFLECTION_REQUEST__MESSAGE_REQUEST_FILE_CONTAINING_SYMBOL)
        answer_file(place->reflection, call, response, rpc_descriptor_find_symbol,
                    request->file_containing_symbol);
    else
        send_error(call, response, "there are no extensions");
}

static void end(void *context, struct rpc_call *call) {
    (void)context;
    rpc_call_finish(call, RPC_OK, NULL);
}

enum status rpc_reflection_register(struct rpc_reflection *reflection, struct rpc_server *server) {
    struct place *place = calloc(1, sizeof(*place));
    if (place == NULL)
        return STATUS_NO_MEMORY;
    *place = (struct place){.next = reflection->places, .reflection = reflection, .server = server};
    reflection->places = place;
    const struct rpc_method methods[] = {
        {.path = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
         .streams_requests = true,
         .context = place,
         .on_message = answer,
         .on_end = end},
        {.path = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
         .streams_requests = true,
         .context = place,
         .on_message = answer,
         .on_end = end},
    };
    return rpc_server_register(server, methods, sizeof(methods) / sizeof(methods[0]));
}
