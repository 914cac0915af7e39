/* Tensor parallelism through the real binary, against others than ourselves: logits, expert choices
 * and greedy continuations against what Hugging Face computed from the same files, bytes on the
 * wire against the formulas of the method, and sizes that cannot be against their refusals. That
 * all sizes, flows and placements have the same bits is test_ranks. Usage: test_tensor MPIRUN
 * MOEBIUS GOLDEN... */
#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/dtype.h"
#include "runtime/family.h"
#include "runtime/safetensors.h"
#include "tests/support/expect.h"
#include "tests/support/model_variant.h"
#include "tests/support/mpirun.h"
#include "tests/support/program_json.h"

#define LOGIT_MAX 2e-3 /* of the goldens' README */
#define GREEDY_TOKENS 32
#define PROMPTS 3
#define PROMPT_TEXT 1024

/* How a job is arranged. */
struct shape {
    const char *ranks, *tensor, *flow, *placement, *replicas;
};

/* One run's command line and where it writes. */
struct job {
    const struct program *mpirun;
    const char *moebius, *folder;
    char logits[128], routing[128], traffic[128];
    bool has_experts;
};

static json_t *run_job(const struct job *job, const struct shape *shape, const char *ids) {
    return program_json_run(job->mpirun,
                            (const char *const[]){MPIRUN_FLAGS,
                                                  "-n",
                                                  shape->ranks,
                                                  job->moebius,
                                                  "generate",
                                                  "--model",
                                                  job->folder,
                                                  "--token-ids",
                                                  ids,
                                                  "--dtype",
                                                  "float32",
                                                  "--threads",
                                                  "1",
                                                  "--max-tokens",
                                                  "32",
                                                  "--ignore-eos",
                                                  "--json",
                                                  "--log-level",
                                                  "error",
                                                  "--moe-flow",
                                                  shape->flow,
                                                  "--tensor-parallel-size",
                                                  shape->tensor,
                                                  "--expert-placement",
                                                  shape->placement,
                                                  "--expert-replicas",
                                                  shape->replicas,
                                                  "--dump-logits",
                                                  job->logits,
                                                  "--traffic-json",
                                                  job->traffic,
                                                  job->has_experts ? "--dump-routing" : NULL,
                                                  job->routing,
                                                  NULL});
}

/* ---- tensors ---- */

static struct safetensors_file *open_tensors(const char *path) {
    struct safetensors_file *file;
    if (safetensors_open(path, &file) != STATUS_OK)
        exit(1);
    return file;
}

/* Tensor `what` of a prompt (of the file itself when prompt is -1), and how many elements of 4
 * bytes it has. */
static const char *tensor_of(const struct safetensors_file *file, int prompt, const char *what,
                             int64_t *count) {
    char name[64];
    snprintf(name, sizeof name, "p%d.%s", prompt, what);
    if (prompt < 0)
        snprintf(name, sizeof name, "%s", what);
    const struct tensor_info *tensor = safetensors_find(file, name);
    if (tensor == NULL) {
        fprintf(stderr, "test: no tensor %s\n", name);
        exit(1);
    }
    *count = tensor->bytes / 4;
    return (const char *)safetensors_data(file, tensor);
}

static int32_t int_at(const char *data, int64_t index) {
    int32_t value;
    memcpy(&value, data + 4 * index, sizeof value);
    return value;
}

static double float_at(const char *data, int64_t index) {
    float value;
    memcpy(&value, data + 4 * index, sizeof value);
    return (double)value;
}

/* ---- against Hugging Face ---- */

static double check_logits(const struct job *job, const struct safetensors_file *golden,
                           int prompt) {
    int64_t count, got_count;
    struct safetensors_file *dump = open_tensors(job->logits);
    const char *want = tensor_of(golden, prompt, "logits", &count);
    const char *got = tensor_of(dump, -1, "logits", &got_count);
    double worst = got_count < count ? HUGE_VAL : 0.0;
    for (int64_t i = 0; i < count && got_count >= count; i++) {
        double difference = fabs(float_at(want, i) - float_at(got, i));
        worst = difference <= worst ? worst : difference;
    }
    EXPECT(worst <= LOGIT_MAX, "%s p%d: logits differ by %g", job->folder, prompt, worst);
    safetensors_close(dump);
    return worst;
}

/* The golden's choices are [layers][positions][top_k] in order of id, the dump's
 * [positions][layers][top_k] in order of score. */
static void check_routing(const struct job *job, const struct safetensors_file *golden, int prompt,
                          const struct model_spec *spec, int32_t positions) {
    int64_t count, got_count, missing = 0;
    struct safetensors_file *dump = open_tensors(job->routing);
    const char *want = tensor_of(golden, prompt, "router_ids", &count);
    const char *got = tensor_of(dump, -1, "expert_ids", &got_count);
    int64_t top_k = spec->moe.router.top_k, layers = count / (positions * top_k);
    EXPECT(got_count >= count, "%s p%d: routing of too few positions", job->folder, prompt);
    for (int64_t i = 0; i < count && got_count >= count; i++) {
        int64_t layer = i / (positions * top_k), position = i / top_k % positions;
        bool found = false;
        for (int64_t slot = 0; slot < top_k; slot++)
            found =
                found || int_at(got, (position * layers + layer) * top_k + slot) == int_at(want, i);
        missing += !found;
    }
    EXPECT(missing == 0, "%s p%d: %" PRId64 " experts not chosen", job->folder, prompt, missing);
    safetensors_close(dump);
}

static void check_greedy(const struct job *job, const struct safetensors_file *golden, int prompt,
                         const json_t *answer) {
    int64_t count;
    const char *want = tensor_of(golden, prompt, "greedy_ids", &count);
    const json_t *got = json_object_get(answer, "output_ids");
    EXPECT(count == GREEDY_TOKENS && json_array_size(got) == GREEDY_TOKENS,
           "%s p%d: expected %d tokens", job->folder, prompt, GREEDY_TOKENS);
    for (int32_t i = 0; i < GREEDY_TOKENS; i++)
        EXPECT(json_integer_value(json_array_get(got, (size_t)i)) == int_at(want, i),
               "%s p%d: another token at %d", job->folder, prompt, i);
}

/* ---- against the formulas ---- */

/* Bytes that one layer sent of a kind, over all ranks. */
static int64_t sent(const json_t *layer, const char *kind) {
    const json_t *cell = json_object_get(layer, kind);
    return json_integer_value(json_object_get(cell, "node_bytes")) +
           json_integer_value(json_object_get(cell, "remote_bytes"));
}

/* A rank sends (t-1)/t of the T rows' h numbers in a reduce-scatter or all-gather: all t of a group
 * together (t-1) T h. An all-reduce is one of each, and a full-width norm two numbers a row from
 * each rank to each. */
static void check_traffic(const struct job *job, const struct shape *shape,
                          const struct model_spec *spec, int32_t rows) {
    json_t *root = program_json_load(job->traffic);
    int64_t t = strtol(shape->tensor, NULL, 10), unit = (t - 1) * rows * spec->hidden * 4;
    bool deepspeed = strcmp(shape->flow, "deepspeed") == 0;
    bool full_width = spec->attention.qk_norm == QK_NORM_FULL_WIDTH;
    size_t index;
    const json_t *layer;
    json_array_foreach(json_object_get(root, "layers"), index, layer) {
        if (json_integer_value(json_object_get(layer, "layer")) < 0)
            continue;
        EXPECT(sent(layer, "reduce-scatter") == (deepspeed ? 0 : unit) &&
                   sent(layer, "all-gather") == unit &&
                   sent(layer, "all-reduce") == (deepspeed ? 2 * unit : 0) &&
                   sent(layer, "norm") == (full_width ? t * (t - 1) * rows * 8 : 0),
               "%s, %s ranks, tensor %s, %s, layer %zu: expected units of %" PRId64
               " bytes, sent %" PRId64 " reduce-scatter, %" PRId64 " all-gather, %" PRId64
               " all-reduce, %" PRId64 " norm",
               job->folder, shape->ranks, shape->tensor, shape->flow, index, unit,
               sent(layer, "reduce-scatter"), sent(layer, "all-gather"), sent(layer, "all-reduce"),
               sent(layer, "norm"));
    }
    EXPECT(json_array_size(json_object_get(root, "layers")) == (size_t)spec->layers + 1,
           "%s: accounts of too few layers", job->folder);
    json_decref(root);
}

static void check_golden(struct job *job) {
    static const struct shape shapes[PROMPTS] = {{"4", "4", "a2a", "round-robin", "0"},
                                                 {"4", "2", "deepspeed", "random:5", "2"},
                                                 {"2", "2", "auto", "contiguous", "0"}};
    static struct model_spec spec;
    const struct family *family;
    char path[512], ids[PROMPT_TEXT];
    if (family_parse(job->folder, &family, &spec) != STATUS_OK)
        exit(1);
    job->has_experts = spec.moe.router.experts > 0;
    snprintf(path, sizeof path, "%s/expected.safetensors", job->folder);
    struct safetensors_file *golden = open_tensors(path);
    double worst = 0.0;
    for (int prompt = 0; prompt < PROMPTS; prompt++) {
        int64_t count;
        size_t used = 0;
        const char *input = tensor_of(golden, prompt, "input_ids", &count);
        for (int64_t i = 0; i < count; i++)
            used += (size_t)snprintf(ids + used, sizeof ids - used, "%d ", int_at(input, i));
        json_t *answer = run_job(job, &shapes[prompt], ids);
        worst = fmax(worst, check_logits(job, golden, prompt));
        if (job->has_experts)
            check_routing(job, golden, prompt, &spec, (int32_t)count);
        check_greedy(job, golden, prompt, answer);
        check_traffic(job, &shapes[prompt], &spec, (int32_t)count + GREEDY_TOKENS - 1);
        json_decref(answer);
    }
    printf("%s: largest logit difference %.2g\n", job->folder, worst);
    safetensors_close(golden);
}

/* ---- biases of attention, which no golden has ---- */

#define BIASED                                                                                     \
    "tests/data/golden/olmoe" /* 2 layers and more, hidden 64 = heads x head_dim, bf16             \
                               */
#define BIAS_COLUMNS 64

/* BIASED with biases: its tensors, and behind them in the same file a bias for each projection. */
static void make_biased(const struct program *scratch, int64_t layers, char *folder, size_t size) {
    static const struct model_variant variant = {.name = "biased",
                                                 .base = BIASED,
                                                 .file = "config.json",
                                                 .change = VARIANT_REPLACE,
                                                 .find = "\"attention_bias\": false",
                                                 .with = "\"attention_bias\": true"};
    static const char *const projections[] = {"q", "k", "v", "o"};
    char path[700];
    size_t bytes;
    uint64_t header_bytes;
    model_variant_make(&variant, scratch->folder);
    program_scratch_path(scratch, variant.name, folder, size);
    char *file = program_read_file(BIASED "/model.safetensors", &bytes);
    memcpy(&header_bytes, file, sizeof header_bytes);
    json_t *header = json_loadb(file + 8, header_bytes, 0, NULL);
    int64_t data = (int64_t)(bytes - 8 - header_bytes), end = data;
    for (int64_t i = 0; i < 4 * layers; i++, end += 2 * BIAS_COLUMNS) {
        char name[100];
        snprintf(name, sizeof name, "model.layers.%d.self_attn.%s_proj.bias", (int)(i / 4),
                 projections[i % 4]);
        json_object_set_new(header, name,
                            json_pack("{s:s, s:[i], s:[I, I]}", "dtype", "BF16", "shape",
                                      BIAS_COLUMNS, "data_offsets", (json_int_t)end,
                                      (json_int_t)(end + 2 * BIAS_COLUMNS)));
    }
    char *text = json_dumps(header, JSON_COMPACT);
    uint64_t text_bytes = strlen(text);
    char *made = calloc(1, 8 + text_bytes + (size_t)end);
    memcpy(made, &text_bytes, 8);
    memcpy(made + 8, text, text_bytes);
    memcpy(made + 8 + text_bytes, file + 8 + header_bytes, (size_t)data);
    uint16_t *biases = (uint16_t *)(void *)(made + 8 + text_bytes + data);
    for (int64_t i = 0; i < (end - data) / 2; i++) {
        uint16_t bias = dtype_f32_to_bf16((float)(i % 17 - 8) / 16.0f);
        memcpy(biases + i, &bias, sizeof bias);
    }
    snprintf(path, sizeof path, "%s/model.safetensors", folder);
    remove(path); /* a link */
    program_write_file(path, made, 8 + text_bytes + (size_t)end);
    json_decref(header);
    free(text);
    free(file);
    free(made);
}

static char *logits_of(const struct job *job, const char *folder, const char *ranks, size_t *size) {
    struct job run = *job;
    run.folder = folder;
    run.has_experts = false; /* no routing is wanted */
    const struct shape shape = {ranks, ranks, "auto", "contiguous", "0"};
    json_decref(run_job(&run, &shape, "1 2 3"));
    return program_read_file(job->logits, size);
}

/* The output's bias is added once, behind the sum over the group. Control: without biases the
 * logits are others. */
static void check_biases(const struct job *job) {
    static struct model_spec spec;
    const struct family *family;
    char folder[512];
    size_t sizes[3];
    if (family_parse(BIASED, &family, &spec) != STATUS_OK)
        exit(1);
    make_biased(job->mpirun, spec.layers, folder, sizeof folder);
    char *alone = logits_of(job, folder, "1", &sizes[0]);
    char *shared = logits_of(job, folder, "4", &sizes[1]);
    char *without = logits_of(job, BIASED, "1", &sizes[2]);
    EXPECT(sizes[0] == sizes[1] && memcmp(alone, shared, sizes[0]) == 0,
           "biases: tensor-parallel size 4 has other logits than 1");
    EXPECT(sizes[0] != sizes[2] || memcmp(alone, without, sizes[0]) != 0,
           "control: biases do not matter");
    free(alone);
    free(shared);
    free(without);
}

/* ---- what cannot be ---- */

static void check_refused(const struct job *job, const char *ranks, const char *flag,
                          const char *expected) {
    struct program_run run;
    program_run(job->mpirun,
                (const char *const[]){MPIRUN_FLAGS, "-n", ranks, job->moebius, "generate",
                                      "--model", job->folder, "--token-ids", "1", flag, NULL},
                NULL, PROGRAM_KEPT, &run);
    EXPECT(run.exit_code == 2 && strstr(run.err, expected) != NULL,
           "%s ranks, %s: expected exit code 2 and '%s', got %d: %s", ranks, flag, expected,
           run.exit_code, run.err);
    program_run_deinit(&run);
}

int main(int argc, char **argv) {
    if (argc < 4) {
        fprintf(stderr, "usage: test_tensor MPIRUN MOEBIUS GOLDEN...\n");
        return 2;
    }
    struct program mpirun;
    program_init(&mpirun, argv[1]);
    struct job job = {.mpirun = &mpirun, .moebius = argv[2], .folder = argv[3]};
    program_scratch_path(&mpirun, "logits", job.logits, sizeof job.logits);
    program_scratch_path(&mpirun, "routing", job.routing, sizeof job.routing);
    program_scratch_path(&mpirun, "traffic", job.traffic, sizeof job.traffic);
    check_refused(&job, "4", "--tensor-parallel-size=3",
                  "--tensor-parallel-size 3, --data-parallel-size not given: expected a product of "
                  "4, the number of ranks; nearest: 2 x 2 or 4 x 1");
    check_refused(&job, "4", "--data-parallel-size=3",
                  "--tensor-parallel-size not given, --data-parallel-size 3: expected a product of "
                  "4, the number of ranks; nearest: 2 x 2 or 1 x 4");
    check_refused(&job, "3", "--tensor-parallel-size=3", "the model's 4 heads");
    check_refused(&job, "3", "--tensor-parallel-size=3", "nearest for 3 ranks: 1");
    check_refused(&job, "2", "--expert-replicas=99", "--expert-replicas: expected 0 to ");
    check_biases(&job);
    for (int i = 3; i < argc; i++) {
        job.folder = argv[i];
        check_golden(&job);
    }
    program_deinit(&mpirun);
    return expect_failures == 0 ? 0 : 1;
}
