/* One step, as the coordinator decides it and every rank executes it: which positions of which
 * sequences are final, which blocks hold them, and which rows run now. The same bytes on all ranks;
 * nothing that a rank computes itself changes what it does next.
 *
 * Ranks own no blocks: a sequence's block table is what the plans said. A sequence that is not in a
 * plan is as it was; one that has ended is never heard of again. */
#ifndef MOEBIUS_RUNTIME_STEP_PLAN_H
#define MOEBIUS_RUNTIME_STEP_PLAN_H

#include <stdbool.h>
#include <stdint.h>

#include "kernels/base/status.h"
#include "runtime/step_admission.h"

/* One sequence in a step. */
struct step_entry {
    int32_t group; /* data-parallel group that holds its keys and values */
    int32_t place; /* which of the request places */
    int32_t keep;  /* positions that are final before this step: rows of the last step beyond are
                      dropped. On a new place (table_first 0) those in the blocks that others have
                      filled: a prefix hit */
    int32_t first_row; /* of this step's rows, in the plan's arrays */
    int32_t rows;
    int32_t logit_from; /* logits are wanted of rows logit_from .. rows - 1 */
    int32_t scores;     /* of the first so many of those: the log-probability of the token behind */
    int32_t next;       /* the token behind the last row; -1: unknown, or not needed */
    bool samples;       /* the last row chooses a token */
    bool sends;         /* the wanted logits travel whole to the coordinator */
    int32_t table_first; /* length of the block table before `blocks` are appended: as the last plan
                            left it or shorter, 0 for a new place */
    int32_t first_block; /* of the appended ones, in the plan's array */
    int32_t blocks;
};

struct step_limits {
    int32_t groups, places;
    int32_t entries, rows; /* of one step */
    int32_t blocks;        /* appended in one step */
    int32_t kv_blocks;     /* of one group: ids are below */
    int32_t vocabulary;
    int32_t positions; /* longest sequence */
    int32_t history;   /* tokens of all admissions of one plan */
};

struct step_plan {
    struct step_limits limits;
    int64_t step;
    int32_t stop; /* 1: no more steps follow, nothing runs */
    int32_t tell; /* 1: nothing runs, all ranks tell their counters (rank_counts.h) */
    int32_t more; /* 1: only admissions; the same step's next plan follows, nothing runs yet */
    int32_t entries, rows, blocks, admissions, history;
    struct step_entry *entry;         /* [entries] */
    int32_t *tokens;                  /* [rows] */
    int32_t *parents;                 /* [rows]: row within the entry, or -1 */
    int32_t *block;                   /* [blocks] ids within the entry's group */
    struct step_admission *admission; /* [admissions] in force before the entries */
    struct sampling_params *sampling; /* [limits.entries] of decoded admissions */
    int32_t *decoded_history;         /* [limits.history] */
    void *region;                     /* all of the above */
};

/* Takes memory for the most that `limits` allow. STATUS_NO_MEMORY (logged). Local. */
enum status step_plan_init(struct step_plan *plan, const struct step_limits *limits);
void step_plan_deinit(struct step_plan *plan);

/* Empties it for step `step`. Local. */
void step_plan_clear(struct step_plan *plan, int64_t step);

/* Appends an entry whose rows are a chain of tokens; `blocks` [entry.blocks] join its table. Room
 * is the caller's to ensure (bug otherwise). Local. */
void step_plan_add_chain(struct step_plan *plan, struct step_entry entry, const int32_t *tokens,
                         const int32_t *blocks);

/* Whether an admission fits in; adding it is allowed only then (bug otherwise). Local. */
bool step_plan_admits(const struct step_plan *plan, const struct step_admission *admission);
void step_plan_add_admission(struct step_plan *plan, const struct step_admission *admission);

/* Bytes that step_plan_init takes. Local. */
int64_t step_plan_memory_bytes(const struct step_limits *limits);

/* Bytes of the encoded plan, at most. Local. */
int64_t step_plan_bytes_max(const struct step_limits *limits);

/* To and from the wire. decode refuses what does not fit the limits or contradicts itself:
 * STATUS_PEER (logged). Local. */
int64_t step_plan_encode(const struct step_plan *plan, char *bytes);
enum status step_plan_decode(struct step_plan *plan, const char *bytes, int64_t length);

/* How many rows of logits an entry brings. Local. */
int32_t step_plan_logit_rows(const struct step_entry *entry);

#endif
