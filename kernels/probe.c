/* Machine limits for benchmarks: read bandwidth and the peak of the multiplying tile. */
#include "kernels/probe.h"

#include <string.h>

#include "kernels/base/check.h"
#include "kernels/base/clock.h"
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
    char *region;
};

static uint32_t read_portable(const char *data) {
    uint32_t words[8] = {0}, block[8];
    for (int64_t at = 0; at < READ_ITEM_BYTES; at += (int64_t)sizeof block) {
        memcpy(block, data + at, sizeof block);
        for (int i = 0; i < 8; i++)
            words[i] += block[i];
    }
    return words[0] + words[1] + words[2] + words[3] + words[4] + words[5] + words[6] + words[7];
}

static void read_item(void *context, int32_t item, int32_t thread) {
    const struct read_job *job = context;
    const char *data = job->region + (int64_t)item * READ_ITEM_BYTES;
    const struct gemm_micro *micro = job->kernels->ops->micro;
    uint32_t sum = micro != NULL ? micro->read(data, READ_ITEM_BYTES) : read_portable(data);
    /* Somewhere visible, so that the reads cannot be left out. */
    memcpy(job->kernels->scratch + (size_t)thread * KERNELS_SCRATCH_BYTES, &sum, sizeof sum);
}

static void fill_item(void *context, int32_t item, int32_t thread) {
    (void)thread;
    const struct read_job *job = context;
    memset(job->region + (int64_t)item * READ_ITEM_BYTES, item & 0x7f, READ_ITEM_BYTES);
}

enum status probe_read_bandwidth(const struct kernels *kernels, int64_t bytes,
                                 double *bytes_per_second) {
    int64_t items = (bytes + READ_ITEM_BYTES - 1) / READ_ITEM_BYTES;
    ASSERT(items >= 1 && items <= INT32_MAX);
    void *region = NULL;
    size_t region_bytes = (size_t)items * READ_ITEM_BYTES;
    RETURN_IF_ERROR(memory_acquire("bandwidth probe", region_bytes, &region));
    struct read_job job = {kernels, region};
    thread_pool_run(kernels->pool, (int32_t)items, fill_item, &job);
    int64_t taken_ns = best_ns(kernels, (int32_t)items, read_item, &job, READ_NS);
    memory_release(region, region_bytes);
    *bytes_per_second = (double)region_bytes * 1e9 / (double)taken_ns;
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
    struct gemm_tile tile = {micro->tile_rows, {0}, panel, job->steps, sums, panel, 0};
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
    struct gemm_args args = {REFERENCE_SIZE, x, &weight, NULL, y, REFERENCE_SIZE};
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
