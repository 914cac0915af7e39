/* Attention on every instruction set of this machine: held against a plain softmax in double, and
 * its bits against itself in every way a row can be asked for (alone, in a tile of any size, as a
 * tree node, with any number of threads, with garbage in every slot that it must not see). */
#include "tests/unit/kernel_test.h"
#include "tests/unit/unit_test.h"

#define POSITIONS 700 /* of the one sequence that every test looks at: chunks 0, 1 and 2 */
#define BLOCKS ((POSITIONS - 1) / KV_BLOCK_TOKENS + 1)
#define SPARE_BLOCKS 12 /* for tree slots and junk */
#define TREE_NODES 24

/* Largest |got - exact|, for values in [-1, 1) and outputs that are means of them. The exact one is
 * computed in double from the same rounded q, k and v.
 * f32: about head_dim + positions roundings of 2^-24 in sums whose terms are at most 1.
 * bf16: where the instruction set has bf16 dot products the weights are rounded to bf16 (2^-9 each,
 * of either sign, so a mean over n positions moves by less than 2^-9); elsewhere as f32.
 * A bf16 output adds half a unit in its last place: 2^-9 of at most 1. */
static const struct {
    enum dtype cache, out;
    double bound;
} bounds[] = {
    {DTYPE_F32, DTYPE_F32, 4e-6},
    {DTYPE_F32, DTYPE_BF16, 4e-6 + 0x1p-9},
    {DTYPE_BF16, DTYPE_F32, 0x1p-9},
    {DTYPE_BF16, DTYPE_BF16, 0x1p-8},
};

static double bound_of(enum dtype cache, enum dtype out) {
    for (size_t i = 0; i < sizeof bounds / sizeof bounds[0]; i++) {
        if (bounds[i].cache == cache && bounds[i].out == out)
            return bounds[i].bound;
    }
    abort();
}

struct shape_case {
    int32_t heads, kv_heads, head_dim, window;
};

/* One sequence in a cache whose blocks stand in a shuffled order. */
struct world {
    struct shape_case shape;
    enum dtype dtype, out_dtype;
    struct kv_shape kv;
    float *q, *k, *v; /* [POSITIONS][heads or kv_heads][head_dim] */
    char *cache;
    size_t cache_bytes;
    int32_t table[BLOCKS + SPARE_BLOCKS]; /* slots past BLOCKS are for tree nodes */
};

/* Everything NaN but the padding of an odd key, which the layout says is zero. */
static void poison(struct world *world) {
    memset(world->cache, 0xff, world->cache_bytes);
    if (world->dtype != DTYPE_BF16 || world->kv.head_dim % 2 == 0)
        return;
    for (int32_t b = 0; b < BLOCKS + SPARE_BLOCKS; b++) {
        uint16_t *block =
            (uint16_t *)(void *)(world->cache + (size_t)b * kv_block_bytes(&world->kv));
        for (int32_t h = 0; h < world->kv.kv_heads; h++) {
            for (int32_t t = 0; t < KV_BLOCK_TOKENS; t++)
                block[kv_key_index(&world->kv, h, t, world->kv.head_dim)] = 0;
        }
    }
}

static void world_open(struct world *world, struct shape_case shape, enum dtype dtype,
                       enum dtype out_dtype) {
    int64_t kv_columns = (int64_t)shape.kv_heads * shape.head_dim;
    *world = (struct world){.shape = shape, .dtype = dtype, .out_dtype = out_dtype};
    world->kv = (struct kv_shape){dtype, shape.kv_heads, shape.head_dim};
    world->q = kernel_test_floats(1, (int64_t)POSITIONS * shape.heads * shape.head_dim, 2.0f);
    world->k = kernel_test_floats(2, POSITIONS * kv_columns, 1.0f);
    world->v = kernel_test_floats(3, POSITIONS * kv_columns, 1.0f);
    world->cache_bytes = (BLOCKS + SPARE_BLOCKS) * kv_block_bytes(&world->kv);
    world->cache = kernel_test_take((int64_t)world->cache_bytes);
    for (int32_t b = 0; b < BLOCKS + SPARE_BLOCKS; b++)
        world->table[b] = (b * 23 + 5) % (BLOCKS + SPARE_BLOCKS); /* 23 and 56 are coprime */
    poison(world);
}

static void world_close(struct world *world) {
    free(world->q);
    free(world->k);
    free(world->v);
    free(world->cache);
}

/* Stores the key and value of a position in a slot of the table. */
static void store(struct world *world, const struct kernels *kernels, int32_t position,
                  int32_t slot) {
    int64_t columns = (int64_t)world->shape.kv_heads * world->shape.head_dim;
    int32_t block = world->table[slot / KV_BLOCK_TOKENS];
    int32_t offset = slot % KV_BLOCK_TOKENS;
    struct kv_store_args args = {
        .rows = 1,
        .shape = world->kv,
        .k = world->k + position * columns,
        .v = world->v + position * columns,
        .stride = columns,
        .blocks = &block,
        .offsets = &offset,
        .cache = world->cache,
    };
    kernels->ops->kv_store(kernels, &args);
}

static void store_range(struct world *world, const struct kernels *kernels, int32_t first,
                        int32_t end) {
    for (int32_t p = first; p < end; p++)
        store(world, kernels, p, p);
}

static int64_t out_stride(const struct world *world) {
    return activation_stride((int64_t)world->shape.heads * world->shape.head_dim);
}

static size_t out_row_bytes(const struct world *world) {
    return (size_t)(out_stride(world) * dtype_bytes(world->out_dtype));
}

/* Rows at any positions through `op`; out: [rows] act rows, poisoned before. */
typedef void (*attention_op)(const struct kernels *kernels, const struct attention_args *args);

static void attend(const struct world *world, const struct kernels *kernels, attention_op op,
                   const struct attention_row *rows, int32_t count, const int32_t *paths,
                   void *out) {
    int64_t columns = (int64_t)world->shape.heads * world->shape.head_dim;
    float *q = kernel_test_take(count * columns * (int64_t)sizeof(float));
    for (int32_t i = 0; i < count; i++)
        memcpy(q + i * columns, world->q + rows[i].position * columns,
               (size_t)columns * sizeof(float));
    const int32_t *tables[] = {world->table};
    struct attention_args args = {
        .rows = count,
        .heads = world->shape.heads,
        .shape = world->kv,
        .scale = 0.3f,
        .window = world->shape.window,
        .q = q,
        .q_stride = columns,
        .row = rows,
        .tables = tables,
        .paths = paths,
        .cache = world->cache,
        .out = out,
        .out_dtype = world->out_dtype,
    };
    memset(out, 0xff, (size_t)count * out_row_bytes(world));
    op(kernels, &args);
    free(q);
}

static struct attention_row plain_row(int32_t position) {
    return (struct attention_row){.position = position, .path_start = position + 1};
}

/* ---- against the definition ---- */

static double rounded(const struct world *world, float value) {
    return (double)(world->dtype == DTYPE_BF16 ? dtype_bf16_to_f32(dtype_f32_to_bf16(value))
                                               : value);
}

/* Plain softmax over everything the position sees, in double. */
static void exact_head(const struct world *world, int32_t position, int32_t head, double *out) {
    const struct shape_case *shape = &world->shape;
    int64_t dim = shape->head_dim;
    int32_t kv_head = head / (shape->heads / shape->kv_heads);
    const float *q = world->q + ((int64_t)position * shape->heads + head) * dim;
    double weights[POSITIONS];
    double sum = 0;
    int32_t first =
        shape->window > 0 && position >= shape->window ? position - shape->window + 1 : 0;
    memset(out, 0, (size_t)dim * sizeof(double));
    for (int32_t p = first; p <= position; p++) {
        const float *k = world->k + ((int64_t)p * shape->kv_heads + kv_head) * dim;
        double score = 0;
        for (int64_t d = 0; d < dim; d++)
            score += rounded(world, q[d]) * rounded(world, k[d]);
        weights[p] = exp(score * (double)0.3f); /* small scores: no maximum needed */
        sum += weights[p];
    }
    for (int32_t p = first; p <= position; p++) {
        const float *v = world->v + ((int64_t)p * shape->kv_heads + kv_head) * dim;
        for (int64_t d = 0; d < dim; d++)
            out[d] += weights[p] / sum * rounded(world, v[d]);
    }
}

/* Largest difference over a row; the zeros past the last head must be there. */
static double row_error(const struct world *world, int32_t position, const void *out, int64_t row) {
    double exact[ATTENTION_HEAD_DIM_MAX];
    int64_t dim = world->shape.head_dim;
    int64_t at = row * out_stride(world);
    double worst = 0;
    for (int32_t h = 0; h < world->shape.heads; h++) {
        exact_head(world, position, h, exact);
        for (int64_t d = 0; d < dim; d++, at++) {
            double got = (double)kernel_test_element(out, world->out_dtype, at);
            double error = fabs(got - exact[d]);
            worst = error <= worst ? worst : error; /* NaN is the worst */
        }
    }
    for (; at < (row + 1) * out_stride(world); at++)
        assert_true(kernel_test_element(out, world->out_dtype, at) == 0.0f);
    return worst;
}

static const struct shape_case shapes[] = {
    {1, 1, 16, 0},   {2, 1, 24, 0},   {4, 1, 32, 5},  {8, 1, 64, 0},   {4, 4, 64, 300},
    {3, 3, 80, 0},   {6, 2, 96, 17},  {8, 2, 128, 0}, {7, 1, 17, 0},   {5, 1, 1, 256},
    {2, 2, 33, 255}, {36, 1, 16, 33}, {2, 1, 255, 0}, {1, 1, 512, 64},
};

/* Ragged on purpose; the run in the middle crosses the border of a chunk in one tile. */
static const int32_t ragged[] = {0,   1,   2,   15,  16,  17,  33,  250, 251, 252, 253, 254, 255,
                                 256, 257, 258, 259, 260, 300, 511, 512, 513, 514, 600, 699};
#define RAGGED ((int32_t)(sizeof ragged / sizeof ragged[0]))

static void compare_shape(const struct kernels *kernels, struct shape_case shape, enum dtype dtype,
                          enum dtype out_dtype) {
    struct world world;
    struct attention_row rows[RAGGED] = {0};
    world_open(&world, shape, dtype, out_dtype);
    store_range(&world, kernels, 0, POSITIONS);
    for (int32_t i = 0; i < RAGGED; i++)
        rows[i] = plain_row(ragged[i]);
    char *out = kernel_test_take((int64_t)out_row_bytes(&world) * RAGGED);
    attend(&world, kernels, kernels->ops->attention, rows, RAGGED, NULL, out);
    for (int32_t i = 0; i < RAGGED; i++) {
        double error = row_error(&world, ragged[i], out, i);
        if (!(error <= bound_of(dtype, out_dtype)))
            fail_msg("%s cache %s out %s heads %d/%d dim %d window %d position %d: error %g",
                     cpu_isa_name(kernels->isa), dtype_name(dtype), dtype_name(out_dtype),
                     shape.heads, shape.kv_heads, shape.head_dim, shape.window, ragged[i], error);
    }
    free(out);
    world_close(&world);
}

static void agrees_with_the_definition(void **state) {
    (void)state;
    for (int isa = -1; kernel_test_next_isa(&isa);) {
        struct kernels kernels = kernel_test_open(isa, 2);
        for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
            enum dtype out = i % 2 == 0 ? DTYPE_F32 : DTYPE_BF16;
            compare_shape(&kernels, shapes[i], DTYPE_F32, out);
            compare_shape(&kernels, shapes[i], DTYPE_BF16, DTYPE_F32);
            compare_shape(&kernels, shapes[i], DTYPE_BF16, out);
        }
        kernels_deinit(&kernels);
    }
}

/* ---- bits ---- */

static const struct shape_case bit_shapes[] = {
    {1, 1, 16, 0}, {4, 1, 32, 0}, {16, 2, 64, 0}, {6, 2, 40, 21}, {3, 3, 17, 270}, {14, 2, 24, 7},
};

/* Positions whose bits are looked at; each range crosses a border of blocks or chunks. */
static const struct { int32_t first, end; } ranges[] = {{0, 20}, {240, 275}, {505, 530}};

static bool same_bits(const struct world *world, const char *a, const char *b, int32_t rows) {
    return memcmp(a, b, (size_t)rows * out_row_bytes(world)) == 0;
}

static void expect_same(const struct world *world, const struct kernels *kernels, const char *a,
                        const char *b, const char *what, int32_t position) {
    if (!same_bits(world, a, b, 1))
        fail_msg("%s cache %s heads %d/%d dim %d window %d: %s changes the bits of position %d",
                 cpu_isa_name(kernels->isa), dtype_name(world->dtype), world->shape.heads,
                 world->shape.kv_heads, world->shape.head_dim, world->shape.window, what, position);
}

/* Every position of the range alone, as decoding has it: later slots hold NaN. */
static char *decode_range(struct world *world, const struct kernels *kernels, int32_t first,
                          int32_t end) {
    char *out = kernel_test_take((int64_t)out_row_bytes(world) * (end - first));
    poison(world);
    store_range(world, kernels, 0, first);
    for (int32_t p = first; p < end; p++) {
        struct attention_row row = plain_row(p);
        store(world, kernels, p, p);
        attend(world, kernels, kernels->ops->attention, &row, 1, NULL,
               out + (size_t)(p - first) * out_row_bytes(world));
    }
    return out;
}

/* The same positions in tiles of `size` rows; what is before every row's window holds NaN. */
static void check_tiles(struct world *world, const struct kernels *kernels, const char *alone,
                        int range, int32_t size) {
    int32_t first = ranges[range].first;
    struct attention_row rows[64] = {0};
    char *out = kernel_test_take((int64_t)out_row_bytes(world) * 64);
    for (int32_t at = first; at < ranges[range].end; at += size) {
        int32_t count = ranges[range].end - at < size ? ranges[range].end - at : size;
        int32_t window = world->shape.window;
        poison(world);
        store_range(world, kernels, window > 0 && at >= window ? at - window + 1 : 0, at + count);
        for (int32_t i = 0; i < count; i++)
            rows[i] = plain_row(at + i);
        attend(world, kernels, kernels->ops->attention, rows, count, NULL, out);
        for (int32_t i = 0; i < count; i++)
            expect_same(world, kernels, alone + (size_t)(at + i - first) * out_row_bytes(world),
                        out + (size_t)i * out_row_bytes(world), "a tile", at + i);
    }
    free(out);
}

/* The same positions in one batch among rows of other places, back to front, each row twice. */
static void check_batch(struct world *world, const struct kernels *kernels, const char *alone,
                        int range) {
    int32_t first = ranges[range].first;
    int32_t count = ranges[range].end - first;
    struct attention_row rows[128] = {0};
    char *out = kernel_test_take((int64_t)out_row_bytes(world) * 128);
    poison(world);
    store_range(world, kernels, 0, POSITIONS);
    for (int32_t i = 0; i < count; i++) {
        rows[2 * i] = plain_row(ranges[range].end - 1 - i);
        rows[2 * i + 1] = plain_row(first + i);
    }
    attend(world, kernels, kernels->ops->attention, rows, 2 * count, NULL, out);
    for (int32_t i = 0; i < 2 * count; i++)
        expect_same(world, kernels,
                    alone + (size_t)(rows[i].position - first) * out_row_bytes(world),
                    out + (size_t)i * out_row_bytes(world), "a ragged batch", rows[i].position);
    free(out);
}

static void rows_do_not_see_their_neighbours(void **state) {
    (void)state;
    static const int32_t sizes[] = {2, 3, 5, 8, 13, 64};
    for (int isa = -1; kernel_test_next_isa(&isa);) {
        for (int c = 0; c < 2 * (int)(sizeof bit_shapes / sizeof bit_shapes[0]); c++) {
            struct world world;
            struct kernels kernels[3];
            for (int32_t t = 0; t < 3; t++)
                kernels[t] = kernel_test_open(isa, t + 1);
            world_open(&world, bit_shapes[c / 2], c % 2 == 0 ? DTYPE_F32 : DTYPE_BF16, DTYPE_F32);
            for (int range = 0; range < 3; range++) {
                char *alone =
                    decode_range(&world, &kernels[0], ranges[range].first, ranges[range].end);
                for (size_t s = 0; s < sizeof sizes / sizeof sizes[0]; s++)
                    check_tiles(&world, &kernels[s % 3], alone, range, sizes[s]);
                for (int32_t t = 0; t < 3; t++)
                    check_batch(&world, &kernels[t], alone, range);
                free(alone);
            }
            world_close(&world);
            for (int32_t t = 0; t < 3; t++)
                kernels_deinit(&kernels[t]);
        }
    }
}

/* A tree over the committed positions 0 .. root-1: node i stands at position root + depth(i); its
 * parent is a random earlier node (or the root). The true branch gets the sequence's own keys, all
 * others junk. Slots of nodes are scattered over the spare blocks. */
struct tree {
    int32_t root, length; /* length: nodes of the true branch, the first ones */
    int32_t slots[TREE_NODES], parents[TREE_NODES], depths[TREE_NODES];
};

static void grow_tree(struct tree *tree, int32_t root, int32_t length) {
    tree->root = root;
    tree->length = length;
    for (int32_t i = 0; i < TREE_NODES; i++) {
        tree->slots[i] =
            BLOCKS * KV_BLOCK_TOKENS + (i * 37 + root) % (SPARE_BLOCKS * KV_BLOCK_TOKENS);
        tree->parents[i] = i - 1;
        if (i >= length)
            tree->parents[i] =
                (int32_t)(kernel_test_noise(9, i + root) * 0.5f * (float)i + 0.5f * (float)i) - 1;
        tree->depths[i] = tree->parents[i] < 0 ? 0 : tree->depths[tree->parents[i]] + 1;
    }
}

static void store_tree(struct world *world, const struct kernels *kernels,
                       const struct tree *tree) {
    store_range(world, kernels, 0, tree->root);
    for (int32_t i = 0; i < TREE_NODES; i++) {
        int32_t junk = (i * 11 + 3) % POSITIONS; /* another position's key and value */
        store(world, kernels, i < tree->length ? tree->root + i : junk, tree->slots[i]);
    }
}

/* All nodes as rows of one batch; returns what the true branch gave. */
static char *attend_tree(struct world *world, const struct kernels *kernels,
                         const struct tree *tree) {
    struct attention_row rows[TREE_NODES] = {0};
    int32_t paths[TREE_NODES * TREE_NODES] = {0};
    for (int32_t i = 0; i < TREE_NODES; i++) {
        int32_t position = tree->root + tree->depths[i];
        rows[i] = (struct attention_row){0, position, tree->root, i * TREE_NODES};
        for (int32_t node = i; node >= 0; node = tree->parents[node])
            paths[i * TREE_NODES + tree->depths[node]] = tree->slots[node];
    }
    char *out = kernel_test_take((int64_t)out_row_bytes(world) * TREE_NODES);
    attend(world, kernels, kernels->ops->attention, rows, TREE_NODES, paths, out);
    return out;
}

static void tree_nodes_have_the_bits_of_plain_decoding(void **state) {
    (void)state;
    static const int32_t roots[] = {0, 16, 247, 255, 256, 500};
    for (int isa = -1; kernel_test_next_isa(&isa);) {
        struct kernels kernels = kernel_test_open(isa, 2);
        for (int c = 0; c < 2 * (int)(sizeof bit_shapes / sizeof bit_shapes[0]); c++) {
            struct world world;
            world_open(&world, bit_shapes[c / 2], c % 2 == 0 ? DTYPE_F32 : DTYPE_BF16, DTYPE_BF16);
            for (size_t r = 0; r < sizeof roots / sizeof roots[0]; r++) {
                struct tree tree;
                grow_tree(&tree, roots[r], 12);
                char *alone = decode_range(&world, &kernels, tree.root, tree.root + tree.length);
                poison(&world);
                store_tree(&world, &kernels, &tree);
                char *nodes = attend_tree(&world, &kernels, &tree);
                for (int32_t i = 0; i < tree.length; i++)
                    expect_same(&world, &kernels, alone + (size_t)i * out_row_bytes(&world),
                                nodes + (size_t)i * out_row_bytes(&world), "a tree", tree.root + i);
                free(alone);
                free(nodes);
            }
            world_close(&world);
        }
        kernels_deinit(&kernels);
    }
}

/* ---- negative controls: the comparison above must catch these ---- */

/* What the tests may not pass: chunks that are smaller when there are more rows. One head, f32. */
static void split_head(const struct attention_args *args, int32_t row, int32_t chunk) {
    const float *q = args->q + row * args->q_stride;
    float *out = (float *)args->out + row * activation_stride(args->shape.head_dim);
    int32_t dim = args->shape.head_dim;
    float maximum = -INFINITY;
    float sum = 0;
    memset(out, 0, (size_t)activation_stride(dim) * sizeof(float));
    for (int32_t p = 0; p <= args->row[row].position; p++) {
        size_t block = (size_t)args->tables[0][p / KV_BLOCK_TOKENS] * kv_block_bytes(&args->shape);
        const float *data = (const float *)(const void *)(args->cache + block);
        int32_t token = p % KV_BLOCK_TOKENS;
        float score = 0;
        for (int32_t d = 0; d < dim; d++)
            score += q[d] * data[kv_key_index(&args->shape, 0, token, d)] * args->scale;
        if (p % chunk == 0) { /* a new maximum; any will do */
            float rescale = expf(maximum - score);
            sum *= rescale;
            for (int32_t d = 0; d < dim; d++)
                out[d] *= rescale;
            maximum = score;
        }
        float weight = expf(score - maximum);
        sum += weight;
        for (int32_t d = 0; d < dim; d++)
            out[d] += weight * data[kv_value_index(&args->shape, 0, token, d)];
    }
    for (int32_t d = 0; d < dim; d++)
        out[d] /= sum;
}

static void chunk_depends_on_rows(const struct kernels *kernels,
                                  const struct attention_args *args) {
    (void)kernels;
    for (int32_t row = 0; row < args->rows; row++)
        split_head(args, row, args->rows == 1 ? ATTENTION_CHUNK : ATTENTION_CHUNK / 2);
}

/* Sees one slot too many. */
static void sees_the_future(const struct kernels *kernels, const struct attention_args *args) {
    struct attention_row *rows = kernel_test_take(args->rows * (int64_t)sizeof *rows);
    struct attention_args wrong = *args;
    wrong.row = rows;
    for (int32_t i = 0; i < args->rows; i++)
        rows[i] = plain_row(args->row[i].position + 1);
    kernels->ops->attention(kernels, &wrong);
    free(rows);
}

static void wrong_chunks_are_caught(void **state) {
    (void)state;
    struct kernels kernels = kernel_test_open((int)cpu_isa_best(), 1);
    struct world world;
    struct attention_row rows[2] = {plain_row(600), plain_row(601)};
    char alone[1024], together[2048];
    world_open(&world, bit_shapes[0], DTYPE_F32, DTYPE_F32);
    store_range(&world, &kernels, 0, POSITIONS);
    attend(&world, &kernels, chunk_depends_on_rows, rows, 1, NULL, alone);
    attend(&world, &kernels, chunk_depends_on_rows, rows, 2, NULL, together);
    assert_true(row_error(&world, 600, alone, 0) <= 1e-5); /* right, but for its bits */
    assert_true(row_error(&world, 600, together, 0) <= 1e-5);
    assert_false(same_bits(&world, alone, together, 1));
    attend(&world, &kernels, kernels.ops->attention, rows, 1, NULL, alone);
    attend(&world, &kernels, kernels.ops->attention, rows, 2, NULL, together);
    assert_true(same_bits(&world, alone, together, 1));
    world_close(&world);
    kernels_deinit(&kernels);
}

static void a_slot_too_many_is_caught(void **state) {
    (void)state;
    struct kernels kernels = kernel_test_open((int)cpu_isa_best(), 1);
    struct world world;
    struct attention_row row = plain_row(603);
    char right[1024], wrong[1024];
    world_open(&world, bit_shapes[0], DTYPE_F32, DTYPE_F32);
    store_range(&world, &kernels, 0, 604); /* the slot after it was never written */
    attend(&world, &kernels, kernels.ops->attention, &row, 1, NULL, right);
    attend(&world, &kernels, sees_the_future, &row, 1, NULL, wrong);
    assert_false(same_bits(&world, right, wrong, 1));
    assert_true(row_error(&world, 603, right, 0) <= bound_of(DTYPE_F32, DTYPE_F32));
    assert_false(row_error(&world, 603, wrong, 0) <= bound_of(DTYPE_F32, DTYPE_F32));
    store(&world, &kernels, 604, 604); /* nor does it pass when the slot holds numbers */
    attend(&world, &kernels, sees_the_future, &row, 1, NULL, wrong);
    assert_false(same_bits(&world, right, wrong, 1));
    world_close(&world);
    kernels_deinit(&kernels);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(agrees_with_the_definition),
        cmocka_unit_test(rows_do_not_see_their_neighbours),
        cmocka_unit_test(tree_nodes_have_the_bits_of_plain_decoding),
        cmocka_unit_test(wrong_chunks_are_caught),
        cmocka_unit_test(a_slot_too_many_is_caught),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
