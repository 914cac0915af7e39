/* Reads the file behind --config by libyaml's events. */
#define _POSIX_C_SOURCE 200809L
#include "launcher/config_file.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <yaml.h>

#include "kernels/base/log.h"

#define CONFIG_FILE_ITEMS_MAX 1024

struct reading {
    const char *path;
    yaml_parser_t parser;
    yaml_event_t event; /* the current one */
    bool has_event;
    struct config_file *file;
};

static enum status refuse(const struct reading *reading, const char *expected, const char *got) {
    LOG_ERROR("%s:%zu: expected %s, got %s", reading->path, reading->event.start_mark.line + 1,
              expected, got);
    return STATUS_USAGE;
}

static const char *event_name(yaml_event_type_t type) {
    switch (type) {
    case YAML_MAPPING_START_EVENT:
        return "a mapping";
    case YAML_SEQUENCE_START_EVENT:
        return "a list";
    case YAML_ALIAS_EVENT:
        return "an alias";
    case YAML_SCALAR_EVENT:
        return "a scalar";
    case YAML_NO_EVENT:
    case YAML_STREAM_START_EVENT:
    case YAML_STREAM_END_EVENT:
    case YAML_DOCUMENT_START_EVENT:
    case YAML_DOCUMENT_END_EVENT:
    case YAML_SEQUENCE_END_EVENT:
    case YAML_MAPPING_END_EVENT:
        break;
    }
    return "the end";
}

static enum status next(struct reading *reading) {
    if (reading->has_event)
        yaml_event_delete(&reading->event);
    reading->has_event = yaml_parser_parse(&reading->parser, &reading->event) != 0;
    if (reading->has_event)
        return STATUS_OK;
    LOG_ERROR("%s:%zu: expected YAML, got: %s", reading->path,
              reading->parser.problem_mark.line + 1,
              reading->parser.problem != NULL ? reading->parser.problem : "something else");
    return STATUS_USAGE;
}

static enum status next_of(struct reading *reading, yaml_event_type_t type, const char *expected) {
    RETURN_IF_ERROR(next(reading));
    return reading->event.type == type ? STATUS_OK
                                       : refuse(reading, expected, event_name(reading->event.type));
}

static char *copy_scalar(const struct reading *reading) {
    return strdup((const char *)reading->event.data.scalar.value);
}

/* Adds the current scalar under `key`. */
static enum status add(struct reading *reading, const char *key) {
    struct config_file *file = reading->file;
    if (reading->event.data.scalar.length != strlen((const char *)reading->event.data.scalar.value))
        return refuse(reading, "text without NUL characters", "one");
    bool is_plain = reading->event.data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
    if (is_plain && reading->event.data.scalar.length == 0)
        return refuse(reading, "a value", "none");
    if (file->count == CONFIG_FILE_ITEMS_MAX)
        return refuse(reading, "at most 1024 values", "more");
    if (file->count == file->capacity) {
        int32_t capacity = file->capacity > 0 ? 2 * file->capacity : 16;
        struct config_item *items = realloc(file->items, (size_t)capacity * sizeof *items);
        if (items == NULL)
            return STATUS_NO_MEMORY;
        file->items = items;
        file->capacity = capacity;
    }
    struct config_item *item = &file->items[file->count];
    *item = (struct config_item){.key = strdup(key),
                                 .value = copy_scalar(reading),
                                 .line = (int32_t)reading->event.start_mark.line + 1};
    file->count++;
    return item->key != NULL && item->value != NULL ? STATUS_OK : STATUS_NO_MEMORY;
}

static enum status read_value(struct reading *reading, const char *key) {
    for (int32_t i = 0; i < reading->file->count; i++)
        if (strcmp(reading->file->items[i].key, key) == 0)
            return refuse(reading, "each key once", "one again");
    RETURN_IF_ERROR(next(reading));
    if (reading->event.type == YAML_SCALAR_EVENT)
        return add(reading, key);
    if (reading->event.type != YAML_SEQUENCE_START_EVENT)
        return refuse(reading, "a value or a list of values", event_name(reading->event.type));
    for (;;) {
        RETURN_IF_ERROR(next(reading));
        if (reading->event.type == YAML_SEQUENCE_END_EVENT)
            return STATUS_OK;
        if (reading->event.type != YAML_SCALAR_EVENT)
            return refuse(reading, "a value", event_name(reading->event.type));
        RETURN_IF_ERROR(add(reading, key));
    }
}

static enum status read_mapping(struct reading *reading) {
    for (;;) {
        RETURN_IF_ERROR(next(reading));
        if (reading->event.type == YAML_MAPPING_END_EVENT)
            return STATUS_OK;
        if (reading->event.type != YAML_SCALAR_EVENT)
            return refuse(reading, "the name of a flag", event_name(reading->event.type));
        char *key = copy_scalar(reading);
        if (key == NULL)
            return STATUS_NO_MEMORY;
        enum status status = read_value(reading, key);
        free(key);
        RETURN_IF_ERROR(status);
    }
}

static enum status read_document(struct reading *reading) {
    static const char expected[] = "a mapping of flags to values, such as `port: 50051`";
    RETURN_IF_ERROR(next(reading)); /* the stream's start */
    RETURN_IF_ERROR(next(reading));
    if (reading->event.type == YAML_STREAM_END_EVENT)
        return STATUS_OK; /* empty, or comments only */
    RETURN_IF_ERROR(next_of(reading, YAML_MAPPING_START_EVENT, expected));
    RETURN_IF_ERROR(read_mapping(reading));
    RETURN_IF_ERROR(next_of(reading, YAML_DOCUMENT_END_EVENT, "the end of the mapping"));
    return next_of(reading, YAML_STREAM_END_EVENT, "one document");
}

enum status config_file_read(const char *path, struct config_file *file) {
    FILE *stream = fopen(path, "re");
    if (stream == NULL) {
        LOG_ERROR("--config: %s: cannot open: %s", path, strerror(errno));
        return STATUS_IO;
    }
    struct reading reading = {.path = path, .file = file};
    enum status status = STATUS_NO_MEMORY;
    if (yaml_parser_initialize(&reading.parser) != 0) {
        yaml_parser_set_input_file(&reading.parser, stream);
        status = read_document(&reading);
        if (reading.has_event)
            yaml_event_delete(&reading.event);
        yaml_parser_delete(&reading.parser);
    }
    fclose(stream);
    if (status == STATUS_NO_MEMORY)
        LOG_ERROR("%s: cannot take memory for its values", path);
    return status;
}

void config_file_deinit(struct config_file *file) {
    for (int32_t i = 0; i < file->count; i++) {
        free(file->items[i].key);
        free(file->items[i].value);
    }
    free(file->items);
    *file = (struct config_file){0};
}
