/* Loads tokenizer.json: parses it once, then hands each section to the file that knows it. */
#include <jansson.h>
#include <stdlib.h>

#include "kernels/base/log.h"
#include "runtime/json_file.h"
#include "runtime/regular_file.h"
#include "runtime/tokenizer_json.h"
#include "runtime/tokenizer_parts.h"
#include "runtime/tokenizer_scan.h"
#include "runtime/tokenizer_template.h"

/* Reads model.vocab: into `vocab` if there is one, else only for its highest id (-1: no entry). */
static enum status read_vocab(const struct tokenizer_scan *scan, struct tokenizer_vocab *vocab,
                              struct tokenizer_scan_string *text, int32_t *highest) {
    struct tokenizer_scan_cursor cursor;
    int32_t top = -1;
    RETURN_IF_ERROR(tokenizer_scan_start(scan, true, &cursor));
    for (;;) {
        int32_t id;
        bool more;
        RETURN_IF_ERROR(tokenizer_scan_entry(&cursor, TOKENIZER_VOCAB_ID_LIMIT, text, &id, &more));
        if (!more)
            break;
        top = id > top ? id : top;
        if (vocab == NULL)
            continue;
        enum status status =
            tokenizer_vocab_add(vocab, text->text, text->length, id, TOKENIZER_VOCAB_MODEL);
        if (status == STATUS_BAD_TOKENIZER)
            return tokenizer_scan_bad(&cursor, "a token and an id that no other entry has");
        RETURN_IF_ERROR(status);
    }
    *highest = top;
    return STATUS_OK;
}

/* The highest id of added_tokens, if that is above *highest. */
static enum status find_highest_added(const struct tokenizer_json *added, int32_t *highest) {
    size_t count;
    RETURN_IF_ERROR(tokenizer_json_count(added, &count));
    for (size_t i = 0; i < count; i++) {
        struct tokenizer_json element;
        int32_t id;
        tokenizer_json_element(added, i, &element);
        RETURN_IF_ERROR(tokenizer_json_id(&element, "id", TOKENIZER_VOCAB_ID_LIMIT, &id));
        *highest = id > *highest ? id : *highest;
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

/* Takes room for all ids, then reads model.vocab into it. */
static enum status load_vocab(struct tokenizer *tokenizer, const struct tokenizer_scan *scan,
                              const struct tokenizer_json *vocab,
                              const struct tokenizer_json *added) {
    struct tokenizer_scan_string text = {0};
    int32_t highest;
    enum status status = read_vocab(scan, NULL, &text, &highest);
    if (status == STATUS_OK)
        status = find_highest_added(added, &highest);
    if (status == STATUS_OK && highest < 0)
        status = tokenizer_json_bad(vocab, "at least one token");
    if (status == STATUS_OK)
        status = tokenizer_vocab_init(&tokenizer->vocab, highest + 1);
    if (status == STATUS_OK)
        status = read_vocab(scan, &tokenizer->vocab, &text, &highest);
    text_buffer_deinit(&text.unescaped);
    return status;
}

static enum status load_entries(struct tokenizer *tokenizer, const struct tokenizer_scan *scan,
                                const struct tokenizer_json *root,
                                const struct tokenizer_json *model) {
    struct tokenizer_json vocab;
    struct tokenizer_json added;
    size_t count;
    RETURN_IF_ERROR(tokenizer_json_member(model, "vocab", &vocab));
    RETURN_IF_ERROR(tokenizer_json_member(root, "added_tokens", &added));
    if (scan->vocab.start == NULL)
        return tokenizer_json_bad(&vocab, "an object");
    RETURN_IF_ERROR(load_vocab(tokenizer, scan, &vocab, &added));
    RETURN_IF_ERROR(tokenizer_json_count(&added, &count));
    for (size_t i = 0; i < count; i++) {
        struct tokenizer_json element;
        tokenizer_json_element(&added, i, &element);
        RETURN_IF_ERROR(load_added_token(tokenizer, &element));
    }
    return STATUS_OK;
}

static enum status load_sections(struct tokenizer *tokenizer, const struct tokenizer_scan *scan,
                                 const struct tokenizer_json *root) {
    struct tokenizer_json model;
    struct tokenizer_json node;
    RETURN_IF_ERROR(tokenizer_json_member(root, "model", &model));
    RETURN_IF_ERROR(check_model(&model));
    RETURN_IF_ERROR(tokenizer_json_member(root, "normalizer", &node));
    RETURN_IF_ERROR(tokenizer_normalize_load(&tokenizer->normalize, &node));
    RETURN_IF_ERROR(tokenizer_json_member(root, "pre_tokenizer", &node));
    RETURN_IF_ERROR(tokenizer_split_load(&tokenizer->split, &node));
    RETURN_IF_ERROR(load_entries(tokenizer, scan, root, &model));
    RETURN_IF_ERROR(tokenizer_bpe_load(&tokenizer->bpe, &tokenizer->vocab, scan, &model,
                                       tokenizer->split.byte_level));
    RETURN_IF_ERROR(tokenizer_json_member(root, "post_processor", &node));
    RETURN_IF_ERROR(
        tokenizer_template_load(&node, &tokenizer->vocab, &tokenizer->before, &tokenizer->after));
    RETURN_IF_ERROR(tokenizer_json_member(root, "decoder", &node));
    return tokenizer_decode_load(&tokenizer->decode, &tokenizer->vocab, &tokenizer->normalized,
                                 &node);
}

/* Builds the tokenizer from the parsed rest and the sections that were cut out. */
static enum status build(const struct tokenizer_scan *scan, const json_t *value,
                         struct tokenizer **tokenizer) {
    struct tokenizer_json root = {.file = scan->file, .value = value};
    struct tokenizer *made = calloc(1, sizeof *made);
    if (made == NULL) {
        LOG_ERROR("%s: cannot take memory for a tokenizer", scan->file);
        return STATUS_NO_MEMORY;
    }
    enum status status = load_sections(made, scan, &root);
    if (status != STATUS_OK) {
        tokenizer_destroy(made);
        return status;
    }
    *tokenizer = made;
    return STATUS_OK;
}

enum status tokenizer_load_memory(const char *name, const char *bytes, size_t length,
                                  struct tokenizer **tokenizer) {
    struct tokenizer_scan scan;
    json_t *value = NULL;
    enum status status = tokenizer_scan_init(&scan, name, bytes, length);
    if (status == STATUS_OK)
        status =
            json_file_parse(name, scan.rest.data, scan.rest.length, STATUS_BAD_TOKENIZER, &value);
    if (status == STATUS_OK)
        status = build(&scan, value, tokenizer);
    json_file_release(value);
    tokenizer_scan_deinit(&scan);
    return status;
}

enum status tokenizer_load(const char *path, struct tokenizer **tokenizer) {
    char *text = NULL;
    size_t length;
    enum status status = regular_file_load(path, JSON_FILE_BYTES_MAX, &text, &length);
    if (status == STATUS_OK)
        status = tokenizer_load_memory(path, text, length, tokenizer);
    free(text);
    return status == STATUS_LIMIT ? STATUS_BAD_TOKENIZER : status;
}
