/* cmocka wants four headers before its own, in this order; unit tests include this file instead. */
#ifndef MOEBIUS_TESTS_UNIT_UNIT_TEST_H
#define MOEBIUS_TESTS_UNIT_UNIT_TEST_H

/* clang-format off */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
/* clang-format on */

#endif
