/* The values of the template language: their making, their truth, their keys. Under everything else
 * of jinja_*. */
#include "runtime/jinja_value.h"

#include <string.h>

#include "runtime/jinja_string.h"

struct jinja_value jinja_value_undefined(struct jinja_string name) {
    return (struct jinja_value){.kind = JINJA_UNDEFINED, .as.undefined = name};
}

struct jinja_value jinja_value_none(void) {
    return (struct jinja_value){.kind = JINJA_NONE};
}

struct jinja_value jinja_value_bool(bool boolean) {
    return (struct jinja_value){.kind = JINJA_BOOL, .as.boolean = boolean};
}

struct jinja_value jinja_value_int(int64_t integer) {
    return (struct jinja_value){.kind = JINJA_INT, .as.integer = integer};
}

struct jinja_value jinja_value_float(double number) {
    return (struct jinja_value){.kind = JINJA_FLOAT, .as.number = number};
}

struct jinja_value jinja_value_string(struct jinja_string string) {
    return (struct jinja_value){.kind = JINJA_STRING_VALUE, .as.string = string};
}

enum status jinja_value_list(struct jinja_memory *memory, int64_t count, enum jinja_flavour flavour,
                             struct jinja_value *value) {
    void *list_bytes = NULL;
    void *items = NULL;
    RETURN_IF_ERROR(jinja_memory_take(memory, sizeof(struct jinja_list), &list_bytes));
    RETURN_IF_ERROR(
        jinja_memory_take_zeroed(memory, (size_t)count, sizeof(struct jinja_value), &items));
    struct jinja_list *list = list_bytes;
    *list = (struct jinja_list){.items = items, .count = count, .flavour = flavour};
    *value = (struct jinja_value){.kind = JINJA_LIST, .as.list = list};
    return STATUS_OK;
}

enum status jinja_value_dict(struct jinja_memory *memory, int64_t capacity,
                             struct jinja_value *value) {
    void *dict_bytes = NULL;
    void *entries = NULL;
    RETURN_IF_ERROR(jinja_memory_take(memory, sizeof(struct jinja_dict), &dict_bytes));
    RETURN_IF_ERROR(
        jinja_memory_take_zeroed(memory, (size_t)capacity, sizeof(struct jinja_entry), &entries));
    struct jinja_dict *dict = dict_bytes;
    *dict = (struct jinja_dict){.entries = entries, .capacity = capacity};
    *value = (struct jinja_value){.kind = JINJA_DICT, .as.dict = dict};
    return STATUS_OK;
}

static struct jinja_entry *find_entry(const struct jinja_dict *dict, struct jinja_string key,
                                      uint32_t hash) {
    for (int64_t i = 0; i < dict->count; i++) {
        struct jinja_entry *entry = &dict->entries[i];
        if (entry->hash == hash && jinja_string_equal(entry->key, key))
            return entry;
    }
    return NULL;
}

static enum status add_entry(struct jinja_memory *memory, struct jinja_dict *dict,
                             const struct jinja_entry *entry) {
    if (dict->count == dict->capacity) {
        int64_t capacity = dict->capacity < 4 ? 4 : 2 * dict->capacity;
        void *entries = NULL;
        RETURN_IF_ERROR(jinja_memory_take_zeroed(memory, (size_t)capacity,
                                                 sizeof(struct jinja_entry), &entries));
        if (dict->count > 0)
            memcpy(entries, dict->entries, (size_t)dict->count * sizeof(struct jinja_entry));
        dict->entries = entries;
        dict->capacity = capacity;
    }
    dict->entries[dict->count++] = *entry;
    return STATUS_OK;
}

enum status jinja_value_set(struct jinja_memory *memory, struct jinja_dict *dict,
                            struct jinja_string key, struct jinja_value value) {
    uint32_t hash = jinja_string_hash(key);
    struct jinja_entry *entry = find_entry(dict, key, hash);
    if (entry != NULL) {
        entry->value = value;
        return STATUS_OK;
    }
    return add_entry(memory, dict, &(struct jinja_entry){key, hash, value});
}

enum status jinja_value_add(struct jinja_memory *memory, struct jinja_dict *dict,
                            struct jinja_string key, struct jinja_value value) {
    return add_entry(memory, dict, &(struct jinja_entry){key, jinja_string_hash(key), value});
}

const struct jinja_value *jinja_value_get(const struct jinja_dict *dict, struct jinja_string key) {
    const struct jinja_entry *entry = find_entry(dict, key, jinja_string_hash(key));
    return entry == NULL ? NULL : &entry->value;
}

static bool list_truth(const struct jinja_list *list) {
    return list->flavour == JINJA_FLAVOUR_ITERATOR || list->count > 0;
}

bool jinja_value_truth(const struct jinja_value *value) {
    if (value->kind == JINJA_UNDEFINED || value->kind == JINJA_NONE)
        return false;
    if (value->kind == JINJA_BOOL)
        return value->as.boolean;
    if (value->kind == JINJA_INT)
        return value->as.integer != 0;
    if (value->kind == JINJA_FLOAT)
        return value->as.number < 0 || value->as.number > 0 ||
               value->as.number != value->as.number; /* NaN is true */
    if (value->kind == JINJA_STRING_VALUE)
        return value->as.string.length > 0;
    if (value->kind == JINJA_LIST)
        return list_truth(value->as.list);
    if (value->kind == JINJA_DICT)
        return value->as.dict->count > 0;
    return true;
}

const char *jinja_value_type(const struct jinja_value *value) {
    static const char *const names[JINJA_KIND_COUNT] = {
        [JINJA_UNDEFINED] = "Undefined", [JINJA_NONE] = "NoneType",
        [JINJA_BOOL] = "bool",           [JINJA_INT] = "int",
        [JINJA_FLOAT] = "float",         [JINJA_STRING_VALUE] = "str",
        [JINJA_LIST] = "list",           [JINJA_DICT] = "dict",
        [JINJA_NAMESPACE] = "Namespace", [JINJA_LOOP] = "LoopContext",
        [JINJA_MACRO] = "Macro",         [JINJA_METHOD] = "method",
        [JINJA_FUNCTION] = "function"};
    static const char *const flavours[] = {[JINJA_FLAVOUR_LIST] = "list",
                                           [JINJA_FLAVOUR_TUPLE] = "tuple",
                                           [JINJA_FLAVOUR_RANGE] = "range",
                                           [JINJA_FLAVOUR_VIEW] = "dict view",
                                           [JINJA_FLAVOUR_ITERATOR] = "generator"};
    return value->kind == JINJA_LIST ? flavours[value->as.list->flavour] : names[value->kind];
}

bool jinja_value_integer(const struct jinja_value *value, int64_t *integer) {
    if (value->kind == JINJA_BOOL)
        *integer = value->as.boolean ? 1 : 0;
    else if (value->kind == JINJA_INT)
        *integer = value->as.integer;
    else
        return false;
    return true;
}

bool jinja_value_number(const struct jinja_value *value, double *number) {
    int64_t integer = 0;
    if (jinja_value_integer(value, &integer))
        *number = (double)integer;
    else if (value->kind == JINJA_FLOAT)
        *number = value->as.number;
    else
        return false;
    return true;
}
