/* The small parts of the gRPC layer: buffers, message prefixes, header texts, keys, the arena,
 * descriptors, addresses. */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "proto/moebius_proto_grpc_descriptor_set.h"
#include "runtime/rpc_arena.h"
#include "runtime/rpc_buffer.h"
#include "runtime/rpc_code.h"
#include "runtime/rpc_deframer.h"
#include "runtime/rpc_descriptor.h"
#include "runtime/rpc_keys.h"
#include "runtime/rpc_text.h"

/* A queue against a plain array, over a long random history. */
static void test_buffer_is_a_queue(void **state) {
    (void)state;
    struct rpc_buffer buffer = {0};
    uint32_t random = 1;
    uint8_t next_in = 0, next_out = 0;
    size_t size = 0;
    for (int i = 0; i < 20000; i++) {
        random = random * 1664525 + 1013904223;
        size_t count = (random >> 16) % 700;
        if ((random >> 30) != 0) {
            uint8_t *room;
            assert_int_equal(rpc_buffer_extend(&buffer, count, &room), STATUS_OK);
            for (size_t k = 0; k < count; k++)
                room[k] = next_in++;
            size += count;
        } else {
            count = count * 3 < size ? count * 3 : size;
            for (size_t k = 0; k < count; k++)
                assert_int_equal(rpc_buffer_head(&buffer)[k], next_out++);
            rpc_buffer_consume(&buffer, count);
            size -= count;
        }
        assert_int_equal(rpc_buffer_size(&buffer), size);
    }
    rpc_buffer_consume(&buffer, size);
    assert_int_equal(rpc_buffer_size(&buffer), 0);
    rpc_buffer_deinit(&buffer);
}

/* Three messages, cut into pieces of every size: always the same messages. */
static void test_deframer_in_all_pieces(void **state) {
    (void)state;
    static const size_t sizes[] = {300, 0, 7};
    uint8_t stream[400];
    size_t total = 0;
    for (int i = 0; i < 3; i++) {
        rpc_deframer_write_prefix(sizes[i], stream + total);
        total += RPC_DEFRAMER_PREFIX_BYTES;
        memset(stream + total, 'a' + i, sizes[i]);
        total += sizes[i];
    }
    for (size_t piece = 1; piece <= total; piece++) {
        struct rpc_deframer deframer = {.bytes_max = 300};
        int count = 0;
        for (size_t from = 0; from < total; from += piece) {
            size_t size = total - from < piece ? total - from : piece;
            size_t at = 0;
            const uint8_t *message;
            size_t message_size;
            enum rpc_deframer_event event;
            while ((event = rpc_deframer_next(&deframer, stream + from, size, &at, &message,
                                              &message_size)) == RPC_DEFRAMER_MESSAGE) {
                assert_true(count < 3);
                assert_int_equal(message_size, sizes[count]);
                for (size_t k = 0; k < message_size; k++)
                    assert_int_equal(message[k], 'a' + count);
                count++;
            }
            assert_int_equal(event, RPC_DEFRAMER_MORE);
        }
        assert_int_equal(count, 3);
        assert_int_equal(rpc_deframer_held(&deframer), 0);
        rpc_deframer_deinit(&deframer);
    }
}

static enum rpc_deframer_event deframe(const uint8_t *data, size_t size, size_t *held) {
    struct rpc_deframer deframer = {.bytes_max = 1000};
    size_t at = 0;
    const uint8_t *message;
    size_t message_size;
    enum rpc_deframer_event event =
        rpc_deframer_next(&deframer, data, size, &at, &message, &message_size);
    *held = deframer.body.capacity;
    rpc_deframer_deinit(&deframer);
    return event;
}

static void test_deframer_refuses(void **state) {
    (void)state;
    size_t held;
    assert_int_equal(deframe((const uint8_t[]){0, 0, 0, 3, 0xe9}, 5, &held),
                     RPC_DEFRAMER_TOO_LARGE);
    assert_int_equal(deframe((const uint8_t[]){0, 0xff, 0xff, 0xff, 0xff}, 5, &held),
                     RPC_DEFRAMER_TOO_LARGE);
    assert_int_equal(deframe((const uint8_t[]){1, 0, 0, 0, 1}, 5, &held), RPC_DEFRAMER_COMPRESSED);
    assert_int_equal(deframe((const uint8_t[]){2, 0, 0, 0, 1}, 5, &held), RPC_DEFRAMER_BAD_FLAG);
    /* A claim of 1000 bytes takes no 1000 bytes. */
    assert_int_equal(deframe((const uint8_t[]){0, 0, 0, 3, 0xe8, 'x'}, 6, &held),
                     RPC_DEFRAMER_MORE);
    assert_in_range(held, 1, 999);
}

static void test_messages_are_percent_encoded(void **state) {
    (void)state;
    char out[64];
    rpc_text_encode_message("a b%c\n\xe2\x98\xba", out, sizeof(out));
    assert_string_equal(out, "a b%25c%0A%E2%98%BA");
    rpc_text_decode_message(out);
    assert_string_equal(out, "a b%c\n\xe2\x98\xba");
    /* Cut to fit: never inside a character. */
    assert_int_equal(rpc_text_encode_message("ab\xe2\x98\xba", out, 9), 2);
    assert_string_equal(out, "ab");
    assert_int_equal(rpc_text_encode_message("ab\xe2\x98\xba", out, 12), 11);
    char broken[] = "100% %4 %zz %41";
    rpc_text_decode_message(broken);
    assert_string_equal(broken, "100% %4 %zz A");
}

static void test_timeouts(void **state) {
    (void)state;
    int64_t ns;
    static const struct {
        const char *text;
        int64_t ns;
    } good[] = {{"1n", 1},
                {"20u", 20000},
                {"100m", 100000000},
                {"3S", INT64_C(3000000000)},
                {"2M", INT64_C(120000000000)},
                {"1H", INT64_C(3600000000000)},
                {"99999999H", INT64_MAX / 2},
                {"00000000n", 0}};
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        assert_true(rpc_text_parse_timeout(good[i].text, &ns));
        assert_true(ns == good[i].ns);
    }
    static const char *const bad[] = {"",           "1",   "m",   "-1m", "1.5S",
                                      "100000000m", "1mm", "1 m", "1h"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_false(rpc_text_parse_timeout(bad[i], &ns));
    /* Written and read back: never shorter, at most one unit (of six digits or more) longer. */
    for (int64_t wanted = 1; wanted < INT64_MAX / 16; wanted = wanted * 3 + 1) {
        char text[RPC_TEXT_TIMEOUT_SIZE];
        rpc_text_format_timeout(wanted, text);
        assert_true(rpc_text_parse_timeout(text, &ns));
        assert_true(ns >= wanted && ns - wanted <= wanted / 99999 + 1);
    }
}

static void test_content_types(void **state) {
    (void)state;
    assert_true(rpc_text_is_grpc("application/grpc"));
    assert_true(rpc_text_is_grpc("application/grpc+proto"));
    assert_true(rpc_text_is_grpc("application/grpc;charset=x"));
    assert_false(rpc_text_is_grpc("application/grpc-web"));
    assert_false(rpc_text_is_grpc("application/json"));
    assert_string_equal(rpc_code_name(RPC_NOT_FOUND), "NOT_FOUND");
    assert_string_equal(rpc_code_name((enum rpc_code)99), "UNKNOWN");
}

static enum status load_keys(const char *text, struct rpc_keys **keys) {
    char path[] = "/tmp/moebius-keys-XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    close(fd);
    enum status status = rpc_keys_load(path, keys);
    unlink(path);
    return status;
}

static void test_keys(void **state) {
    (void)state;
    struct rpc_keys *keys = NULL;
    assert_int_equal(load_keys("# ours\n\n  alpha \t\r\nbeta", &keys), STATUS_OK);
    assert_int_equal(rpc_keys_find(keys, "Bearer alpha"), 1);
    assert_int_equal(rpc_keys_find(keys, "bearer   beta"), 2);
    assert_int_equal(rpc_keys_find(keys, "Bearer alph"), 0);
    assert_int_equal(rpc_keys_find(keys, "Bearer alphaa"), 0);
    assert_int_equal(rpc_keys_find(keys, "Bearer "), 0);
    assert_int_equal(rpc_keys_find(keys, "Bearer # ours"), 0);
    assert_int_equal(rpc_keys_find(keys, "Basic alpha"), 0);
    assert_int_equal(rpc_keys_find(keys, NULL), 0);
    rpc_keys_destroy(keys);
    assert_int_equal(load_keys("\n# nothing\n", &keys), STATUS_BAD_CONFIG);
    char long_key[700];
    memset(long_key, 'k', sizeof(long_key));
    long_key[sizeof(long_key) - 1] = 0;
    assert_int_equal(load_keys(long_key, &keys), STATUS_BAD_CONFIG);
    assert_int_equal(rpc_keys_load("/nonexistent/keys", &keys), STATUS_IO);
}

static void test_arena_has_a_cap(void **state) {
    (void)state;
    struct rpc_arena arena;
    rpc_arena_init(&arena, 100000);
    size_t taken = 0;
    for (unsigned char *bytes; (bytes = rpc_arena_take(&arena, 100)) != NULL; taken += 100) {
        for (int i = 0; i < 100; i++)
            assert_int_equal(bytes[i], 0);
        memset(bytes, 0xff, 100);
        assert_int_equal((uintptr_t)bytes % _Alignof(max_align_t), 0);
    }
    assert_true(arena.is_exhausted);
    assert_in_range(taken, 50000, 100000);
    rpc_arena_reset(&arena);
    assert_false(arena.is_exhausted);
    unsigned char *again = rpc_arena_take(&arena, 1000);
    for (int i = 0; i < 1000; i++)
        assert_int_equal(again[i], 0);
    assert_null(rpc_arena_take(&arena, SIZE_MAX));
    rpc_arena_deinit(&arena);
}

static struct rpc_descriptor text_of(const char *text) {
    return (struct rpc_descriptor){.data = (const uint8_t *)text, .size = strlen(text)};
}

static void test_descriptors(void **state) {
    (void)state;
    struct rpc_descriptor set = {.data = moebius_proto_grpc_descriptor_set,
                                 .size = moebius_proto_grpc_descriptor_set_size};
    struct rpc_descriptor file, other;
    assert_true(rpc_descriptor_is_valid(set));
    assert_true(rpc_descriptor_find_file(set, text_of("grpc/health/v1/health.proto"), &file));
    static const char *const declared[] = {"grpc.health.v1.Health", "grpc.health.v1.Health.Watch",
                                           "grpc.health.v1.HealthCheckResponse.ServingStatus",
                                           "grpc.health.v1.HealthCheckResponse.SERVING",
                                           "grpc.health.v1.HealthCheckRequest.service"};
    for (size_t i = 0; i < sizeof(declared) / sizeof(declared[0]); i++) {
        assert_true(rpc_descriptor_find_symbol(set, text_of(declared[i]), &other));
        assert_ptr_equal(other.data, file.data);
    }
    static const char *const unknown[] = {
        "",
        "grpc",
        "grpc.health.v1",
        "grpc.health.v1.",
        "grpc.health.v1.Healthy",
        "grpc.health.v1.Health.Watch.x",
        "grpc.health.v1.HealthCheckResponse.SERVING.x",
        "grpc.health.v1.HealthCheckResponse.ServingStatus.SERVING",
        "Health"};
    for (size_t i = 0; i < sizeof(unknown) / sizeof(unknown[0]); i++)
        assert_false(rpc_descriptor_find_symbol(set, text_of(unknown[i]), &other));
    assert_false(rpc_descriptor_find_file(set, text_of("nothing.proto"), &other));
    set.size--;
    assert_false(rpc_descriptor_is_valid(set));
    assert_false(rpc_descriptor_is_valid(text_of("")));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_buffer_is_a_queue),
        cmocka_unit_test(test_deframer_in_all_pieces),
        cmocka_unit_test(test_deframer_refuses),
        cmocka_unit_test(test_messages_are_percent_encoded),
        cmocka_unit_test(test_timeouts),
        cmocka_unit_test(test_content_types),
        cmocka_unit_test(test_keys),
        cmocka_unit_test(test_arena_has_a_cap),
        cmocka_unit_test(test_descriptors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
