/* Sections of dispatch messages, written in one pass over the home's pairs and read in place. */
#include "moe/expert_message.h"

#include <string.h>

struct section_head {
    int32_t source, rows, pairs;
};

int64_t expert_message_capacity(int64_t sections, int64_t rows, int64_t pairs, size_t row_bytes) {
    return sections * (int64_t)sizeof(struct section_head) + rows * (int64_t)row_bytes +
           2 * pairs * (int64_t)sizeof(struct expert_pair);
}

void expert_message_start(struct expert_writer *writer, char *message, int64_t capacity,
                          int64_t pairs) {
    *writer = (struct expert_writer){.message = message,
                                     .pairs = message + capacity -
                                              pairs * (int64_t)sizeof(struct expert_pair)};
}

void expert_message_open(struct expert_writer *writer, int32_t source) {
    writer->used += (int64_t)sizeof(struct section_head);
    writer->source = source;
    writer->row_count = writer->pair_count = 0;
    writer->last = -1;
}

void expert_message_add_row(struct expert_writer *writer, const void *row, size_t row_bytes) {
    memcpy(writer->message + writer->used, row, row_bytes);
    writer->used += (int64_t)row_bytes;
    writer->row_count++;
}

void expert_message_add_pair(struct expert_writer *writer, int32_t slot) {
    struct expert_pair pair = {.row = writer->row_count - 1, .slot = slot};
    memcpy(writer->pairs + (size_t)writer->pair_count++ * sizeof pair, &pair, sizeof pair);
}

void expert_message_close(struct expert_writer *writer, size_t row_bytes) {
    struct section_head head = {writer->source, writer->row_count, writer->pair_count};
    char *end = writer->message + writer->used;
    size_t pair_bytes = (size_t)head.pairs * sizeof(struct expert_pair);
    memcpy(end - (size_t)head.rows * row_bytes - sizeof head, &head, sizeof head);
    memmove(end, writer->pairs, pair_bytes);
    writer->used += (int64_t)pair_bytes;
}

int expert_message_next(const char *message, int64_t bytes, int64_t *at, size_t row_bytes,
                        int32_t rows_max, int32_t pairs_max, struct expert_section *section) {
    struct section_head head;
    if (bytes - *at < (int64_t)sizeof head)
        return -1;
    memcpy(&head, message + *at, sizeof head);
    if (head.rows < 0 || head.rows > rows_max || head.pairs < 0 || head.pairs > pairs_max)
        return -1;
    int64_t rows = head.rows * (int64_t)row_bytes;
    int64_t pairs = head.pairs * (int64_t)sizeof(struct expert_pair);
    if (bytes - *at < (int64_t)sizeof head + rows + pairs)
        return -1;
    const char *first_row = message + *at + sizeof head;
    *section = (struct expert_section){.source = head.source,
                                       .rows = head.rows,
                                       .pairs = head.pairs,
                                       .row_bytes = first_row,
                                       .pair_bytes = first_row + rows};
    *at += (int64_t)sizeof head + rows + pairs;
    return 0;
}

struct expert_pair expert_message_pair(const struct expert_section *section, int32_t i) {
    struct expert_pair pair;
    memcpy(&pair, section->pair_bytes + (size_t)i * sizeof pair, sizeof pair);
    return pair;
}
