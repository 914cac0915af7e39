/* One step's ragged batch: rows of any number of sequences, each with a token, an absolute position
 * and a parent. A prefill chunk and a decode row are chains; a draft tree is rows whose parents
 * branch. One forward serves them all. */
#ifndef MOEBIUS_RUNTIME_BATCH_H
#define MOEBIUS_RUNTIME_BATCH_H

#include <stdbool.h>
#include <stdint.h>

#include "kernels/base/status.h"
#include "kernels/kernel_ops.h"
#include "runtime/sequence.h"

#define BATCH_NO_PARENT (-1) /* the row follows the sequence's last committed position */

struct batch {
    int32_t row_capacity, sequence_capacity;
    int32_t rows, sequences;
    int32_t *tokens;                 /* [rows] */
    int32_t *positions;              /* [rows] absolute */
    int32_t *parents;                /* [rows] row number, or BATCH_NO_PARENT */
    int32_t *slots;                  /* [rows] slot in the row's sequence */
    int32_t *kv_blocks;              /* [rows] physical block of that slot */
    int32_t *kv_offsets;             /* [rows] slot within the block */
    struct attention_row *attention; /* [rows] */
    int32_t *paths;                  /* [path_count] slots, see struct attention_row */
    int32_t path_count;
    const int32_t **tables;    /* [sequences] block tables */
    struct sequence **members; /* [sequences] */
    int32_t *logit_rows;       /* [logit_count] rows whose logits are wanted, ascending */
    int32_t logit_count;
};

/* Takes memory for up to `rows` rows of up to `sequences` sequences. STATUS_NO_MEMORY (logged).
 * Local. */
enum status batch_init(struct batch *batch, int32_t rows, int32_t sequences);
void batch_deinit(struct batch *batch);

/* Bytes that batch_init takes. Local. */
int64_t batch_memory_bytes(int32_t rows, int32_t sequences);

/* Empties the batch. Rows staged in its sequences are not touched: commit or roll those back first.
 * Local. */
void batch_clear(struct batch *batch);

/* Begins the rows of one more sequence, whose block table has room for `rows` of them. All its rows
 * are appended before the next batch_begin. STATUS_LIMIT when the batch is full or the table too
 * short; nothing has changed then. Local. */
enum status batch_begin(struct batch *batch, struct sequence *sequence, int32_t rows);

/* Appends one row to the sequence begun last. `parent` is a row of the same sequence in this batch,
 * or BATCH_NO_PARENT. A node may stand at most ATTENTION_PATH_MAX deep unless its ancestors are a
 * plain chain in order. Returns its row number in *row (may be NULL). Room was seen by
 * batch_begin: more rows than that, or a wrong parent, is our bug. Local. */
void batch_append(struct batch *batch, int32_t token, int32_t parent, bool wants_logits,
                  int32_t *row);

/* batch_begin and a chain of `count` tokens; logits are wanted of the last row, or of all. Local.
 */
enum status batch_append_chain(struct batch *batch, struct sequence *sequence,
                               const int32_t *tokens, int32_t count, bool all_logits);

#endif
