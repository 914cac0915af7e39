/* Turns "these tokens of these sequences" into the flat arrays that the kernels read. Filled by the
 * engine from the step's plan, before model_forward. */
#include "runtime/batch.h"

#include <stdlib.h>

#include "kernels/base/check.h"
#include "kernels/base/log.h"

enum status batch_init(struct batch *batch, int32_t rows, int32_t sequences) {
    ASSERT(rows > 0 && sequences > 0);
    size_t r = (size_t)rows, s = (size_t)sequences;
    int32_t *numbers = malloc(sizeof *numbers * r * 7);
    int32_t *paths = malloc(sizeof *paths * r * ATTENTION_PATH_MAX);
    struct attention_row *attention = malloc(sizeof *attention * r);
    const int32_t **tables = malloc(sizeof *tables * s);
    struct sequence **members = malloc(sizeof *members * s);
    *batch = (struct batch){.row_capacity = rows,
                            .sequence_capacity = sequences,
                            .tokens = numbers,
                            .paths = paths,
                            .attention = attention,
                            .tables = tables,
                            .members = members};
    if (!numbers || !paths || !attention || !tables || !members) {
        LOG_ERROR("batch: cannot take memory for %d rows of %d sequences", rows, sequences);
        batch_deinit(batch);
        return STATUS_NO_MEMORY;
    }
    batch->positions = numbers + r;
    batch->parents = numbers + 2 * r;
    batch->slots = numbers + 3 * r;
    batch->kv_blocks = numbers + 4 * r;
    batch->kv_offsets = numbers + 5 * r;
    batch->logit_rows = numbers + 6 * r;
    return STATUS_OK;
}

int64_t batch_memory_bytes(int32_t rows, int32_t sequences) {
    int64_t row =
        (int64_t)sizeof(int32_t) * (7 + ATTENTION_PATH_MAX) + (int64_t)sizeof(struct attention_row);
    return rows * row + sequences * (int64_t)(2 * sizeof(void *));
}

void batch_deinit(struct batch *batch) {
    free(batch->tokens);
    free(batch->paths);
    free(batch->attention);
    free(batch->tables);
    free(batch->members);
    *batch = (struct batch){0};
}

void batch_clear(struct batch *batch) {
    batch->rows = batch->sequences = batch->path_count = batch->logit_count = 0;
}

enum status batch_begin(struct batch *batch, struct sequence *sequence, int32_t rows) {
    ASSERT(sequence->staged == 0);
    if (batch->rows + rows > batch->row_capacity || batch->sequences == batch->sequence_capacity ||
        !sequence_has_room(sequence, rows))
        return STATUS_LIMIT;
    batch->tables[batch->sequences] = sequence->blocks;
    batch->members[batch->sequences] = sequence;
    batch->sequences++;
    return STATUS_OK;
}

/* Writes the slots of the row's ancestors among the staged rows, and its own, in position order. */
static void append_path(struct batch *batch, int32_t row, int32_t depth) {
    ASSERT(depth <= ATTENTION_PATH_MAX);
    int32_t *path = batch->paths + batch->path_count;
    int32_t node = row;
    for (int32_t i = depth - 1; i >= 0; i--) {
        path[i] = batch->slots[node];
        node = batch->parents[node];
    }
    batch->attention[row].path_start = batch->positions[row] - depth + 1;
    batch->attention[row].path = batch->path_count;
    batch->path_count += depth;
}

void batch_append(struct batch *batch, int32_t token, int32_t parent, bool wants_logits,
                  int32_t *row_out) {
    int32_t row = batch->rows, table = batch->sequences - 1;
    ASSERT(row < batch->row_capacity && table >= 0);
    struct sequence *sequence = batch->members[table];
    int32_t slot = sequence->committed + sequence->staged;
    ASSERT(slot / KV_BLOCK_TOKENS < sequence->block_count);
    ASSERT(parent == BATCH_NO_PARENT ||
           (parent >= row - sequence->staged && parent < row && parent >= 0));

    int32_t position =
        parent == BATCH_NO_PARENT ? sequence->committed : batch->positions[parent] + 1;
    bool parent_is_plain =
        parent == BATCH_NO_PARENT || batch->attention[parent].path_start > batch->positions[parent];
    batch->tokens[row] = token;
    batch->positions[row] = position;
    batch->parents[row] = parent;
    batch->slots[row] = slot;
    batch->kv_blocks[row] = sequence->blocks[slot / KV_BLOCK_TOKENS];
    batch->kv_offsets[row] = slot % KV_BLOCK_TOKENS;
    batch->attention[row] = (struct attention_row){
        .table = table, .position = position, .path_start = position + 1, .path = 0};
    if (slot != position || !parent_is_plain)
        append_path(batch, row, position - sequence->committed + 1);
    if (wants_logits)
        batch->logit_rows[batch->logit_count++] = row;
    sequence->staged++;
    batch->rows++;
    if (row_out != NULL)
        *row_out = row;
}

enum status batch_append_chain(struct batch *batch, struct sequence *sequence,
                               const int32_t *tokens, int32_t count, bool all_logits) {
    RETURN_IF_ERROR(batch_begin(batch, sequence, count));
    int32_t parent = BATCH_NO_PARENT;
    for (int32_t i = 0; i < count; i++)
        batch_append(batch, tokens[i], parent, all_logits || i == count - 1, &parent);
    return STATUS_OK;
}
