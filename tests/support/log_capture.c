/* Stderr in a temporary file for a while. Support of the unit tests that read messages. */
#define _POSIX_C_SOURCE 200809L
#include "tests/support/log_capture.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static void check(int ok) {
    if (!ok) {
        perror("log capture");
        exit(1);
    }
}

void log_capture_begin(struct log_capture *capture) {
    capture->file = tmpfile();
    check(capture->file != NULL);
    capture->saved = dup(STDERR_FILENO);
    check(capture->saved >= 0 && dup2(fileno(capture->file), STDERR_FILENO) >= 0);
}

int log_capture_end(struct log_capture *capture, char *text, size_t size) {
    check(dup2(capture->saved, STDERR_FILENO) >= 0);
    ssize_t length = pread(fileno(capture->file), text, size - 1, 0);
    check(length >= 0);
    text[length] = '\0';
    close(capture->saved);
    fclose(capture->file);
    int lines = 0;
    for (const char *at = text; *at != '\0'; at++)
        lines += *at == '\n';
    return lines;
}
