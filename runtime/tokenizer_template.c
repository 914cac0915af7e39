/* Reads the post-processor: of TemplateProcessing only what stands around a single text. */
#include "runtime/tokenizer_template.h"

#include <jansson.h>
#include <stdio.h>
#include <string.h>

struct loader {
    const struct tokenizer_vocab *vocab;
    struct token_list *before;
    struct token_list *after;
};

enum kind { KIND_SEQUENCE, KIND_TEMPLATE, KIND_BYTE_LEVEL };

static const struct tokenizer_json_choice kinds[] = {
    {"Sequence", KIND_SEQUENCE},
    {"TemplateProcessing", KIND_TEMPLATE},
    {"ByteLevel", KIND_BYTE_LEVEL}, /* changes offsets only */
};

/* Puts an id in: behind the text, or before it at place `*place`, which moves on. */
static enum status put(struct loader *loader, int32_t id, bool behind, int64_t *place) {
    if (behind)
        return token_list_append(loader->after, id);
    struct token_list *before = loader->before;
    RETURN_IF_ERROR(token_list_append(before, id));
    memmove(before->ids + *place + 1, before->ids + *place,
            (size_t)(before->count - 1 - *place) * sizeof before->ids[0]);
    before->ids[(*place)++] = id;
    return STATUS_OK;
}

/* The ids of one special token: special_tokens.NAME.ids. */
static enum status put_special(struct loader *loader, const struct tokenizer_json *node,
                               const struct tokenizer_json *special, bool behind, int64_t *place) {
    struct tokenizer_json tokens;
    struct tokenizer_json entry;
    struct tokenizer_json ids;
    const char *name;
    size_t length;
    size_t count;
    RETURN_IF_ERROR(tokenizer_json_string(special, "id", &name, &length));
    RETURN_IF_ERROR(tokenizer_json_member(node, "special_tokens", &tokens));
    RETURN_IF_ERROR(tokenizer_json_member(&tokens, name, &entry));
    RETURN_IF_ERROR(tokenizer_json_member(&entry, "ids", &ids));
    RETURN_IF_ERROR(tokenizer_json_count(&ids, &count));
    if (count == 0)
        return tokenizer_json_bad(&ids, "at least one id");
    for (size_t i = 0; i < count; i++) {
        struct tokenizer_json id;
        tokenizer_json_element(&ids, i, &id);
        json_int_t value = json_integer_value(id.value);
        if (!json_is_integer(id.value) || value < 0 || value >= loader->vocab->id_count ||
            tokenizer_vocab_flags(loader->vocab, (int32_t)value) == 0)
            return tokenizer_json_bad(&id, "an id that a token has");
        RETURN_IF_ERROR(put(loader, (int32_t)value, behind, place));
    }
    return STATUS_OK;
}

static enum status check_sequence(const struct tokenizer_json *sequence, bool seen) {
    const char *name;
    size_t length;
    RETURN_IF_ERROR(tokenizer_json_string(sequence, "id", &name, &length));
    if (seen || strcmp(name, "A") != 0)
        return tokenizer_json_unsupported(sequence, "the sequence A once");
    return STATUS_OK;
}

static enum status load_template(struct loader *loader, const struct tokenizer_json *node) {
    struct tokenizer_json single;
    size_t count;
    bool seen = false;
    int64_t place = 0;
    RETURN_IF_ERROR(tokenizer_json_member(node, "single", &single));
    RETURN_IF_ERROR(tokenizer_json_count(&single, &count));
    for (size_t i = 0; i < count; i++) {
        struct tokenizer_json element;
        struct tokenizer_json special;
        struct tokenizer_json sequence;
        tokenizer_json_element(&single, i, &element);
        RETURN_IF_ERROR(tokenizer_json_member(&element, "SpecialToken", &special));
        RETURN_IF_ERROR(tokenizer_json_member(&element, "Sequence", &sequence));
        if (special.value != NULL) {
            RETURN_IF_ERROR(put_special(loader, node, &special, seen, &place));
        } else {
            RETURN_IF_ERROR(check_sequence(&sequence, seen));
            seen = true;
        }
    }
    return seen ? STATUS_OK : tokenizer_json_unsupported(&single, "the sequence A once");
}

static enum status load_step(struct loader *loader, const struct tokenizer_json *node) {
    int kind;
    RETURN_IF_ERROR(
        tokenizer_json_choose(node, "type", kinds, sizeof kinds / sizeof kinds[0], &kind));
    if (kind == KIND_SEQUENCE)
        return tokenizer_json_unsupported(node, "no sequence within a sequence");
    return kind == KIND_TEMPLATE ? load_template(loader, node) : STATUS_OK;
}

enum status tokenizer_template_load(const struct tokenizer_json *node,
                                    const struct tokenizer_vocab *vocab, struct token_list *before,
                                    struct token_list *after) {
    struct loader loader = {.vocab = vocab, .before = before, .after = after};
    if (node->value == NULL)
        return STATUS_OK;
    int kind;
    RETURN_IF_ERROR(
        tokenizer_json_choose(node, "type", kinds, sizeof kinds / sizeof kinds[0], &kind));
    if (kind != KIND_SEQUENCE)
        return load_step(&loader, node);
    struct tokenizer_json list;
    size_t count;
    RETURN_IF_ERROR(tokenizer_json_member(node, "processors", &list));
    RETURN_IF_ERROR(tokenizer_json_count(&list, &count));
    for (size_t i = 0; i < count; i++) {
        struct tokenizer_json element;
        tokenizer_json_element(&list, i, &element);
        RETURN_IF_ERROR(load_step(&loader, &element));
    }
    return STATUS_OK;
}
