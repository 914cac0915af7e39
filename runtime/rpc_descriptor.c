/* The part of protobuf's wire format that finding a name in a FileDescriptorSet takes: a table says
 * in which fields of which kind of declaration other declarations stand. */
#include "runtime/rpc_descriptor.h"

#include <string.h>

enum kind { KIND_FILE, KIND_MESSAGE, KIND_ENUM, KIND_SERVICE, KIND_LEAF };

#define FIELD_NAME 1    /* of every declaration */
#define FIELD_PACKAGE 2 /* of a file */
#define FIELD_FILE 1    /* of the set */
#define FIELD_VALUE 2   /* of an enum */
#define DEPTH_MAX 32

/* descriptor.proto: in which fields of `in` declarations of `what` stand. */
static const struct place {
    enum kind in;
    uint32_t field;
    enum kind what;
} places[] = {
    {KIND_FILE, 4, KIND_MESSAGE}, {KIND_FILE, 5, KIND_ENUM},    {KIND_FILE, 6, KIND_SERVICE},
    {KIND_FILE, 7, KIND_LEAF},    {KIND_MESSAGE, 2, KIND_LEAF}, {KIND_MESSAGE, 3, KIND_MESSAGE},
    {KIND_MESSAGE, 4, KIND_ENUM}, {KIND_MESSAGE, 8, KIND_LEAF}, {KIND_SERVICE, 2, KIND_LEAF},
};
#define PLACE_COUNT (sizeof(places) / sizeof(places[0]))

static bool read_varint(struct rpc_descriptor *rest, uint64_t *value) {
    *value = 0;
    for (unsigned shift = 0; shift < 64 && rest->size > 0; shift += 7) {
        uint8_t byte = *rest->data++;
        rest->size--;
        *value |= (uint64_t)(byte & 0x7f) << shift;
        if (byte < 0x80)
            return true;
    }
    return false;
}

/* Takes the next field off `rest`; `content` is empty unless it is length-delimited. false: the
 * end, or not well-formed (then rest->size is not 0). */
static bool next_field(struct rpc_descriptor *rest, uint32_t *number,
                       struct rpc_descriptor *content) {
    uint64_t key;
    uint64_t value = 0;
    if (rest->size == 0 || !read_varint(rest, &key))
        return false;
    *number = (uint32_t)(key >> 3);
    *content = (struct rpc_descriptor){0};
    switch (key & 7) {
    case 0:
        return read_varint(rest, &value);
    case 1:
        value = 8;
        break;
    case 2:
        if (!read_varint(rest, &value))
            return false;
        break;
    case 5:
        value = 4;
        break;
    default:
        return false;
    }
    if (value > rest->size)
        return false;
    if ((key & 7) == 2)
        *content = (struct rpc_descriptor){.data = rest->data, .size = (size_t)value};
    rest->data += value;
    rest->size -= (size_t)value;
    return true;
}

/* The first field `wanted` of a declaration; empty: it has none. */
static struct rpc_descriptor field_of(struct rpc_descriptor declaration, uint32_t wanted) {
    uint32_t number;
    struct rpc_descriptor content;
    while (next_field(&declaration, &number, &content))
        if (number == wanted)
            return content;
    return (struct rpc_descriptor){0};
}

static bool is_equal(struct rpc_descriptor a, struct rpc_descriptor b) {
    return a.size == b.size && (a.size == 0 || memcmp(a.data, b.data, a.size) == 0);
}

static const struct place *find_place(enum kind in, uint32_t field) {
    for (size_t i = 0; i < PLACE_COUNT; i++)
        if (places[i].in == in && places[i].field == field)
            return &places[i];
    return NULL;
}

/* Takes the part before the first dot off a dotted name. */
static struct rpc_descriptor next_part(struct rpc_descriptor *name) {
    struct rpc_descriptor part = *name;
    const uint8_t *dot = name->size > 0 ? memchr(name->data, '.', name->size) : NULL;
    if (dot == NULL) {
        *name = (struct rpc_descriptor){0};
        return part;
    }
    part.size = (size_t)(dot - name->data);
    name->data = dot + 1;
    name->size -= part.size + 1;
    return part;
}

static bool has_value(struct rpc_descriptor declaration, struct rpc_descriptor name) {
    uint32_t number;
    struct rpc_descriptor content;
    while (next_field(&declaration, &number, &content))
        if (number == FIELD_VALUE && is_equal(field_of(content, FIELD_NAME), name))
            return true;
    return false;
}

/* Whether a declaration has another inside it, by a dotted name. An enum's values have their full
 * names beside it, not inside: C++'s rule, and protobuf's. */
static bool declares(struct rpc_descriptor declaration, enum kind kind,
                     struct rpc_descriptor name) {
    for (int depth = 0; depth < DEPTH_MAX; depth++) {
        struct rpc_descriptor part = next_part(&name);
        struct rpc_descriptor rest = declaration;
        uint32_t number;
        struct rpc_descriptor content;
        const struct place *found = NULL;
        while (found == NULL && next_field(&rest, &number, &content)) {
            const struct place *place = find_place(kind, number);
            if (place == NULL)
                continue;
            bool may_be_value = place->what == KIND_ENUM && name.size == 0;
            if (is_equal(field_of(content, FIELD_NAME), part) ||
                (may_be_value && has_value(content, part)))
                found = place;
        }
        if (found == NULL || name.size == 0)
            return found != NULL;
        declaration = content;
        kind = found->what;
    }
    return false;
}

bool rpc_descriptor_is_valid(struct rpc_descriptor set) {
    uint32_t number;
    struct rpc_descriptor content;
    bool has_file = false;
    while (next_field(&set, &number, &content)) {
        if (number != FIELD_FILE || field_of(content, FIELD_NAME).size == 0)
            return false;
        has_file = true;
    }
    return set.size == 0 && has_file;
}

bool rpc_descriptor_find_file(struct rpc_descriptor set, struct rpc_descriptor name,
                              struct rpc_descriptor *file) {
    uint32_t number;
    struct rpc_descriptor content;
    while (next_field(&set, &number, &content)) {
        if (is_equal(field_of(content, FIELD_NAME), name)) {
            *file = content;
            return true;
        }
    }
    return false;
}

/* Takes "package." off a name; false: it does not begin so. */
static bool skip_package(struct rpc_descriptor package, struct rpc_descriptor *name) {
    if (name->size <= package.size + 1 || name->data[package.size] != '.')
        return false;
    struct rpc_descriptor head = {.data = name->data, .size = package.size};
    if (!is_equal(head, package))
        return false;
    name->data += package.size + 1;
    name->size -= package.size + 1;
    return true;
}

bool rpc_descriptor_find_symbol(struct rpc_descriptor set, struct rpc_descriptor symbol,
                                struct rpc_descriptor *file) {
    uint32_t number;
    struct rpc_descriptor content;
    while (next_field(&set, &number, &content)) {
        struct rpc_descriptor name = symbol;
        if (skip_package(field_of(content, FIELD_PACKAGE), &name) &&
            declares(content, KIND_FILE, name)) {
            *file = content;
            return true;
        }
    }
    return false;
}
