/* kernels/probe: the numbers are of the right kind. Their size is the machine's business, so only
 * relations that hold on any machine are asked for. */

#include "kernels/probe.h"
#include "tests/unit/unit_test.h"

static void numbers_are_positive_and_finite(void **state) {
    (void)state;
    const enum cpu_isa isas[] = {CPU_ISA_REFERENCE, cpu_isa_best()};
    for (int i = 0; i < 2; i++) {
        struct kernels kernels;
        assert_int_equal(kernels_init(&kernels, isas[i], 2), STATUS_OK);
        for (int dtype = DTYPE_F32; dtype <= DTYPE_BF16; dtype++) {
            double operations = -1;
            assert_int_equal(probe_gemm_peak(&kernels, (enum dtype)dtype, &operations), STATUS_OK);
            assert_true(operations > 1e3 && operations < 1e18);
        }
        double bandwidth = -1;
        static _Alignas(64) char region[3000];
        const struct probe_range ranges[2] = {{region, 1024}, {region + 64, sizeof region - 64}};
        assert_int_equal(probe_read_bandwidth(&kernels, ranges, 2, &bandwidth), STATUS_OK);
        assert_true(bandwidth > 1e3 && bandwidth < 1e15);
        kernels_deinit(&kernels);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(numbers_are_positive_and_finite),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
