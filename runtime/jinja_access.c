/* Attributes, items and slices. The order of attempts is Jinja2's, since it decides what
 * `message.items` or `tool['values']` means: an attribute by dot is first a method, then a key; by
 * brackets first a key, then a method. */
#include "runtime/jinja_access.h"

#include "runtime/jinja_method.h"
#include "runtime/jinja_string.h"

enum status jinja_access_length(struct jinja_run *run, int32_t line,
                                const struct jinja_value *value, int64_t *length) {
    if (value->kind == JINJA_UNDEFINED) {
        *length = 0;
    } else if (value->kind == JINJA_STRING_VALUE) {
        RETURN_IF_ERROR(jinja_run_spend(run, line, value->as.string.length));
        *length = jinja_string_count(value->as.string);
    } else if (value->kind == JINJA_LIST && value->as.list->flavour != JINJA_FLAVOUR_ITERATOR) {
        *length = value->as.list->count;
    } else if (value->kind == JINJA_DICT) {
        *length = value->as.dict->count;
    } else if (value->kind == JINJA_LOOP) {
        bool has = false;
        RETURN_IF_ERROR(jinja_run_loop_has(run, value->as.loop, INT64_MAX, &has));
        *length = value->as.loop->passed_count;
    } else {
        return jinja_run_fail(run, line, STATUS_BAD_REQUEST, "a %s has no length",
                              jinja_value_type(value));
    }
    return STATUS_OK;
}

static enum status string_items(struct jinja_run *run, int32_t line, struct jinja_string string,
                                struct jinja_list **list) {
    struct jinja_value value;
    RETURN_IF_ERROR(jinja_run_spend(run, line, string.length * 16));
    RETURN_IF_ERROR(
        jinja_value_list(&run->memory, jinja_string_count(string), JINJA_FLAVOUR_LIST, &value));
    size_t at = 0;
    for (int64_t i = 0; i < value.as.list->count; i++) {
        size_t step = jinja_string_step(string.text + at);
        value.as.list->items[i] = jinja_value_string(jinja_string_part(string, at, at + step));
        at += step;
    }
    *list = value.as.list;
    return STATUS_OK;
}

static enum status dict_items(struct jinja_run *run, int32_t line, const struct jinja_dict *dict,
                              struct jinja_list **list) {
    struct jinja_value value;
    RETURN_IF_ERROR(jinja_run_spend(run, line, (size_t)dict->count * 32));
    RETURN_IF_ERROR(jinja_value_list(&run->memory, dict->count, JINJA_FLAVOUR_LIST, &value));
    for (int64_t i = 0; i < dict->count; i++)
        value.as.list->items[i] = jinja_value_string(dict->entries[i].key);
    *list = value.as.list;
    return STATUS_OK;
}

static enum status no_items(struct jinja_run *run, struct jinja_list **list) {
    struct jinja_value value;
    RETURN_IF_ERROR(jinja_value_list(&run->memory, 0, JINJA_FLAVOUR_LIST, &value));
    *list = value.as.list;
    return STATUS_OK;
}

enum status jinja_access_items(struct jinja_run *run, int32_t line, const struct jinja_value *value,
                               struct jinja_list **list) {
    if (value->kind == JINJA_UNDEFINED)
        return no_items(run, list);
    if (value->kind == JINJA_STRING_VALUE)
        return string_items(run, line, value->as.string, list);
    if (value->kind == JINJA_DICT)
        return dict_items(run, line, value->as.dict, list);
    if (value->kind == JINJA_LOOP)
        return jinja_run_fail(run, line, STATUS_UNSUPPORTED,
                              "iterating over 'loop' is not supported");
    if (value->kind != JINJA_LIST)
        return jinja_run_fail(run, line, STATUS_BAD_REQUEST, "a %s cannot be iterated over",
                              jinja_value_type(value));
    struct jinja_list *own = value->as.list;
    if (own->flavour == JINJA_FLAVOUR_ITERATOR && own->consumed)
        return no_items(run, list);
    own->consumed = own->flavour == JINJA_FLAVOUR_ITERATOR;
    *list = own;
    return STATUS_OK;
}

static enum status loop_neighbour(struct jinja_run *run, struct jinja_loop *loop, int64_t index,
                                  struct jinja_value *out) {
    bool has = false;
    *out = jinja_value_undefined(JINJA_STRING("the item beside this one"));
    if (index < 0)
        return STATUS_OK;
    RETURN_IF_ERROR(jinja_run_loop_has(run, loop, index, &has));
    if (has)
        *out = loop->passed[index];
    return STATUS_OK;
}

static enum status loop_attribute(struct jinja_run *run, int32_t line,
                                  const struct jinja_value *value, struct jinja_string name,
                                  struct jinja_value *out) {
    struct jinja_loop *loop = value->as.loop;
    bool has = false;
    int64_t length = 0;
    if (jinja_string_is(name, "previtem"))
        return loop_neighbour(run, loop, loop->index0 - 1, out);
    if (jinja_string_is(name, "nextitem"))
        return loop_neighbour(run, loop, loop->index0 + 1, out);
    if (jinja_string_is(name, "cycle") || jinja_string_is(name, "changed"))
        return jinja_run_fail(run, line, STATUS_UNSUPPORTED, "'loop.%.*s' is not supported",
                              (int)name.length, name.text);
    if (jinja_string_is(name, "index0")) {
        *out = jinja_value_int(loop->index0);
    } else if (jinja_string_is(name, "index")) {
        *out = jinja_value_int(loop->index0 + 1);
    } else if (jinja_string_is(name, "first")) {
        *out = jinja_value_bool(loop->index0 == 0);
    } else if (jinja_string_is(name, "last")) {
        RETURN_IF_ERROR(jinja_run_loop_has(run, loop, loop->index0 + 1, &has));
        *out = jinja_value_bool(!has);
    } else if (jinja_string_is(name, "depth") || jinja_string_is(name, "depth0")) {
        *out = jinja_value_int(name.length == 5); /* loops that are not recursive have depth 1 */
    } else {
        RETURN_IF_ERROR(jinja_access_length(run, line, value, &length));
        if (jinja_string_is(name, "length"))
            *out = jinja_value_int(length);
        else if (jinja_string_is(name, "revindex"))
            *out = jinja_value_int(length - loop->index0);
        else if (jinja_string_is(name, "revindex0"))
            *out = jinja_value_int(length - loop->index0 - 1);
        else
            *out = jinja_value_undefined(name);
    }
    return STATUS_OK;
}

/* A method of the value's type as a value; *found tells whether there is one. */
static enum status take_method(struct jinja_run *run, const struct jinja_value *value,
                               struct jinja_string name, bool *found, struct jinja_value *out) {
    bool hidden = false;
    const struct jinja_builtin *builtin = jinja_method_find(value, name, &hidden);
    *found = builtin != NULL || hidden;
    if (hidden)
        *out = jinja_value_undefined(name); /* the sandbox lets nothing be changed */
    if (builtin == NULL)
        return STATUS_OK;
    void *bytes = NULL;
    RETURN_IF_ERROR(jinja_memory_take(&run->memory, sizeof(struct jinja_method), &bytes));
    struct jinja_method *method = bytes;
    *method = (struct jinja_method){.builtin = builtin, .self = *value};
    *out = (struct jinja_value){.kind = JINJA_METHOD, .as.method = method};
    return STATUS_OK;
}

static enum status dict_key(struct jinja_run *run, int32_t line, const struct jinja_dict *dict,
                            struct jinja_string name, bool *found, struct jinja_value *out) {
    RETURN_IF_ERROR(jinja_run_spend(run, line, (size_t)dict->count * 16 + name.length));
    const struct jinja_value *value = jinja_value_get(dict, name);
    *found = value != NULL;
    if (value != NULL)
        *out = *value;
    return STATUS_OK;
}

static enum status fail_undefined(struct jinja_run *run, int32_t line,
                                  const struct jinja_value *value) {
    struct jinja_string name = value->as.undefined;
    return jinja_run_fail(run, line, STATUS_BAD_REQUEST, "'%.*s' is undefined",
                          (int)(name.length < 80 ? name.length : 80), name.text);
}

/* What Python's getattr finds: methods, and the attributes of namespaces and loops. */
static enum status own_attribute(struct jinja_run *run, int32_t line,
                                 const struct jinja_value *value, struct jinja_string name,
                                 bool *found, struct jinja_value *out) {
    *found = true;
    if (value->kind == JINJA_LOOP)
        return loop_attribute(run, line, value, name, out);
    if (value->kind == JINJA_NAMESPACE)
        return dict_key(run, line, value->as.dict, name, found, out);
    if (value->kind == JINJA_MACRO || jinja_string_starts(name, JINJA_STRING("__")))
        return jinja_run_fail(
            run, line, STATUS_UNSUPPORTED, "the attribute '%.*s' of a %s is not supported",
            (int)(name.length < 80 ? name.length : 80), name.text, jinja_value_type(value));
    return take_method(run, value, name, found, out);
}

enum status jinja_access_attribute(struct jinja_run *run, int32_t line,
                                   const struct jinja_value *value, struct jinja_string name,
                                   struct jinja_value *out) {
    bool found = false;
    if (value->kind == JINJA_UNDEFINED)
        return fail_undefined(run, line, value);
    RETURN_IF_ERROR(own_attribute(run, line, value, name, &found, out));
    if (!found && value->kind == JINJA_DICT)
        RETURN_IF_ERROR(dict_key(run, line, value->as.dict, name, &found, out));
    if (!found)
        *out = jinja_value_undefined(name);
    return STATUS_OK;
}

static enum status index_item(struct jinja_run *run, int32_t line, const struct jinja_value *value,
                              int64_t index, struct jinja_value *out) {
    int64_t length = 0;
    *out = jinja_value_undefined(JINJA_STRING("an item behind the end"));
    bool list = value->kind == JINJA_LIST && value->as.list->flavour <= JINJA_FLAVOUR_RANGE;
    if (!list && value->kind != JINJA_STRING_VALUE)
        return STATUS_OK;
    RETURN_IF_ERROR(jinja_access_length(run, line, value, &length));
    if (index < 0)
        index += length;
    if (index < 0 || index >= length)
        return STATUS_OK;
    if (list) {
        *out = value->as.list->items[index];
        return STATUS_OK;
    }
    size_t at = jinja_string_offset(value->as.string, index);
    size_t step = jinja_string_step(value->as.string.text + at);
    *out = jinja_value_string(jinja_string_part(value->as.string, at, at + step));
    return STATUS_OK;
}

enum status jinja_access_item(struct jinja_run *run, int32_t line, const struct jinja_value *value,
                              const struct jinja_value *key, struct jinja_value *out) {
    int64_t index = 0;
    bool found = false;
    if (value->kind == JINJA_UNDEFINED)
        return fail_undefined(run, line, value);
    if (jinja_value_integer(key, &index))
        return index_item(run, line, value, index, out);
    *out = jinja_value_undefined(JINJA_STRING("an item by an odd key"));
    if (key->kind != JINJA_STRING_VALUE)
        return STATUS_OK;
    if (value->kind == JINJA_DICT)
        RETURN_IF_ERROR(dict_key(run, line, value->as.dict, key->as.string, &found, out));
    if (!found)
        RETURN_IF_ERROR(own_attribute(run, line, value, key->as.string, &found, out));
    if (!found)
        *out = jinja_value_undefined(key->as.string);
    return STATUS_OK;
}

/* A slice as numbers: `count` items from `start`, `step` apart (Python's PySlice_AdjustIndices). */
struct slice {
    int64_t start;
    int64_t step;
    int64_t count;
};

static int64_t clamp_bound(int64_t bound, int64_t length, bool backwards) {
    if (bound < 0) {
        bound += length;
        if (bound < 0)
            bound = backwards ? -1 : 0;
    } else if (bound >= length) {
        bound = backwards ? length - 1 : length;
    }
    return bound;
}

static enum status slice_bound(struct jinja_run *run, int32_t line, const struct jinja_value *given,
                               int64_t *bound) {
    if (given == NULL || given->kind == JINJA_NONE || jinja_value_integer(given, bound))
        return STATUS_OK;
    return jinja_run_fail(run, line, STATUS_BAD_REQUEST, "a slice's bound is a %s, expected an int",
                          jinja_value_type(given));
}

static bool is_given(const struct jinja_value *bound) {
    return bound != NULL && bound->kind != JINJA_NONE;
}

static enum status make_slice(struct jinja_run *run, int32_t line, int64_t length,
                              const struct jinja_value *const bounds[3], struct slice *slice) {
    int64_t step = 1;
    RETURN_IF_ERROR(slice_bound(run, line, bounds[2], &step));
    if (step == 0)
        return jinja_run_fail(run, line, STATUS_BAD_REQUEST, "a slice's step is 0");
    if (step < -INT32_MAX)
        step = -INT32_MAX; /* longer than any sequence here: the same slice, no overflow */
    if (step > INT32_MAX)
        step = INT32_MAX;
    bool backwards = step < 0;
    int64_t start = 0;
    int64_t stop = 0;
    RETURN_IF_ERROR(slice_bound(run, line, bounds[0], &start));
    RETURN_IF_ERROR(slice_bound(run, line, bounds[1], &stop));
    start =
        is_given(bounds[0]) ? clamp_bound(start, length, backwards) : (backwards ? length - 1 : 0);
    stop = is_given(bounds[1]) ? clamp_bound(stop, length, backwards) : (backwards ? -1 : length);
    int64_t span = backwards ? start - stop : stop - start;
    int64_t stride = backwards ? -step : step;
    *slice = (struct slice){start, step, span <= 0 ? 0 : (span - 1) / stride + 1};
    return STATUS_OK;
}

static enum status slice_list(struct jinja_run *run, int32_t line, const struct jinja_list *list,
                              const struct slice *slice, struct jinja_value *out) {
    struct jinja_value made;
    RETURN_IF_ERROR(jinja_run_spend(run, line, (size_t)slice->count * 32));
    RETURN_IF_ERROR(jinja_value_list(&run->memory, slice->count, list->flavour, &made));
    for (int64_t i = 0; i < slice->count; i++)
        made.as.list->items[i] = list->items[slice->start + i * slice->step];
    *out = made;
    return STATUS_OK;
}

static enum status slice_string(struct jinja_run *run, int32_t line, struct jinja_string string,
                                const struct slice *slice, struct jinja_value *out) {
    if (slice->count == 0) {
        *out = jinja_value_string((struct jinja_string){"", 0});
        return STATUS_OK;
    }
    if (slice->step == 1) {
        size_t start = jinja_string_offset(string, slice->start);
        struct jinja_string tail = jinja_string_part(string, start, string.length);
        tail.length = jinja_string_offset(tail, slice->count);
        *out = jinja_value_string(tail);
        return STATUS_OK;
    }
    struct jinja_list *characters = NULL;
    void *bytes = NULL;
    RETURN_IF_ERROR(string_items(run, line, string, &characters));
    RETURN_IF_ERROR(jinja_memory_take(&run->memory, string.length, &bytes));
    char *text = bytes;
    size_t length = 0;
    for (int64_t i = 0; i < slice->count; i++) {
        struct jinja_string one = characters->items[slice->start + i * slice->step].as.string;
        for (size_t k = 0; k < one.length; k++)
            text[length++] = one.text[k];
    }
    *out = jinja_value_string((struct jinja_string){text, length});
    return STATUS_OK;
}

enum status jinja_access_slice(struct jinja_run *run, int32_t line, const struct jinja_value *value,
                               const struct jinja_value *const bounds[3], struct jinja_value *out) {
    struct slice slice = {0, 1, 0};
    int64_t length = 0;
    if (value->kind == JINJA_UNDEFINED)
        return fail_undefined(run, line, value);
    bool list = value->kind == JINJA_LIST && value->as.list->flavour <= JINJA_FLAVOUR_RANGE;
    if (!list && value->kind != JINJA_STRING_VALUE)
        return jinja_run_fail(run, line, STATUS_BAD_REQUEST, "a %s cannot be sliced",
                              jinja_value_type(value));
    RETURN_IF_ERROR(jinja_access_length(run, line, value, &length));
    RETURN_IF_ERROR(make_slice(run, line, length, bounds, &slice));
    if (list)
        return slice_list(run, line, value->as.list, &slice, out);
    return slice_string(run, line, value->as.string, &slice, out);
}
