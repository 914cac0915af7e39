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
    char host[64]; /* "": not told */
    bool is_json;
} log_settings = {.level = LOG_LEVEL_INFO, .rank = 0};

static _Thread_local struct log_diverted *log_diverted_to;

static const char *const level_names[] = {"error", "warn", "info", "debug", "trace"};

/* Bad input ends up in messages: a control character must not forge a second line or drive a
 * terminal. */
static void escape_controls(char *text, size_t size) {
    for (size_t i = 0; i < size && text[i] != '\0'; i++)
        if ((unsigned char)text[i] < 0x20 || text[i] == 0x7f)
            text[i] = '?';
}

void log_setup(enum log_level level, int32_t rank) {
    log_settings.level = level;
    log_settings.rank = rank;
}

void log_set_rank(int32_t rank) {
    log_settings.rank = rank;
}

void log_set_host(const char *host) {
    snprintf(log_settings.host, sizeof log_settings.host, "%s", host);
    escape_controls(log_settings.host, sizeof log_settings.host);
}

void log_set_json(bool is_json) {
    log_settings.is_json = is_json;
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

void log_divert_begin(struct log_diverted *diverted) {
    diverted->text[0] = '\0';
    log_diverted_to = diverted;
}

void log_divert_end(void) {
    log_diverted_to = NULL;
}

/* Whether the line has gone elsewhere. */
static bool diverted(enum log_level level, const char *place, const char *text) {
    struct log_diverted *to = log_diverted_to;
    if (to == NULL || level != LOG_LEVEL_ERROR)
        return false;
    if (to->text[0] == '\0') {
        snprintf(to->text, sizeof to->text, "%.*s", (int)sizeof to->text - 1, text);
        snprintf(to->place, sizeof to->place, "%.*s", (int)sizeof to->place - 1, place);
    }
    return true;
}

/* Bytes of the character that starts here, as well-formed UTF-8 has it; 0: none does. */
static size_t character_bytes(const unsigned char *text) {
    unsigned char first = text[0];
    if (first < 0x80)
        return 1;
    size_t bytes = first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : 2;
    if (first < 0xc2 || first > 0xf4)
        return 0;
    /* Overlong forms, surrogates and what is above U+10FFFF show in the second byte. */
    unsigned char least = first == 0xe0 ? 0xa0 : first == 0xf0 ? 0x90 : 0x80;
    unsigned char most = first == 0xed ? 0x9f : first == 0xf4 ? 0x8f : 0xbf;
    for (size_t i = 1; i < bytes; i++) {
        if (text[i] < least || text[i] > most)
            return 0;
        least = 0x80;
        most = 0xbf;
    }
    return bytes;
}

/* A JSON string's inside; control characters are gone already. */
static void escape_json(const char *text, char *out, size_t size) {
    size_t length = 0;
    while (*text != '\0' && length + 5 < size) {
        size_t bytes = character_bytes((const unsigned char *)text);
        if (*text == '"' || *text == '\\')
            out[length++] = '\\';
        if (bytes > 0)
            memcpy(out + length, text, bytes);
        else
            out[length] = '?';
        length += bytes > 0 ? bytes : 1;
        text += bytes > 0 ? bytes : 1;
    }
    out[length] = '\0';
}

static void write_line(const char *line, int length, size_t size) {
    if (length > (int)size - 1)
        length = (int)size - 1;
    ssize_t written = write(STDERR_FILENO, line, (size_t)length);
    (void)written; /* nowhere left to complain */
}

static void write_text(enum log_level level, const char *place, const char *text) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    struct tm local;
    localtime_r(&now.tv_sec, &local);
    char clock_text[32], out[2304];
    strftime(clock_text, sizeof clock_text, "%H:%M:%S", &local);
    int length = snprintf(out, sizeof out, "%s.%03d %d%s%s %s %s %s\n", clock_text,
                          (int)(now.tv_nsec / 1000000), log_settings.rank,
                          log_settings.host[0] != '\0' ? "@" : "", log_settings.host,
                          level_names[level], place, text);
    write_line(out, length, sizeof out);
}

static void write_json(enum log_level level, const char *place, const char *text) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    struct tm utc;
    gmtime_r(&now.tv_sec, &utc);
    char clock_text[32], host[160] = "", escaped[4096], out[4512];
    strftime(clock_text, sizeof clock_text, "%Y-%m-%dT%H:%M:%S", &utc);
    if (log_settings.host[0] != '\0') {
        escape_json(log_settings.host, escaped, sizeof escaped);
        snprintf(host, sizeof host, "\"host\": \"%.140s\", ", escaped);
    }
    escape_json(text, escaped, sizeof escaped);
    int length = snprintf(out, sizeof out,
                          "{\"time\": \"%s.%03dZ\", \"rank\": %d, %s\"level\": \"%s\", "
                          "\"place\": \"%s\", \"text\": \"%s\"}\n",
                          clock_text, (int)(now.tv_nsec / 1000000), log_settings.rank, host,
                          level_names[level], place, escaped);
    write_line(out, length, sizeof out);
}

static void write_any(enum log_level level, const char *place, const char *text) {
    if (log_settings.is_json)
        write_json(level, place, text);
    else
        write_text(level, place, text);
}

void log_divert_write(const struct log_diverted *diverted) {
    if (diverted->text[0] != '\0')
        write_any(LOG_LEVEL_ERROR, diverted->place, diverted->text);
}

void log_write(enum log_level level, const char *file, int line, const char *format, ...) {
    if (level > log_settings.level)
        return;
    char text[2048], place[128];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    escape_controls(text, sizeof text);
    const char *slash = strrchr(file, '/');
    snprintf(place, sizeof place, "%s:%d", slash != NULL ? slash + 1 : file, line);
    if (!diverted(level, place, text))
        write_any(level, place, text);
}
