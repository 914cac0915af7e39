/* Readers of workload files, for `moebius bench serve` and `bench throughput`. */
#define _GNU_SOURCE /* timegm, getline */

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

/* 2023-11-16 18:17:03.9799600,4808,10 */
static enum status read_csv_line(struct source *source, const char *line) {
    struct tm day = {0};
    double second;
    long prompt, output;
    if (sscanf(line, "%d-%d-%d %d:%d:%lf,%ld,%ld", &day.tm_year, &day.tm_mon, &day.tm_mday,
               &day.tm_hour, &day.tm_min, &second, &prompt, &output) != 8 ||
        prompt < 1 || output < 0 || prompt > INT32_MAX || output > INT32_MAX)
        return bad_line(source, "TIMESTAMP,ContextTokens,GeneratedTokens", line);
    struct workload_item *item = add_item(source);
    if (item == NULL)
        return STATUS_NO_MEMORY;
    day.tm_year -= 1900;
    day.tm_mon -= 1;
    set_arrival(source, item, (int64_t)timegm(&day) * 1000000000 + llrint(second * 1e9));
    item->prompt_tokens = (int32_t)prompt;
    item->output_tokens = output > 0 ? (int32_t)output : 1;
    return STATUS_OK;
}

/* ---- JSON lines ---- */

static int64_t integer_of(const json_t *root, const char *name, int64_t otherwise) {
    const json_t *value = json_object_get(root, name);
    return json_is_number(value) ? (int64_t)json_number_value(value) : otherwise;
}

static enum status copy_hashes(struct source *source, const json_t *array,
                               struct workload_item *item) {
    size_t count = json_array_size(array);
    item->hashes = calloc(count + 1, sizeof *item->hashes);
    if (item->hashes == NULL) {
        LOG_ERROR("%s: cannot take memory for %zu hashes", source->path, count);
        return STATUS_NO_MEMORY;
    }
    for (size_t i = 0; i < count; i++)
        item->hashes[i] = json_integer_value(json_array_get(array, i));
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

static enum status read_item(struct source *source, const json_t *root,
                             struct workload_item *item) {
    const json_t *ids = json_object_get(root, "input_tok_ids"), *text = text_of(root);
    int64_t output = integer_of(root, "output_toks", integer_of(root, "output_length", 0));
    item->output_tokens = output > 0 && output < INT32_MAX ? (int32_t)output : 0;
    if (json_object_get(root, "arrival_time_ns") != NULL)
        set_arrival(source, item, integer_of(root, "arrival_time_ns", 0));
    else if (json_object_get(root, "timestamp") != NULL)
        set_arrival(source, item, integer_of(root, "timestamp", 0) * 1000000);
    if (json_is_array(ids) && json_array_size(ids) > 0)
        return copy_ids(source, ids, item);
    if (text != NULL) {
        item->text = strdup(json_string_value(text));
        return item->text != NULL ? STATUS_OK : STATUS_NO_MEMORY;
    }
    int64_t length = integer_of(root, "input_length", 0);
    if (length < 1 || length > INT32_MAX)
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
