/* runtime/rope_table against numbers that were computed elsewhere: transformers' own functions
 * (5.12.1) in f32, and formulas in double written out here. */
#include "runtime/rope_table.h"

#include <math.h>
#include <stdlib.h>

#include "tests/unit/unit_test.h"

static void check_frequencies(const struct rope_spec *spec, const float *want) {
    float got[64];
    rope_table_frequencies(spec, got);
    for (int32_t i = 0; i < spec->rotary_dim / 2; i++)
        if (fabs((double)got[i] / (double)want[i] - 1.0) > 4e-7)
            fail_msg("frequency %d: expected %.9g, got %.9g", (int)i, (double)want[i],
                     (double)got[i]);
}

static void default_frequencies_follow_the_formula(void **state) {
    (void)state;
    static const double thetas[] = {10000.0, 500000.0, 1000000.0};
    for (int t = 0; t < 3; t++) {
        struct rope_spec spec = {
            .theta = thetas[t], .rotary_dim = 128, .factor = 1.0, .attention_factor = 1.0};
        float want[64];
        for (int i = 0; i < 64; i++)
            want[i] = (float)pow(thetas[t], -2.0 * i / 128.0);
        check_frequencies(&spec, want);
    }
}

static void linear_frequencies_are_transformers(void **state) {
    (void)state;
    static const float want[] = {0.25f,          0.079056941f,    0.0250000004f,   0.00790569466f,
                                 0.00249999994f, 0.000790569466f, 0.000250000012f, 7.90569466e-05f};
    const struct rope_spec spec = {
        .kind = ROPE_LINEAR, .theta = 1e4, .rotary_dim = 16, .factor = 4.0};
    check_frequencies(&spec, want);
}

static void llama3_frequencies_are_transformers(void **state) {
    (void)state;
    static const float want[] = {1.0f,
                                 0.440366626f,
                                 0.193922758f,
                                 0.0853971019f,
                                 0.0376060307f,
                                 0.0165604409f,
                                 0.00729266508f,
                                 0.00321144611f,
                                 0.000429556705f,
                                 1.94616387e-05f,
                                 8.57025589e-06f,
                                 3.77405445e-06f,
                                 1.66196764e-06f,
                                 7.31874934e-07f,
                                 3.22293289e-07f,
                                 1.41927202e-07f};
    const struct rope_spec spec = {.kind = ROPE_LLAMA3,
                                   .theta = 500000.0,
                                   .rotary_dim = 32,
                                   .factor = 32.0,
                                   .low_freq_factor = 1.0,
                                   .high_freq_factor = 4.0,
                                   .original_positions = 8192};
    check_frequencies(&spec, want);
}

static struct rope_spec yarn(double theta, double factor, bool truncate) {
    return (struct rope_spec){.kind = ROPE_YARN,
                              .theta = theta,
                              .rotary_dim = 32,
                              .factor = factor,
                              .beta_fast = 32.0,
                              .beta_slow = 1.0,
                              .truncate = truncate,
                              .original_positions = 4096};
}

static void yarn_frequencies_are_transformers(void **state) {
    (void)state;
    static const float smooth[] = {
        1.0f,           0.47478205f,     0.225418001f,    0.107024424f,    0.05081328f,
        0.0193350017f,  0.00679495931f,  0.00209379266f,  0.000456483918f, 3.83088118e-05f,
        1.8188337e-05f, 8.63549576e-06f, 4.09997847e-06f, 1.94659629e-06f, 9.24208962e-07f,
        4.38797855e-07f};
    struct rope_spec spec = yarn(150000.0, 32.0, false);
    check_frequencies(&spec, smooth);
    static const float truncated[] = {1.0f,
                                      0.562341332f,
                                      0.316227764f,
                                      0.177827939f,
                                      0.100000001f,
                                      0.0562341288f,
                                      0.0272181761f,
                                      0.0128290169f,
                                      0.00582142826f,
                                      0.00249036867f,
                                      0.000959977158f,
                                      0.000292145909f,
                                      2.49999994e-05f,
                                      1.40585325e-05f,
                                      7.90569447e-06f,
                                      4.44569832e-06f};
    spec = yarn(10000.0, 40.0, true);
    check_frequencies(&spec, truncated);
    static const float step[] = {1.0f,           0.258600146f,    0.0668740273f,   0.0172936339f,
                                 0.00447213603f, 3.61404673e-05f, 9.34593027e-06f, 2.41685871e-06f};
    spec = yarn(50000.0, 32.0, true);
    spec.rotary_dim = 16;
    spec.beta_fast = 1.0;
    check_frequencies(&spec, step);
}

/* Both the kind and each of its values must show in the result. */
static void every_value_of_a_scaling_counts(void **state) {
    (void)state;
    const struct rope_spec base = yarn(10000.0, 40.0, true);
    struct rope_spec changed[6];
    for (int i = 0; i < 6; i++)
        changed[i] = base;
    changed[0].factor = 20.0;
    changed[1].beta_fast = 8.0;
    changed[2].beta_slow = 4.0;
    changed[3].truncate = false;
    changed[4].original_positions = 8192;
    changed[5].kind = ROPE_DEFAULT;
    float want[64], got[64];
    rope_table_frequencies(&base, want);
    for (int i = 0; i < 6; i++) {
        rope_table_frequencies(&changed[i], got);
        assert_memory_not_equal(want, got, 16 * sizeof(float));
    }
}

static void table_holds_cosines_then_sines(void **state) {
    (void)state;
    const struct rope_spec spec = {
        .theta = 1e6, .rotary_dim = 128, .factor = 1.0, .attention_factor = 1.25};
    const int32_t positions = 40001;
    float frequencies[64];
    rope_table_frequencies(&spec, frequencies);
    float *table = malloc((size_t)positions * 128 * sizeof *table);
    assert_non_null(table);
    rope_table_fill(&spec, positions, table);
    static const int32_t tried[] = {0, 1, 2, 17, 1023, 4096, 40000};
    for (size_t p = 0; p < sizeof tried / sizeof tried[0]; p++) {
        for (int i = 0; i < 64; i++) {
            float angle = (float)tried[p] * frequencies[i];
            const float *row = table + (size_t)tried[p] * 128;
            assert_true(fabs((double)row[i] - 1.25 * cos((double)angle)) < 2e-7);
            assert_true(fabs((double)row[64 + i] - 1.25 * sin((double)angle)) < 2e-7);
        }
    }
    free(table);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(default_frequencies_follow_the_formula),
        cmocka_unit_test(linear_frequencies_are_transformers),
        cmocka_unit_test(llama3_frequencies_are_transformers),
        cmocka_unit_test(yarn_frequencies_are_transformers),
        cmocka_unit_test(every_value_of_a_scaling_counts),
        cmocka_unit_test(table_holds_cosines_then_sines),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
