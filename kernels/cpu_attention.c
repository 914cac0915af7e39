/* Fast attention; this file is compiled once for each instruction set (CPU_SUFFIX). It stands
 * between the q/k/v projections and the output projection of a layer.
 *
 * An item of work is a tile (a few consecutive rows of one sequence) times one kv head with its
 * group of query heads, so that keys and values are read once for all of them. Chunk by chunk:
 * scores of the whole tile, softmax of each query over what its own row sees, then weighted values
 * of the slots that all rows see, the ragged edges row by row. A slot that a row does not see is
 * never multiplied for it, so neither a tile's shape nor garbage in a slot can change a bit. A tree
 * node's keys and values are first copied to where plain decoding would have them. The reference is
 * ref_attention.c. */
#include "kernels/cpu_attention.h"

#include <math.h>
#include <stdbool.h>
#include <string.h>

#include "kernels/base/check.h"
#include "kernels/cpu_attention_tile.h"
#include "kernels/cpu_job.h"
#include "kernels/cpu_vector.h"

/* Blocks that the slots of a tree node's path can touch, the block of path_start included. */
#define GATHERED_BLOCKS ((ATTENTION_PATH_MAX + KV_BLOCK_TOKENS - 2) / KV_BLOCK_TOKENS + 1)
#define GATHERED_BYTES (GATHERED_BLOCKS * 2 * KV_BLOCK_TOKENS * ATTENTION_HEAD_DIM_MAX * 4)
_Static_assert(sizeof(struct tile_scratch) + GATHERED_BYTES <= KERNELS_SCRATCH_BYTES,
               "a tile and a gathered path must fit into a thread's scratch");

#define SOFTEN_QUERIES 4 /* whose softmax is computed side by side */

struct tile {
    const struct attention_args *args;
    struct tile_scratch *scratch;
    int32_t first_row, rows; /* consecutive positions of one sequence; rows * group queries */
    int32_t first_head, group;
    const int32_t *table;           /* of the sequence */
    const char *cache;              /* this kv head in block 0 */
    size_t block_bytes, head_bytes; /* of a block, of this head in it */
    char *gathered;         /* copies of the blocks from gathered_block on, this kv head only */
    int32_t gathered_block; /* INT32_MAX: no tree node */
    int32_t seen_from[TILE_QUERIES], seen_end[TILE_QUERIES]; /* [rows]: slots of this chunk */
};

/* Bytes of one head's keys and values in a block. */
static size_t head_bytes(const struct kv_shape *shape) {
    return (size_t)(2 * kv_head_elements(shape) * dtype_bytes(shape->dtype));
}

static const char *block_of(const struct tile *tile, int32_t block) {
    if (block >= tile->gathered_block)
        return tile->gathered + (size_t)(block - tile->gathered_block) * tile->head_bytes;
    return tile->cache + (size_t)tile->table[block] * tile->block_bytes;
}

/* First position that a row sees. */
static int32_t first_position(const struct attention_args *args, int32_t position) {
    return args->window > 0 && position >= args->window ? position - args->window + 1 : 0;
}

static bool is_tree_node(const struct attention_row *row) {
    return row->path_start <= row->position;
}

/* Copies one slot's key and value from one block of a head to another. */
static void copy_slot(const struct kv_shape *shape, const char *from, int32_t from_token, char *to,
                      int32_t to_token) {
    int64_t keys_bytes = kv_head_elements(shape) * dtype_bytes(shape->dtype);
    const uint32_t *key = (const uint32_t *)(const void *)from + from_token;
    uint32_t *key_copy = (uint32_t *)(void *)to + to_token;
    for (int64_t i = 0; i < keys_bytes / 4; i += KV_BLOCK_TOKENS)
        key_copy[i] = key[i];
    int64_t dim = shape->head_dim;
    if (shape->dtype == DTYPE_F32) {
        memcpy(to + keys_bytes + to_token * dim * 4, from + keys_bytes + from_token * dim * 4,
               (size_t)dim * 4);
        return;
    }
    const uint16_t *value = (const uint16_t *)(const void *)(from + keys_bytes);
    uint16_t *value_copy = (uint16_t *)(void *)(to + keys_bytes);
    value += from_token / 2 * 2 * dim + from_token % 2;
    value_copy += to_token / 2 * 2 * dim + to_token % 2;
    for (int64_t d = 0; d < dim; d++)
        value_copy[2 * d] = value[2 * d];
}

/* Lays out what a tree node sees from path_start's block on as plain decoding would have it. */
static void gather_path(struct tile *tile) {
    const struct attention_args *args = tile->args;
    const struct attention_row *row = &args->row[tile->first_row];
    int32_t first_block = row->path_start / KV_BLOCK_TOKENS;
    ASSERT(row->position + 1 - row->path_start <= ATTENTION_PATH_MAX);
    if (row->path_start % KV_BLOCK_TOKENS != 0)
        memcpy(tile->gathered, block_of(tile, first_block), tile->head_bytes);
    for (int32_t p = row->path_start; p <= row->position; p++) {
        int32_t slot = args->paths[row->path + p - row->path_start];
        int32_t to = p - first_block * KV_BLOCK_TOKENS;
        char *block = tile->gathered + (size_t)(to / KV_BLOCK_TOKENS) * tile->head_bytes;
        copy_slot(&args->shape, block_of(tile, slot / KV_BLOCK_TOKENS), slot % KV_BLOCK_TOKENS,
                  block, to % KV_BLOCK_TOKENS);
    }
    tile->gathered_block = first_block;
}

static const float *query_of(const struct tile *tile, int32_t query) {
    const struct attention_args *args = tile->args;
    return args->q + (tile->first_row + query / tile->group) * args->q_stride +
           (int64_t)(tile->first_head + query % tile->group) * args->shape.head_dim;
}

/* One query in the form that tile_broadcast reads. */
static void load_query(const struct tile *tile, int32_t query) {
    const struct attention_args *args = tile->args;
    int32_t dim = args->shape.head_dim;
    const float *from = query_of(tile, query);
    float *to = tile->scratch->queries[query];
    if (args->shape.dtype == DTYPE_F32) {
        memcpy(to, from, (size_t)dim * sizeof(float));
        return;
    }
    uint16_t copy[ATTENTION_HEAD_DIM_MAX + 2];
    uint16_t *rounded = TILE_DOT_BF16 ? (uint16_t *)(void *)to : copy;
    int32_t padded = (dim + 1) & ~1, d = 0;
    for (; d <= dim - VEC_LANES; d += VEC_LANES)
        vec_store_bf16(rounded + d, vec_load(from + d));
    if (d < dim)
        vec_store_bf16_part(rounded + d, vec_load_part(from + d, dim - d), dim - d);
    vec_store_bf16_part(rounded + dim, (vec){0}, padded - dim); /* an odd last pair's other half */
    if (TILE_DOT_BF16)
        return;
    for (d = 0; d < padded; d++) {
        // NOLINTNEXTLINE(clang-analyzer-core.CallAndMessage): all of padded is set
        to[d] = dtype_bf16_to_f32(rounded[d]);
    }
}

static void start_queries(const struct tile *tile) {
    struct tile_scratch *scratch = tile->scratch;
    int32_t queries = tile->rows * tile->group;
    for (int32_t query = 0; query < queries; query++) {
        for (int32_t d = 0; d < tile->args->shape.head_dim; d += TILE_LINE_BYTES / 4)
            __builtin_prefetch(query_of(tile, query) + d);
    }
    for (int32_t query = 0; query < queries; query++) {
        load_query(tile, query);
        scratch->maximum[query] = -INFINITY;
        scratch->sum[query] = 0;
        for (int32_t d = 0; d < tile->args->shape.head_dim; d += VEC_LANES) /* rows are padded */
            vec_store(scratch->values[query] + d, (vec){0});
    }
}

VEC_INLINE void score_count(enum dtype dtype, int count, struct tile_score_args *args, int32_t end,
                            struct tile_scratch *scratch) {
    const int wide = tile_vectors(count) / TILE_BLOCK_VECTORS;
    for (; wide > 1 && args->first_block + wide <= end; args->first_block += wide)
        tile_score(dtype, count, wide, args, scratch);
    for (; args->first_block < end; args->first_block++)
        tile_score(dtype, count, 1, args, scratch);
}

/* Scores of `count` queries against blocks first_block .. end - 1 of the chunk. */
VEC_INLINE void score_blocks(enum dtype dtype, int32_t count, struct tile_score_args args,
                             int32_t end, struct tile_scratch *scratch) {
    if (TILE_MICRO >= 8 && count == 8)
        score_count(dtype, 8, &args, end, scratch);
    else if (TILE_MICRO >= 4 && count == 4)
        score_count(dtype, 4, &args, end, scratch);
    else if (count == 2)
        score_count(dtype, 2, &args, end, scratch);
    else
        score_count(dtype, 1, &args, end, scratch);
}

/* The next micro-kernel's share of `left` queries: the largest power of two that fits. */
static int32_t next_count(int32_t left) {
    int32_t count = TILE_MICRO;
    while (count > left)
        count /= 2;
    return count;
}

static void score_tile(const struct tile *tile, int32_t first_block, int32_t end_block) {
    const struct kv_shape *shape = &tile->args->shape;
    bool is_f32 = shape->dtype == DTYPE_F32;
    struct tile_score_args args = {
        .first_block = first_block,
        .steps = is_f32 ? shape->head_dim : (shape->head_dim + 1) / 2,
        .values_offset = kv_head_elements(shape) * dtype_bytes(shape->dtype),
        .scale = tile->args->scale,
    };
    int32_t queries = tile->rows * tile->group;
    while (args.first_query < queries) {
        int32_t count = next_count(queries - args.first_query);
        if (is_f32)
            score_blocks(DTYPE_F32, count, args, end_block, tile->scratch);
        else
            score_blocks(DTYPE_BF16, count, args, end_block, tile->scratch);
        args.first_query += count;
    }
}

/* Weighted values of `count` queries, all dims. */
VEC_INLINE void value_count(enum dtype dtype, int count, struct tile_value_args *args,
                            struct tile_scratch *scratch) {
    const int wide = tile_vectors(count);
    for (; args->dim + wide * VEC_LANES <= args->head_dim; args->dim += wide * VEC_LANES)
        tile_add_values(dtype, count, wide, args, scratch);
    for (; args->dim + VEC_LANES <= args->head_dim; args->dim += VEC_LANES)
        tile_add_values(dtype, count, 1, args, scratch);
    for (int m = 0; args->dim < args->head_dim && m < count; m++)
        tile_add_values_part(dtype, m, args, scratch);
}

VEC_INLINE void value_steps(enum dtype dtype, int32_t count, struct tile_value_args args,
                            struct tile_scratch *scratch) {
    if (TILE_MICRO >= 8 && count == 8)
        value_count(dtype, 8, &args, scratch);
    else if (TILE_MICRO >= 4 && count == 4)
        value_count(dtype, 4, &args, scratch);
    else if (count == 2)
        value_count(dtype, 2, &args, scratch);
    else
        value_count(dtype, 1, &args, scratch);
}

/* Slots of the chunk, all seen by all of the queries. */
struct seen {
    int32_t first_query, queries;
    int32_t from, end;
};

static void add_half(const struct tile *tile, const struct seen *seen, enum tile_keep keep,
                     struct tile_value_args args) {
    for (int32_t i = 0; i < seen->queries; i++) {
        args.first_query = seen->first_query + i;
        tile_add_half(keep, &args, tile->scratch);
    }
}

/* Adds the weighted values of the seen slots in ascending order. */
static void add_seen(const struct tile *tile, struct seen seen) {
    const struct kv_shape *shape = &tile->args->shape;
    bool is_f32 = shape->dtype == DTYPE_F32;
    int32_t slots_per_step = is_f32 ? 1 : 2;
    struct tile_value_args args = {
        .head_dim = shape->head_dim,
        .values_offset = kv_head_elements(shape) * dtype_bytes(shape->dtype),
    };
    if (seen.from >= seen.end)
        return;
    if (seen.from % slots_per_step != 0) {
        args.first_step = seen.from++ / slots_per_step;
        add_half(tile, &seen, TILE_KEEP_ODD, args);
    }
    args.first_step = seen.from / slots_per_step;
    args.end_step = seen.end / slots_per_step;
    for (int32_t done = 0; done < seen.queries && args.first_step < args.end_step;) {
        int32_t count = next_count(seen.queries - done);
        args.first_query = seen.first_query + done;
        if (is_f32)
            value_steps(DTYPE_F32, count, args, tile->scratch);
        else
            value_steps(DTYPE_BF16, count, args, tile->scratch);
        done += count;
    }
    if (seen.end % slots_per_step != 0 && seen.from < seen.end) {
        args.first_step = seen.end / slots_per_step;
        add_half(tile, &seen, TILE_KEEP_EVEN, args);
    }
}

/* The slots from .. end - 1 as far as each row among `queries` sees them, row by row. */
static void add_row_by_row(const struct tile *tile, const struct seen *share) {
    int32_t end_query = share->first_query + share->queries;
    for (int32_t query = share->first_query; query < end_query;) {
        int32_t row = query / tile->group;
        int32_t next = (row + 1) * tile->group < end_query ? (row + 1) * tile->group : end_query;
        struct seen own = {query, next - query, share->from, share->end};
        own.from = own.from > tile->seen_from[row] ? own.from : tile->seen_from[row];
        own.end = own.end < tile->seen_end[row] ? own.end : tile->seen_end[row];
        add_seen(tile, own);
        query = next;
    }
}

/* Values for the queries of one micro-kernel: slots that only some rows' windows reach back to row
 * by row, then all others at once, all in ascending order for each row. */
static void add_values(const struct tile *tile, int32_t first_query, int32_t count) {
    const struct kv_shape *shape = &tile->args->shape;
    struct seen all = {first_query, count, 0, ATTENTION_CHUNK};
    struct tile_value_args args = {
        .first_query = first_query,
        .head_dim = shape->head_dim,
        .values_offset = kv_head_elements(shape) * dtype_bytes(shape->dtype),
    };
    int32_t from = 0, end = ATTENTION_CHUNK, edge = 0;
    for (int32_t i = 0; i < count; i++) {
        int32_t row = (first_query + i) / tile->group;
        int32_t row_end = tile->seen_end[row];
        args.seen_end[i] = row_end;
        from = from > tile->seen_from[row] ? from : tile->seen_from[row];
        end = end < row_end ? end : row_end;
        edge = edge > row_end ? edge : row_end;
    }
    from = (from + 1) & ~1; /* whole pairs, whatever the type of the cache */
    end = end > 0 ? end & ~1 : 0;
    if (from > end) {
        add_row_by_row(tile, &all);
        return;
    }
    all.end = from;
    if (from > 0)
        add_row_by_row(tile, &all);
    int32_t slots = tile_slots_per_step(shape->dtype);
    args.first_step = from / slots;
    args.end_step = end / slots;
    args.edge_step = (edge + slots - 1) / slots;
    if (shape->dtype == DTYPE_F32)
        value_steps(DTYPE_F32, count, args, tile->scratch);
    else
        value_steps(DTYPE_BF16, count, args, tile->scratch);
}

/* Slots first .. end - 1 of the chunk (whole blocks) have scores. */
struct soften_args {
    const struct tile *tile;
    int32_t first, end, head_dim;
};

/* Stores the weights of VEC_LANES slots for the product with the values. */
VEC_INLINE void store_weights(enum dtype dtype, struct tile_scratch *scratch, int32_t query,
                              int32_t slot, vec weights) {
#if TILE_DOT_BF16
    if (dtype == DTYPE_BF16) {
        __m256bh rounded = _mm512_cvtneps_pbh((__m512)weights);
        memcpy((char *)scratch->weights[query] + 2 * slot, &rounded, sizeof rounded);
        return;
    }
#endif
    (void)dtype;
    vec_store(scratch->scores[query] + slot, weights);
}

/* Scores of slots that the row does not see become -inf. By whole vectors: scalar stores ahead of a
 * vector load of the same bytes would stall it. */
static void hide_unseen(const struct soften_args *args, float *scores, int32_t row) {
    int32_t seen_from = args->tile->seen_from[row], seen_end = args->tile->seen_end[row];
    vec_int lane;
    for (int32_t i = 0; i < VEC_LANES; i++)
        lane[i] = i;
    const vec hidden = vec_set(-INFINITY);
    for (int32_t i = args->first; i < seen_from; i += VEC_LANES)
        vec_store(scores + i, vec_select(lane + i < seen_from, hidden, vec_load(scores + i)));
    for (int32_t i = seen_end / VEC_LANES * VEC_LANES; i < args->end; i += VEC_LANES)
        vec_store(scores + i, vec_select(lane + i < seen_end, vec_load(scores + i), hidden));
}

/* Relates one query's sums to the new maximum, and takes in the chunk's total. */
static void rescale_sums(const struct soften_args *args, struct tile_scratch *scratch,
                         int32_t query, float maximum, float total) {
    vec rescale = vec_exp_bounded(vec_set(scratch->maximum[query]) - maximum);
    scratch->sum[query] = scratch->sum[query] * rescale[0] + total;
    scratch->maximum[query] = maximum;
    if (rescale[0] == 1.0f)
        return;
    float *values = scratch->values[query];
    for (int32_t d = 0; d < args->head_dim; d += VEC_LANES) /* rows are padded in scratch */
        vec_store(values + d, vec_load(values + d) * rescale);
}

/* Turns the scores of `count` queries into weights relative to each one's new maximum and rescales
 * what was summed before. The weights of slots that a query does not see become exact zeros. Side
 * by side, the queries do not wait for each other's long chains. */
VEC_INLINE void soften(enum dtype dtype, int count, const struct soften_args *args,
                       struct tile_scratch *scratch, int32_t query) {
    vec peak[SOFTEN_QUERIES], total[SOFTEN_QUERIES] = {{0}};
    float maximum[SOFTEN_QUERIES];
    float *scores = scratch->scores[query];
    for (int m = 0; m < count; m++)
        hide_unseen(args, scores + m * ATTENTION_CHUNK, (query + m) / args->tile->group);
#pragma GCC unroll 4
    for (int m = 0; m < count; m++)
        peak[m] = vec_set(scratch->maximum[query + m]);
    for (int32_t i = args->first; i < args->end; i += VEC_LANES) {
#pragma GCC unroll 4
        for (int m = 0; m < count; m++)
            peak[m] = vec_max(vec_load(scores + m * ATTENTION_CHUNK + i), peak[m]);
    }
#pragma GCC unroll 4
    for (int m = 0; m < count; m++)
        maximum[m] = vec_peak(peak[m]);
    for (int32_t i = args->first; i < args->end; i += VEC_LANES) {
#pragma GCC unroll 4
        for (int m = 0; m < count; m++) {
            vec score = vec_load(scores + m * ATTENTION_CHUNK + i);
            vec weights = vec_exp_bounded(score - maximum[m]);
            total[m] += weights;
            store_weights(dtype, scratch, query + m, i, weights);
        }
    }
#pragma GCC unroll 4
    for (int m = 0; m < count; m++)
        rescale_sums(args, scratch, query + m, maximum[m], vec_total(total[m]));
}

/* All queries of the tile that see anything of the chunk. */
static void soften_tile(const struct soften_args *args, struct tile_scratch *scratch) {
    const struct tile *tile = args->tile;
    enum dtype dtype = tile->args->shape.dtype;
    int32_t queries = tile->rows * tile->group;
    for (int32_t query = 0; query < queries;) {
        int32_t seen = 0; /* how many in a row */
        for (; seen < SOFTEN_QUERIES && query + seen < queries; seen++) {
            int32_t row = (query + seen) / tile->group;
            if (tile->seen_from[row] >= tile->seen_end[row])
                break;
        }
        if (seen == SOFTEN_QUERIES && dtype == DTYPE_BF16)
            soften(DTYPE_BF16, SOFTEN_QUERIES, args, scratch, query);
        else if (seen == SOFTEN_QUERIES)
            soften(DTYPE_F32, SOFTEN_QUERIES, args, scratch, query);
        else if (seen > 0)
            soften(dtype, 1, args, scratch, query);
        query += seen == SOFTEN_QUERIES ? SOFTEN_QUERIES : 1;
    }
}

/* What each row sees of the chunk that starts at position `start`. */
static void find_seen(struct tile *tile, int32_t start) {
    for (int32_t row = 0; row < tile->rows; row++) {
        int32_t position = tile->args->row[tile->first_row + row].position;
        int32_t from = first_position(tile->args, position) - start;
        int32_t end = position + 1 - start;
        tile->seen_from[row] = from < 0 ? 0 : from;
        tile->seen_end[row] = end < ATTENTION_CHUNK ? end : ATTENTION_CHUNK;
    }
}

static void attend_chunk(struct tile *tile, int32_t start) {
    struct tile_scratch *scratch = tile->scratch;
    find_seen(tile, start);
    int32_t first_block = tile->seen_from[0] / KV_BLOCK_TOKENS; /* rows see further and further */
    int32_t end_block = (tile->seen_end[tile->rows - 1] - 1) / KV_BLOCK_TOKENS + 1;
    int32_t last_block =
        tile->args->row[tile->first_row + tile->rows - 1].position / KV_BLOCK_TOKENS;
    for (int32_t i = first_block; i < end_block; i++) {
        int32_t block = start / KV_BLOCK_TOKENS + i;
        int32_t next = block + TILE_CHUNK_BLOCKS;
        scratch->blocks[i] = block_of(tile, block);
        scratch->next_blocks[i] = block_of(tile, next <= last_block ? next : block);
    }
    score_tile(tile, first_block, end_block);
    int32_t queries = tile->rows * tile->group;
    struct soften_args args = {
        .tile = tile,
        .first = first_block * KV_BLOCK_TOKENS,
        .end = end_block * KV_BLOCK_TOKENS,
        .head_dim = tile->args->shape.head_dim,
    };
    soften_tile(&args, scratch);
    for (int32_t query = 0; query < queries;) {
        int32_t count = next_count(queries - query);
        add_values(tile, query, count);
        query += count;
    }
}

static void write_query(const struct tile *tile, int32_t query) {
    const struct attention_args *args = tile->args;
    int32_t dim = args->shape.head_dim;
    int32_t head = tile->first_head + query % tile->group;
    int64_t columns = (int64_t)args->heads * dim;
    int64_t row_start = (tile->first_row + query / tile->group) * activation_stride(columns);
    const float *values = tile->scratch->values[query];
    float inverse = 1.0f / tile->scratch->sum[query];
    for (int32_t d = 0; d < dim; d += VEC_LANES) {
        int32_t count = dim - d < VEC_LANES ? dim - d : VEC_LANES;
        int64_t at = row_start + (int64_t)head * dim + d;
        vec value = vec_load_part(values + d, count) * inverse;
        if (args->out_dtype == DTYPE_F32)
            vec_store_part((float *)args->out + at, value, count);
        else
            vec_store_bf16_part((uint16_t *)args->out + at, value, count);
    }
    if (head == args->heads - 1) {
        int64_t bytes = dtype_bytes(args->out_dtype);
        memset((char *)args->out + (row_start + columns) * bytes, 0,
               (size_t)((activation_stride(columns) - columns) * bytes));
    }
}

static void attend_tile(struct tile *tile) {
    const struct attention_row *rows = &tile->args->row[tile->first_row];
    if (is_tree_node(rows))
        gather_path(tile);
    start_queries(tile);
    int32_t first = first_position(tile->args, rows[0].position);
    int32_t last = rows[tile->rows - 1].position;
    for (int32_t chunk = first / ATTENTION_CHUNK; chunk <= last / ATTENTION_CHUNK; chunk++)
        attend_chunk(tile, chunk * ATTENTION_CHUNK);
    for (int32_t query = 0; query < tile->rows * tile->group; query++)
        write_query(tile, query);
}

/* How the whole call is cut into items: kv heads (and, when a group is too large for the scratch,
 * shares of its query heads) times tiles of rows. */
struct attention_job {
    const struct kernels *kernels;
    const struct attention_args *args;
    int32_t tile_rows, tiles;
    int32_t shares, share_heads;
};

/* Rows that one tile can take, starting at `first`: consecutive positions of one sequence. */
static int32_t run_length(const struct attention_row *rows, int32_t first, int32_t end) {
    int32_t next = first + 1;
    while (!is_tree_node(&rows[first]) && next < end && !is_tree_node(&rows[next]) &&
           rows[next].table == rows[first].table &&
           rows[next].position == rows[next - 1].position + 1)
        next++;
    return next - first;
}

/* Items of one kv head follow each other, the rows that see most first. */
static void attention_item(void *context, int32_t item, int32_t thread) {
    const struct attention_job *job = context;
    const struct attention_args *args = job->args;
    char *scratch = job->kernels->scratch + (size_t)thread * KERNELS_SCRATCH_BYTES;
    int32_t share = item / job->tiles % job->shares;
    int32_t first = (job->tiles - 1 - item % job->tiles) * job->tile_rows;
    int32_t end = args->rows - first < job->tile_rows ? args->rows : first + job->tile_rows;
    int32_t group = args->heads / args->shape.kv_heads, kv_head = item / job->tiles / job->shares;
    struct tile tile = {
        .args = args,
        .scratch = (struct tile_scratch *)(void *)scratch,
        .block_bytes = kv_block_bytes(&args->shape),
        .head_bytes = head_bytes(&args->shape),
        .gathered = scratch + sizeof(struct tile_scratch),
    };
    tile.cache = args->cache + (size_t)kv_head * tile.head_bytes;
    tile.first_head = kv_head * group + share * job->share_heads;
    tile.group = (kv_head + 1) * group - tile.first_head;
    tile.group = tile.group < job->share_heads ? tile.group : job->share_heads;
    while (first < end) {
        tile.first_row = first;
        tile.rows = run_length(args->row, first, end);
        tile.table = args->tables[args->row[first].table];
        tile.gathered_block = INT32_MAX;
        attend_tile(&tile);
        first += tile.rows;
    }
}

/* Elements of keys and values that the call reads. */
static int64_t job_elements(const struct attention_args *args) {
    int64_t positions = 0;
    for (int32_t m = 0; m < args->rows; m++) {
        int32_t position = args->row[m].position;
        positions += position + 1 - first_position(args, position);
    }
    return 2 * positions * args->shape.kv_heads * args->shape.head_dim;
}

void CPU_SYMBOL(cpu_attention_attention)(const struct kernels *kernels,
                                         const struct attention_args *args) {
    int32_t group = args->heads / args->shape.kv_heads;
    ASSERT(args->shape.head_dim <= ATTENTION_HEAD_DIM_MAX &&
           group * args->shape.kv_heads == args->heads);
    ASSERT(args->out_dtype == DTYPE_F32 || args->out_dtype == DTYPE_BF16);
    ASSERT(args->shape.dtype == DTYPE_F32 || args->shape.dtype == DTYPE_BF16);
    if (args->rows == 0)
        return;
    struct attention_job job = {
        .kernels = kernels,
        .args = args,
        .share_heads = group < TILE_QUERIES ? group : TILE_QUERIES,
        .tile_rows = group < TILE_MICRO ? TILE_MICRO / group : 1,
    };
    job.shares = (group - 1) / job.share_heads + 1;
    int32_t heads = args->shape.kv_heads * job.shares;
    int32_t wanted = 4 * thread_pool_threads(kernels->pool); /* items, for an even share */
    while (job.tile_rows > 1 && (args->rows - 1) / job.tile_rows + 1 < (wanted - 1) / heads + 1)
        job.tile_rows /= 2;
    job.tiles = (args->rows - 1) / job.tile_rows + 1;
    cpu_job_run(kernels, heads * job.tiles, job_elements(args), attention_item, &job);
}
