/* Token texts in one block, a table by id, and an open hash over the texts. */
#include "runtime/tokenizer_vocab.h"

#include <stdlib.h>
#include <string.h>

#include "kernels/base/check.h"
#include "kernels/base/log.h"
#include "runtime/tokenizer_map.h"

enum status tokenizer_vocab_init(struct tokenizer_vocab *vocab, int32_t id_count) {
    ASSERT(id_count > 0 && id_count <= TOKENIZER_VOCAB_ID_LIMIT);
    uint32_t slots = 64;
    while (slots < 2 * (uint32_t)id_count)
        slots *= 2;
    struct tokenizer_vocab made = {.id_count = id_count, .slot_mask = slots - 1};
    made.entries = calloc((size_t)id_count, sizeof made.entries[0]);
    made.slots = malloc(slots * sizeof made.slots[0]);
    if (made.entries == NULL || made.slots == NULL) {
        LOG_ERROR("tokenizer: cannot take memory for %d ids", id_count);
        tokenizer_vocab_deinit(&made);
        return STATUS_NO_MEMORY;
    }
    memset(made.slots, 0xff, slots * sizeof made.slots[0]);
    *vocab = made;
    return STATUS_OK;
}

void tokenizer_vocab_deinit(struct tokenizer_vocab *vocab) {
    text_buffer_deinit(&vocab->text);
    free(vocab->entries);
    free(vocab->slots);
    *vocab = (struct tokenizer_vocab){0};
}

static uint32_t hash_text(const char *text, size_t length) {
    uint64_t hash = length;
    for (; length >= 8; text += 8, length -= 8) {
        uint64_t eight;
        memcpy(&eight, text, 8);
        hash = tokenizer_map_hash(hash ^ eight);
    }
    uint64_t rest = 0;
    memcpy(&rest, text, length);
    return (uint32_t)tokenizer_map_hash(tokenizer_map_hash(hash ^ rest));
}

static bool has_text(const struct tokenizer_vocab *vocab, int32_t id, const char *text,
                     size_t length) {
    const struct tokenizer_vocab_entry *entry = &vocab->entries[id];
    return entry->length == length && memcmp(vocab->text.data + entry->start, text, length) == 0;
}

/* The slot that holds `text` with this hash, or the free one where it would go. */
static uint32_t slot_of(const struct tokenizer_vocab *vocab, uint32_t hash, const char *text,
                        size_t length) {
    uint32_t at = hash & vocab->slot_mask;
    while (vocab->slots[at].id >= 0) {
        if (vocab->slots[at].hash == hash && has_text(vocab, vocab->slots[at].id, text, length))
            break;
        at = (at + 1) & vocab->slot_mask;
    }
    return at;
}

enum status tokenizer_vocab_add(struct tokenizer_vocab *vocab, const char *text, size_t length,
                                int32_t id, uint32_t flags) {
    ASSERT(id >= 0 && id < vocab->id_count && flags != 0);
    uint32_t hash = hash_text(text, length);
    struct tokenizer_vocab_slot *slot = &vocab->slots[slot_of(vocab, hash, text, length)];
    struct tokenizer_vocab_entry *entry = &vocab->entries[id];
    if (slot->id != id && (slot->id >= 0 || entry->flags != 0))
        return STATUS_BAD_TOKENIZER;
    if (entry->flags == 0) {
        if (length >= UINT32_MAX - vocab->text.length)
            return STATUS_BAD_TOKENIZER;
        entry->start = (uint32_t)vocab->text.length;
        entry->length = (uint32_t)length;
        RETURN_IF_ERROR(text_buffer_reserve(&vocab->text, length + 1)); /* never NULL */
        RETURN_IF_ERROR(text_buffer_append(&vocab->text, text, length));
        *slot = (struct tokenizer_vocab_slot){.hash = hash, .id = id};
    }
    entry->flags |= flags;
    return STATUS_OK;
}

int32_t tokenizer_vocab_find(const struct tokenizer_vocab *vocab, const char *text, size_t length,
                             uint32_t flags) {
    uint32_t hash = hash_text(text, length);
    int32_t id = vocab->slots[slot_of(vocab, hash, text, length)].id;
    return id >= 0 && (vocab->entries[id].flags & flags) != 0 ? id : -1;
}

bool tokenizer_vocab_is(const struct tokenizer_vocab *vocab, int32_t id, const char *text,
                        size_t length, uint32_t flags) {
    return (tokenizer_vocab_flags(vocab, id) & flags) != 0 && has_text(vocab, id, text, length);
}

const char *tokenizer_vocab_text(const struct tokenizer_vocab *vocab, int32_t id, size_t *length) {
    *length = 0;
    if (tokenizer_vocab_flags(vocab, id) == 0)
        return NULL;
    *length = vocab->entries[id].length;
    return vocab->text.data + vocab->entries[id].start;
}

uint32_t tokenizer_vocab_flags(const struct tokenizer_vocab *vocab, int32_t id) {
    return id >= 0 && id < vocab->id_count ? vocab->entries[id].flags : 0;
}
