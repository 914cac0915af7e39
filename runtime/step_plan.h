/* One step, as the coordinator decides it and every rank executes it: which positions of which
 * sequences are final, and which rows run now. The same bytes on all ranks; nothing that a rank
 * computes itself changes what it does next. */
#ifndef MOEBIUS_RUNTIME_STEP_PLAN_H
#define MOEBIUS_RUNTIME_STEP_PLAN_H

#include <stdbool.h>
#include <stdint.h>

#include "kernels/base/status.h"

/* One sequence in a step. */
struct step_entry {
    int32_t group; /* data-parallel group that holds its keys and values */
    int32_t place; /* which of the request places */
    int32_t keep;  /* positions that are final before this step: rows of the last step beyond are
                      dropped; 0 frees the sequence */
    int32_t first_row; /* of this step's rows, in the plan's arrays */
    int32_t rows;      /* 0: only the above */
    int32_t logits;    /* enum step_logits */
};

enum step_logits { STEP_LOGITS_NONE, STEP_LOGITS_LAST, STEP_LOGITS_ALL };

struct step_plan {
    int64_t step;
    int32_t stop; /* 1: no more steps follow, nothing runs */
    int32_t entry_capacity, row_capacity;
    int32_t entries, rows;
    struct step_entry *entry; /* [entries] */
    int32_t *tokens;          /* [rows] */
    int32_t *parents;         /* [rows]: row within the entry, or -1 */
};

/* Takes memory for the most entries and rows of a step. STATUS_NO_MEMORY (logged). Local. */
enum status step_plan_init(struct step_plan *plan, int32_t entries, int32_t rows);
void step_plan_deinit(struct step_plan *plan);

/* Empties it for step `step`. Local. */
void step_plan_clear(struct step_plan *plan, int64_t step);

/* Appends an entry whose rows are a chain of tokens. Room is the caller's to ensure (bug
 * otherwise). Local. */
void step_plan_add_chain(struct step_plan *plan, struct step_entry entry, const int32_t *tokens);

/* Bytes of the encoded plan, at most. Local. */
int64_t step_plan_bytes_max(const struct step_plan *plan);

/* To and from the wire. decode refuses what does not fit the capacities or contradicts itself:
 * STATUS_PEER (logged). Local. */
int64_t step_plan_encode(const struct step_plan *plan, char *bytes);
enum status step_plan_decode(struct step_plan *plan, const char *bytes, int64_t length);

/* How many rows of logits an entry brings. Local. */
int32_t step_plan_logit_rows(const struct step_entry *entry);

#endif
