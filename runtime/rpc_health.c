/* The health service: the server's parts say whether they serve, load balancers and probes ask or
 * watch. A watcher that reads slowly gets the newest state, not every one in between. */
#include "runtime/rpc_health.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/grpc/health/v1/health.pb-c.h"
#include "runtime/rpc_message.h"
#include "runtime/rpc_server.h"

#define SERVICES_MAX 16
#define NAME_SIZE 128

typedef Grpc__Health__V1__HealthCheckResponse__ServingStatus serving_status;
#define SERVING GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__SERVING_STATUS__SERVING
#define NOT_SERVING GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__SERVING_STATUS__NOT_SERVING
#define SERVICE_UNKNOWN GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__SERVING_STATUS__SERVICE_UNKNOWN

struct watcher {
    struct watcher *next, *previous;
    struct rpc_call *call;
    char name[NAME_SIZE];
    serving_status told;
};

struct rpc_health {
    struct service {
        char name[NAME_SIZE];
        bool is_serving;
    } services[SERVICES_MAX];
    int32_t service_count;
    struct watcher *watchers;
};

enum status rpc_health_create(struct rpc_health **health) {
    struct rpc_health *made = calloc(1, sizeof(*made));
    if (made == NULL)
        return STATUS_NO_MEMORY;
    *health = made;
    return STATUS_OK;
}

static void free_watcher(struct rpc_health *health, struct watcher *watcher) {
    if (watcher->previous != NULL)
        watcher->previous->next = watcher->next;
    else
        health->watchers = watcher->next;
    if (watcher->next != NULL)
        watcher->next->previous = watcher->previous;
    free(watcher);
}

void rpc_health_destroy(struct rpc_health *health) {
    free(health); /* the servers have ended, and with them all watchers */
}

static serving_status status_of(const struct rpc_health *health, const char *name) {
    for (int32_t i = 0; i < health->service_count; i++)
        if (strcmp(health->services[i].name, name) == 0)
            return health->services[i].is_serving ? SERVING : NOT_SERVING;
    return SERVICE_UNKNOWN;
}

/* Tells a watcher what it does not know yet; a full queue asks again by on_writable. */
static void tell(struct rpc_health *health, struct watcher *watcher) {
    Grpc__Health__V1__HealthCheckResponse answer = GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__INIT;
    answer.status = status_of(health, watcher->name);
    if (answer.status == watcher->told)
        return;
    if (rpc_message_send(watcher->call, &answer.base) == STATUS_OK)
        watcher->told = answer.status;
}

enum status rpc_health_set(struct rpc_health *health, const char *service, bool is_serving) {
    int32_t index = 0;
    while (index < health->service_count && strcmp(health->services[index].name, service) != 0)
        index++;
    if (index == SERVICES_MAX || strlen(service) >= NAME_SIZE)
        return STATUS_LIMIT;
    if (index == health->service_count) {
        snprintf(health->services[index].name, NAME_SIZE, "%s", service);
        health->service_count++;
    }
    health->services[index].is_serving = is_serving;
    for (struct watcher *watcher = health->watchers; watcher != NULL; watcher = watcher->next)
        tell(health, watcher);
    return STATUS_OK;
}

/* The name that a request asks for; false: the call has been finished. */
static bool read_name(struct rpc_call *call, const uint8_t *data, size_t size,
                      char name[NAME_SIZE]) {
    const Grpc__Health__V1__HealthCheckRequest *request = (const void *)rpc_message_unpack(
        call, &grpc__health__v1__health_check_request__descriptor, data, size);
    if (request == NULL)
        return false;
    size_t length = request->service.len;
    if (length >= NAME_SIZE || (length > 0 && memchr(request->service.data, 0, length) != NULL)) {
        rpc_call_finish(call, RPC_NOT_FOUND, "no such service");
        return false;
    }
    if (length > 0)
        memcpy(name, request->service.data, length);
    name[length] = 0;
    return true;
}

static void check(void *context, struct rpc_call *call, const uint8_t *data, size_t size) {
    char name[NAME_SIZE];
    if (!read_name(call, data, size, name))
        return;
    Grpc__Health__V1__HealthCheckResponse answer = GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__INIT;
    answer.status = status_of(context, name);
    if (answer.status == SERVICE_UNKNOWN)
        rpc_call_finish(call, RPC_NOT_FOUND, "no such service");
    else
        rpc_message_reply(call, &answer.base);
}

static void watch(void *context, struct rpc_call *call, const uint8_t *data, size_t size) {
    struct rpc_health *health = context;
    char name[NAME_SIZE];
    if (!read_name(call, data, size, name))
        return;
    struct watcher *watcher = calloc(1, sizeof(*watcher));
    if (watcher == NULL) {
        rpc_call_finish(call, RPC_RESOURCE_EXHAUSTED, "no memory");
        return;
    }
    memcpy(watcher->name, name, NAME_SIZE);
    watcher->call = call;
    watcher->next = health->watchers;
    if (watcher->next != NULL)
        watcher->next->previous = watcher;
    health->watchers = watcher;
    rpc_call_set_data(call, watcher);
    tell(health, watcher); /* told is UNKNOWN, which is never a state: so this tells */
}

static void stop_watching(void *context, struct rpc_call *call, enum rpc_code reason) {
    (void)reason;
    if (rpc_call_data(call) != NULL)
        free_watcher(context, rpc_call_data(call));
}

static void tell_newest(void *context, struct rpc_call *call) {
    tell(context, rpc_call_data(call));
}

enum status rpc_health_register(struct rpc_health *health, struct rpc_server *server) {
    const struct rpc_method methods[] = {
        {.path = "/grpc.health.v1.Health/Check",
         .is_open = true,
         .context = health,
         .on_message = check},
        {.path = "/grpc.health.v1.Health/Watch",
         .is_open = true,
         .context = health,
         .on_message = watch,
         .on_cancel = stop_watching,
         .on_writable = tell_newest},
    };
    return rpc_server_register(server, methods, sizeof(methods) / sizeof(methods[0]));
}
