/* Loads: checks a checkpoint against the description, then reads every owned byte range once, in
 * file order, one piece of about a mebibyte at a time on every compute thread, and packs it while
 * it is in the cache. */
#include "runtime/weight_load.h"

#include <math.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/base/check.h"
#include "kernels/base/clock.h"
#include "kernels/base/log.h"

#define PIECE_BYTES (1 << 20)
#define NAME_BYTES 256

/* ---- checking ---- */

static void format_shape(char *text, size_t size, const int64_t *shape, int32_t dimensions) {
    size_t used = 0;
    text[0] = '\0';
    for (int32_t i = 0; i < dimensions && used < size; i++)
        used += (size_t)snprintf(text + used, size - used, "%s%lld", i > 0 ? ", " : "",
                                 (long long)shape[i]);
}

static bool is_float(enum tensor_type type) {
    return type == TENSOR_F32 || type == TENSOR_BF16 || type == TENSOR_F16;
}

static bool shape_matches(const struct load_item *item, const struct tensor_info *tensor) {
    if (item->is_vector)
        return tensor->dimensions == 1 && tensor->shape[0] == item->columns;
    return tensor->dimensions == 2 && tensor->shape[0] == item->rows &&
           tensor->shape[1] == item->columns;
}

/* A check in progress: counts mismatches, logs the first. */
struct check {
    const struct checkpoint *checkpoint;
    weights_mismatch_report report;
    void *context;
    struct weights_mismatch mismatch;
};

static void note_mismatch(struct check *check, int32_t shard, const char *tensor,
                          const char *problem) {
    struct weights_mismatch *m = &check->mismatch;
    if (m->missing + m->extra + m->wrong == 1 && check->report == NULL)
        LOG_ERROR("%s: tensor %s: %s", checkpoint_shard_path(check->checkpoint, shard), tensor,
                  problem);
    if (check->report != NULL)
        check->report(check->context, problem, tensor);
}

static void check_item(struct check *check, const struct load_item *item, const char *name,
                       const struct tensor_info *tensor) {
    char expected[64], got[160], problem[320];
    int64_t shape[2] = {item->rows, item->columns};
    format_shape(expected, sizeof expected, item->is_vector ? shape + 1 : shape,
                 item->is_vector ? 1 : 2);
    if (tensor == NULL) {
        check->mismatch.missing++;
        snprintf(problem, sizeof problem, "expected [%s], got nothing: the tensor is missing",
                 expected);
        note_mismatch(check, 0, name, problem);
        return;
    }
    if (shape_matches(item, tensor) && is_float(tensor->type))
        return;
    check->mismatch.wrong++;
    format_shape(got, sizeof got, tensor->shape, tensor->dimensions);
    snprintf(problem, sizeof problem, "expected F32, BF16 or F16 [%s], got %s [%s]", expected,
             tensor_type_name(tensor->type), got);
    note_mismatch(check, tensor->shard, name, problem);
}

static int compare_pointers(const void *a, const void *b) {
    const struct tensor_info *const *x = a, *const *y = b;
    return (*x > *y) - (*x < *y);
}

/* A tied model may still store its output matrix; it is the embedding again and is not read. */
static bool is_tied_copy(const struct model_weights *weights, const char *name) {
    char output[NAME_BYTES];
    if (!weights->spec->tied_embedding || weights->family->names[ROLE_OUTPUT] == NULL)
        return false;
    family_tensor_name(weights->family, ROLE_OUTPUT, 0, 0, output, sizeof output);
    return strcmp(output, name) == 0;
}

static void check_extra(struct check *check, const struct model_weights *weights,
                        const struct tensor_info **used, int32_t used_count) {
    qsort(used, (size_t)used_count, sizeof *used, compare_pointers);
    for (int32_t i = 0; i < checkpoint_count(check->checkpoint); i++) {
        const struct tensor_info *tensor = checkpoint_at(check->checkpoint, i);
        if (bsearch(&tensor, used, (size_t)used_count, sizeof *used, compare_pointers) != NULL ||
            family_ignores(weights->family, tensor->name) || is_tied_copy(weights, tensor->name))
            continue;
        check->mismatch.extra++;
        note_mismatch(check, tensor->shard, tensor->name,
                      "expected no such tensor in this model, got one: the tensor is extra");
    }
}

enum status model_weights_check(const struct model_weights *weights,
                                const struct checkpoint *checkpoint, weights_mismatch_report report,
                                void *context, struct weights_mismatch *mismatch) {
    const struct tensor_info **used = malloc(sizeof *used * (size_t)weights->item_count);
    if (used == NULL) {
        LOG_ERROR("weights: cannot take memory to compare %d tensors", weights->item_count);
        return STATUS_NO_MEMORY;
    }
    struct check check = {.checkpoint = checkpoint, .report = report, .context = context};
    int32_t used_count = 0;
    for (int32_t i = 0; i < weights->item_count; i++) {
        const struct load_item *item = &weights->items[i];
        char name[NAME_BYTES];
        family_tensor_name(weights->family, item->role, item->layer, item->expert, name,
                           sizeof name);
        const struct tensor_info *tensor = checkpoint_find(checkpoint, name);
        check_item(&check, item, name, tensor);
        if (tensor != NULL)
            used[used_count++] = tensor;
    }
    check_extra(&check, weights, used, used_count);
    free(used);
    *mismatch = check.mismatch;
    return mismatch->missing + mismatch->extra + mismatch->wrong == 0 ? STATUS_OK
                                                                      : STATUS_BAD_CHECKPOINT;
}

/* ---- loading ---- */

/* Some rows of one tensor: what one thread reads and packs at a time. */
struct load_piece {
    const struct load_item *item;
    const struct tensor_info *tensor; /* NULL: dummy numbers */
    int32_t first_row, rows;          /* stored rows */
};

struct load {
    const struct model_weights *weights;
    const struct kernels *kernels;
    const struct checkpoint *checkpoint; /* NULL: dummy numbers */
    struct load_piece *pieces;
    int32_t piece_count, piece_capacity;
    int32_t first_piece;           /* of the run in progress */
    int32_t dealt[WEIGHT_HOLDERS]; /* pieces so far, of all who hold them */
    size_t buffer_bytes;
    char *buffers;      /* one a thread */
    _Atomic int failed; /* enum status of the first failure */
};

static enum dtype stored_dtype(const struct tensor_info *tensor) {
    if (tensor == NULL)
        return DTYPE_BF16; /* dummy numbers */
    return tensor->type == TENSOR_F32    ? DTYPE_F32
           : tensor->type == TENSOR_BF16 ? DTYPE_BF16
                                         : DTYPE_F16;
}

static struct load_range whole_or(struct load_range own, int32_t all) {
    return own.count > 0 ? own : (struct load_range){0, all};
}

static struct load_range rows_of(const struct load_item *item) {
    return whole_or(item->own_rows, item->rows);
}

static struct load_range columns_of(const struct load_item *item) {
    return whole_or(item->own_columns, item->columns);
}

/* Of the own columns. */
static int64_t row_bytes(const struct load_piece *piece) {
    return columns_of(piece->item).count * dtype_bytes(stored_dtype(piece->tensor));
}

/* Whether the next piece of these holders is this rank's to read: they take turns. */
static bool deal(struct load *load, enum weight_holders holders) {
    const struct weight_region *region = &load->weights->region[holders];
    int32_t turn = load->dealt[holders]++;
    return !region->is_shared || turn % region->group.count == region->group.self;
}

static enum status append_pieces(struct load *load, const struct load_item *item) {
    struct load_piece piece = {.item = item};
    if (load->checkpoint != NULL) {
        char name[NAME_BYTES];
        family_tensor_name(load->weights->family, item->role, item->layer, item->expert, name,
                           sizeof name);
        piece.tensor = checkpoint_find(load->checkpoint, name);
        ASSERT(piece.tensor != NULL); /* model_weights_check has passed */
    }
    int64_t rows_a_piece = PIECE_BYTES / row_bytes(&piece);
    if (rows_a_piece < 1)
        rows_a_piece = 1;
    struct load_range own = rows_of(item);
    int32_t end = own.first + own.count;
    for (int32_t row = own.first; row < end; row += piece.rows) {
        piece.first_row = row;
        piece.rows = end - row < rows_a_piece ? end - row : (int32_t)rows_a_piece;
        if (!deal(load, item->holders))
            continue;
        if (load->piece_count == load->piece_capacity) {
            int32_t capacity = load->piece_capacity > 0 ? 2 * load->piece_capacity : 1024;
            struct load_piece *pieces = realloc(load->pieces, sizeof *pieces * (size_t)capacity);
            if (pieces == NULL)
                return STATUS_NO_MEMORY;
            load->pieces = pieces;
            load->piece_capacity = capacity;
        }
        load->pieces[load->piece_count++] = piece;
        size_t bytes = (size_t)(row_bytes(&piece) * piece.rows);
        if (bytes > load->buffer_bytes)
            load->buffer_bytes = bytes;
    }
    return STATUS_OK;
}

static int compare_file_order(const void *a, const void *b) {
    const struct load_piece *x = a, *y = b;
    if (x->tensor->shard != y->tensor->shard)
        return x->tensor->shard < y->tensor->shard ? -1 : 1;
    if (x->tensor->offset != y->tensor->offset)
        return x->tensor->offset < y->tensor->offset ? -1 : 1;
    return (x->first_row > y->first_row) - (x->first_row < y->first_row);
}

static float element_as_f32(const void *source, enum dtype dtype, int32_t index) {
    if (dtype == DTYPE_F32) {
        float value;
        memcpy(&value, (const char *)source + 4 * (size_t)index, sizeof value);
        return value;
    }
    uint16_t bits;
    memcpy(&bits, (const char *)source + 2 * (size_t)index, sizeof bits);
    return dtype == DTYPE_BF16 ? dtype_bf16_to_f32(bits) : dtype_f16_to_f32(bits);
}

/* The largest of a matrix's dummy numbers. Their variance is 1/columns, so that activations keep
 * their size; what is added to the residual is so much smaller that all layers together add as much
 * as the embedding is. Without that the tokens of a sequence would soon all look alike, and go to
 * the same experts, as they never do in a model that was trained. */
static float dummy_amplitude(const struct load_item *item, int32_t layers) {
    float amplitude = sqrtf(3.0f / (float)item->columns);
    bool is_added = item->role == ROLE_O || item->role == ROLE_DENSE_DOWN ||
                    item->role == ROLE_EXPERT_DOWN || item->role == ROLE_SHARED_DOWN;
    return is_added ? amplitude / sqrtf((float)item->rows * 2.0f * (float)layers) : amplitude;
}

/* Uniform numbers, norms all 1, biases 0. Each row has its own beginning, so that the numbers do
 * not depend on who holds which part. */
static void fill_dummy(const struct load_piece *piece, int32_t layers, uint16_t *out) {
    const struct load_item *item = piece->item;
    struct load_range own = columns_of(item);
    if (item->is_vector) {
        bool is_norm = item->role == ROLE_INPUT_NORM || item->role == ROLE_POST_NORM ||
                       item->role == ROLE_FINAL_NORM || item->role == ROLE_Q_NORM ||
                       item->role == ROLE_K_NORM;
        for (int32_t i = 0; i < own.count; i++)
            out[i] = dtype_f32_to_bf16(is_norm ? 1.0f : 0.0f);
        return;
    }
    float amplitude = dummy_amplitude(item, layers);
    for (int32_t row = piece->first_row; row < piece->first_row + piece->rows; row++) {
        uint64_t state = (uint64_t)item->role * 0x9e3779b97f4a7c15u +
                         (uint64_t)item->layer * 0xbf58476d1ce4e5b9u +
                         (uint64_t)item->expert * 0x94d049bb133111ebu +
                         (uint64_t)row * 0xd6e8feb86659fd93u + 1;
        for (int32_t i = 0; i < own.first + own.count; i++) {
            state = state * 6364136223846793005u + 1442695040888963407u;
            float unit = (float)(int32_t)(state >> 32) * 0x1p-31f;
            if (i >= own.first)
                *out++ = dtype_f32_to_bf16(unit * amplitude);
        }
    }
}

/* The own columns of the piece's rows, side by side in `buffer`. */
static enum status read_piece(const struct load *load, const struct load_piece *piece,
                              char *buffer) {
    struct load_range own = columns_of(piece->item);
    int64_t element = dtype_bytes(stored_dtype(piece->tensor)), bytes = row_bytes(piece);
    int64_t stored = piece->item->columns * element;
    if (bytes == stored)
        return checkpoint_read(load->checkpoint, piece->tensor, stored * piece->first_row,
                               stored * piece->rows, buffer);
    for (int32_t row = 0; row < piece->rows; row++)
        RETURN_IF_ERROR(checkpoint_read(load->checkpoint, piece->tensor,
                                        stored * (piece->first_row + row) + own.first * element,
                                        bytes, buffer + row * bytes));
    return STATUS_OK;
}

static void load_one_piece(void *context, int32_t index, int32_t thread) {
    struct load *load = context;
    const struct load_piece *piece = &load->pieces[load->first_piece + index];
    const struct load_item *item = piece->item;
    char *buffer = load->buffers + (size_t)thread * load->buffer_bytes;
    if (atomic_load(&load->failed) != STATUS_OK)
        return;
    if (piece->tensor == NULL) {
        fill_dummy(piece, load->weights->spec->layers, (uint16_t *)(void *)buffer);
    } else {
        enum status status = read_piece(load, piece, buffer);
        if (status != STATUS_OK) {
            atomic_store(&load->failed, (int)status);
            return;
        }
    }
    enum dtype dtype = stored_dtype(piece->tensor);
    if (item->is_vector) {
        for (int32_t i = 0; i < columns_of(item).count; i++)
            item->vector[i] = element_as_f32(buffer, dtype, i);
        return;
    }
    struct weight_piece packed = {.group = item->group,
                                  .part = item->part,
                                  .first_row =
                                      item->first_row + piece->first_row - rows_of(item).first,
                                  .row_count = piece->rows,
                                  .source = buffer,
                                  .source_dtype = dtype,
                                  .source_stride = columns_of(item).count};
    weight_pack(load->kernels, &item->weight, &packed);
}

/* Runs all pieces, a batch at a time so that a long load can say how far it is. */
static void run_with_progress(struct load *load) {
    int32_t batch = 64 * thread_pool_threads(load->kernels->pool);
    int64_t total = 0, done = 0;
    for (int32_t i = 0; i < load->piece_count; i++)
        total += row_bytes(&load->pieces[i]) * load->pieces[i].rows;
    int64_t start = clock_now_ns(), last_line = start;
    for (int32_t first = 0; first < load->piece_count; first += batch) {
        int32_t count = load->piece_count - first < batch ? load->piece_count - first : batch;
        load->first_piece = first;
        thread_pool_run(load->kernels->pool, count, load_one_piece, load);
        for (int32_t i = first; i < first + count; i++)
            done += row_bytes(&load->pieces[i]) * load->pieces[i].rows;
        int64_t now = clock_now_ns();
        if (now - last_line < 1000000000)
            continue;
        last_line = now;
        double seconds = (double)(now - start) * 1e-9;
        LOG_INFO("loading: %.1f of %.1f GB, %.2f GB/s, %.0f s left", (double)done * 1e-9,
                 (double)total * 1e-9, (double)done * 1e-9 / seconds,
                 seconds * (double)(total - done) / (double)done);
    }
    double seconds = (double)(clock_now_ns() - start) * 1e-9;
    LOG_DEBUG("loading: read %lld bytes", (long long)(load->checkpoint != NULL ? total : 0));
    LOG_INFO("loaded %.3f GB in %.2f s (%.2f GB/s)%s", (double)total * 1e-9, seconds,
             (double)total * 1e-9 / seconds, load->checkpoint == NULL ? ", dummy numbers" : "");
}

enum status weight_load_run(const struct model_weights *weights, const struct kernels *kernels,
                            const struct checkpoint *checkpoint) {
    struct load load = {.weights = weights, .kernels = kernels, .checkpoint = checkpoint};
    enum status status = STATUS_OK;
    for (int32_t i = 0; i < weights->item_count && status == STATUS_OK; i++)
        if (!weights->items[i].elsewhere)
            status = append_pieces(&load, &weights->items[i]);
    size_t threads = (size_t)thread_pool_threads(kernels->pool);
    load.buffer_bytes = (load.buffer_bytes + 63) & ~(size_t)63;
    if (status == STATUS_OK)
        load.buffers = malloc(load.buffer_bytes * threads);
    if (load.buffers == NULL) {
        LOG_ERROR("loading: cannot take %zu read buffers of %zu bytes", threads, load.buffer_bytes);
        status = STATUS_NO_MEMORY;
    } else {
        if (checkpoint != NULL && load.pieces != NULL)
            qsort(load.pieces, (size_t)load.piece_count, sizeof *load.pieces, compare_file_order);
        run_with_progress(&load);
        status = (enum status)atomic_load(&load.failed);
    }
    free(load.buffers);
    free(load.pieces);
    return status;
}
