/* How an op's rows are spread over the threads. Static, because it is compiled into files of every
 * instruction set. */
#ifndef MOEBIUS_KERNELS_CPU_JOB_H
#define MOEBIUS_KERNELS_CPU_JOB_H

#include "kernels/kernel_ops.h"

/* Elements of work (read or written, a fraction of a nanosecond each) under which waking a thread
 * costs more than it gains. */
#define CPU_JOB_INLINE_ELEMENTS 32768
/* Elements of work that an item of a row job should have. */
#define CPU_JOB_ITEM_ELEMENTS 8192

/* Runs the items here if the whole job is small, else on the pool. */
static inline void cpu_job_run(const struct kernels *kernels, int32_t items, int64_t elements,
                               thread_pool_task task, void *context) {
    if (elements > CPU_JOB_INLINE_ELEMENTS) {
        thread_pool_run(kernels->pool, items, task, context);
        return;
    }
    for (int32_t item = 0; item < items; item++)
        task(context, item, 0);
}

/* Computes one row of an op; `scratch` is the thread's own. */
typedef void (*cpu_job_row)(const void *args, int32_t row, char *scratch);

struct cpu_job_rows {
    const struct kernels *kernels;
    const void *args;
    cpu_job_row compute;
    int32_t rows, rows_per_item;
};

static inline void cpu_job_rows_item(void *context, int32_t item, int32_t thread) {
    const struct cpu_job_rows *job = context;
    int32_t first = item * job->rows_per_item;
    int32_t end = job->rows - first < job->rows_per_item ? job->rows : first + job->rows_per_item;
    for (int32_t row = first; row < end; row++)
        job->compute(job->args, row,
                     job->kernels->scratch + (size_t)thread * KERNELS_SCRATCH_BYTES);
}

/* compute(args, row, scratch) for every row; `elements` is the work of one row. */
static inline void cpu_job_run_rows(const struct kernels *kernels, int32_t rows, int64_t elements,
                                    cpu_job_row compute, const void *args) {
    int64_t per_item = elements > 0 ? CPU_JOB_ITEM_ELEMENTS / elements : rows;
    per_item = per_item < 1 ? 1 : per_item;
    per_item = per_item < rows ? per_item : rows;
    struct cpu_job_rows job = {kernels, args, compute, rows, (int32_t)per_item};
    if (rows > 0)
        cpu_job_run(kernels, (rows - 1) / job.rows_per_item + 1, rows * elements, cpu_job_rows_item,
                    &job);
}

#endif
