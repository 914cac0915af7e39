/* What the log says while something is tried: a refusal is as much a result as a status. */
#ifndef MOEBIUS_TESTS_SUPPORT_LOG_CAPTURE_H
#define MOEBIUS_TESTS_SUPPORT_LOG_CAPTURE_H

#include <stddef.h>
#include <stdio.h>

struct log_capture {
    int saved;  /* descriptor of the real stderr */
    FILE *file; /* stands in for it */
};

/* From here on stderr goes into memory. Exits with 1 when it cannot. */
void log_capture_begin(struct log_capture *capture);

/* Gives stderr back; writes what was captured to text (cut to size, NUL-terminated). Returns the
 * number of lines. */
int log_capture_end(struct log_capture *capture, char *text, size_t size);

#endif
