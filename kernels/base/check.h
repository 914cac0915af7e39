/* ASSERT: our own bugs. It stays on in release builds; keep it off the innermost loops. */
#ifndef MOEBIUS_KERNELS_BASE_CHECK_H
#define MOEBIUS_KERNELS_BASE_CHECK_H

/* Prints file, line, function and the failed condition to stderr and aborts. Never returns. Local.
 */
_Noreturn void check_failed(const char *file, int line, const char *function,
                            const char *condition);

#define ASSERT(condition)                                                                          \
    ((condition) ? (void)0 : check_failed(__FILE__, __LINE__, __func__, #condition))

#endif
