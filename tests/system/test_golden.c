/* Golden checkpoints: every position's logits, hidden states and router choices against what
 * Hugging Face transformers computed from the same files, and the greedy continuation token by
 * token. Usage: test_golden FOLDER...
 *
 * Bounds for f32 are those of the goldens' README: |logit - expected| <= 2e-3 everywhere and <=
 * 5e-4 on average per position, hidden states within 1e-3 of their rms, router logits within 1e-3,
 * router ids and greedy ids equal. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/safetensors.h"
#include "tests/support/fixture.h"

#define LOGIT_MAX 2e-3
#define LOGIT_MEAN 5e-4
#define HIDDEN_OF_RMS 1e-3
#define ROUTER_LOGIT_MAX 1e-3
#define ROUTER_WEIGHT_MAX 1e-3
#define GREEDY_TOKENS 32

static int failures;

#define EXPECT(condition, ...)                                                                     \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            failures++;                                                                            \
            printf("FAILED %s:%d: ", __FILE__, __LINE__);                                          \
            printf(__VA_ARGS__);                                                                   \
            printf("\n");                                                                          \
        }                                                                                          \
    } while (0)

/* What the observer collects, shaped like the expected tensors. */
struct recording {
    const struct model_spec *spec;
    int32_t rows, moe_layers;
    float *embed, *attn_out, *mlp_out, *hidden, *final_norm;
    float *router_logits, *router_weights;
    int32_t *router_ids;
};

static int32_t moe_index(const struct model_spec *spec, int32_t layer) {
    int32_t index = 0;
    for (int32_t i = 0; i < layer; i++)
        index += spec->layer[i].moe ? 1 : 0;
    return index;
}

static void record(void *context, enum model_point point, int32_t layer, const void *data,
                   int64_t columns) {
    struct recording *r = context;
    size_t count = (size_t)r->rows * (size_t)columns;
    size_t at = (size_t)layer * count, moe_at = (size_t)moe_index(r->spec, layer) * count;
    switch (point) {
    case MODEL_EMBEDDING:
        memcpy(r->embed, data, count * 4);
        break;
    case MODEL_ATTENTION_OUT:
        memcpy(r->attn_out + at, data, count * 4);
        break;
    case MODEL_MLP_OUT:
        memcpy(r->mlp_out + at, data, count * 4);
        break;
    case MODEL_HIDDEN:
        memcpy(r->hidden + at, data, count * 4);
        break;
    case MODEL_ROUTER_LOGITS:
        memcpy(r->router_logits + moe_at, data, count * 4);
        break;
    case MODEL_ROUTER_IDS:
        memcpy(r->router_ids + moe_at, data, count * 4);
        break;
    case MODEL_ROUTER_WEIGHTS:
        memcpy(r->router_weights + moe_at, data, count * 4);
        break;
    case MODEL_FINAL_NORM:
        for (int32_t row = 0; row < r->rows; row++)
            memcpy(r->final_norm + row * columns,
                   (const float *)data + row * activation_stride(columns), (size_t)columns * 4);
        break;
    }
}

static void *take(size_t count) {
    void *memory = calloc(count > 0 ? count : 1, 4);
    if (memory == NULL)
        exit(1);
    return memory;
}

static void recording_init(struct recording *r, const struct model_spec *spec, int32_t rows) {
    size_t m = (size_t)rows, h = (size_t)spec->hidden, l = (size_t)spec->layers;
    size_t e = (size_t)spec->moe.router.experts, k = (size_t)spec->moe.router.top_k;
    *r =
        (struct recording){.spec = spec, .rows = rows, .moe_layers = moe_index(spec, spec->layers)};
    r->embed = take(m * h), r->attn_out = take(l * m * h), r->mlp_out = take(l * m * h);
    r->hidden = take(l * m * h), r->final_norm = take(m * h);
    r->router_logits = take(l * m * e), r->router_weights = take(l * m * k);
    r->router_ids = take(l * m * k);
}

static void recording_free(struct recording *r) {
    free(r->embed), free(r->attn_out), free(r->mlp_out), free(r->hidden), free(r->final_norm);
    free(r->router_logits), free(r->router_weights), free(r->router_ids);
}

static const void *expected_data(const struct safetensors_file *file, int32_t prompt,
                                 const char *what, int64_t *count) {
    char name[64];
    snprintf(name, sizeof name, "p%d.%s", prompt, what);
    const struct tensor_info *tensor = safetensors_find(file, name);
    if (tensor == NULL) {
        *count = 0;
        return NULL;
    }
    *count = tensor->bytes / tensor_type_bytes(tensor->type);
    return safetensors_data(file, tensor);
}

static float at(const void *data, int64_t index) {
    float value;
    memcpy(&value, (const char *)data + 4 * index, 4);
    return value;
}

static int32_t int_at(const void *data, int64_t index) {
    int32_t value;
    memcpy(&value, (const char *)data + 4 * index, 4);
    return value;
}

/* max |a - b| <= bound, absolute or as a share of the expected rms. */
static void compare(const struct safetensors_file *file, int32_t prompt, const char *what,
                    const float *got, double bound, bool of_rms) {
    int64_t count;
    const void *expected = expected_data(file, prompt, what, &count);
    if (expected == NULL)
        return; /* attn_out and mlp_out are there for p1 only */
    double square = 0.0, worst = 0.0;
    for (int64_t i = 0; i < count; i++) {
        double want = (double)at(expected, i), difference = fabs((double)got[i] - want);
        square += want * want;
        worst = difference > worst || isnan(difference) ? difference : worst;
    }
    double limit = of_rms ? bound * sqrt(square / (double)count) : bound;
    EXPECT(worst <= limit, "p%d.%s: largest difference %g, allowed %g", prompt, what, worst, limit);
}

static void compare_logits(const struct safetensors_file *file, int32_t prompt, const float *got,
                           int32_t vocabulary, double *worst_of_all) {
    int64_t count;
    const void *expected = expected_data(file, prompt, "logits", &count);
    EXPECT(expected != NULL, "p%d.logits missing", prompt);
    for (int64_t row = 0; row < count / vocabulary; row++) {
        double worst = 0.0, sum = 0.0;
        for (int64_t i = row * vocabulary; i < (row + 1) * vocabulary; i++) {
            double difference = fabs((double)got[i] - (double)at(expected, i));
            worst = difference > worst || isnan(difference) ? difference : worst;
            sum += difference;
        }
        EXPECT(worst <= LOGIT_MAX, "p%d row %d: logits differ by %g", prompt, (int)row, worst);
        EXPECT(sum / vocabulary <= LOGIT_MEAN, "p%d row %d: logits differ by %g on average", prompt,
               (int)row, sum / vocabulary);
        if (worst > *worst_of_all)
            *worst_of_all = worst;
    }
}

/* Expected ids are in ascending order, ours in falling order of score. */
static void compare_routing(const struct safetensors_file *file, int32_t prompt,
                            const struct recording *r) {
    int64_t count;
    const void *ids = expected_data(file, prompt, "router_ids", &count);
    if (ids == NULL || r->moe_layers == 0)
        return;
    const void *weights = expected_data(file, prompt, "router_weights", &count);
    int32_t k = r->spec->moe.router.top_k;
    for (int64_t pair = 0; pair < count / k; pair++) {
        for (int32_t slot = 0; slot < k; slot++) {
            int32_t want = int_at(ids, pair * k + slot), found = -1;
            for (int32_t i = 0; i < k; i++)
                if (r->router_ids[pair * k + i] == want)
                    found = i;
            EXPECT(found >= 0, "p%d pair %d: expert %d not chosen", prompt, (int)pair, want);
            if (found < 0)
                continue;
            double difference = fabs((double)r->router_weights[pair * k + found] -
                                     (double)at(weights, pair * k + slot));
            EXPECT(difference <=
                       ROUTER_WEIGHT_MAX * fmax(1.0, (double)at(weights, pair * k + slot)),
                   "p%d pair %d: weight differs by %g", prompt, (int)pair, difference);
        }
    }
}

static int32_t argmax(const float *logits, int32_t count) {
    int32_t best = 0;
    for (int32_t i = 1; i < count; i++)
        best = logits[i] > logits[best] ? i : best;
    return best;
}

/* Greedy decoding, one row at a time, after the prompt's rows are committed. */
static void compare_greedy(const struct safetensors_file *file, int32_t prompt, struct fixture *f,
                           struct sequence *sequence, int32_t first) {
    int64_t count;
    const void *expected = expected_data(file, prompt, "greedy_ids", &count);
    EXPECT(expected != NULL && count == GREEDY_TOKENS, "p%d.greedy_ids missing", prompt);
    int32_t token = first;
    for (int32_t i = 0; expected != NULL && i < GREEDY_TOKENS; i++) {
        EXPECT(token == int_at(expected, i), "p%d: greedy token %d is %d, expected %d", prompt, i,
               token, int_at(expected, i));
        batch_clear(&f->batch);
        fixture_append(f, sequence, &token, 1, false);
        token = argmax(fixture_forward(f, NULL), f->spec.vocabulary);
        sequence_commit(sequence, 1);
    }
}

static void check_prompt(const struct safetensors_file *file, struct fixture *f, int32_t prompt,
                         double *worst) {
    int64_t count;
    const void *ids = expected_data(file, prompt, "input_ids", &count);
    EXPECT(ids != NULL, "p%d.input_ids missing", prompt);
    if (ids == NULL)
        return;
    int32_t *tokens = take((size_t)count);
    memcpy(tokens, ids, (size_t)count * 4);
    struct recording recording;
    recording_init(&recording, &f->spec, (int32_t)count);
    struct sequence sequence;
    fixture_begin(f, &sequence, (int32_t)count + GREEDY_TOKENS);
    batch_clear(&f->batch);
    fixture_append(f, &sequence, tokens, (int32_t)count, true);
    struct model_observer observer = {.see = record, .context = &recording};
    const float *logits = fixture_forward(f, &observer);
    compare_logits(file, prompt, logits, f->spec.vocabulary, worst);
    compare(file, prompt, "embed", recording.embed, 0.0, false);
    compare(file, prompt, "attn_out", recording.attn_out, HIDDEN_OF_RMS, true);
    compare(file, prompt, "mlp_out", recording.mlp_out, HIDDEN_OF_RMS, true);
    compare(file, prompt, "hidden", recording.hidden, HIDDEN_OF_RMS, true);
    compare(file, prompt, "final_norm", recording.final_norm, HIDDEN_OF_RMS, true);
    compare(file, prompt, "router_logits", recording.router_logits, ROUTER_LOGIT_MAX, false);
    compare_routing(file, prompt, &recording);
    int32_t next = argmax(logits + (count - 1) * f->spec.vocabulary, f->spec.vocabulary);
    sequence_commit(&sequence, (int32_t)count);
    compare_greedy(file, prompt, f, &sequence, next);
    fixture_end(f, &sequence);
    recording_free(&recording);
    free(tokens);
}

static void check_folder(const char *folder, enum cpu_isa isa) {
    struct fixture f;
    struct fixture_options options = {.dtype = DTYPE_F32,
                                      .isa = isa,
                                      .threads = 2,
                                      .rows = 128,
                                      .positions = 128,
                                      .sequences = 1};
    fixture_open(&f, folder, &options);
    char path[512];
    snprintf(path, sizeof path, "%s/expected.safetensors", folder);
    struct safetensors_file *file;
    if (safetensors_open(path, &file) != STATUS_OK)
        exit(1);
    int before = failures;
    double worst = 0.0;
    for (int32_t prompt = 0; prompt < 3; prompt++)
        check_prompt(file, &f, prompt, &worst);
    printf("%s %s: %s, largest logit difference %.2g\n", folder, cpu_isa_name(isa),
           failures == before ? "equal" : "DIFFERENT", worst);
    safetensors_close(file);
    fixture_close(&f);
}

int main(int argc, char **argv) {
    if (argc < 2) {
        fprintf(stderr, "usage: test_golden FOLDER...\n");
        return 2;
    }
    for (int i = 1; i < argc; i++)
        for (int isa = 0; isa < CPU_ISA_COUNT; isa++)
            if (cpu_isa_supported((enum cpu_isa)isa))
                check_folder(argv[i], (enum cpu_isa)isa);
    return failures == 0 ? 0 : 1;
}
