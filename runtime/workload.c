/* Readers of workload files, for `moebius bench serve` and `bench throughput`. */
#define _GNU_SOURCE /* timegm, strptime, getline */

#include "runtime/workload.h"

#include <errno.h>
#include <jansson.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "kernels/base/log.h"
#include "runtime/json_file.h"

/* What is being read. */
struct source {
    const char *path;
    int64_t line;
    int64_t first_ns; /* the first request's time in the file's own terms */
    struct workload *workload;
};

static enum status bad_line(const struct source *source, const char *expected, const char *got) {
    LOG_ERROR("%s: line %lld: expected %s, got %.80s", source->path, (long long)source->line,
              expected, got);
    return STATUS_BAD_REQUEST;
}

static struct workload_item *add_item(struct source *source) {
    struct workload *workload = source->workload;
    if (workload->count == workload->capacity) {
        int32_t capacity = workload->capacity > 0 ? 2 * workload->capacity : 256;
        struct workload_item *items = realloc(workload->items, (size_t)capacity * sizeof *items);
        if (items == NULL) {
            LOG_ERROR("%s: cannot take memory for %d requests", source->path, capacity);
            return NULL;
        }
        workload->items = items;
        workload->capacity = capacity;
    }
    struct workload_item *item = &workload->items[workload->count++];
    *item = (struct workload_item){.arrival_ns = -1};
    return item;
}

static void set_arrival(struct source *source, struct workload_item *item, int64_t time_ns) {
    if (source->workload->count == 1)
        source->first_ns = time_ns;
    item->arrival_ns = time_ns > source->first_ns ? time_ns - source->first_ns : 0;
}

/* ---- Azure ---- */

/* 2023-11-16 18:17:03.9799600,4808,10; the traces of 2024 have +00:00 after the seconds. */
static bool parse_csv(const char *line, int64_t *time_ns, int64_t *prompt, int64_t *output) {
    struct tm day = {0};
    char *end;
    const char *rest = strptime(line, "%Y-%m-%d %H:%M:%S", &day);
    if (rest == NULL || day.tm_year < 70 || day.tm_year > 300)
        return false;
    double fraction = 0.0;
    if (*rest == '.') {
        fraction = strtod(rest, &end);
        rest = end;
    }
    if (!(fraction >= 0.0 && fraction < 1.0)) /* an exponent */
        return false;
    if (strncmp(rest, "+00:00", 6) == 0)
        rest += 6;
    if (*rest != ',')
        return false;
    errno = 0;
    *prompt = strtoll(rest + 1, &end, 10);
    if (*end != ',')
        return false;
    *output = strtoll(end + 1, &end, 10);
    *time_ns = (int64_t)timegm(&day) * 1000000000 + llrint(fraction * 1e9);
    return *end == '\0' && errno == 0;
}

static enum status read_csv_line(struct source *source, const char *line) {
    int64_t time_ns, prompt, output;
    if (!parse_csv(line, &time_ns, &prompt, &output) || prompt < 1 || output < 0 ||
        prompt > INT32_MAX || output > INT32_MAX)
        return bad_line(source, "TIMESTAMP,ContextTokens,GeneratedTokens", line);
    struct workload_item *item = add_item(source);
    if (item == NULL)
        return STATUS_NO_MEMORY;
    set_arrival(source, item, time_ns);
    item->prompt_tokens = (int32_t)prompt;
    item->output_tokens = output > 0 ? (int32_t)output : 1;
    return STATUS_OK;
}

/* ---- JSON lines ---- */

/* A number of the line, from 0 to 2^53; *number stays where there is none. */
static enum status number_of(const struct source *source, const json_t *root, const char *name,
                             double *number) {
    const json_t *value = json_object_get(root, name);
    if (value == NULL)
        return STATUS_OK;
    *number = json_number_value(value);
    if (json_is_number(value) && *number >= 0.0 && *number <= 0x1p53)
        return STATUS_OK;
    char expected[64];
    snprintf(expected, sizeof expected, "%s from 0 to 2^53", name);
    return bad_line(source, expected, "something else");
}

static enum status copy_hashes(struct source *source, const json_t *array,
                               struct workload_item *item) {
    size_t count = json_array_size(array);
    item->hashes = calloc(count + 1, sizeof *item->hashes);
    if (item->hashes == NULL) {
        LOG_ERROR("%s: cannot take memory for %zu hashes", source->path, count);
        return STATUS_NO_MEMORY;
    }
    for (size_t i = 0; i < count; i++) {
        const json_t *value = json_array_get(array, i);
        if (!json_is_integer(value))
            return bad_line(source, "hash_ids of whole numbers", "something else");
        item->hashes[i] = json_integer_value(value);
    }
    item->hash_count = (int32_t)count;
    return STATUS_OK;
}

static enum status copy_ids(struct source *source, const json_t *array,
                            struct workload_item *item) {
    size_t count = json_array_size(array);
    item->ids = calloc(count + 1, sizeof *item->ids);
    if (item->ids == NULL) {
        LOG_ERROR("%s: cannot take memory for %zu token ids", source->path, count);
        return STATUS_NO_MEMORY;
    }
    for (size_t i = 0; i < count; i++) {
        const json_t *value = json_array_get(array, i);
        json_int_t id = json_integer_value(value);
        if (!json_is_integer(value) || id < 0 || id > INT32_MAX)
            return bad_line(source, "input_tok_ids of token ids", "something else");
        item->ids[i] = (int32_t)id;
    }
    item->prompt_tokens = (int32_t)count;
    return STATUS_OK;
}

static const json_t *text_of(const json_t *root) {
    static const char *const names[] = {"prompt", "question", "text"};
    const json_t *text = json_array_get(json_object_get(root, "turns"), 0);
    for (size_t i = 0; text == NULL && i < sizeof names / sizeof names[0]; i++)
        text = json_object_get(root, names[i]);
    return json_is_string(text) ? text : NULL;
}

/* When it came and how much is wanted. */
static enum status read_times(struct source *source, const json_t *root,
                              struct workload_item *item) {
    double arrival_ns = -1.0, timestamp_ms = -1.0, output = 0.0;
    RETURN_IF_ERROR(number_of(source, root, "arrival_time_ns", &arrival_ns));
    RETURN_IF_ERROR(number_of(source, root, "timestamp", &timestamp_ms));
    RETURN_IF_ERROR(number_of(source, root, "output_length", &output));
    RETURN_IF_ERROR(number_of(source, root, "output_toks", &output));
    item->output_tokens = output < INT32_MAX ? (int32_t)output : INT32_MAX;
    if (arrival_ns >= 0.0)
        set_arrival(source, item, (int64_t)arrival_ns);
    else if (timestamp_ms >= 0.0 && timestamp_ms <= 0x1p43)
        set_arrival(source, item, llrint(timestamp_ms * 1e6));
    return STATUS_OK;
}

static enum status copy_text(struct source *source, const json_t *text,
                             struct workload_item *item) {
    item->text = strdup(json_string_value(text));
    if (item->text != NULL)
        return STATUS_OK;
    LOG_ERROR("%s: cannot take memory for a text of %zu bytes", source->path,
              json_string_length(text));
    return STATUS_NO_MEMORY;
}

static enum status read_item(struct source *source, const json_t *root,
                             struct workload_item *item) {
    const json_t *ids = json_object_get(root, "input_tok_ids"), *text = text_of(root);
    double length = 0.0;
    RETURN_IF_ERROR(read_times(source, root, item));
    if (json_is_array(ids) && json_array_size(ids) > 0)
        return copy_ids(source, ids, item);
    if (text != NULL)
        return copy_text(source, text, item);
    RETURN_IF_ERROR(number_of(source, root, "input_length", &length));
    if (length < 1.0 || length > INT32_MAX)
        return bad_line(source, "one of turns, prompt, question, text, input_tok_ids, input_length",
                        "none of them");
    item->prompt_tokens = (int32_t)length;
    return copy_hashes(source, json_object_get(root, "hash_ids"), item);
}

static enum status read_json_line(struct source *source, const char *line) {
    char origin[512];
    snprintf(origin, sizeof origin, "%s: line %lld", source->path, (long long)source->line);
    json_t *root = NULL;
    RETURN_IF_ERROR(json_file_parse(origin, line, strlen(line), STATUS_BAD_REQUEST, &root));
    struct workload_item *item = add_item(source);
    enum status status = item == NULL ? STATUS_NO_MEMORY : read_item(source, root, item);
    json_file_release(root);
    return status;
}

/* ---- the file ---- */

static enum status read_lines(struct source *source, FILE *file, int32_t most) {
    char *line = NULL;
    size_t capacity = 0;
    ssize_t length;
    bool is_csv = false;
    enum status status = STATUS_OK;
    while (status == STATUS_OK && (most == 0 || source->workload->count < most) &&
           (length = getline(&line, &capacity, file)) >= 0) {
        source->line++;
        while (length > 0 && (line[length - 1] == '\n' || line[length - 1] == '\r'))
            line[--length] = '\0';
        if (source->line == 1 && strncmp(line, "TIMESTAMP,", 10) == 0)
            is_csv = true;
        else if (length > 0)
            status = is_csv ? read_csv_line(source, line) : read_json_line(source, line);
    }
    free(line);
    return status;
}

enum status workload_load(const char *path, int32_t most, struct workload *workload) {
    struct source source = {.path = path, .workload = workload};
    *workload = (struct workload){0};
    FILE *file = fopen(path, "r");
    if (file == NULL) {
        LOG_ERROR("%s: cannot be opened: %s", path, strerror(errno));
        return STATUS_IO;
    }
    enum status status = read_lines(&source, file, most);
    if (status == STATUS_OK && ferror(file) != 0) {
        LOG_ERROR("%s: cannot be read: %s", path, strerror(errno));
        status = STATUS_IO;
    }
    fclose(file);
    if (status == STATUS_OK && workload->count == 0)
        status = bad_line(&source, "at least one request", "none");
    return status;
}

void workload_deinit(struct workload *workload) {
    for (int32_t i = 0; i < workload->count; i++) {
        free(workload->items[i].text);
        free(workload->items[i].ids);
        free(workload->items[i].hashes);
    }
    free(workload->items);
    *workload = (struct workload){0};
}

/* ---- made-up tokens ---- */

/* SplitMix64's output function: any number in, a well-mixed one out. */
static uint64_t mix(uint64_t value) {
    value += UINT64_C(0x9e3779b97f4a7c15);
    value = (value ^ (value >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    value = (value ^ (value >> 27)) * UINT64_C(0x94d049bb133111eb);
    return value ^ (value >> 31);
}

void workload_make_ids(const struct workload_item *item, int32_t number, uint64_t seed,
                       int32_t vocabulary, int32_t *ids) {
    for (int32_t i = 0; i < item->prompt_tokens; i++) {
        int32_t block = i / WORKLOAD_HASH_TOKENS;
        uint64_t source = item->ids != NULL          ? (uint64_t)item->ids[i]
                          : block < item->hash_count ? mix((uint64_t)item->hashes[block])
                                                     : mix(seed ^ mix((uint64_t)number + 1));
        if (item->ids == NULL)
            source = mix(source + (uint64_t)(i % WORKLOAD_HASH_TOKENS) +
                         (block < item->hash_count ? 0 : (uint64_t)block << 32));
        ids[i] = (int32_t)(source % (uint64_t)vocabulary);
    }
}
