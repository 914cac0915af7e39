/* runtime/placement_file: both forms of a layer, and every broken file refused with one line that
 * names file, layer, rank, expected and got. */
#define _GNU_SOURCE
#include "runtime/placement_file.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "kernels/base/log.h"
#include "tests/support/log_capture.h"
#include "tests/unit/unit_test.h"

#define HEAD "{\"num_ranks\":2,\"num_logical_experts\":4,\"layers\":["
#define LISTS "{\"rank_experts\":[[0,1],[2,3]]}"
#define TWO LISTS "," LISTS "]}"

static char path[] = "/tmp/moebius-placement-XXXXXX";

static enum status load_text(const char *text, struct placement **placement) {
    FILE *file = fopen(path, "we");
    assert_non_null(file);
    assert_true(fputs(text, file) >= 0 && fclose(file) == 0);
    struct placement_need need = {.layers = 2, .experts = 4, .ranks = 2};
    return placement_file_load(path, &need, placement);
}

static void expect_layer(const struct placement_layer *layer, const int32_t *first,
                         const int32_t *experts, size_t count) {
    assert_memory_equal(layer->first_slot, first, 3 * sizeof *first);
    assert_memory_equal(layer->expert_of, experts, count * sizeof *experts);
}

static void both_forms_are_read(void **state) {
    (void)state;
    struct placement *placement = NULL, *dealt = NULL;
    assert_int_equal(
        load_text(HEAD "{\"physical_to_logical\":[0,3,1,2,0],\"physical_rank\":[0,1,0,1,1]},"
                       "{\"rank_experts\":[[3,0,1,2],[]]}],\"note\":\"any\"}",
                  &placement),
        STATUS_OK);
    const int32_t first[3] = {0, 2, 5}, experts[5] = {0, 1, 0, 2, 3};
    const int32_t all_first[3] = {0, 4, 4}, all[4] = {0, 1, 2, 3};
    expect_layer(&placement->layer[0], first, experts, 5);
    expect_layer(&placement->layer[1], all_first, all, 4);
    /* Without physical_rank: equal shares in order. */
    assert_int_equal(load_text(HEAD "{\"physical_to_logical\":[3,0,1,2,0,1]}," LISTS "]}", &dealt),
                     STATUS_OK);
    const int32_t dealt_first[3] = {0, 3, 6}, dealt_experts[6] = {0, 1, 3, 0, 1, 2};
    expect_layer(&dealt->layer[0], dealt_first, dealt_experts, 6);
    assert_true(placement_hash(placement) != placement_hash(dealt));
    placement_destroy(placement);
    placement_destroy(dealt);
}

/* The same experts on the same ranks, said in two ways. */
static void the_hash_is_of_the_placement(void **state) {
    (void)state;
    struct placement *a = NULL, *b = NULL;
    assert_int_equal(load_text(HEAD TWO, &a), STATUS_OK);
    assert_int_equal(load_text(HEAD "{\"rank_experts\":[[1,0],[3,2]]},"
                                    "{\"physical_to_logical\":[0,1,2,3]}]}",
                               &b),
                     STATUS_OK);
    assert_true(placement_hash(a) == placement_hash(b));
    placement_destroy(a);
    placement_destroy(b);
}

static const struct {
    const char *text, *named; /* what the line must hold */
} broken[] = {
    {"", "expected"},
    {"[]", "object"},
    {"{\"num_ranks\":2,", "expected"},
    {"{}", "num_ranks: expected 2, got nothing"},
    {"{\"num_ranks\":4,\"num_logical_experts\":4,\"layers\":[]}", "num_ranks: expected 2, got 4"},
    {"{\"num_ranks\":\"2\"}", "num_ranks: expected 2, got a string"},
    {"{\"num_ranks\":2,\"num_logical_experts\":8,\"layers\":[]}",
     "num_logical_experts: expected 4, got 8"},
    {"{\"num_ranks\":2,\"num_logical_experts\":4}", "layers: expected a list of 2"},
    {HEAD LISTS "]}", "layers: expected a list of 2, one for each MoE layer, got an array of 1"},
    {HEAD LISTS "," TWO, "got an array of 3"},
    {HEAD LISTS ",7]}", "layer 1: expected an object, got 7"},
    {HEAD LISTS ",{}]}", "layer 1: expected physical_to_logical with or without"},
    {HEAD "{\"rank_experts\":[[0,1],[2,3]],\"physical_rank\":[0]}," LISTS "]}",
     "layer 0: expected"},
    {HEAD "{\"physical_to_logical\":[0,1,2,3],\"physical_ranks\":[0,0,1,1]}," LISTS "]}",
     "layer 0: expected physical_to_logical with or without physical_rank"},
    {HEAD "{\"physical_to_logical\":5}," LISTS "]}",
     "layer 0: expected physical_to_logical to be a list, got 5"},
    {HEAD "{\"physical_to_logical\":[0,1,2,3,0]}," LISTS "]}",
     "layer 0: expected physical_rank, as 5 physical experts are no equal shares of 2 ranks"},
    {HEAD "{\"physical_to_logical\":[0,1,2,3],\"physical_rank\":[0,0,1]}," LISTS "]}",
     "layer 0: expected physical_rank to be a list of 4"},
    {HEAD "{\"physical_to_logical\":[0,1,2,3],\"physical_rank\":[0,0,1,2]}," LISTS "]}",
     "layer 0: expected physical_rank to name ranks from 0 to 1, got 2"},
    {HEAD "{\"physical_to_logical\":[0,1,2,3],\"physical_rank\":[0,0,1,-1]}," LISTS "]}", "got -1"},
    {HEAD "{\"physical_to_logical\":[0,1,2,3],\"physical_rank\":[0,0,1,0.5]}," LISTS "]}",
     "layer 0: expected physical_rank to name ranks"},
    {HEAD LISTS ",{\"rank_experts\":[[0,1,2,3]]}]}",
     "layer 1: expected rank_experts to be a list of 2, got an array of 1"},
    {HEAD LISTS ",{\"rank_experts\":[[0,1,2,3],null]}]}",
     "layer 1: expected a list of experts of rank 1, got null"},
    {HEAD LISTS ",{\"rank_experts\":[[0,1],[2,4]]}]}",
     "layer 1, rank 1: expected an expert from 0 to 3, got 4"},
    {HEAD LISTS ",{\"rank_experts\":[[0,-1],[2,3]]}]}", "layer 1, rank 0: expected an expert"},
    {HEAD LISTS ",{\"rank_experts\":[[0,true],[2,3]]}]}", "layer 1, rank 0: expected an expert"},
    {HEAD LISTS ",{\"rank_experts\":[[0,1],[2,3,2]]}]}",
     "layer 1, rank 1: expected each expert once on a rank, got 2"},
    {HEAD LISTS ",{\"rank_experts\":[[0,1,1,0,1],[2,3]]}]}",
     "layer 1, rank 0: expected at most the model's 4 experts"},
    {HEAD LISTS ",{\"rank_experts\":[[0,1],[2]]}]}",
     "layer 1: expected expert 3 on some rank, got it on none"},
    {HEAD LISTS ",{\"rank_experts\":[[],[]]}]}", "layer 1: expected expert 0 on some rank"},
};

static void broken_files_are_refused(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof broken / sizeof broken[0]; i++) {
        struct placement *placement = NULL;
        struct log_capture capture;
        char text[2000];
        log_capture_begin(&capture);
        enum status status = load_text(broken[i].text, &placement);
        int lines = log_capture_end(&capture, text, sizeof text);
        if (status != STATUS_BAD_CONFIG || lines != 1 || placement != NULL ||
            strstr(text, path) == NULL || strstr(text, broken[i].named) == NULL)
            fail_msg("%s: status %d, %d lines, expected '%s' in: %s", broken[i].text, (int)status,
                     lines, broken[i].named, text);
    }
}

static void a_missing_file_is_an_io_error(void **state) {
    (void)state;
    struct placement_need need = {.layers = 2, .experts = 4, .ranks = 2};
    struct placement *placement = NULL;
    struct log_capture capture;
    char text[2000];
    log_capture_begin(&capture);
    enum status status = placement_file_load("/nowhere/placement.json", &need, &placement);
    int lines = log_capture_end(&capture, text, sizeof text);
    assert_int_equal(status, STATUS_IO);
    assert_int_equal(lines, 1);
    assert_non_null(strstr(text, "/nowhere/placement.json"));
}

int main(void) {
    int descriptor = mkstemp(path);
    if (descriptor < 0)
        return 1;
    close(descriptor);
    log_setup(LOG_LEVEL_ERROR, 0);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(both_forms_are_read),
        cmocka_unit_test(the_hash_is_of_the_placement),
        cmocka_unit_test(broken_files_are_refused),
        cmocka_unit_test(a_missing_file_is_an_io_error),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    remove(path);
    return failed;
}
