/* Sections of dispatch messages, written in one pass over the home's pairs and read in place. */
#include "moe/expert_message.h"

#include <string.h>

struct section_head {
    int32_t source, rows, pairs;
};

/* Bytes of a section, its head at the very end. */
static int64_t bytes_of(int64_t rows, int64_t pairs, size_t row_bytes) {
    int64_t bytes = rows * (int64_t)row_bytes + pairs * (int64_t)sizeof(struct expert_pair) +
                    (int64_t)sizeof(struct section_head);
    return (bytes + EXPERT_SECTION_ALIGNMENT - 1) / EXPERT_SECTION_ALIGNMENT *
           EXPERT_SECTION_ALIGNMENT;
}

int64_t expert_message_capacity(int64_t sections, int64_t rows, int64_t pairs, size_t row_bytes) {
    int64_t pair_bytes = pairs * (int64_t)sizeof(struct expert_pair);
    return bytes_of(rows, pairs, row_bytes) + pair_bytes +
           sections * (int64_t)(sizeof(struct section_head) + EXPERT_SECTION_ALIGNMENT);
}

/* Zeros between what a section holds and its head. */
static void write_head(char *section, const struct section_head *head, size_t row_bytes) {
    int64_t filled =
                head->rows * (int64_t)row_bytes + head->pairs * (int64_t)sizeof(struct expert_pair),
            at = bytes_of(head->rows, head->pairs, row_bytes) - (int64_t)sizeof *head;
    memset(section + filled, 0, (size_t)(at - filled));
    memcpy(section + at, head, sizeof *head);
}

void expert_message_start(struct expert_writer *writer, char *message, int64_t capacity,
                          int64_t pairs) {
    *writer = (struct expert_writer){.message = message,
                                     .pairs = message + capacity -
                                              pairs * (int64_t)sizeof(struct expert_pair)};
}

void expert_message_open(struct expert_writer *writer, int32_t source) {
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
    int64_t rows = head.rows * (int64_t)row_bytes;
    char *section = writer->message + writer->used - rows;
    memmove(section + rows, writer->pairs, (size_t)head.pairs * sizeof(struct expert_pair));
    write_head(section, &head, row_bytes);
    writer->used += bytes_of(head.rows, head.pairs, row_bytes) - rows;
}

int64_t expert_message_whole(char *section, int32_t source, int32_t rows, size_t row_bytes,
                             const int32_t *slots, int32_t top_k) {
    struct section_head head = {source, rows, rows * top_k};
    char *at = section + (size_t)rows * row_bytes;
    for (int32_t row = 0; row < rows; row++)
        for (int32_t slot = 0; slot < top_k; slot++) {
            struct expert_pair pair = {.row = row, .slot = slots[row * top_k + slot]};
            memcpy(at, &pair, sizeof pair);
            at += sizeof pair;
        }
    write_head(section, &head, row_bytes);
    return bytes_of(head.rows, head.pairs, row_bytes);
}

int expert_message_last(const char *message, int64_t *end, size_t row_bytes, int32_t rows_max,
                        int32_t pairs_max, struct expert_section *section) {
    struct section_head head;
    if (*end < (int64_t)sizeof head)
        return -1;
    memcpy(&head, message + *end - sizeof head, sizeof head);
    if (head.rows < 0 || head.rows > rows_max || head.pairs < 0 || head.pairs > pairs_max)
        return -1;
    int64_t bytes = bytes_of(head.rows, head.pairs, row_bytes);
    if (*end < bytes)
        return -1;
    *end -= bytes;
    *section =
        (struct expert_section){.source = head.source,
                                .rows = head.rows,
                                .pairs = head.pairs,
                                .row_bytes = message + *end,
                                .pair_bytes = message + *end + (size_t)head.rows * row_bytes};
    return 0;
}

struct expert_pair expert_message_pair(const struct expert_section *section, int32_t i) {
    struct expert_pair pair;
    memcpy(&pair, section->pair_bytes + (size_t)i * sizeof pair, sizeof pair);
    return pair;
}
