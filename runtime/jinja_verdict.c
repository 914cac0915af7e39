/* The tests of the template language (`is defined`, `is string`, ...), with Jinja2's answers, also
 * where they surprise: an undefined value is iterable and callable, a bool is a number. */
#include "runtime/jinja_verdict.h"

#include "runtime/jinja_operate.h"
#include "runtime/jinja_string.h"

static enum status answer(bool is, struct jinja_value *out) {
    *out = jinja_value_bool(is);
    return STATUS_OK;
}

static enum status is_defined(struct jinja_call *call, struct jinja_value *out) {
    return answer(call->self.kind != JINJA_UNDEFINED, out);
}

static enum status is_undefined(struct jinja_call *call, struct jinja_value *out) {
    return answer(call->self.kind == JINJA_UNDEFINED, out);
}

static enum status is_none(struct jinja_call *call, struct jinja_value *out) {
    return answer(call->self.kind == JINJA_NONE, out);
}

static enum status is_string(struct jinja_call *call, struct jinja_value *out) {
    return answer(call->self.kind == JINJA_STRING_VALUE, out);
}

static enum status is_number(struct jinja_call *call, struct jinja_value *out) {
    double number = 0;
    return answer(jinja_value_number(&call->self, &number), out);
}

static enum status is_integer(struct jinja_call *call, struct jinja_value *out) {
    return answer(call->self.kind == JINJA_INT, out);
}

static enum status is_float(struct jinja_call *call, struct jinja_value *out) {
    return answer(call->self.kind == JINJA_FLOAT, out);
}

static enum status is_boolean(struct jinja_call *call, struct jinja_value *out) {
    return answer(call->self.kind == JINJA_BOOL, out);
}

static enum status is_true(struct jinja_call *call, struct jinja_value *out) {
    return answer(call->self.kind == JINJA_BOOL && call->self.as.boolean, out);
}

static enum status is_false(struct jinja_call *call, struct jinja_value *out) {
    return answer(call->self.kind == JINJA_BOOL && !call->self.as.boolean, out);
}

static enum status is_mapping(struct jinja_call *call, struct jinja_value *out) {
    return answer(call->self.kind == JINJA_DICT, out);
}

static enum status is_iterable(struct jinja_call *call, struct jinja_value *out) {
    enum jinja_kind kind = call->self.kind;
    return answer(kind == JINJA_UNDEFINED || kind == JINJA_STRING_VALUE || kind == JINJA_LIST ||
                      kind == JINJA_DICT || kind == JINJA_LOOP,
                  out);
}

static enum status is_sequence(struct jinja_call *call, struct jinja_value *out) {
    enum jinja_kind kind = call->self.kind;
    if (kind == JINJA_LIST)
        return answer(call->self.as.list->flavour <= JINJA_FLAVOUR_RANGE, out);
    return answer(kind == JINJA_UNDEFINED || kind == JINJA_STRING_VALUE || kind == JINJA_DICT, out);
}

static enum status is_callable(struct jinja_call *call, struct jinja_value *out) {
    enum jinja_kind kind = call->self.kind;
    return answer(kind == JINJA_UNDEFINED || kind == JINJA_LOOP || kind == JINJA_MACRO ||
                      kind == JINJA_METHOD || kind == JINJA_FUNCTION,
                  out);
}

/* Whether self % divisor is `rest`. */
static enum status has_rest(struct jinja_call *call, int64_t divisor, int64_t rest,
                            struct jinja_value *out) {
    struct jinja_value by = jinja_value_int(divisor);
    struct jinja_value modulo;
    RETURN_IF_ERROR(
        jinja_operate_binary(call->run, call->line, JINJA_MODULO, &call->self, &by, &modulo));
    return answer(modulo.kind == JINJA_INT && modulo.as.integer == rest, out);
}

static enum status is_odd(struct jinja_call *call, struct jinja_value *out) {
    return has_rest(call, 2, 1, out);
}

static enum status is_even(struct jinja_call *call, struct jinja_value *out) {
    return has_rest(call, 2, 0, out);
}

static enum status is_divisible(struct jinja_call *call, struct jinja_value *out) {
    int64_t divisor = 0;
    RETURN_IF_ERROR(jinja_call_integer(call, 0, &divisor));
    return has_rest(call, divisor, 0, out);
}

static enum status compare(struct jinja_call *call, enum jinja_operation operation,
                           struct jinja_value *out) {
    bool is = false;
    RETURN_IF_ERROR(jinja_operate_compare(call->run, call->line, operation, &call->self,
                                          call->parameters[0], &is));
    return answer(is, out);
}

static enum status is_equal(struct jinja_call *call, struct jinja_value *out) {
    return compare(call, JINJA_EQUAL, out);
}

static enum status is_not_equal(struct jinja_call *call, struct jinja_value *out) {
    return compare(call, JINJA_NOT_EQUAL, out);
}

static enum status is_less(struct jinja_call *call, struct jinja_value *out) {
    return compare(call, JINJA_LESS, out);
}

static enum status is_less_equal(struct jinja_call *call, struct jinja_value *out) {
    return compare(call, JINJA_LESS_EQUAL, out);
}

static enum status is_greater(struct jinja_call *call, struct jinja_value *out) {
    return compare(call, JINJA_GREATER, out);
}

static enum status is_greater_equal(struct jinja_call *call, struct jinja_value *out) {
    return compare(call, JINJA_GREATER_EQUAL, out);
}

static enum status is_in(struct jinja_call *call, struct jinja_value *out) {
    return compare(call, JINJA_IN, out);
}

const struct jinja_builtin *jinja_verdict_find(struct jinja_string name) {
    static const struct jinja_builtin table[] = {{"defined", is_defined, 0, {NULL}},
                                                 {"undefined", is_undefined, 0, {NULL}},
                                                 {"none", is_none, 0, {NULL}},
                                                 {"string", is_string, 0, {NULL}},
                                                 {"number", is_number, 0, {NULL}},
                                                 {"integer", is_integer, 0, {NULL}},
                                                 {"float", is_float, 0, {NULL}},
                                                 {"boolean", is_boolean, 0, {NULL}},
                                                 {"true", is_true, 0, {NULL}},
                                                 {"false", is_false, 0, {NULL}},
                                                 {"mapping", is_mapping, 0, {NULL}},
                                                 {"iterable", is_iterable, 0, {NULL}},
                                                 {"sequence", is_sequence, 0, {NULL}},
                                                 {"callable", is_callable, 0, {NULL}},
                                                 {"odd", is_odd, 0, {NULL}},
                                                 {"even", is_even, 0, {NULL}},
                                                 {"divisibleby", is_divisible, 1, {"num"}},
                                                 {"equalto", is_equal, 1, {""}},
                                                 {"eq", is_equal, 1, {""}},
                                                 {"==", is_equal, 1, {""}},
                                                 {"ne", is_not_equal, 1, {""}},
                                                 {"!=", is_not_equal, 1, {""}},
                                                 {"lt", is_less, 1, {""}},
                                                 {"lessthan", is_less, 1, {""}},
                                                 {"<", is_less, 1, {""}},
                                                 {"le", is_less_equal, 1, {""}},
                                                 {"<=", is_less_equal, 1, {""}},
                                                 {"gt", is_greater, 1, {""}},
                                                 {"greaterthan", is_greater, 1, {""}},
                                                 {">", is_greater, 1, {""}},
                                                 {"ge", is_greater_equal, 1, {""}},
                                                 {">=", is_greater_equal, 1, {""}},
                                                 {"in", is_in, 1, {"seq"}},
                                                 {NULL, NULL, 0, {NULL}}};
    return jinja_call_find(table, name);
}
