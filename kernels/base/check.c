/* The end of a run that met one of our own bugs: say where, then abort so that every rank stops. */
#include "kernels/base/check.h"

#include <stdio.h>
#include <stdlib.h>

_Noreturn void check_failed(const char *file, int line, const char *function,
                            const char *condition) {
    fprintf(stderr, "moebius: bug: %s:%d: %s: assertion failed: %s\n", file, line, function,
            condition);
    abort();
}
