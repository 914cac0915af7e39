/* One rank: there is nobody to exchange with, and nothing may try. */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "comm/transport.h"
#include "kernels/base/check.h"
#include "kernels/base/log.h"

struct transport_self {
    struct transport transport;
    int32_t node;
    char host[1][64];
};

static enum status self_exchange(struct transport *transport, const struct transport_scope *scope,
                                 const struct transport_send *sends, int32_t send_count,
                                 struct transport_receive *receives, int32_t receive_count) {
    (void)transport, (void)scope, (void)sends, (void)receives;
    ASSERT(send_count == 0 && receive_count == 0);
    return STATUS_OK;
}

static enum status self_await(struct transport *transport, const struct transport_scope *scope,
                              struct transport_receive *receive) {
    (void)transport, (void)scope, (void)receive;
    check_failed(__FILE__, __LINE__, __func__, "one rank waits for nobody");
}

static enum status self_reserve(struct transport *transport, int64_t message_bytes) {
    (void)transport, (void)message_bytes; /* there are no messages */
    return STATUS_OK;
}

static void self_destroy(struct transport *transport) {
    free(transport);
}

static const struct transport_ops transport_self_ops = {.name = "self",
                                                        .exchange = self_exchange,
                                                        .await = self_await,
                                                        .reserve = self_reserve,
                                                        .destroy = self_destroy};

enum status transport_self_create(struct transport **transport) {
    struct transport_self *self = calloc(1, sizeof *self);
    if (self == NULL) {
        LOG_ERROR("transport: out of memory");
        return STATUS_NO_MEMORY;
    }
    if (gethostname(self->host[0], sizeof self->host[0] - 1) != 0)
        snprintf(self->host[0], sizeof self->host[0], "localhost");
    self->transport = (struct transport){.ops = &transport_self_ops,
                                         .rank = 0,
                                         .size = 1,
                                         .node_of = &self->node,
                                         .host_of = (const char(*)[64])self->host};
    *transport = &self->transport;
    return STATUS_OK;
}
