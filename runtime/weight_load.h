/* Moving bytes from a checkpoint into packed matrices: the inner half of model_weights. */
#ifndef MOEBIUS_RUNTIME_WEIGHT_LOAD_H
#define MOEBIUS_RUNTIME_WEIGHT_LOAD_H

#include "runtime/model_weights.h"

/* A stretch of rows or columns; count 0: all of them. */
struct load_range {
    int32_t first, count;
};

/* One stored tensor and its destination. */
struct load_item {
    enum tensor_role role;
    int32_t layer, expert;
    bool is_vector;                          /* stored as [columns], kept as f32 at `vector` */
    int32_t rows, columns;                   /* stored shape (vectors: 1, length) */
    struct load_range own_rows, own_columns; /* what this rank reads of it */
    float *vector;
    struct weight weight; /* matrices: rows go to group `group`, part `part`, from `first_row` on */
    bool elsewhere;       /* another rank's: known, not loaded here */
    enum weight_holders holders;
    int32_t group, first_row;
    enum weight_part part;
};

/* Fills all items from the checkpoint, or with pseudo-random numbers when it is NULL. STATUS_IO,
 * STATUS_NO_MEMORY (logged). Local. */
enum status weight_load_run(const struct model_weights *weights, const struct kernels *kernels,
                            const struct checkpoint *checkpoint);

#endif
