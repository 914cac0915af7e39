/* runtime/memory_plan.c: sizes as people write them, a plan whose lines add up, and a model that
 * does not fit is refused with what it needs and what there is. */
#define _XOPEN_SOURCE 700

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/memory_plan.h"
#include "tests/unit/unit_test.h"

#include "tests/unit/scratch.h"

#define MIB (INT64_C(1) << 20)

struct size_case {
    int64_t bytes;
    const char *text;
};

static void sizes(void **state) {
    (void)state;
    static const struct size_case cases[] = {
        {0, "0 B"},
        {1023, "1023 B"},
        {1024, "1.0 KiB"},
        {1536, "1.5 KiB"},
        {100 * 1024, "100 KiB"},
        {MIB - 1, "1024 KiB"},
        {MIB * 112 / 10, "11.2 MiB"},
        {MIB * 1024, "1.0 GiB"},
        {MIB * 1024 * 1024 * 3 / 2, "1.5 TiB"},
        {INT64_MAX, "8388608 TiB"},
    };
    char text[32];
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        assert_string_equal(memory_plan_format(cases[i].bytes, text, sizeof text), cases[i].text);
    char small[4];
    assert_string_equal(memory_plan_format(INT64_MAX, small, sizeof small), "838");
}

/* Not more than the machine has; how much less is the business of everybody on it. */
static void available_is_of_this_machine(void **state) {
    (void)state;
    int64_t pages = sysconf(_SC_PHYS_PAGES), page_bytes = sysconf(_SC_PAGESIZE);
    assert_true(pages > 0 && page_bytes > 0);
    int64_t available = memory_plan_available();
    if (available <= 0 || available > pages * page_bytes)
        fail_msg("%" PRId64 " bytes available, %" PRId64 " pages", available, pages);
}

static struct model_memory example(void) {
    struct model_memory memory = {.weights = {.embedding = 1 * MIB,
                                              .output = 2 * MIB,
                                              .attention = 3 * MIB,
                                              .experts = 40 * MIB,
                                              .router = 5 * 1024,
                                              .norms = 600,
                                              .total = 46 * MIB},
                                  .kv_bytes = 7 * MIB,
                                  .workspace_bytes = 8 * MIB,
                                  .step_bytes = 4 * MIB};
    memory.total = 65 * MIB;
    return memory;
}

static void prints_its_kinds(void **state) {
    (void)state;
    struct model_memory memory = example();
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    assert_non_null(out);
    memory_plan_print(out, &memory, 4096);
    assert_int_equal(fclose(out), 0);
    static const char *const lines[] = {
        "  embedding             1.0 MiB\n", "  output                2.0 MiB\n",
        "  attention             3.0 MiB\n", "  experts              40.0 MiB\n",
        "  router                5.0 KiB\n", "  norms, biases           600 B\n",
        "  KV cache              7.0 MiB\n", "  activations           8.0 MiB\n",
        "  step buffers          4.0 MiB\n", "  total                65.0 MiB of ",
        "the KV cache holds 4096 tokens\n"};
    for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++)
        if (strstr(text, lines[i]) == NULL)
            fail_msg("no \"%s\" in %s", lines[i], text);
    assert_null(strstr(text, "shared expert")); /* what is not there is not printed */
    assert_null(strstr(text, "dense MLP"));
    free(text);
}

static void fits_or_is_refused(void **state) {
    (void)state;
    struct model_memory memory = example();
    struct capture capture;
    capture_begin(&capture);
    enum status status = memory_plan_check(&memory, 4096, 1);
    capture_end(&capture);
    assert_int_equal(status, STATUS_OK);
    assert_int_equal(capture_lines(&capture), 1);
    capture_has(&capture, "plan",
                "weights 46.0 MiB, KV cache 7.0 MiB (4096 tokens), activations "
                "and step buffers 12.0 MiB; total 65.0 MiB of ");
    memory.total = INT64_MAX / 2;
    capture_begin(&capture);
    status = memory_plan_check(&memory, 4096, 1);
    capture_end(&capture);
    assert_int_equal(status, STATUS_NO_MEMORY);
    assert_int_equal(capture_lines(&capture), 2);
    capture_has(&capture, "refusal", "memory plan: expected at most ");
    capture_has(&capture, "refusal", "got 4194304 TiB");
    capture_has(&capture, "refusal", "--max-model-len");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sizes), cmocka_unit_test(available_is_of_this_machine),
        cmocka_unit_test(prints_its_kinds), cmocka_unit_test(fits_or_is_refused)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
