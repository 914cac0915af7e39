/* Checks of the plain test programs: each says where it failed and with what, and the run goes on.
 * main returns expect_failures == 0 ? 0 : 1. */
#ifndef MOEBIUS_TESTS_SUPPORT_EXPECT_H
#define MOEBIUS_TESTS_SUPPORT_EXPECT_H

#include <stdio.h>

static int expect_failures;

#define EXPECT(condition, ...)                                                                     \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            expect_failures++;                                                                     \
            printf("FAILED %s:%d: ", __FILE__, __LINE__);                                          \
            printf(__VA_ARGS__);                                                                   \
            printf("\n");                                                                          \
        }                                                                                          \
    } while (0)

#endif
