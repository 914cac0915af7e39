/* The CPU's matrix products. All three ops are one product over packed panels with a different last
 * step (bias; SwiGLU; rounding). An item is (expert, a few panels, block of rows). A panel is taken
 * in cuts of K: the rows of the block pass over a cut in tiles while it stays in the second cache,
 * and meanwhile the next cut is fetched from memory.
 * Each output is one accumulator that runs over all of K in ascending order, whatever the cut, so
 * the bits of a row depend on nothing else; or, where an op asks for parts of K, one for each part,
 * and then K is not cut. */
#include "kernels/cpu_gemm.h"

#include <string.h>

#include "kernels/base/check.h"
#include "kernels/gemm_micro.h"

/* Most rows of an item: their sums (64 floats a row) leave most of the second cache to the panel.
 */
#define BLOCK_ROWS_MAX 512
/* Bytes of a cut of a panel. */
#define CUT_BYTES (256 * 1024)
/* Items for each thread that make the last one short enough: rows are split up to the first number,
 * panels are put together down to the second. */
#define ITEMS_PER_THREAD 4
#define ITEMS_PER_THREAD_JOINED 64
#define PANELS_PER_ITEM_MAX 4
/* With one tile only, how far ahead it fetches: like the read loop of a copy. */
#define AHEAD_BYTES 4096
#define LINE_BYTES 64
/* Below this estimate, waking a thread costs more than it gains. */
#define INLINE_NS 4000

/* One step of K (an f32, or a pair of bf16) is 4 bytes of x, and of each row of a panel. */
#define STEP_BYTES 4

#define LEVELS_MAX 4 /* of a tree of GEMM_PARTS_MAX parts, and the part in progress */
_Static_assert(1 << (LEVELS_MAX - 1) == GEMM_PARTS_MAX, "one more than its logarithm");

struct product {
    const struct kernels *kernels;
    const struct gemm_micro *micro;
    gemm_micro_tile tile;
    const struct weight *weight;
    const char *x;
    int64_t x_row_bytes;
    const void *const *x_at; /* as in expert_gate_up_args */
    const int32_t *offsets;  /* as in expert_rows */
    int64_t steps;           /* of K */
    int32_t parts;           /* as in gemm_args */
    int32_t experts, panels;
    int32_t block_rows, run; /* an item: at most this many rows and panels */
    /* Rows `row` .. of the output, columns of `panel`, from `sums` ([rows][micro->panel]). */
    void (*finish)(const struct product *product, int32_t panel, int64_t row, int32_t rows,
                   float *sums);
    const void *args; /* of the op, for finish */
    /* When finish is nothing but a copy: row 0 of an f32 output. Else NULL. */
    float *direct;
    int64_t direct_stride;
    int32_t first_item[CPU_GEMM_GROUPS_MAX + 1];
};

struct item {
    int32_t expert, panel, panel_end;
    int64_t row, end; /* of the output */
};

static int32_t blocks_of(const struct product *product, int32_t expert) {
    int32_t rows = product->offsets[expert + 1] - product->offsets[expert];
    return (rows + product->block_rows - 1) / product->block_rows;
}

static struct item find_item(const struct product *product, int32_t index) {
    int32_t low = 0, high = product->experts; /* first_item[low] <= index < first_item[high] */
    while (high - low > 1) {
        int32_t middle = (low + high) / 2;
        if (product->first_item[middle] <= index)
            low = middle;
        else
            high = middle;
    }
    int32_t blocks = blocks_of(product, low);
    int32_t local = index - product->first_item[low];
    int64_t row = product->offsets[low] + (int64_t)(local % blocks) * product->block_rows;
    int64_t end = row + product->block_rows;
    if (end > product->offsets[low + 1])
        end = product->offsets[low + 1];
    int32_t panel = local / blocks * product->run;
    int32_t panel_end =
        panel + product->run < product->panels ? panel + product->run : product->panels;
    return (struct item){low, panel, panel_end, row, end};
}

/* A cut of one panel. */
struct cut {
    const char *w;
    int64_t first, steps; /* of K */
    int32_t panel;
    bool whole, last; /* all of K; its last part */
};

static int64_t tiles_of(const struct product *product, int64_t rows) {
    return (rows + product->micro->tile_rows - 1) / product->micro->tile_rows;
}

static int32_t wanted_columns(const struct product *product, int32_t panel) {
    int32_t width = product->micro->panel, left = product->weight->rows - panel * width;
    return product->weight->form == WEIGHT_PLAIN && left < width ? left : width;
}

/* Where the tile's rows read from. */
static void point_at_inputs(const struct product *product, const struct cut *cut, int64_t row,
                            struct gemm_tile *tile) {
    for (int32_t i = 0; i < tile->rows; i++) {
        const char *x = product->x_at != NULL ? product->x_at[row + i]
                                              : product->x + (row + i) * product->x_row_bytes;
        tile->x[i] = x + cut->first * STEP_BYTES;
    }
}

/* The sums of one tile, [rows][panel], by parts of K: a stack of sums of 1, 2, 4 ... parts. */
static void multiply_parts(const struct product *product, const struct gemm_tile *whole,
                           float sums[][GEMM_MICRO_ROWS_MAX * GEMM_MICRO_PANEL_MAX]) {
    struct gemm_tile tile = *whole;
    int32_t depth = 0, width = product->micro->panel;
    tile.steps = whole->steps / product->parts;
    tile.sums_stride = width;
    for (int32_t part = 0; part < product->parts; part++) {
        tile.sums = sums[depth++];
        product->tile(&tile);
        for (int32_t done = part; done % 2 == 1; done /= 2) {
            depth--;
            for (int32_t i = 0; i < tile.rows; i++)
                for (int32_t n = i * width; n < i * width + tile.columns; n++)
                    sums[depth - 1][n] += sums[depth][n];
        }
        tile.w = (const char *)tile.w + tile.steps * width * STEP_BYTES;
        tile.ahead += tile.steps * tile.ahead_stride;
        for (int32_t i = 0; i < tile.rows; i++)
            tile.x[i] = (const char *)tile.x[i] + tile.steps * STEP_BYTES;
    }
}

/* One tile from row `row` on. When K is one cut, its sums are born in registers and go straight to
 * the output, or to the head of the scratch, where the last step finds them in the first cache. */
static void multiply_tile(const struct product *product, const struct cut *cut, int64_t row,
                          struct gemm_tile *tile) {
    int64_t width = product->micro->panel;
    bool straight =
        cut->whole && product->direct != NULL && (cut->panel + 1) * width <= product->weight->rows;
    point_at_inputs(product, cut, row, tile);
    if (product->parts > 1) {
        float parts[LEVELS_MAX][GEMM_MICRO_ROWS_MAX * GEMM_MICRO_PANEL_MAX];
        multiply_parts(product, tile, parts);
        product->finish(product, cut->panel, row, tile->rows, parts[0]);
        return;
    }
    if (straight) {
        tile->sums = product->direct + row * product->direct_stride + cut->panel * width;
        tile->sums_stride = product->direct_stride;
    }
    product->tile(tile);
    if (cut->last && !straight)
        product->finish(product, cut->panel, row, tile->rows, tile->sums);
}

/* Adds one cut's share to the sums of the item's rows. Tiles are of even height: one of 1 row would
 * wait for its own additions. They divide the fetching of the next cut, which follows in memory,
 * among them. */
static void multiply(const struct product *product, const struct item *item, const struct cut *cut,
                     float *sums) {
    int64_t step_bytes = product->micro->panel * STEP_BYTES;
    int32_t rows = (int32_t)(item->end - item->row);
    int32_t tiles = (int32_t)tiles_of(product, rows), height = rows / tiles, taller = rows % tiles;
    struct gemm_tile tile = {.w = cut->w,
                             .steps = cut->steps,
                             .fresh = cut->first == 0,
                             .sums = sums,
                             .sums_stride = product->micro->panel,
                             .columns = wanted_columns(product, cut->panel),
                             .ahead_stride = step_bytes / tiles};
    if (tile.ahead_stride < LINE_BYTES)
        tile.ahead_stride = LINE_BYTES;
    const char *next = cut->w + cut->steps * step_bytes, *next_end = next + cut->steps * step_bytes;
    tile.ahead = tiles == 1 ? cut->w + AHEAD_BYTES : next;
    int64_t row = item->row;
    for (int32_t i = 0; i < tiles; i++) {
        tile.rows = height + (i < taller);
        multiply_tile(product, cut, row, &tile);
        row += tile.rows;
        if (!cut->whole)
            tile.sums += tile.rows * tile.sums_stride;
        tile.ahead += cut->steps * tile.ahead_stride;
        if (tile.ahead >= next_end)
            tile.ahead = cut->w;
    }
}

static void compute_panel(const struct product *product, const struct item *item, int32_t panel,
                          float *sums) {
    int64_t step_bytes = product->micro->panel * STEP_BYTES;
    int64_t most = product->parts > 1 ? product->steps : CUT_BYTES / step_bytes;
    const char *w = (const char *)product->weight->data +
                    (size_t)item->expert * product->weight->group_bytes +
                    panel * product->steps * step_bytes;
    for (int64_t first = 0; first < product->steps; first += most) {
        int64_t left = product->steps - first;
        struct cut cut = {.w = w + first * step_bytes,
                          .first = first,
                          .steps = left < most ? left : most,
                          .panel = panel,
                          .whole = product->steps <= most,
                          .last = left <= most};
        multiply(product, item, &cut, sums);
    }
}

static void compute_item(void *context, int32_t index, int32_t thread) {
    const struct product *product = context;
    float *sums =
        (float *)(void *)(product->kernels->scratch + (size_t)thread * KERNELS_SCRATCH_BYTES);
    struct item item = find_item(product, index);
    for (int32_t panel = item.panel; panel < item.panel_end; panel++)
        compute_panel(product, &item, panel, sums);
}

/* Cuts rows into blocks: as few as the scratch allows, but enough items for all threads. Returns
 * the estimated time of all of it in one thread. */
static int64_t plan_items(struct product *product) {
    const struct weight *weight = product->weight;
    int64_t busy = 0, most = 0, rows = product->offsets[product->experts];
    for (int32_t e = 0; e < product->experts; e++) {
        int64_t own = product->offsets[e + 1] - product->offsets[e];
        busy += own > 0;
        most = own > most ? own : most;
    }
    int64_t block = most < BLOCK_ROWS_MAX ? most : BLOCK_ROWS_MAX;
    int64_t threads = thread_pool_threads(product->kernels->pool);
    int64_t wanted = threads * ITEMS_PER_THREAD;
    int64_t least = 4 * product->micro->tile_rows;
    if (busy * product->panels < wanted && block > least) {
        block = block * busy * product->panels / wanted;
        block = block > least ? block : least;
    }
    block +=
        (product->micro->tile_rows - block % product->micro->tile_rows) % product->micro->tile_rows;
    product->block_rows = (int32_t)block;
    int64_t items = 0, blocks = 0;
    for (int32_t e = 0; e < product->experts; e++)
        blocks += blocks_of(product, e);
    int64_t run = blocks * product->panels / (threads * ITEMS_PER_THREAD_JOINED);
    run = run > PANELS_PER_ITEM_MAX ? PANELS_PER_ITEM_MAX : run < 1 ? 1 : run;
    product->run = (int32_t)run;
    for (int32_t e = 0; e < product->experts; e++) {
        product->first_item[e] = (int32_t)items;
        items += (int64_t)blocks_of(product, e) * ((product->panels + run - 1) / run);
    }
    ASSERT(items <= INT32_MAX);
    product->first_item[product->experts] = (int32_t)items;
    int64_t bytes = (int64_t)weight->group_bytes;
    return busy * bytes / 16 + rows * bytes / 128;
}

static void run_product(struct product *product) {
    const struct weight *weight = product->weight;
    bool wide = weight->dtype == DTYPE_F32;
    ASSERT(product->experts == weight->groups && weight->groups <= CPU_GEMM_GROUPS_MAX);
    product->micro = product->kernels->ops->micro;
    ASSERT(weight->panel == product->micro->panel);
    if (product->offsets[product->experts] == 0)
        return;
    product->tile = wide ? product->micro->tile_f32 : product->micro->tile_bf16;
    product->x_row_bytes = activation_stride(weight->columns) * dtype_bytes(weight->dtype);
    product->steps = wide ? weight->columns : (weight->columns + 1) / 2;
    product->panels = weight_panels(weight);
    int64_t estimate_ns = plan_items(product);
    int32_t items = product->first_item[product->experts];
    if (estimate_ns > INLINE_NS) {
        thread_pool_run(product->kernels->pool, items, compute_item, product);
        return;
    }
    for (int32_t i = 0; i < items; i++)
        compute_item(product, i, 0);
}

static int32_t columns_of(const struct product *product, int32_t first, int32_t width) {
    int32_t left = product->weight->rows - first;
    return left < width ? left : width;
}

static void finish_gemm(const struct product *product, int32_t panel, int64_t row, int32_t rows,
                        float *sums) {
    const struct gemm_args *args = product->args;
    int32_t width = product->micro->panel, first = panel * width;
    int32_t count = columns_of(product, first, width);
    for (int32_t i = 0; i < rows; i++, sums += width) {
        float *y = args->y + (row + i) * args->y_stride + first;
        if (args->bias == NULL) {
            memcpy(y, sums, (size_t)count * sizeof *y);
            continue;
        }
        const float *bias = args->bias + first;
        for (int32_t n = 0; n < count; n++)
            y[n] = sums[n] + bias[n];
    }
}

struct rows_out {
    char *data;
    int32_t rows;
    int64_t stride; /* elements */
    enum dtype dtype;
};

/* Rows of sums to rows of an output. */
static void store_rows(const struct product *product, const float *sums, int32_t count,
                       struct rows_out out) {
    int64_t width = product->micro->panel;
    if (out.dtype == DTYPE_BF16) {
        uint16_t *to = (uint16_t *)(void *)out.data;
        product->micro->round_bf16(&(struct gemm_round){out.rows, count, sums, to, out.stride});
        return;
    }
    float *to = (float *)(void *)out.data;
    for (int32_t i = 0; i < out.rows; i++)
        memcpy(to + i * out.stride, sums + i * width, (size_t)count * sizeof *to);
}

static void finish_gate_up(const struct product *product, int32_t panel, int64_t row, int32_t rows,
                           float *sums) {
    const struct expert_gate_up_args *args = product->args;
    const struct weight *weight = product->weight;
    int32_t width = product->micro->panel / 2, first = panel * width;
    int32_t count = columns_of(product, first, width);
    int64_t stride = activation_stride(weight->rows), bytes = dtype_bytes(weight->dtype);
    int64_t padding = panel == product->panels - 1 ? stride - weight->rows : 0;
    char *h = (char *)args->h + (row * stride + first) * bytes;
    product->micro->swiglu(sums, rows);
    store_rows(product, sums, count, (struct rows_out){h, rows, stride, weight->dtype});
    for (int32_t i = 0; i < rows && padding > 0; i++)
        memset(h + (i * stride + count) * bytes, 0, (size_t)(padding * bytes));
}

static void finish_down(const struct product *product, int32_t panel, int64_t row, int32_t rows,
                        float *sums) {
    const struct expert_down_args *args = product->args;
    int32_t width = product->micro->panel, first = panel * width;
    int64_t stride = product->weight->rows, bytes = dtype_bytes(args->y_dtype);
    int32_t count = columns_of(product, first, width);
    char *y = (char *)args->y + first * bytes;
    if (args->place == NULL) {
        store_rows(product, sums, count,
                   (struct rows_out){y + row * stride * bytes, rows, stride, args->y_dtype});
        return;
    }
    for (int32_t i = 0; i < rows; i++, sums += width) {
        char *to = y + args->place[row + i] * stride * bytes;
        store_rows(product, sums, count, (struct rows_out){to, 1, stride, args->y_dtype});
    }
}

void cpu_gemm_gemm(const struct kernels *kernels, const struct gemm_args *args) {
    int32_t parts = args->parts < 1 ? 1 : args->parts;
    ASSERT(args->weight->form == WEIGHT_PLAIN);
    ASSERT((parts & (parts - 1)) == 0 && parts <= GEMM_PARTS_MAX &&
           (parts == 1 || args->weight->columns % (2 * parts) == 0));
    const int32_t offsets[2] = {0, args->rows};
    struct product product;
    product.parts = parts;
    product.kernels = kernels;
    product.weight = args->weight;
    product.x = args->x;
    product.offsets = offsets;
    product.x_at = NULL;
    product.experts = 1;
    product.finish = finish_gemm;
    product.args = args;
    product.direct = args->bias == NULL ? args->y : NULL;
    product.direct_stride = args->y_stride;
    run_product(&product);
}

void cpu_gemm_expert_gate_up(const struct kernels *kernels,
                             const struct expert_gate_up_args *args) {
    ASSERT(args->weight->form == WEIGHT_GATED);
    struct product product;
    product.parts = 1;
    product.kernels = kernels;
    product.weight = args->weight;
    product.x = args->x;
    product.offsets = args->rows.offsets;
    product.x_at = args->x_at;
    product.experts = args->rows.experts;
    product.finish = finish_gate_up;
    product.args = args;
    product.direct = NULL;
    product.direct_stride = 0;
    run_product(&product);
}

void cpu_gemm_expert_down(const struct kernels *kernels, const struct expert_down_args *args) {
    ASSERT(args->weight->form == WEIGHT_PLAIN);
    ASSERT(args->y_dtype == DTYPE_F32 || args->y_dtype == DTYPE_BF16);
    struct product product;
    product.parts = 1;
    product.kernels = kernels;
    product.weight = args->weight;
    product.x = args->h;
    product.offsets = args->rows.offsets;
    product.x_at = NULL;
    product.experts = args->rows.experts;
    product.finish = finish_down;
    product.args = args;
    product.direct = args->y_dtype == DTYPE_F32 && args->place == NULL ? args->y : NULL;
    product.direct_stride = args->weight->rows;
    run_product(&product);
}
