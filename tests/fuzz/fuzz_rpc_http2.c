/* Any bytes of a client behind the connection preface, against a session with the interop, health
 * and reflection services. The first byte of the input says in which pieces the rest comes.
 * Whatever comes: no crash, what is sent stays in proportion, and nothing is left behind. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/base/check.h"
#include "proto/moebius_proto_testing_descriptor_set.h"
#include "runtime/rpc_door.h"
#include "runtime/rpc_health.h"
#include "runtime/rpc_http2.h"
#include "runtime/rpc_reflection.h"
#include "runtime/rpc_server.h"
#include "tests/rpc/interop_service.h"

#define FRAME_HEAD 9
#define PAYLOAD_MAX 4096
#define OUTPUT_MAX (64 << 20)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t size_max, unsigned seed);
size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t size_max);

static size_t payload_size(const uint8_t *frame) {
    return (size_t)frame[0] << 16 | (size_t)frame[1] << 8 | frame[2];
}

/* The `index`-th whole frame of data; 0: there are fewer (byte 0 is no frame). */
static size_t find_frame(const uint8_t *data, size_t size, unsigned index) {
    size_t at = 1;
    while (size >= FRAME_HEAD && at <= size - FRAME_HEAD) {
        size_t next = at + FRAME_HEAD + payload_size(data + at);
        if (next > size)
            return 0;
        if (index-- == 0)
            return at;
        at = next;
    }
    return 0;
}

/* Blind changes break a frame's length first and get no further: so most of the time one frame's
 * payload is changed, and its length made to fit. */
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t size_max, unsigned seed) {
    size_t at = seed % 4 == 0 ? 0 : find_frame(data, size, (seed >> 8) % 8);
    if (at == 0)
        return LLVMFuzzerMutate(data, size, size_max);
    size_t old = payload_size(data + at);
    size_t rest = size - at - FRAME_HEAD - old;
    size_t room = size_max - at - FRAME_HEAD - rest;
    uint8_t payload[PAYLOAD_MAX];
    if (old > PAYLOAD_MAX || room == 0)
        return LLVMFuzzerMutate(data, size, size_max);
    memcpy(payload, data + at + FRAME_HEAD, old);
    size_t changed = LLVMFuzzerMutate(payload, old, room < PAYLOAD_MAX ? room : PAYLOAD_MAX);
    memmove(data + at + FRAME_HEAD + changed, data + at + FRAME_HEAD + old, rest);
    memcpy(data + at + FRAME_HEAD, payload, changed);
    data[at] = (uint8_t)(changed >> 16);
    data[at + 1] = (uint8_t)(changed >> 8);
    data[at + 2] = (uint8_t)changed;
    return at + FRAME_HEAD + changed + rest;
}

struct stage {
    struct rpc_loop *loop;
    struct rpc_server *server;
    struct rpc_health *health;
    struct rpc_reflection *reflection;
    struct interop_service service;
};

static void raise_stage(struct stage *stage) {
    struct rpc_server_options options;
    rpc_server_options_default(&options);
    options.message_bytes_max = 64 << 10;
    options.arena_bytes_max = 1 << 20;
    options.queue_bytes_max = 32 << 10;
    options.streams_max = 16;
    ASSERT(rpc_loop_create(&stage->loop) == STATUS_OK);
    ASSERT(rpc_server_create(stage->loop, &options, &stage->server) == STATUS_OK);
    stage->service.loop = stage->loop;
    stage->service.answer_bytes_max = 64 << 10;
    ASSERT(interop_service_register(&stage->service, stage->server) == STATUS_OK);
    ASSERT(rpc_health_create(&stage->health) == STATUS_OK);
    ASSERT(rpc_health_register(stage->health, stage->server) == STATUS_OK);
    ASSERT(rpc_health_set(stage->health, "", true) == STATUS_OK);
    ASSERT(rpc_reflection_create(moebius_proto_testing_descriptor_set,
                                 moebius_proto_testing_descriptor_set_size,
                                 &stage->reflection) == STATUS_OK);
    ASSERT(rpc_reflection_register(stage->reflection, stage->server) == STATUS_OK);
}

static void strike_stage(struct stage *stage) {
    rpc_server_destroy(stage->server);
    rpc_health_destroy(stage->health);
    rpc_reflection_destroy(stage->reflection);
    rpc_loop_destroy(stage->loop);
}

static void note_output(void *context) {
    (void)context;
}

/* Takes all that is to be sent, as a client that reads everything; returns its size. */
static size_t take_output(struct stage *stage, struct rpc_http2 *session) {
    size_t total = 0;
    for (int turn = 0; turn < 3; turn++) {
        const uint8_t *data;
        for (size_t size; (size = rpc_http2_output(session, &data)) > 0; total += size)
            ASSERT(data != NULL && total < OUTPUT_MAX);
        ASSERT(rpc_loop_turn(stage->loop, 0) == STATUS_OK);
    }
    return total;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const char preface[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    if (size == 0)
        return 0;
    struct stage stage = {0};
    raise_stage(&stage);
    struct rpc_door *door = rpc_server_door(stage.server);
    struct rpc_http2 *session = NULL;
    ASSERT(rpc_http2_create(door, "unix:", note_output, NULL, &session) == STATUS_OK);
    bool goes_on = rpc_http2_receive(session, (const uint8_t *)preface, sizeof(preface) - 1);
    size_t piece = data[0] % 16 == 0 ? size : data[0];
    for (size_t at = 1; at < size && goes_on && !rpc_http2_is_done(session); at += piece) {
        size_t count = size - at < piece ? size - at : piece;
        goes_on = rpc_http2_receive(session, data + at, count);
        take_output(&stage, session);
    }
    if (data[0] % 3 == 0)
        rpc_http2_drain(session);
    take_output(&stage, session);
    rpc_http2_destroy(session);
    ASSERT(door->stats.calls == 0 && door->buffered_bytes == 0);
    ASSERT(stage.service.begun == stage.service.cancelled + stage.service.finished);
    strike_stage(&stage);
    return 0;
}
