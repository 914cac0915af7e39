/* Arithmetic, comparisons and membership of the template language. */
#include "runtime/jinja_operate.h"

#include <math.h>

#include "runtime/jinja_access.h"
#include "runtime/jinja_string.h"

#define EXACT_MAX ((int64_t)1 << 53) /* integers up to here are exact as doubles */

static const char *operation_text(enum jinja_operation operation) {
    static const char *const texts[] = {
        "+", "-", "*", "/", "//", "%", "==", "!=", "<", "<=", ">", ">=", "in", "not in"};
    return texts[operation];
}

static enum status fail_operands(struct jinja_run *run, int32_t line,
                                 enum jinja_operation operation, const struct jinja_value *a,
                                 const struct jinja_value *b) {
    const struct jinja_value *undefined = a->kind == JINJA_UNDEFINED   ? a
                                          : b->kind == JINJA_UNDEFINED ? b
                                                                       : NULL;
    if (undefined != NULL) {
        struct jinja_string name = undefined->as.undefined;
        return jinja_run_fail(
            run, line, STATUS_BAD_REQUEST, "'%.*s' is undefined, it is an operand of '%s'",
            (int)(name.length < 80 ? name.length : 80), name.text, operation_text(operation));
    }
    return jinja_run_fail(run, line, STATUS_BAD_REQUEST, "the operands of '%s' are a %s and a %s",
                          operation_text(operation), jinja_value_type(a), jinja_value_type(b));
}

/* Python's // and %, which round towards minus infinity. b is not 0. */
static bool divide_floor(int64_t a, int64_t b, int64_t *quotient, int64_t *remainder) {
    if (a == INT64_MIN && b == -1)
        return false;
    *quotient = a / b;
    *remainder = a % b;
    if (*remainder != 0 && (*remainder < 0) != (b < 0)) {
        *quotient -= 1;
        *remainder += b;
    }
    return true;
}

static enum status operate_integers(struct jinja_run *run, int32_t line,
                                    enum jinja_operation operation, int64_t a, int64_t b,
                                    struct jinja_value *out) {
    int64_t result = 0;
    int64_t other = 0;
    bool fits = false;
    if (operation >= JINJA_DIVIDE && b == 0)
        return jinja_run_fail(run, line, STATUS_BAD_REQUEST, "a division by zero");
    if (operation == JINJA_ADD)
        fits = !__builtin_add_overflow(a, b, &result);
    else if (operation == JINJA_SUBTRACT)
        fits = !__builtin_sub_overflow(a, b, &result);
    else if (operation == JINJA_MULTIPLY)
        fits = !__builtin_mul_overflow(a, b, &result);
    else if (operation == JINJA_FLOOR_DIVIDE)
        fits = divide_floor(a, b, &result, &other);
    else if (operation == JINJA_MODULO)
        fits = divide_floor(a, b, &other, &result);
    else
        fits = a >= -EXACT_MAX && a <= EXACT_MAX && b >= -EXACT_MAX && b <= EXACT_MAX;
    if (!fits)
        return jinja_run_fail(run, line, STATUS_UNSUPPORTED, "a number that is too large");
    *out = operation == JINJA_DIVIDE ? jinja_value_float((double)a / (double)b)
                                     : jinja_value_int(result);
    return STATUS_OK;
}

static enum status operate_floats(struct jinja_run *run, int32_t line,
                                  enum jinja_operation operation, double a, double b,
                                  struct jinja_value *out) {
    if (operation == JINJA_ADD)
        *out = jinja_value_float(a + b);
    else if (operation == JINJA_SUBTRACT)
        *out = jinja_value_float(a - b);
    else if (operation == JINJA_MULTIPLY)
        *out = jinja_value_float(a * b);
    else if (!(b < 0 || b > 0))
        return jinja_run_fail(run, line, STATUS_BAD_REQUEST, "a division by zero");
    else if (operation == JINJA_DIVIDE)
        *out = jinja_value_float(a / b);
    else
        return jinja_run_fail(run, line, STATUS_UNSUPPORTED, "'%s' of floats is not supported",
                              operation_text(operation));
    return STATUS_OK;
}

static enum status join_lists(struct jinja_run *run, int32_t line, const struct jinja_list *a,
                              const struct jinja_list *b, struct jinja_value *out) {
    struct jinja_value made;
    RETURN_IF_ERROR(jinja_run_spend(run, line, (size_t)(a->count + b->count) * 32));
    RETURN_IF_ERROR(jinja_value_list(&run->memory, a->count + b->count, a->flavour, &made));
    for (int64_t i = 0; i < a->count; i++)
        made.as.list->items[i] = a->items[i];
    for (int64_t i = 0; i < b->count; i++)
        made.as.list->items[a->count + i] = b->items[i];
    *out = made;
    return STATUS_OK;
}

static enum status repeat_string(struct jinja_run *run, int32_t line, struct jinja_string text,
                                 int64_t count, struct jinja_value *out) {
    void *bytes = NULL;
    if (count <= 0 || text.length == 0) {
        *out = jinja_value_string((struct jinja_string){"", 0});
        return STATUS_OK;
    }
    if ((uint64_t)count > run->output_bytes_max / text.length)
        return jinja_run_fail(run, line, STATUS_LIMIT, "a text that is too long");
    size_t length = text.length * (size_t)count;
    RETURN_IF_ERROR(jinja_run_spend(run, line, length));
    RETURN_IF_ERROR(jinja_memory_take(&run->memory, length, &bytes));
    for (size_t i = 0; i < length; i++)
        ((char *)bytes)[i] = text.text[i % text.length];
    *out = jinja_value_string((struct jinja_string){bytes, length});
    return STATUS_OK;
}

/* + of strings and lists, * of strings; everything else that is no number is an error. */
static enum status operate_sequences(struct jinja_run *run, int32_t line,
                                     enum jinja_operation operation, const struct jinja_value *a,
                                     const struct jinja_value *b, struct jinja_value *out) {
    int64_t count = 0;
    if (operation == JINJA_ADD && a->kind == JINJA_STRING_VALUE && b->kind == JINJA_STRING_VALUE) {
        struct jinja_string joined;
        RETURN_IF_ERROR(jinja_run_spend(run, line, a->as.string.length + b->as.string.length));
        RETURN_IF_ERROR(jinja_memory_join(&run->memory, a->as.string, b->as.string, &joined));
        *out = jinja_value_string(joined);
        return STATUS_OK;
    }
    if (operation == JINJA_ADD && a->kind == JINJA_LIST && b->kind == JINJA_LIST &&
        a->as.list->flavour == b->as.list->flavour && a->as.list->flavour <= JINJA_FLAVOUR_TUPLE)
        return join_lists(run, line, a->as.list, b->as.list, out);
    if (operation == JINJA_MULTIPLY && a->kind == JINJA_STRING_VALUE &&
        jinja_value_integer(b, &count))
        return repeat_string(run, line, a->as.string, count, out);
    if (operation == JINJA_MULTIPLY && b->kind == JINJA_STRING_VALUE &&
        jinja_value_integer(a, &count))
        return repeat_string(run, line, b->as.string, count, out);
    if (operation == JINJA_MODULO && a->kind == JINJA_STRING_VALUE)
        return jinja_run_fail(run, line, STATUS_UNSUPPORTED, "'%%' of a str is not supported");
    if (operation == JINJA_MULTIPLY && (a->kind == JINJA_LIST || b->kind == JINJA_LIST))
        return jinja_run_fail(run, line, STATUS_UNSUPPORTED, "'*' of a list is not supported");
    return fail_operands(run, line, operation, a, b);
}

enum status jinja_operate_binary(struct jinja_run *run, int32_t line,
                                 enum jinja_operation operation, const struct jinja_value *a,
                                 const struct jinja_value *b, struct jinja_value *out) {
    int64_t a_integer = 0;
    int64_t b_integer = 0;
    double a_number = 0;
    double b_number = 0;
    if (jinja_value_integer(a, &a_integer) && jinja_value_integer(b, &b_integer))
        return operate_integers(run, line, operation, a_integer, b_integer, out);
    if (jinja_value_number(a, &a_number) && jinja_value_number(b, &b_number))
        return operate_floats(run, line, operation, a_number, b_number, out);
    return operate_sequences(run, line, operation, a, b, out);
}

enum status jinja_operate_sign(struct jinja_run *run, int32_t line, bool negate,
                               const struct jinja_value *a, struct jinja_value *out) {
    int64_t integer = 0;
    if (a->kind == JINJA_FLOAT) {
        *out = jinja_value_float(negate ? -a->as.number : a->as.number);
        return STATUS_OK;
    }
    if (!jinja_value_integer(a, &integer) || integer == INT64_MIN)
        return jinja_run_fail(run, line, STATUS_BAD_REQUEST, "the sign of a %s",
                              jinja_value_type(a));
    *out = jinja_value_int(negate ? -integer : integer);
    return STATUS_OK;
}

static enum status equal_lists(struct jinja_run *run, int32_t line, const struct jinja_list *a,
                               const struct jinja_list *b, bool *out) {
    bool equal = a->count == b->count && a->flavour == b->flavour;
    if (a->flavour > JINJA_FLAVOUR_TUPLE || b->flavour > JINJA_FLAVOUR_TUPLE)
        return jinja_run_fail(run, line, STATUS_UNSUPPORTED,
                              "'==' of ranges, views and generators is not supported");
    for (int64_t i = 0; equal && i < a->count; i++)
        RETURN_IF_ERROR(jinja_operate_equal(run, line, &a->items[i], &b->items[i], &equal));
    *out = equal;
    return STATUS_OK;
}

static enum status equal_dicts(struct jinja_run *run, int32_t line, const struct jinja_dict *a,
                               const struct jinja_dict *b, bool *out) {
    bool equal = a->count == b->count;
    for (int64_t i = 0; equal && i < a->count; i++) {
        RETURN_IF_ERROR(jinja_run_spend(run, line, (size_t)b->count * 16));
        const struct jinja_value *other = jinja_value_get(b, a->entries[i].key);
        equal = other != NULL;
        if (equal)
            RETURN_IF_ERROR(jinja_operate_equal(run, line, &a->entries[i].value, other, &equal));
    }
    *out = equal;
    return STATUS_OK;
}

static bool equal_numbers(const struct jinja_value *a, const struct jinja_value *b) {
    int64_t a_integer = 0;
    int64_t b_integer = 0;
    double a_number = 0;
    double b_number = 0;
    if (jinja_value_integer(a, &a_integer) && jinja_value_integer(b, &b_integer))
        return a_integer == b_integer;
    if (!jinja_value_number(a, &a_number) || !jinja_value_number(b, &b_number))
        return false;
    return a_number >= b_number && a_number <= b_number;
}

/* Values that are equal only to themselves. */
static bool same_thing(const struct jinja_value *a, const struct jinja_value *b) {
    if (a->kind == JINJA_NAMESPACE)
        return a->as.dict == b->as.dict;
    if (a->kind == JINJA_LOOP)
        return a->as.loop == b->as.loop;
    if (a->kind == JINJA_MACRO)
        return a->as.macro == b->as.macro;
    if (a->kind == JINJA_FUNCTION)
        return a->as.function == b->as.function;
    return a->kind == JINJA_UNDEFINED || a->kind == JINJA_NONE;
}

enum status jinja_operate_equal(struct jinja_run *run, int32_t line, const struct jinja_value *a,
                                const struct jinja_value *b, bool *out) {
    if (a->kind != b->kind || a->kind == JINJA_BOOL || a->kind == JINJA_INT ||
        a->kind == JINJA_FLOAT) {
        *out = equal_numbers(a, b);
        return STATUS_OK;
    }
    if (a->kind == JINJA_STRING_VALUE) {
        RETURN_IF_ERROR(jinja_run_spend(run, line, a->as.string.length));
        *out = jinja_string_equal(a->as.string, b->as.string);
        return STATUS_OK;
    }
    if (a->kind == JINJA_METHOD)
        return jinja_run_fail(run, line, STATUS_UNSUPPORTED, "'==' of methods is not supported");
    if (a->kind != JINJA_LIST && a->kind != JINJA_DICT) {
        *out = same_thing(a, b);
        return STATUS_OK;
    }
    RETURN_IF_ERROR(jinja_run_enter(run, line));
    if (a->kind == JINJA_LIST)
        RETURN_IF_ERROR(equal_lists(run, line, a->as.list, b->as.list, out));
    else
        RETURN_IF_ERROR(equal_dicts(run, line, a->as.dict, b->as.dict, out));
    run->depth--;
    return STATUS_OK;
}

static enum status contains(struct jinja_run *run, int32_t line, const struct jinja_value *a,
                            const struct jinja_value *b, bool *out) {
    if (b->kind == JINJA_STRING_VALUE) {
        if (a->kind != JINJA_STRING_VALUE)
            return fail_operands(run, line, JINJA_IN, a, b);
        RETURN_IF_ERROR(jinja_run_spend(run, line, b->as.string.length));
        *out = jinja_string_find(b->as.string, a->as.string, 0) >= 0;
        return STATUS_OK;
    }
    if (b->kind == JINJA_DICT) {
        if (a->kind == JINJA_LIST && a->as.list->flavour != JINJA_FLAVOUR_TUPLE)
            return fail_operands(run, line, JINJA_IN, a, b);
        RETURN_IF_ERROR(jinja_run_spend(run, line, (size_t)b->as.dict->count * 16));
        *out = a->kind == JINJA_STRING_VALUE && jinja_value_get(b->as.dict, a->as.string) != NULL;
        return STATUS_OK;
    }
    if (b->kind != JINJA_LIST && b->kind != JINJA_UNDEFINED)
        return fail_operands(run, line, JINJA_IN, a, b);
    struct jinja_list *list = NULL;
    RETURN_IF_ERROR(jinja_access_items(run, line, b, &list));
    bool found = false;
    for (int64_t i = 0; i < list->count && !found; i++) {
        RETURN_IF_ERROR(jinja_run_spend(run, line, 0));
        RETURN_IF_ERROR(jinja_operate_equal(run, line, a, &list->items[i], &found));
    }
    *out = found;
    return STATUS_OK;
}

/* <0, 0, >0; 2 for a NaN, which is in no order. */
static enum status order(struct jinja_run *run, int32_t line, enum jinja_operation operation,
                         const struct jinja_value *a, const struct jinja_value *b, int *out) {
    int64_t a_integer = 0;
    int64_t b_integer = 0;
    double a_number = 0;
    double b_number = 0;
    if (a->kind == JINJA_STRING_VALUE && b->kind == JINJA_STRING_VALUE) {
        RETURN_IF_ERROR(jinja_run_spend(run, line, a->as.string.length));
        int sign = jinja_string_compare(a->as.string, b->as.string);
        *out = (sign > 0) - (sign < 0);
    } else if (jinja_value_integer(a, &a_integer) && jinja_value_integer(b, &b_integer)) {
        *out = (a_integer > b_integer) - (a_integer < b_integer);
    } else if (jinja_value_number(a, &a_number) && jinja_value_number(b, &b_number)) {
        *out =
            isnan(a_number) || isnan(b_number) ? 2 : (a_number > b_number) - (a_number < b_number);
    } else if (a->kind == JINJA_LIST && b->kind == JINJA_LIST) {
        return jinja_run_fail(run, line, STATUS_UNSUPPORTED, "'%s' of lists is not supported",
                              operation_text(operation));
    } else {
        return fail_operands(run, line, operation, a, b);
    }
    return STATUS_OK;
}

enum status jinja_operate_compare(struct jinja_run *run, int32_t line,
                                  enum jinja_operation operation, const struct jinja_value *a,
                                  const struct jinja_value *b, bool *out) {
    bool positive = operation != JINJA_NOT_EQUAL && operation != JINJA_NOT_IN;
    bool is = false;
    int sign = 0;
    if (operation == JINJA_EQUAL || operation == JINJA_NOT_EQUAL) {
        RETURN_IF_ERROR(jinja_operate_equal(run, line, a, b, &is));
    } else if (operation == JINJA_IN || operation == JINJA_NOT_IN) {
        RETURN_IF_ERROR(contains(run, line, a, b, &is));
    } else {
        RETURN_IF_ERROR(order(run, line, operation, a, b, &sign));
        if (operation == JINJA_LESS)
            is = sign == -1;
        else if (operation == JINJA_LESS_EQUAL)
            is = sign == -1 || sign == 0;
        else if (operation == JINJA_GREATER)
            is = sign == 1;
        else
            is = sign == 1 || sign == 0;
    }
    *out = is == positive;
    return STATUS_OK;
}
