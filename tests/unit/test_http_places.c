/* runtime/http_places.c: which connections of the HTTP door give way, and which have had their
 * time. */
#include <sys/socket.h>
#include <unistd.h>

#include "runtime/http_places.h"
#include "tests/unit/unit_test.h"

#define S INT64_C(1000000000)
#define COUNT 4

struct bench {
    struct http_places places;
    struct http_place *place[COUNT];
    int ends[COUNT][2];
};

static void open_one(struct bench *bench, int i, int64_t now_ns) {
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, bench->ends[i]), 0);
    bench->place[i] = http_places_open(&bench->places, bench->ends[i][0], now_ns);
    assert_non_null(bench->place[i]);
}

/* Opens COUNT, one a second from 0 on. */
static void fill(struct bench *bench) {
    *bench = (struct bench){.places = {.taken_max = COUNT,
                                       .limit_ns = {[HTTP_PLACE_NEW] = 10 * S,
                                                    [HTTP_PLACE_KEPT] = 120 * S,
                                                    [HTTP_PLACE_READING] = 60 * S}}};
    for (int i = 0; i < COUNT; i++) {
        assert_true(http_places_admit(&bench->places, i * S));
        open_one(bench, i, i * S);
    }
}

static void empty(struct bench *bench) {
    for (int i = 0; i < COUNT; i++) {
        http_places_close(&bench->places, bench->place[i]);
        close(bench->ends[i][0]);
        close(bench->ends[i][1]);
    }
    assert_int_equal(bench->places.taken, 0);
    assert_null(bench->places.first);
    assert_null(bench->places.last);
}

static bool is_shut(const struct bench *bench, int i) {
    char byte;
    bool is_end = recv(bench->ends[i][1], &byte, 1, MSG_DONTWAIT) == 0;
    assert_int_equal(is_end, bench->place[i]->state == HTTP_PLACE_CLOSING);
    return is_end;
}

static void expect_shut(const struct bench *bench, const char *expected) {
    for (int i = 0; i < COUNT; i++)
        if (is_shut(bench, i) != (expected[i] == 'x'))
            fail_msg("connection %d: expected %s", i, expected[i] == 'x' ? "shut" : "open");
}

static void silent_ones_give_way_first_then_kept_then_new(void **state) {
    (void)state;
    struct bench bench;
    fill(&bench);
    http_places_move(&bench.places, bench.place[0], HTTP_PLACE_KEPT, 0);
    http_places_move(&bench.places, bench.place[3], HTTP_PLACE_READING, 3 * S);
    int64_t now_ns = 3 * S; /* 1 has been silent for 2 s, 2 for no more than 1 s */
    assert_true(http_places_admit(&bench.places, now_ns));
    expect_shut(&bench, ".x..");
    assert_true(http_places_admit(&bench.places, now_ns)); /* its place is free now */
    bench.places.taken_max--;
    assert_true(http_places_admit(&bench.places, now_ns));
    expect_shut(&bench, "xx..");
    bench.places.taken_max--;
    assert_true(http_places_admit(&bench.places, now_ns));
    expect_shut(&bench, "xxx.");
    bench.places.taken_max--;
    assert_false(http_places_admit(&bench.places, now_ns)); /* a request is being read */
    expect_shut(&bench, "xxx.");
    /* What the library still says of those that close changes nothing. */
    http_places_move(&bench.places, bench.place[0], HTTP_PLACE_READING, now_ns);
    assert_int_equal(bench.place[0]->state, HTTP_PLACE_CLOSING);
    assert_int_equal(bench.places.gave_way, 3);
    assert_int_equal(bench.places.refused, 1);
    empty(&bench);
}

static void each_state_has_its_time(void **state) {
    (void)state;
    struct bench bench;
    fill(&bench);
    http_places_move(&bench.places, bench.place[1], HTTP_PLACE_READING, 1 * S);
    http_places_move(&bench.places, bench.place[2], HTTP_PLACE_BUSY, 2 * S);
    http_places_move(&bench.places, bench.place[3], HTTP_PLACE_KEPT, 3 * S);
    http_places_sweep(&bench.places, 10 * S);
    expect_shut(&bench, "....");
    http_places_sweep(&bench.places, 11 * S);
    expect_shut(&bench, "x...");
    http_places_sweep(&bench.places, 62 * S);
    expect_shut(&bench, "xx..");
    http_places_sweep(&bench.places, 124 * S);
    expect_shut(&bench, "xx.x");
    http_places_sweep(&bench.places, 9999 * S); /* an answer takes as long as it takes */
    expect_shut(&bench, "xx.x");
    empty(&bench);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(silent_ones_give_way_first_then_kept_then_new),
        cmocka_unit_test(each_state_has_its_time)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
