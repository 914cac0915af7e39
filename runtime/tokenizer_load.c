/* Loads tokenizer.json: parses it once, then hands each section to the file that knows it. */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/base/log.h"
#include "runtime/json_file.h"
#include "runtime/tokenizer_json.h"
#include "runtime/tokenizer_parts.h"
#include "runtime/tokenizer_template.h"

/* The highest id of model.vocab and added_tokens, every id checked; -1 if there is none. */
static enum status find_highest_id(const struct tokenizer_json *vocab,
                                   const struct tokenizer_json *added, int32_t *highest) {
    json_int_t top = -1;
    const char *key;
    json_t *value;
    if (!json_is_object(vocab->value))
        return tokenizer_json_bad(vocab, "an object");
    for (void *at = json_object_iter((json_t *)(uintptr_t)vocab->value); at != NULL;
         at = json_object_iter_next((json_t *)(uintptr_t)vocab->value, at)) {
        value = json_object_iter_value(at);
        key = json_object_iter_key(at);
        if (!json_is_integer(value) || json_integer_value(value) < 0 ||
            json_integer_value(value) >= TOKENIZER_VOCAB_ID_LIMIT) {
            int32_t unused;
            return tokenizer_json_id(vocab, key, TOKENIZER_VOCAB_ID_LIMIT, &unused);
        }
        top = json_integer_value(value) > top ? json_integer_value(value) : top;
    }
    size_t count;
    RETURN_IF_ERROR(tokenizer_json_count(added, &count));
    for (size_t i = 0; i < count; i++) {
        struct tokenizer_json element;
        int32_t id;
        tokenizer_json_element(added, i, &element);
        RETURN_IF_ERROR(tokenizer_json_id(&element, "id", TOKENIZER_VOCAB_ID_LIMIT, &id));
        top = id > top ? id : top;
    }
    *highest = (int32_t)top;
    return STATUS_OK;
}

static enum status fill_vocab(struct tokenizer_vocab *vocab, const struct tokenizer_json *node) {
    json_t *object = (json_t *)(uintptr_t)node->value; /* iterating does not change it */
    for (void *at = json_object_iter(object); at != NULL; at = json_object_iter_next(object, at)) {
        const char *key = json_object_iter_key(at);
        int32_t id = (int32_t)json_integer_value(json_object_iter_value(at));
        enum status status =
            tokenizer_vocab_add(vocab, key, strlen(key), id, TOKENIZER_VOCAB_MODEL);
        if (status == STATUS_BAD_TOKENIZER) {
            struct tokenizer_json member;
            RETURN_IF_ERROR(tokenizer_json_member(node, key, &member));
            return tokenizer_json_bad(&member, "an id that no other token has");
        }
        RETURN_IF_ERROR(status);
    }
    return STATUS_OK;
}

static enum status insert_added(struct tokenizer *tokenizer, const char *content, size_t length,
                                const struct tokenizer_added_token *token, bool is_normalized) {
    if (!is_normalized)
        return tokenizer_added_insert(&tokenizer->raw, content, length, token);
    struct tokenizer_normalize_scratch scratch = {0};
    enum status status = tokenizer_normalize_run(&tokenizer->normalize, &scratch, content, length,
                                                 &content, &length);
    if (status == STATUS_OK && length > 0)
        status = tokenizer_added_insert(&tokenizer->normalized, content, length, token);
    tokenizer_normalize_scratch_deinit(&scratch);
    return status;
}

static enum status load_added_token(struct tokenizer *tokenizer,
                                    const struct tokenizer_json *node) {
    struct tokenizer_added_token token = {0};
    const char *content;
    size_t length;
    bool is_normalized;
    RETURN_IF_ERROR(tokenizer_json_id(node, "id", TOKENIZER_VOCAB_ID_LIMIT, &token.id));
    RETURN_IF_ERROR(tokenizer_json_string(node, "content", &content, &length));
    RETURN_IF_ERROR(tokenizer_json_bool(node, "special", false, &token.special));
    RETURN_IF_ERROR(tokenizer_json_bool(node, "single_word", false, &token.single_word));
    RETURN_IF_ERROR(tokenizer_json_bool(node, "lstrip", false, &token.lstrip));
    RETURN_IF_ERROR(tokenizer_json_bool(node, "rstrip", false, &token.rstrip));
    RETURN_IF_ERROR(tokenizer_json_bool(node, "normalized", !token.special, &is_normalized));
    if (length == 0)
        return tokenizer_json_bad(node, "a content that is not empty");
    uint32_t flags = TOKENIZER_VOCAB_ADDED | (token.special ? TOKENIZER_VOCAB_SPECIAL : 0u);
    enum status status = tokenizer_vocab_add(&tokenizer->vocab, content, length, token.id, flags);
    if (status == STATUS_BAD_TOKENIZER)
        return tokenizer_json_bad(node, "an id and a content that no other token has");
    RETURN_IF_ERROR(status);
    return insert_added(tokenizer, content, length, &token, is_normalized);
}

/* Checks "model.type": old files have none. */
static enum status check_model(const struct tokenizer_json *model) {
    static const struct tokenizer_json_choice kinds[] = {{"BPE", 0}};
    struct tokenizer_json type;
    int unused;
    if (model->value == NULL)
        return tokenizer_json_bad(model, "an object");
    RETURN_IF_ERROR(tokenizer_json_member(model, "type", &type));
    return type.value == NULL ? STATUS_OK : tokenizer_json_choose(model, "type", kinds, 1, &unused);
}

static enum status load_entries(struct tokenizer *tokenizer, const struct tokenizer_json *root,
                                const struct tokenizer_json *model) {
    struct tokenizer_json vocab;
    struct tokenizer_json added;
    int32_t highest = 0;
    size_t count;
    RETURN_IF_ERROR(tokenizer_json_member(model, "vocab", &vocab));
    RETURN_IF_ERROR(tokenizer_json_member(root, "added_tokens", &added));
    RETURN_IF_ERROR(find_highest_id(&vocab, &added, &highest));
    if (highest < 0)
        return tokenizer_json_bad(&vocab, "at least one token");
    RETURN_IF_ERROR(tokenizer_vocab_init(&tokenizer->vocab, highest + 1));
    RETURN_IF_ERROR(fill_vocab(&tokenizer->vocab, &vocab));
    RETURN_IF_ERROR(tokenizer_json_count(&added, &count));
    for (size_t i = 0; i < count; i++) {
        struct tokenizer_json element;
        tokenizer_json_element(&added, i, &element);
        RETURN_IF_ERROR(load_added_token(tokenizer, &element));
    }
    return STATUS_OK;
}

static enum status load_sections(struct tokenizer *tokenizer, const struct tokenizer_json *root) {
    struct tokenizer_json model;
    struct tokenizer_json node;
    RETURN_IF_ERROR(tokenizer_json_member(root, "model", &model));
    RETURN_IF_ERROR(check_model(&model));
    RETURN_IF_ERROR(tokenizer_json_member(root, "normalizer", &node));
    RETURN_IF_ERROR(tokenizer_normalize_load(&tokenizer->normalize, &node));
    RETURN_IF_ERROR(tokenizer_json_member(root, "pre_tokenizer", &node));
    RETURN_IF_ERROR(tokenizer_split_load(&tokenizer->split, &node));
    RETURN_IF_ERROR(load_entries(tokenizer, root, &model));
    RETURN_IF_ERROR(tokenizer_bpe_load(&tokenizer->bpe, &tokenizer->vocab, &model,
                                       tokenizer->split.byte_level));
    RETURN_IF_ERROR(tokenizer_json_member(root, "post_processor", &node));
    RETURN_IF_ERROR(
        tokenizer_template_load(&node, &tokenizer->vocab, &tokenizer->before, &tokenizer->after));
    RETURN_IF_ERROR(tokenizer_json_member(root, "decoder", &node));
    return tokenizer_decode_load(&tokenizer->decode, &tokenizer->vocab, &tokenizer->normalized,
                                 &node);
}

/* Builds the tokenizer and drops the JSON value. */
static enum status load_value(const char *name, json_t *value, struct tokenizer **tokenizer) {
    struct tokenizer *made = calloc(1, sizeof *made);
    enum status status = STATUS_NO_MEMORY;
    if (made == NULL) {
        LOG_ERROR("%s: cannot take memory for a tokenizer", name);
    } else {
        struct tokenizer_json root = {.file = name, .value = value};
        status = load_sections(made, &root);
    }
    json_file_release(value);
    if (status != STATUS_OK) {
        tokenizer_destroy(made);
        return status;
    }
    *tokenizer = made;
    return STATUS_OK;
}

enum status tokenizer_load_memory(const char *name, const char *bytes, size_t length,
                                  struct tokenizer **tokenizer) {
    json_t *root = NULL;
    RETURN_IF_ERROR(json_file_parse(name, bytes, length, STATUS_BAD_TOKENIZER, &root));
    return load_value(name, root, tokenizer);
}

enum status tokenizer_load(const char *path, struct tokenizer **tokenizer) {
    json_t *root = NULL;
    RETURN_IF_ERROR(json_file_load(path, STATUS_BAD_TOKENIZER, &root));
    return load_value(path, root, tokenizer);
}
