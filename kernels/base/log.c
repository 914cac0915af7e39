/* One line a message on stderr. Everything that Moebius says beside its answers goes through here.
 */
#include "kernels/base/log.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static struct {
    enum log_level level;
    int32_t rank;
} log_settings = {.level = LOG_LEVEL_INFO, .rank = 0};

static _Thread_local struct log_diverted *log_diverted_to;

static const char *const level_names[] = {"error", "warn", "info", "debug", "trace"};

void log_setup(enum log_level level, int32_t rank) {
    log_settings.level = level;
    log_settings.rank = rank;
}

void log_set_rank(int32_t rank) {
    log_settings.rank = rank;
}

int log_level_parse(const char *name, enum log_level *level) {
    for (unsigned i = 0; i < sizeof level_names / sizeof level_names[0]; i++) {
        if (strcmp(name, level_names[i]) == 0) {
            *level = (enum log_level)i;
            return 0;
        }
    }
    return -1;
}

/* Bad input ends up in messages: a control character must not forge a second line or drive a
 * terminal. */
static void escape_controls(char *text, size_t size) {
    for (size_t i = 0; i < size && text[i] != '\0'; i++)
        if ((unsigned char)text[i] < 0x20 || text[i] == 0x7f)
            text[i] = '?';
}

void log_divert_begin(struct log_diverted *diverted) {
    diverted->text[0] = '\0';
    log_diverted_to = diverted;
}

void log_divert_end(void) {
    log_diverted_to = NULL;
}

/* Whether the line has gone elsewhere. */
static bool diverted(enum log_level level, const char *text) {
    if (log_diverted_to == NULL || level != LOG_LEVEL_ERROR)
        return false;
    if (log_diverted_to->text[0] == '\0')
        snprintf(log_diverted_to->text, sizeof log_diverted_to->text, "%.*s",
                 (int)sizeof log_diverted_to->text - 1, text);
    return true;
}

void log_write(enum log_level level, const char *file, int line, const char *format, ...) {
    if (level > log_settings.level)
        return;
    char text[2048];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    escape_controls(text, sizeof text);
    if (diverted(level, text))
        return;

    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    struct tm local;
    localtime_r(&now.tv_sec, &local);
    char clock_text[32];
    strftime(clock_text, sizeof clock_text, "%H:%M:%S", &local);

    const char *slash = strrchr(file, '/');
    char out[2304];
    int length = snprintf(out, sizeof out, "%s.%03d %d %s %s:%d %s\n", clock_text,
                          (int)(now.tv_nsec / 1000000), log_settings.rank, level_names[level],
                          slash != NULL ? slash + 1 : file, line, text);
    if (length > (int)sizeof out - 1)
        length = (int)sizeof out - 1;
    ssize_t written = write(STDERR_FILENO, out, (size_t)length);
    (void)written; /* nowhere left to complain */
}
