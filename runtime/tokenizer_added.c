/* Finds added tokens in text with a trie, from left to right. */
#include "runtime/tokenizer_added.h"

#include <stdlib.h>

#include "kernels/base/log.h"
#include "runtime/tokenizer_utf8.h"

#define NO_NODE UINT64_MAX

void tokenizer_added_deinit(struct tokenizer_added *added) {
    text_buffer_deinit(&added->text);
    free(added->tokens);
    tokenizer_map_deinit(&added->edges);
    tokenizer_map_deinit(&added->endings);
    *added = (struct tokenizer_added){0};
}

static enum status append_token(struct tokenizer_added *added,
                                const struct tokenizer_added_token *token) {
    size_t count = added->token_count;
    if ((count & (count - 1)) == 0) { /* full: capacities are the powers of two */
        size_t capacity = count == 0 ? 1 : 2 * count;
        struct tokenizer_added_token *tokens = realloc(added->tokens, capacity * sizeof tokens[0]);
        if (tokens == NULL) {
            LOG_ERROR("tokenizer: cannot take memory for %zu added tokens", capacity);
            return STATUS_NO_MEMORY;
        }
        added->tokens = tokens;
    }
    added->tokens[added->token_count++] = *token;
    return STATUS_OK;
}

static uint64_t edge_key(uint64_t node, char byte) {
    return node << 8 | (unsigned char)byte;
}

enum status tokenizer_added_insert(struct tokenizer_added *added, const char *bytes, size_t length,
                                   const struct tokenizer_added_token *token) {
    RETURN_IF_ERROR(append_token(added, token));
    added->tokens[added->token_count - 1].start = (uint32_t)added->text.length;
    added->tokens[added->token_count - 1].length = (uint32_t)length;
    RETURN_IF_ERROR(text_buffer_append(&added->text, bytes, length));
    uint64_t node = 0;
    for (size_t i = 0; i < length; i++) {
        uint64_t next = tokenizer_map_get(&added->edges, edge_key(node, bytes[i]), NO_NODE);
        if (next == NO_NODE) {
            next = ++added->node_count;
            RETURN_IF_ERROR(tokenizer_map_set(&added->edges, edge_key(node, bytes[i]), next));
        }
        node = next;
    }
    added->starts[(unsigned char)bytes[0]] = true;
    return tokenizer_map_set(&added->endings, node, added->token_count - 1);
}

/* The longest token that starts at `at`: its index and end, or NULL. */
static const struct tokenizer_added_token *longest_at(const struct tokenizer_added *added,
                                                      const char *text, size_t length, size_t at,
                                                      size_t *end) {
    const struct tokenizer_added_token *found = NULL;
    uint64_t node = 0;
    for (size_t i = at; i < length; i++) {
        node = tokenizer_map_get(&added->edges, edge_key(node, text[i]), NO_NODE);
        if (node == NO_NODE)
            break;
        uint64_t ending = tokenizer_map_get(&added->endings, node, NO_NODE);
        if (ending != NO_NODE) {
            found = &added->tokens[ending];
            *end = i + 1;
        }
    }
    return found;
}

static bool stands_alone(const char *text, size_t length, size_t start, size_t end) {
    size_t size;
    if (start > 0 && tokenizer_utf8_is_word(
                         tokenizer_utf8_read(text + tokenizer_utf8_previous(text, start), &size)))
        return false;
    return end == length || !tokenizer_utf8_is_word(tokenizer_utf8_read(text + end, &size));
}

static size_t skip_space_before(const char *text, size_t start, size_t limit) {
    while (start > limit) {
        size_t size;
        size_t previous = tokenizer_utf8_previous(text, start);
        if (!tokenizer_utf8_is_space(tokenizer_utf8_read(text + previous, &size)))
            break;
        start = previous;
    }
    return start > limit ? start : limit;
}

static size_t skip_space_after(const char *text, size_t length, size_t end) {
    while (end < length) {
        size_t size;
        if (!tokenizer_utf8_is_space(tokenizer_utf8_read(text + end, &size)))
            break;
        end += size;
    }
    return end;
}

static enum status append_piece(struct text_buffer *pieces, size_t start, size_t end, int32_t id) {
    struct tokenizer_added_piece piece = {.start = start, .end = end, .id = id};
    return text_buffer_append(pieces, (char *)&piece, sizeof piece);
}

enum status tokenizer_added_cut(const struct tokenizer_added *added, const char *text,
                                size_t length, bool plain_special, struct text_buffer *pieces) {
    pieces->length = 0;
    size_t done = 0;
    size_t at = 0;
    while (at < length && added->token_count > 0) {
        size_t end = at + 1;
        const struct tokenizer_added_token *token = added->starts[(unsigned char)text[at]]
                                                        ? longest_at(added, text, length, at, &end)
                                                        : NULL;
        size_t start = at;
        at = end;
        if (token == NULL || (plain_special && token->special) ||
            (token->single_word && !stands_alone(text, length, start, end)))
            continue;
        if (token->lstrip)
            start = skip_space_before(text, start, done);
        if (token->rstrip)
            end = skip_space_after(text, length, end);
        if (done < start)
            RETURN_IF_ERROR(append_piece(pieces, done, start, -1));
        RETURN_IF_ERROR(append_piece(pieces, start, end, token->id));
        /* A token of white space may lie in what an rstrip token before it has swallowed: it still
         * counts, and the text goes on behind it, as in Hugging Face's library. */
        done = end;
    }
    return done < length ? append_piece(pieces, done, length, -1) : STATUS_OK;
}
