/* Reads the pre_tokenizer of tokenizer.json into the steps that tokenizer_split.c runs. */
#include <stdio.h>
#include <string.h>

#include "runtime/tokenizer_split.h"
#include "runtime/tokenizer_utf8.h"

/* What GPT-2 splits with; ByteLevel's use_regex means this pattern. */
static const char gpt2_pattern[] = "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+|"
                                   " ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";

enum kind { KIND_SEQUENCE, KIND_BYTE_LEVEL, KIND_SPLIT, KIND_DIGITS, KIND_METASPACE };

static const struct tokenizer_json_choice kinds[] = {
    {"Sequence", KIND_SEQUENCE}, {"ByteLevel", KIND_BYTE_LEVEL}, {"Split", KIND_SPLIT},
    {"Digits", KIND_DIGITS},     {"Metaspace", KIND_METASPACE},
};

static const struct tokenizer_json_choice behaviors[] = {
    {"Isolated", TOKENIZER_SPLIT_ISOLATED},
    {"Removed", TOKENIZER_SPLIT_REMOVED},
    {"MergedWithPrevious", TOKENIZER_SPLIT_MERGED_WITH_PREVIOUS},
    {"MergedWithNext", TOKENIZER_SPLIT_MERGED_WITH_NEXT},
    {"Contiguous", TOKENIZER_SPLIT_CONTIGUOUS},
};

static const struct tokenizer_json_choice schemes[] = {
    {"never", TOKENIZER_SPLIT_PREPEND_NEVER},
    {"first", TOKENIZER_SPLIT_PREPEND_FIRST},
    {"always", TOKENIZER_SPLIT_PREPEND_ALWAYS},
};

static enum status compile(struct tokenizer_split_step *step, const struct tokenizer_json *node,
                           const char *pattern, size_t length) {
    char name[400];
    snprintf(name, sizeof name, "%.200s: %s.pattern", node->file, node->path);
    step->cuts = true;
    return tokenizer_regex_init(&step->pattern, name, pattern, length);
}

static enum status load_byte_level(struct tokenizer_split_step *step,
                                   const struct tokenizer_json *node) {
    struct tokenizer_json prefix;
    bool has_prefix;
    bool use_regex;
    RETURN_IF_ERROR(tokenizer_json_member(node, "add_prefix_space", &prefix));
    if (prefix.value == NULL)
        return tokenizer_json_bad(&prefix, "true or false");
    RETURN_IF_ERROR(tokenizer_json_bool(node, "add_prefix_space", false, &has_prefix));
    RETURN_IF_ERROR(tokenizer_json_bool(node, "use_regex", true, &use_regex));
    if (has_prefix)
        step->prepend = TOKENIZER_SPLIT_PREPEND_ALWAYS;
    RETURN_IF_ERROR(text_buffer_append(&step->mark, " ", 1));
    return use_regex ? compile(step, node, gpt2_pattern, sizeof gpt2_pattern - 1) : STATUS_OK;
}

static enum status load_split(struct tokenizer_split_step *step,
                              const struct tokenizer_json *node) {
    bool is_regex;
    const char *pattern;
    size_t length;
    int behavior;
    RETURN_IF_ERROR(tokenizer_json_pattern(node, &is_regex, &pattern, &length));
    RETURN_IF_ERROR(tokenizer_json_choose(node, "behavior", behaviors,
                                          sizeof behaviors / sizeof behaviors[0], &behavior));
    RETURN_IF_ERROR(tokenizer_json_bool(node, "invert", false, &step->invert));
    step->behavior = (enum tokenizer_split_behavior)behavior;
    step->cuts = true;
    return is_regex ? compile(step, node, pattern, length)
                    : tokenizer_regex_init_literal(&step->pattern, pattern, length);
}

static enum status load_digits(struct tokenizer_split_step *step,
                               const struct tokenizer_json *node) {
    bool individual;
    RETURN_IF_ERROR(tokenizer_json_bool(node, "individual_digits", false, &individual));
    step->behavior = individual ? TOKENIZER_SPLIT_ISOLATED : TOKENIZER_SPLIT_CONTIGUOUS;
    return compile(step, node, "\\p{N}", 5);
}

static enum status load_scheme(struct tokenizer_split_step *step,
                               const struct tokenizer_json *node) {
    struct tokenizer_json scheme;
    bool legacy;
    int prepend = TOKENIZER_SPLIT_PREPEND_ALWAYS;
    RETURN_IF_ERROR(tokenizer_json_bool(node, "add_prefix_space", true, &legacy));
    RETURN_IF_ERROR(tokenizer_json_member(node, "prepend_scheme", &scheme));
    if (scheme.value != NULL)
        RETURN_IF_ERROR(tokenizer_json_choose(node, "prepend_scheme", schemes,
                                              sizeof schemes / sizeof schemes[0], &prepend));
    else if (!legacy)
        prepend = TOKENIZER_SPLIT_PREPEND_NEVER;
    step->prepend = (enum tokenizer_split_prepend)prepend;
    return STATUS_OK;
}

static enum status load_metaspace(struct tokenizer_split_step *step,
                                  const struct tokenizer_json *node) {
    const char *mark;
    size_t length;
    size_t size;
    RETURN_IF_ERROR(load_scheme(step, node));
    RETURN_IF_ERROR(tokenizer_json_string(node, "replacement", &mark, &length));
    if (length > 0)
        tokenizer_utf8_read(mark, &size);
    if (length == 0 || size != length) {
        struct tokenizer_json member;
        RETURN_IF_ERROR(tokenizer_json_member(node, "replacement", &member));
        return tokenizer_json_bad(&member, "one character");
    }
    RETURN_IF_ERROR(tokenizer_json_bool(node, "split", true, &step->cuts));
    step->behavior = TOKENIZER_SPLIT_MERGED_WITH_NEXT;
    step->replaces_space = true;
    RETURN_IF_ERROR(text_buffer_append(&step->mark, mark, length));
    return tokenizer_regex_init_literal(&step->pattern, mark, length);
}

static enum status load_step(struct tokenizer_split *split, const struct tokenizer_json *node) {
    int kind;
    RETURN_IF_ERROR(
        tokenizer_json_choose(node, "type", kinds, sizeof kinds / sizeof kinds[0], &kind));
    if (kind == KIND_SEQUENCE)
        return tokenizer_json_unsupported(node, "no sequence within a sequence");
    if (split->byte_level)
        return tokenizer_json_unsupported(node, "nothing behind ByteLevel");
    if (split->count == TOKENIZER_SPLIT_STEPS_MAX)
        return tokenizer_json_unsupported(node, "at most 16 steps");
    struct tokenizer_split_step *step = &split->steps[split->count++];
    *step = (struct tokenizer_split_step){0};
    switch (kind) {
    case KIND_BYTE_LEVEL:
        split->byte_level = true;
        return load_byte_level(step, node);
    case KIND_SPLIT:
        return load_split(step, node);
    case KIND_DIGITS:
        return load_digits(step, node);
    default:
        return load_metaspace(step, node);
    }
}

enum status tokenizer_split_load(struct tokenizer_split *split, const struct tokenizer_json *node) {
    if (node->value == NULL)
        return STATUS_OK;
    int kind;
    RETURN_IF_ERROR(
        tokenizer_json_choose(node, "type", kinds, sizeof kinds / sizeof kinds[0], &kind));
    if (kind != KIND_SEQUENCE)
        return load_step(split, node);
    struct tokenizer_json list;
    size_t count;
    RETURN_IF_ERROR(tokenizer_json_member(node, "pretokenizers", &list));
    RETURN_IF_ERROR(tokenizer_json_count(&list, &count));
    if (list.value == NULL)
        return tokenizer_json_bad(&list, "an array");
    for (size_t i = 0; i < count; i++) {
        struct tokenizer_json element;
        tokenizer_json_element(&list, i, &element);
        RETURN_IF_ERROR(load_step(split, &element));
    }
    return STATUS_OK;
}
