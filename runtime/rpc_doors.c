/* Which services stand behind which door. */
#include "runtime/rpc_doors.h"

#include <stdlib.h>
#include <string.h>

#include "kernels/base/log.h"
#include "proto/moebius_proto_descriptor_set.h"
#include "runtime/rpc_health.h"
#include "runtime/rpc_inference.h"
#include "runtime/rpc_reflection.h"
#include "runtime/rpc_server.h"

struct rpc_doors {
    struct rpc_health *health, *admin_health;
    struct rpc_reflection *reflection;
    struct rpc_admin *admin;
    struct rpc_server *public_server, *admin_server; /* admin: NULL: none */
};

/* What every door has. A Unix socket is guarded by its file's mode: it needs no TLS and no keys. */
static enum status make_server(struct rpc_doors *doors, const struct rpc_doors_options *options,
                               struct rpc_socket_bound *bound, const struct rpc_keys *keys,
                               struct rpc_health *health, int32_t connections_max,
                               struct rpc_server **server) {
    bool is_unix = strncmp(bound->address, "unix:", 5) == 0;
    struct rpc_server_options server_options;
    rpc_server_options_default(&server_options);
    server_options.connections_max = connections_max;
    server_options.tls = is_unix ? NULL : options->tls;
    server_options.keys = is_unix ? NULL : keys;
    RETURN_IF_ERROR(rpc_server_create(options->loop, &server_options, server));
    RETURN_IF_ERROR(rpc_health_register(health, *server));
    RETURN_IF_ERROR(rpc_reflection_register(doors->reflection, *server));
    return rpc_server_listen_bound(*server, bound);
}

static enum status open_public(struct rpc_doors *doors, const struct rpc_doors_options *options) {
    RETURN_IF_ERROR(rpc_health_create(&doors->health));
    RETURN_IF_ERROR(make_server(doors, options, options->bound, options->keys, doors->health,
                                options->connections_max, &doors->public_server));
    return rpc_inference_register(options->service, doors->public_server);
}

static enum status open_admin(struct rpc_doors *doors, const struct rpc_doors_options *options) {
    struct rpc_admin_options admin = options->admin;
    admin.loop = options->loop;
    admin.service = options->service;
    const struct rpc_keys *keys = options->admin_keys != NULL ? options->admin_keys : options->keys;
    RETURN_IF_ERROR(rpc_admin_create(&admin, &doors->admin));
    RETURN_IF_ERROR(rpc_health_create(&doors->admin_health));
    RETURN_IF_ERROR(make_server(doors, options, options->admin_bound, keys, doors->admin_health,
                                options->admin_connections_max, &doors->admin_server));
    RETURN_IF_ERROR(rpc_health_set(doors->admin_health, "moebius.v1.Admin", true));
    return rpc_admin_register(doors->admin, doors->admin_server);
}

static enum status open_all(struct rpc_doors *doors, const struct rpc_doors_options *options) {
    RETURN_IF_ERROR(rpc_reflection_create(moebius_proto_descriptor_set,
                                          moebius_proto_descriptor_set_size, &doors->reflection));
    RETURN_IF_ERROR(open_public(doors, options));
    return options->admin_bound->is_bound ? open_admin(doors, options) : STATUS_OK;
}

enum status rpc_doors_create(const struct rpc_doors_options *options, struct rpc_doors **out) {
    struct rpc_doors *doors = calloc(1, sizeof *doors);
    if (doors == NULL) {
        LOG_ERROR("rpc: cannot take memory for the doors");
        return STATUS_NO_MEMORY;
    }
    enum status status = open_all(doors, options);
    if (status != STATUS_OK) {
        rpc_doors_destroy(doors);
        return status;
    }
    *out = doors;
    return STATUS_OK;
}

void rpc_doors_destroy(struct rpc_doors *doors) {
    if (doors == NULL)
        return;
    rpc_server_destroy(doors->admin_server);
    rpc_server_destroy(doors->public_server);
    rpc_admin_destroy(doors->admin);
    rpc_reflection_destroy(doors->reflection);
    rpc_health_destroy(doors->admin_health);
    rpc_health_destroy(doors->health);
    free(doors);
}

static void tell(struct rpc_health *health, bool is_serving) {
    static const char *const services[] = {"", "moebius.v1.Inference"};
    for (size_t i = 0; i < sizeof services / sizeof services[0]; i++)
        if (rpc_health_set(health, services[i], is_serving) != STATUS_OK)
            LOG_WARN("health: the state of '%s' could not be told", services[i]);
}

void rpc_doors_set_serving(struct rpc_doors *doors, bool is_serving) {
    tell(doors->health, is_serving);
    if (doors->admin_health != NULL)
        tell(doors->admin_health, is_serving);
}

void rpc_doors_drain(struct rpc_doors *doors) {
    rpc_server_drain(doors->public_server);
    if (doors->admin_server != NULL)
        rpc_server_drain(doors->admin_server);
}

bool rpc_doors_is_idle(const struct rpc_doors *doors) {
    return rpc_server_is_idle(doors->public_server) &&
           (doors->admin_server == NULL || rpc_server_is_idle(doors->admin_server));
}
