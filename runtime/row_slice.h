/* The rows of a step that a rank of a tensor-parallel group owns between attention and the next
 * layer: partial sums come in by a reduce-scatter, the residual goes out by an all-gather
 * (design: reduce-scatter, router on the slice, dispatch, experts, combine, all-gather). A rank
 * alone owns all rows, and nothing moves. */
#ifndef MOEBIUS_RUNTIME_ROW_SLICE_H
#define MOEBIUS_RUNTIME_ROW_SLICE_H

#include "comm/collective.h"
#include "kernels/base/memory.h"

struct model;

/* The slice of the step in progress, in the workspace of a model. */
struct row_slice {
    struct collective_rows all; /* who owns which rows: the permutation; columns = hidden */
    int32_t *slices;            /* [group + 1] */
    int32_t rows;               /* own ones */
    int32_t widest;             /* columns of the widest row that is exchanged */
    float *x;                   /* [rows][hidden] their residual */
    float *block_out;           /* [rows][hidden] their sums, then what MLP or MoE adds */
    float *own_x, *own_out;     /* buffers of several ranks; x and block_out point here then */
    float *norm_sums;           /* [TENSOR_PARTS_MAX + 1][rows]: squares of a full-width norm */
    float *norm_shares;         /* [group][2][rows]: those of each rank */
    void *routing; /* [rows][experts] of 4 bytes: what an observer sees; NULL: not wanted */
};

/* Takes the buffers for `rows` rows from the arena, or measures them; for a rank alone next to
 * nothing. Local. */
void row_slice_take(struct arena *arena, const struct model *model, int32_t rows,
                    struct row_slice *slice);

/* How many of a group's rows its member `index` owns: they are dealt out evenly, larger shares
 * first. Local. */
int32_t row_slice_size(int32_t rows, int32_t index, int32_t members);

/* Deals the step's rows out, in order. The same on all ranks of the group. Local. */
void row_slice_plan(struct model *model, int32_t rows);

/* Attention's partial sums workspace.block_out to slice->block_out, added in a tree in rank order;
 * slice->x is the residual of the own rows. STATUS_PEER. Collective over the tensor-parallel
 * group. */
enum status row_slice_reduce(struct model *model, int32_t layer);

/* slice->x of every rank to workspace.x of all. STATUS_PEER. Collective over the group. */
enum status row_slice_gather(struct model *model, int32_t layer);

/* The own rows' `own` [slice rows][columns] of 4-byte elements, columns <= experts; *all is the
 * same of all rows, where model_limits.routing is set; else, and for a rank alone, it is `own`.
 * STATUS_PEER. Collective over the group. */
enum status row_slice_share_routing(struct model *model, int32_t layer, int32_t columns,
                                    const void *own, const void **all);

/* Sums of squares of the own heads' queries and keys, norm_sums [2][rows], become the whole
 * width's, added in a tree in rank order. STATUS_PEER. Collective over the group. */
enum status row_slice_share_norm(struct model *model, int32_t layer, int32_t rows);

#endif
