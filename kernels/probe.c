/* Machine limits for benchmarks: read bandwidth and the peak of the multiplying tile. */
#include "kernels/probe.h"

#include <stdlib.h>
#include <string.h>

#include "kernels/base/check.h"
#include "kernels/base/clock.h"
#include "kernels/base/log.h"
#include "kernels/base/memory.h"
#include "kernels/gemm_micro.h"

#define READ_ITEM_BYTES (256 * 1024)
#define READ_NS 300000000
#define PEAK_NS 200000000
#define PASSES_MIN 3
/* One tile: this much of a panel, and its rows of x, fit the first cache. */
#define PEAK_PANEL_BYTES (16 * 1024)
#define PEAK_TILES 100
#define PEAK_ITEMS_PER_THREAD 8

/* Runs a job again and again for about `limit_ns`; the shortest time in ns. */
static int64_t best_ns(const struct kernels *kernels, int32_t items, thread_pool_task task,
                       void *context, int64_t limit_ns) {
    int64_t start_ns = clock_now_ns(), best = INT64_MAX;
    for (int32_t pass = 0; pass < PASSES_MIN || clock_now_ns() - start_ns < limit_ns; pass++) {
        int64_t before_ns = clock_now_ns();
        thread_pool_run(kernels->pool, items, task, context);
        int64_t taken_ns = clock_now_ns() - before_ns;
        best = taken_ns < best ? taken_ns : best;
    }
    return best > 0 ? best : 1;
}

struct read_job {
    const struct kernels *kernels;
    const struct probe_range *pieces;
};

static uint32_t read_portable(const char *data, size_t bytes) {
    uint32_t words[8] = {0}, block[8];
    for (size_t at = 0; at < bytes; at += sizeof block) {
        memcpy(block, data + at, sizeof block);
        for (int i = 0; i < 8; i++)
            words[i] += block[i];
    }
    return words[0] + words[1] + words[2] + words[3] + words[4] + words[5] + words[6] + words[7];
}

static void read_item(void *context, int32_t item, int32_t thread) {
    const struct read_job *job = context;
    const struct probe_range *piece = &job->pieces[item];
    const struct gemm_micro *micro = job->kernels->ops->micro;
    size_t bytes = (size_t)piece->bytes;
    uint32_t sum =
        micro != NULL ? micro->read(piece->data, bytes) : read_portable(piece->data, bytes);
    /* Somewhere visible, so that the reads cannot be left out. */
    memcpy(job->kernels->scratch + (size_t)thread * KERNELS_SCRATCH_BYTES, &sum, sizeof sum);
}

/* Cuts the ranges into pieces of READ_ITEM_BYTES, in order; counts only when pieces is NULL. */
static int64_t cut_ranges(const struct probe_range *ranges, int32_t count,
                          struct probe_range *pieces, int64_t *bytes) {
    int64_t items = 0;
    *bytes = 0;
    for (int32_t i = 0; i < count; i++) {
        int64_t whole = ranges[i].bytes & ~INT64_C(1023);
        for (int64_t at = 0; at < whole; at += READ_ITEM_BYTES, items++) {
            int64_t left = whole - at;
            if (pieces != NULL)
                pieces[items] =
                    (struct probe_range){(const char *)ranges[i].data + at,
                                         left < READ_ITEM_BYTES ? left : READ_ITEM_BYTES};
        }
        *bytes += whole;
    }
    return items;
}

enum status probe_read_bandwidth(const struct kernels *kernels, const struct probe_range *ranges,
                                 int32_t count, double *bytes_per_second) {
    int64_t bytes, items = cut_ranges(ranges, count, NULL, &bytes);
    ASSERT(items >= 1 && items <= INT32_MAX);
    struct probe_range *pieces = malloc(sizeof *pieces * (size_t)items);
    if (pieces == NULL) {
        LOG_ERROR("bandwidth probe: cannot take a list of %lld pieces", (long long)items);
        return STATUS_NO_MEMORY;
    }
    cut_ranges(ranges, count, pieces, &bytes);
    struct read_job job = {kernels, pieces};
    int64_t taken_ns = best_ns(kernels, (int32_t)items, read_item, &job, READ_NS);
    free(pieces);
    *bytes_per_second = (double)bytes * 1e9 / (double)taken_ns;
    return STATUS_OK;
}

struct peak_job {
    const struct kernels *kernels;
    gemm_micro_tile tile;
    int64_t steps;
};

/* The scratch holds zeros: panel, then rows of x, then sums. */
static void peak_item(void *context, int32_t item, int32_t thread) {
    (void)item;
    const struct peak_job *job = context;
    const struct gemm_micro *micro = job->kernels->ops->micro;
    char *panel = job->kernels->scratch + (size_t)thread * KERNELS_SCRATCH_BYTES;
    char *rows = panel + PEAK_PANEL_BYTES;
    float *sums = (float *)(void *)(rows + GEMM_MICRO_ROWS_MAX * job->steps * 4);
    struct gemm_tile tile = {.rows = micro->tile_rows,
                             .w = panel,
                             .steps = job->steps,
                             .fresh = true,
                             .sums = sums,
                             .sums_stride = micro->panel,
                             .columns = micro->panel,
                             .ahead = panel};
    for (int i = 0; i < GEMM_MICRO_ROWS_MAX; i++)
        tile.x[i] = rows + i * job->steps * 4;
    for (int32_t i = 0; i < PEAK_TILES; i++)
        job->tile(&tile);
}

#define REFERENCE_SIZE 64

/* The reference has no tile: a small product of its own. */
static enum status reference_peak(const struct kernels *kernels, enum dtype dtype,
                                  double *operations_per_second) {
    struct weight weight;
    weight_describe(kernels, WEIGHT_PLAIN, dtype, 1, REFERENCE_SIZE, REFERENCE_SIZE, &weight);
    void *data = NULL;
    size_t row_bytes = REFERENCE_SIZE * sizeof(float);
    size_t bytes = weight_bytes(&weight) + 2 * REFERENCE_SIZE * row_bytes;
    RETURN_IF_ERROR(memory_acquire("gemm probe", bytes, &data));
    weight.data = data;
    char *x = (char *)data + weight_bytes(&weight);
    float *y = (float *)(void *)(x + REFERENCE_SIZE * row_bytes);
    struct gemm_args args = {
        .rows = REFERENCE_SIZE, .x = x, .weight = &weight, .y = y, .y_stride = REFERENCE_SIZE};
    int64_t before_ns = clock_now_ns();
    kernels->ops->gemm(kernels, &args);
    int64_t taken_ns = clock_now_ns() - before_ns;
    memory_release(data, bytes);
    *operations_per_second =
        2e9 * REFERENCE_SIZE * REFERENCE_SIZE * REFERENCE_SIZE / (double)(taken_ns + 1);
    return STATUS_OK;
}

enum status probe_gemm_peak(const struct kernels *kernels, enum dtype dtype,
                            double *operations_per_second) {
    ASSERT(dtype == DTYPE_F32 || dtype == DTYPE_BF16);
    const struct gemm_micro *micro = kernels->ops->micro;
    if (micro == NULL)
        return reference_peak(kernels, dtype, operations_per_second);
    bool wide = dtype == DTYPE_F32;
    int32_t threads = thread_pool_threads(kernels->pool), items = threads * PEAK_ITEMS_PER_THREAD;
    struct peak_job job = {kernels, wide ? micro->tile_f32 : micro->tile_bf16,
                           PEAK_PANEL_BYTES / (micro->panel * 4)};
    memset(kernels->scratch, 0, (size_t)threads * KERNELS_SCRATCH_BYTES);
    int64_t taken_ns = best_ns(kernels, items, peak_item, &job, PEAK_NS);
    double multiply_adds = (double)items * PEAK_TILES * micro->tile_rows * micro->panel *
                           (double)job.steps * (wide ? 1 : 2);
    *operations_per_second = 2e9 * multiply_adds / (double)taken_ns;
    return STATUS_OK;
}
