/* The methods of Python's str, dict, list and tuple that templates call. What depends on Python's
 * Unicode tables (the case of letters, what a digit is) is done for ASCII and refused beyond. */
#include "runtime/jinja_method.h"

#include "runtime/jinja_access.h"
#include "runtime/jinja_operate.h"
#include "runtime/jinja_string.h"
#include "runtime/jinja_text.h"

static enum status give_text(struct jinja_string text, struct jinja_value *out) {
    *out = jinja_value_string(text);
    return STATUS_OK;
}

static enum status give_bool(bool boolean, struct jinja_value *out) {
    *out = jinja_value_bool(boolean);
    return STATUS_OK;
}

/* The characters to strip, or NULL for whitespace; the work of stripping is spent. */
static enum status strip_characters(struct jinja_call *call, struct jinja_string *characters,
                                    const struct jinja_string **given) {
    size_t each = 1;
    *given = NULL;
    if (call->parameters[0] != NULL && call->parameters[0]->kind != JINJA_NONE) {
        RETURN_IF_ERROR(jinja_call_string(call, 0, characters));
        *given = characters;
        each += characters->length;
    }
    size_t length = call->self.as.string.length;
    return jinja_run_spend(call->run, call->line,
                           length > SIZE_MAX / each ? SIZE_MAX : length * each);
}

static enum status run_strip(struct jinja_call *call, struct jinja_value *out) {
    struct jinja_string characters;
    const struct jinja_string *given = NULL;
    RETURN_IF_ERROR(strip_characters(call, &characters, &given));
    struct jinja_string text = jinja_string_strip_start(call->self.as.string, given);
    return give_text(jinja_string_strip_end(text, given), out);
}

static enum status run_lstrip(struct jinja_call *call, struct jinja_value *out) {
    struct jinja_string characters;
    const struct jinja_string *given = NULL;
    RETURN_IF_ERROR(strip_characters(call, &characters, &given));
    return give_text(jinja_string_strip_start(call->self.as.string, given), out);
}

static enum status run_rstrip(struct jinja_call *call, struct jinja_value *out) {
    struct jinja_string characters;
    const struct jinja_string *given = NULL;
    RETURN_IF_ERROR(strip_characters(call, &characters, &given));
    return give_text(jinja_string_strip_end(call->self.as.string, given), out);
}

/* The ends of one piece of a split. */
static enum status add_piece(struct jinja_call *call, struct jinja_list *list, int64_t *capacity,
                             struct jinja_string piece) {
    if (list->count == *capacity) {
        struct jinja_value grown;
        *capacity = *capacity < 8 ? 8 : 2 * *capacity;
        RETURN_IF_ERROR(jinja_run_spend(call->run, call->line, (size_t)list->count * 32));
        RETURN_IF_ERROR(
            jinja_value_list(&call->run->memory, *capacity, JINJA_FLAVOUR_LIST, &grown));
        for (int64_t i = 0; i < list->count; i++)
            grown.as.list->items[i] = list->items[i];
        list->items = grown.as.list->items;
    }
    list->items[list->count++] = jinja_value_string(piece);
    return STATUS_OK;
}

/* The next piece of `rest` between whitespace; false where nothing is left. `whole` takes all. */
static bool next_word(struct jinja_string *rest, bool whole, struct jinja_string *word) {
    *rest = jinja_string_strip_start(*rest, NULL);
    size_t end = 0;
    while (end < rest->length &&
           (whole || jinja_string_space_at_start(jinja_string_part(*rest, end, rest->length)) == 0))
        end += jinja_string_step(rest->text + end);
    *word = jinja_string_part(*rest, 0, end);
    *rest = jinja_string_part(*rest, end, rest->length);
    return word->length > 0;
}

static enum status split_words(struct jinja_call *call, int64_t most, struct jinja_list *list) {
    struct jinja_string rest = call->self.as.string;
    struct jinja_string word;
    int64_t capacity = 0;
    while (next_word(&rest, most >= 0 && list->count >= most, &word))
        RETURN_IF_ERROR(add_piece(call, list, &capacity, word));
    return STATUS_OK;
}

static enum status split_at(struct jinja_call *call, struct jinja_string separator, int64_t most,
                            struct jinja_list *list) {
    struct jinja_string text = call->self.as.string;
    int64_t capacity = 0;
    size_t start = 0;
    for (;;) {
        int64_t found = -1;
        if (most < 0 || list->count < most)
            found = jinja_string_find(text, separator, start);
        size_t end = found < 0 ? text.length : (size_t)found;
        RETURN_IF_ERROR(add_piece(call, list, &capacity, jinja_string_part(text, start, end)));
        if (found < 0)
            return STATUS_OK;
        start = end + separator.length;
    }
}

static enum status run_split(struct jinja_call *call, struct jinja_value *out) {
    struct jinja_string separator = {NULL, 0};
    struct jinja_value made;
    int64_t most = -1;
    if (call->parameters[0] != NULL && call->parameters[0]->kind != JINJA_NONE)
        RETURN_IF_ERROR(jinja_call_string(call, 0, &separator));
    RETURN_IF_ERROR(jinja_call_integer(call, 1, &most));
    RETURN_IF_ERROR(jinja_run_spend(call->run, call->line, call->self.as.string.length));
    RETURN_IF_ERROR(jinja_value_list(&call->run->memory, 0, JINJA_FLAVOUR_LIST, &made));
    if (separator.text == NULL)
        RETURN_IF_ERROR(split_words(call, most, made.as.list));
    else if (separator.length == 0)
        return jinja_call_fail(call, STATUS_BAD_REQUEST, "an empty separator");
    else
        RETURN_IF_ERROR(split_at(call, separator, most, made.as.list));
    *out = made;
    return STATUS_OK;
}

/* Bytes of the line end that `text` starts with (Python's str.splitlines), else 0. */
static size_t line_end(struct jinja_string text) {
    uint32_t c = jinja_string_decode(text.text);
    if (c == '\r' && text.length > 1 && text.text[1] == '\n')
        return 2;
    bool ends = (c >= '\n' && c <= '\r') || (c >= 0x1c && c <= 0x1e) || c == 0x85 || c == 0x2028 ||
                c == 0x2029;
    return ends ? jinja_string_step(text.text) : 0;
}

static enum status run_splitlines(struct jinja_call *call, struct jinja_value *out) {
    struct jinja_string text = call->self.as.string;
    struct jinja_value made;
    bool keep = jinja_call_truth(call, 0, false);
    int64_t capacity = 0;
    size_t start = 0;
    RETURN_IF_ERROR(jinja_run_spend(call->run, call->line, text.length));
    RETURN_IF_ERROR(jinja_value_list(&call->run->memory, 0, JINJA_FLAVOUR_LIST, &made));
    for (size_t at = 0; at < text.length;) {
        size_t end = line_end(jinja_string_part(text, at, text.length));
        if (end == 0) {
            at += jinja_string_step(text.text + at);
            continue;
        }
        RETURN_IF_ERROR(add_piece(call, made.as.list, &capacity,
                                  jinja_string_part(text, start, keep ? at + end : at)));
        at += end;
        start = at;
    }
    if (start < text.length)
        RETURN_IF_ERROR(
            add_piece(call, made.as.list, &capacity, jinja_string_part(text, start, text.length)));
    *out = made;
    return STATUS_OK;
}

/* startswith and endswith: a string or a tuple of them. */
static enum status has_affix(struct jinja_call *call, bool start, struct jinja_value *out) {
    const struct jinja_value *given = call->parameters[0];
    int64_t count = 1;
    bool has = false;
    if (given->kind == JINJA_LIST && given->as.list->flavour == JINJA_FLAVOUR_TUPLE) {
        count = given->as.list->count;
        given = given->as.list->items;
    }
    for (int64_t i = 0; i < count; i++) {
        if (given[i].kind != JINJA_STRING_VALUE)
            return jinja_call_fail(call, STATUS_BAD_REQUEST, "expected a str or a tuple of str");
        RETURN_IF_ERROR(jinja_run_spend(call->run, call->line, given[i].as.string.length));
        has = has || (start ? jinja_string_starts(call->self.as.string, given[i].as.string)
                            : jinja_string_ends(call->self.as.string, given[i].as.string));
    }
    return give_bool(has, out);
}

static enum status run_startswith(struct jinja_call *call, struct jinja_value *out) {
    return has_affix(call, true, out);
}

static enum status run_endswith(struct jinja_call *call, struct jinja_value *out) {
    return has_affix(call, false, out);
}

static enum status run_removeprefix(struct jinja_call *call, struct jinja_value *out) {
    struct jinja_string text = call->self.as.string;
    struct jinja_string affix = {"", 0};
    RETURN_IF_ERROR(jinja_call_string(call, 0, &affix));
    if (jinja_string_starts(text, affix))
        text = jinja_string_part(text, affix.length, text.length);
    return give_text(text, out);
}

static enum status run_removesuffix(struct jinja_call *call, struct jinja_value *out) {
    struct jinja_string text = call->self.as.string;
    struct jinja_string affix = {"", 0};
    RETURN_IF_ERROR(jinja_call_string(call, 0, &affix));
    if (jinja_string_ends(text, affix))
        text.length -= affix.length;
    return give_text(text, out);
}

static enum status need_ascii(struct jinja_call *call) {
    RETURN_IF_ERROR(jinja_run_spend(call->run, call->line, call->self.as.string.length));
    if (jinja_string_is_ascii(call->self.as.string))
        return STATUS_OK;
    return jinja_call_fail(call, STATUS_UNSUPPORTED, "of text beyond ASCII is not supported");
}

static bool is_lower(char c) {
    return c >= 'a' && c <= 'z';
}

static bool is_upper(char c) {
    return c >= 'A' && c <= 'Z';
}

/* The text with its first letter and its others in upper or lower case. */
static enum status change_case(struct jinja_call *call, bool first_upper, bool others_upper,
                               struct jinja_value *out) {
    struct jinja_string text = call->self.as.string;
    void *bytes = NULL;
    RETURN_IF_ERROR(need_ascii(call));
    RETURN_IF_ERROR(jinja_memory_take(&call->run->memory, text.length, &bytes));
    char *changed = bytes;
    for (size_t i = 0; i < text.length; i++) {
        bool upper = i == 0 ? first_upper : others_upper;
        char c = text.text[i];
        if (upper && is_lower(c))
            c = (char)(c - 'a' + 'A');
        else if (!upper && is_upper(c))
            c = (char)(c - 'A' + 'a');
        changed[i] = c;
    }
    return give_text((struct jinja_string){changed, text.length}, out);
}

static enum status run_upper(struct jinja_call *call, struct jinja_value *out) {
    return change_case(call, true, true, out);
}

static enum status run_lower(struct jinja_call *call, struct jinja_value *out) {
    return change_case(call, false, false, out);
}

static enum status run_capitalize(struct jinja_call *call, struct jinja_value *out) {
    return change_case(call, true, false, out);
}

/* Whether the text is not empty and all of it is of the kinds asked for. */
static enum status all_are(struct jinja_call *call, bool letters, bool digits,
                           struct jinja_value *out) {
    struct jinja_string text = call->self.as.string;
    bool all = text.length > 0;
    RETURN_IF_ERROR(need_ascii(call));
    for (size_t i = 0; i < text.length && all; i++) {
        char c = text.text[i];
        all = (letters && (is_lower(c) || is_upper(c))) || (digits && c >= '0' && c <= '9');
    }
    return give_bool(all, out);
}

static enum status run_isalpha(struct jinja_call *call, struct jinja_value *out) {
    return all_are(call, true, false, out);
}

static enum status run_isdigit(struct jinja_call *call, struct jinja_value *out) {
    return all_are(call, false, true, out);
}

static enum status run_isalnum(struct jinja_call *call, struct jinja_value *out) {
    return all_are(call, true, true, out);
}

static enum status run_isspace(struct jinja_call *call, struct jinja_value *out) {
    struct jinja_string text = call->self.as.string;
    RETURN_IF_ERROR(jinja_run_spend(call->run, call->line, text.length));
    return give_bool(text.length > 0 && jinja_string_strip_start(text, NULL).length == 0, out);
}

static enum status replace_into(struct jinja_call *call, struct jinja_string old,
                                struct jinja_string new_text, int64_t most,
                                struct text_buffer *buffer) {
    struct jinja_string text = call->self.as.string;
    size_t start = 0;
    for (int64_t i = 0; most < 0 || i < most; i++) {
        int64_t found = jinja_string_find(text, old, start);
        if (found < 0)
            break;
        RETURN_IF_ERROR(jinja_run_spend(call->run, call->line, 0));
        RETURN_IF_ERROR(jinja_run_append(call->run, call->line, buffer,
                                         jinja_string_part(text, start, (size_t)found)));
        RETURN_IF_ERROR(jinja_run_append(call->run, call->line, buffer, new_text));
        start = (size_t)found + old.length;
    }
    return jinja_run_append(call->run, call->line, buffer,
                            jinja_string_part(text, start, text.length));
}

static enum status run_replace(struct jinja_call *call, struct jinja_value *out) {
    struct jinja_string old = {"", 0};
    struct jinja_string new_text = {"", 0};
    struct jinja_string replaced = {"", 0};
    struct text_buffer buffer = {0};
    int64_t most = -1;
    RETURN_IF_ERROR(jinja_call_string(call, 0, &old));
    RETURN_IF_ERROR(jinja_call_string(call, 1, &new_text));
    if (call->parameters[2] != NULL && call->parameters[2]->kind != JINJA_NONE)
        RETURN_IF_ERROR(jinja_call_integer(call, 2, &most));
    if (old.length == 0)
        return jinja_call_fail(call, STATUS_UNSUPPORTED, "of an empty text is not supported");
    RETURN_IF_ERROR(jinja_run_spend(call->run, call->line, call->self.as.string.length));
    enum status status = replace_into(call, old, new_text, most, &buffer);
    if (status == STATUS_OK)
        status = jinja_memory_copy(&call->run->memory, buffer.data, buffer.length, &replaced);
    text_buffer_deinit(&buffer);
    return status == STATUS_OK ? give_text(replaced, out) : status;
}

/* Byte offset to index in code points. */
static int64_t code_point_index(struct jinja_string text, int64_t offset) {
    return offset < 0 ? -1 : jinja_string_count(jinja_string_part(text, 0, (size_t)offset));
}

static enum status spend_search(struct jinja_call *call, struct jinja_string part, bool backwards) {
    size_t length = call->self.as.string.length;
    size_t each = backwards ? part.length + 1 : 1; /* the last one is found by trying all */
    return jinja_run_spend(call->run, call->line,
                           length > SIZE_MAX / each ? SIZE_MAX : length * each);
}

static enum status run_find(struct jinja_call *call, struct jinja_value *out) {
    struct jinja_string part = {"", 0};
    RETURN_IF_ERROR(jinja_call_string(call, 0, &part));
    RETURN_IF_ERROR(spend_search(call, part, false));
    struct jinja_string text = call->self.as.string;
    *out = jinja_value_int(code_point_index(text, jinja_string_find(text, part, 0)));
    return STATUS_OK;
}

static enum status run_rfind(struct jinja_call *call, struct jinja_value *out) {
    struct jinja_string part = {"", 0};
    RETURN_IF_ERROR(jinja_call_string(call, 0, &part));
    RETURN_IF_ERROR(spend_search(call, part, true));
    struct jinja_string text = call->self.as.string;
    *out = jinja_value_int(code_point_index(text, jinja_string_find_last(text, part)));
    return STATUS_OK;
}

static enum status run_text_count(struct jinja_call *call, struct jinja_value *out) {
    struct jinja_string part = {"", 0};
    struct jinja_string text = call->self.as.string;
    RETURN_IF_ERROR(jinja_call_string(call, 0, &part));
    RETURN_IF_ERROR(spend_search(call, part, false));
    int64_t count = part.length == 0 ? jinja_string_count(text) + 1 : 0;
    int64_t found = part.length == 0 ? -1 : jinja_string_find(text, part, 0);
    for (; found >= 0; count++)
        found = jinja_string_find(text, part, (size_t)found + part.length);
    *out = jinja_value_int(count);
    return STATUS_OK;
}

static enum status join_into(struct jinja_call *call, const struct jinja_list *list,
                             struct text_buffer *buffer) {
    for (int64_t i = 0; i < list->count; i++) {
        if (list->items[i].kind != JINJA_STRING_VALUE)
            return jinja_call_fail(call, STATUS_BAD_REQUEST, "of what is no str");
        RETURN_IF_ERROR(jinja_run_spend(call->run, call->line, 0));
        if (i > 0)
            RETURN_IF_ERROR(jinja_run_append(call->run, call->line, buffer, call->self.as.string));
        RETURN_IF_ERROR(jinja_run_append(call->run, call->line, buffer, list->items[i].as.string));
    }
    return STATUS_OK;
}

static enum status run_join(struct jinja_call *call, struct jinja_value *out) {
    struct jinja_list *list = NULL;
    struct jinja_string joined = {"", 0};
    struct text_buffer buffer = {0};
    RETURN_IF_ERROR(jinja_access_items(call->run, call->line, call->parameters[0], &list));
    enum status status = join_into(call, list, &buffer);
    if (status == STATUS_OK)
        status = jinja_memory_copy(&call->run->memory, buffer.data, buffer.length, &joined);
    text_buffer_deinit(&buffer);
    return status == STATUS_OK ? give_text(joined, out) : status;
}

static enum status run_get(struct jinja_call *call, struct jinja_value *out) {
    const struct jinja_value *key = call->parameters[0];
    const struct jinja_value *found = NULL;
    RETURN_IF_ERROR(jinja_run_spend(call->run, call->line, (size_t)call->self.as.dict->count * 16));
    if (key->kind == JINJA_STRING_VALUE)
        found = jinja_value_get(call->self.as.dict, key->as.string);
    if (found == NULL)
        found = call->parameters[1];
    *out = found != NULL ? *found : jinja_value_none();
    return STATUS_OK;
}

/* keys(), values() and items(): `take` is 1 for keys, 2 for values, 3 for both. */
static enum status view(struct jinja_call *call, int take, struct jinja_value *out) {
    const struct jinja_dict *dict = call->self.as.dict;
    struct jinja_value made;
    RETURN_IF_ERROR(jinja_run_spend(call->run, call->line, (size_t)dict->count * 64));
    RETURN_IF_ERROR(jinja_value_list(&call->run->memory, dict->count, JINJA_FLAVOUR_VIEW, &made));
    for (int64_t i = 0; i < dict->count; i++) {
        struct jinja_value *item = &made.as.list->items[i];
        struct jinja_value key = jinja_value_string(dict->entries[i].key);
        *item = take == 1 ? key : dict->entries[i].value;
        if (take < 3)
            continue;
        RETURN_IF_ERROR(jinja_value_list(&call->run->memory, 2, JINJA_FLAVOUR_TUPLE, item));
        item->as.list->items[0] = key;
        item->as.list->items[1] = dict->entries[i].value;
    }
    *out = made;
    return STATUS_OK;
}

static enum status run_keys(struct jinja_call *call, struct jinja_value *out) {
    return view(call, 1, out);
}

static enum status run_values(struct jinja_call *call, struct jinja_value *out) {
    return view(call, 2, out);
}

static enum status run_items(struct jinja_call *call, struct jinja_value *out) {
    return view(call, 3, out);
}

/* copy(): values are never changed, so the same one is as good. */
static enum status run_copy(struct jinja_call *call, struct jinja_value *out) {
    *out = call->self;
    return STATUS_OK;
}

/* index() and count() of lists and tuples. */
static enum status search_list(struct jinja_call *call, int64_t *first, int64_t *count) {
    const struct jinja_list *list = call->self.as.list;
    *first = -1;
    *count = 0;
    for (int64_t i = 0; i < list->count; i++) {
        bool equal = false;
        RETURN_IF_ERROR(jinja_run_spend(call->run, call->line, 0));
        RETURN_IF_ERROR(jinja_operate_equal(call->run, call->line, &list->items[i],
                                            call->parameters[0], &equal));
        if (equal && *first < 0)
            *first = i;
        *count += equal;
    }
    return STATUS_OK;
}

static enum status run_index(struct jinja_call *call, struct jinja_value *out) {
    int64_t first = 0;
    int64_t count = 0;
    RETURN_IF_ERROR(search_list(call, &first, &count));
    if (first < 0)
        return jinja_call_fail(call, STATUS_BAD_REQUEST, "the item is not in the list");
    *out = jinja_value_int(first);
    return STATUS_OK;
}

static enum status run_list_count(struct jinja_call *call, struct jinja_value *out) {
    int64_t first = 0;
    int64_t count = 0;
    RETURN_IF_ERROR(search_list(call, &first, &count));
    *out = jinja_value_int(count);
    return STATUS_OK;
}

static const struct jinja_builtin *find_string_method(struct jinja_string name) {
    static const struct jinja_builtin table[] = {{"strip", run_strip, 0, {""}},
                                                 {"lstrip", run_lstrip, 0, {""}},
                                                 {"rstrip", run_rstrip, 0, {""}},
                                                 {"split", run_split, 0, {"sep", "maxsplit"}},
                                                 {"splitlines", run_splitlines, 0, {"keepends"}},
                                                 {"startswith", run_startswith, 1, {""}},
                                                 {"endswith", run_endswith, 1, {""}},
                                                 {"removeprefix", run_removeprefix, 1, {""}},
                                                 {"removesuffix", run_removesuffix, 1, {""}},
                                                 {"upper", run_upper, 0, {NULL}},
                                                 {"lower", run_lower, 0, {NULL}},
                                                 {"capitalize", run_capitalize, 0, {NULL}},
                                                 {"replace", run_replace, 2, {"", "", ""}},
                                                 {"find", run_find, 1, {""}},
                                                 {"rfind", run_rfind, 1, {""}},
                                                 {"count", run_text_count, 1, {""}},
                                                 {"join", run_join, 1, {""}},
                                                 {"isalpha", run_isalpha, 0, {NULL}},
                                                 {"isdigit", run_isdigit, 0, {NULL}},
                                                 {"isalnum", run_isalnum, 0, {NULL}},
                                                 {"isspace", run_isspace, 0, {NULL}},
                                                 {"casefold", NULL, 0, {NULL}},
                                                 {"center", NULL, 0, {NULL}},
                                                 {"encode", NULL, 0, {NULL}},
                                                 {"expandtabs", NULL, 0, {NULL}},
                                                 {"format", NULL, 0, {NULL}},
                                                 {"format_map", NULL, 0, {NULL}},
                                                 {"index", NULL, 0, {NULL}},
                                                 {"isascii", NULL, 0, {NULL}},
                                                 {"isdecimal", NULL, 0, {NULL}},
                                                 {"isidentifier", NULL, 0, {NULL}},
                                                 {"islower", NULL, 0, {NULL}},
                                                 {"isnumeric", NULL, 0, {NULL}},
                                                 {"isprintable", NULL, 0, {NULL}},
                                                 {"istitle", NULL, 0, {NULL}},
                                                 {"isupper", NULL, 0, {NULL}},
                                                 {"ljust", NULL, 0, {NULL}},
                                                 {"maketrans", NULL, 0, {NULL}},
                                                 {"partition", NULL, 0, {NULL}},
                                                 {"rindex", NULL, 0, {NULL}},
                                                 {"rjust", NULL, 0, {NULL}},
                                                 {"rpartition", NULL, 0, {NULL}},
                                                 {"rsplit", NULL, 0, {NULL}},
                                                 {"swapcase", NULL, 0, {NULL}},
                                                 {"title", NULL, 0, {NULL}},
                                                 {"translate", NULL, 0, {NULL}},
                                                 {"zfill", NULL, 0, {NULL}},
                                                 {NULL, NULL, 0, {NULL}}};
    return jinja_call_find(table, name);
}

static const struct jinja_builtin *find_dict_method(struct jinja_string name) {
    static const struct jinja_builtin table[] = {{"get", run_get, 1, {"", ""}},
                                                 {"keys", run_keys, 0, {NULL}},
                                                 {"values", run_values, 0, {NULL}},
                                                 {"items", run_items, 0, {NULL}},
                                                 {"copy", run_copy, 0, {NULL}},
                                                 {"fromkeys", NULL, 0, {NULL}},
                                                 {NULL, NULL, 0, {NULL}}};
    return jinja_call_find(table, name);
}

static const struct jinja_builtin *find_list_method(const struct jinja_list *list,
                                                    struct jinja_string name) {
    static const struct jinja_builtin list_table[] = {{"index", run_index, 1, {""}},
                                                      {"count", run_list_count, 1, {""}},
                                                      {"copy", run_copy, 0, {NULL}},
                                                      {NULL, NULL, 0, {NULL}}};
    static const struct jinja_builtin tuple_table[] = {
        {"index", run_index, 1, {""}}, {"count", run_list_count, 1, {""}}, {NULL, NULL, 0, {NULL}}};
    static const struct jinja_builtin other_table[] = {
        {"index", NULL, 0, {NULL}},      {"count", NULL, 0, {NULL}}, {"start", NULL, 0, {NULL}},
        {"stop", NULL, 0, {NULL}},       {"step", NULL, 0, {NULL}},  {"send", NULL, 0, {NULL}},
        {"throw", NULL, 0, {NULL}},      {"close", NULL, 0, {NULL}}, {"mapping", NULL, 0, {NULL}},
        {"isdisjoint", NULL, 0, {NULL}}, {NULL, NULL, 0, {NULL}}};
    if (list->flavour == JINJA_FLAVOUR_LIST)
        return jinja_call_find(list_table, name);
    return jinja_call_find(list->flavour == JINJA_FLAVOUR_TUPLE ? tuple_table : other_table, name);
}

static const struct jinja_builtin *find_number_method(struct jinja_string name) {
    static const struct jinja_builtin table[] = {
        {"real", NULL, 0, {NULL}},       {"imag", NULL, 0, {NULL}},
        {"numerator", NULL, 0, {NULL}},  {"denominator", NULL, 0, {NULL}},
        {"conjugate", NULL, 0, {NULL}},  {"bit_length", NULL, 0, {NULL}},
        {"bit_count", NULL, 0, {NULL}},  {"as_integer_ratio", NULL, 0, {NULL}},
        {"is_integer", NULL, 0, {NULL}}, {"hex", NULL, 0, {NULL}},
        {"to_bytes", NULL, 0, {NULL}},   {"from_bytes", NULL, 0, {NULL}},
        {"fromhex", NULL, 0, {NULL}},    {NULL, NULL, 0, {NULL}}};
    return jinja_call_find(table, name);
}

static bool is_among(struct jinja_string name, const char *const *names) {
    for (; *names != NULL; names++)
        if (jinja_string_is(name, *names))
            return true;
    return false;
}

const struct jinja_builtin *jinja_method_find(const struct jinja_value *value,
                                              struct jinja_string name, bool *hidden) {
    static const char *const of_dicts[] = {"clear", "pop", "popitem", "setdefault", "update", NULL};
    static const char *const of_lists[] = {"append", "clear",  "pop",    "reverse", "insert",
                                           "sort",   "extend", "remove", NULL};
    double number = 0;
    *hidden = false;
    if (value->kind == JINJA_STRING_VALUE)
        return find_string_method(name);
    if (value->kind == JINJA_DICT) {
        *hidden = is_among(name, of_dicts);
        return find_dict_method(name);
    }
    if (value->kind == JINJA_LIST) {
        *hidden = value->as.list->flavour == JINJA_FLAVOUR_LIST && is_among(name, of_lists);
        return find_list_method(value->as.list, name);
    }
    return jinja_value_number(value, &number) ? find_number_method(name) : NULL;
}
