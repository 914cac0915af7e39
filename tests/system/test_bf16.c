/* bf16 compute against the f32 logits that Hugging Face transformers computed from the same files:
 * the relative rms error of every position's logits, and their mean, stay below a bound. Usage:
 * test_bf16 FOLDER...
 *
 * Where the rounding flips a near-tie of a router, another expert answers: such positions of MoE
 * models are not compared, and those that attend to one have a wider bound. Enough positions of
 * both kinds must be left. The control: a position's logits against the next one's are far outside
 * the bound. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/safetensors.h"
#include "tests/support/expect.h"
#include "tests/support/fixture.h"

#define PROMPTS 3
/* Of rms(got - expected) / rms(expected); about twice what was measured when this was written. */
#define ERROR_MAX 0.09       /* worst position: 0.048 */
#define ERROR_MAX_HEARD 0.25 /* worst position that attends to another expert's answer: 0.14 */
#define ERROR_MEAN 0.03      /* of a model's positions */
/* Shares of a MoE model's positions: own experts agree; and those of all positions before. */
#define AGREEING_MIN 0.75
#define UNTOUCHED_MIN 0.2

/* The router's choices of one forward. */
struct choices {
    const struct model_spec *spec;
    int32_t rows;
    int32_t *ids; /* [layers][rows][top_k] */
};

struct totals {
    int64_t positions, compared, untouched;
    double sum, worst, worst_heard, closest_control;
};

static void *take(size_t bytes) {
    void *memory = calloc(bytes > 0 ? bytes : 1, 1);
    if (memory == NULL)
        exit(1);
    return memory;
}

static void see(void *context, enum model_point point, int32_t layer, const void *data,
                int64_t columns) {
    struct choices *choices = context;
    size_t count = (size_t)choices->rows * (size_t)columns;
    if (point == MODEL_ROUTER_IDS)
        memcpy(choices->ids + (size_t)layer * count, data, count * sizeof(int32_t));
}

/* The expected tensor p<prompt>.<what>, copied; NULL when there is none. */
static void *expected(const struct safetensors_file *file, int32_t prompt, const char *what,
                      int64_t *count) {
    char name[64];
    snprintf(name, sizeof name, "p%d.%s", prompt, what);
    const struct tensor_info *tensor = safetensors_find(file, name);
    *count = 0;
    if (tensor == NULL)
        return NULL;
    void *copy = take((size_t)tensor->bytes);
    memcpy(copy, safetensors_data(file, tensor), (size_t)tensor->bytes);
    *count = tensor->bytes / 4;
    return copy;
}

/* Whether the row chose the expected experts (ascending) in all layers. `wanted` has the MoE
 * layers only: [moe layers][rows][top_k]. */
static bool agrees(const struct choices *choices, const int32_t *wanted, int32_t row) {
    int32_t k = choices->spec->moe.router.top_k, moe_layer = 0;
    for (int32_t layer = 0; layer < choices->spec->layers; layer++) {
        if (!choices->spec->layer[layer].moe)
            continue;
        const int32_t *want = wanted + ((int64_t)moe_layer++ * choices->rows + row) * k;
        const int32_t *got = choices->ids + ((int64_t)layer * choices->rows + row) * k;
        for (int32_t slot = 0; slot < k; slot++) {
            bool found = false;
            for (int32_t i = 0; i < k; i++)
                found = found || got[i] == want[slot];
            if (!found)
                return false;
        }
    }
    return true;
}

static double relative_rms(const float *got, const float *want, int32_t count) {
    double difference = 0.0, square = 0.0;
    for (int32_t i = 0; i < count; i++) {
        difference += ((double)got[i] - (double)want[i]) * ((double)got[i] - (double)want[i]);
        square += (double)want[i] * (double)want[i];
    }
    return sqrt(difference / square);
}

static void compare(const char *folder, const float *got, const float *want,
                    const struct choices *choices, const int32_t *wanted_ids,
                    struct totals *totals) {
    int32_t vocabulary = choices->spec->vocabulary;
    bool untouched = true; /* no position so far has another expert's answer */
    for (int32_t row = 0; row < choices->rows; row++) {
        const float *expected_row = want + (int64_t)row * vocabulary;
        bool agreeing = wanted_ids == NULL || agrees(choices, wanted_ids, row);
        untouched = untouched && agreeing;
        totals->positions++;
        if (!agreeing)
            continue;
        double error = relative_rms(got + (int64_t)row * vocabulary, expected_row, vocabulary);
        EXPECT(error <= (untouched ? ERROR_MAX : ERROR_MAX_HEARD),
               "%s: position %d: logits are off by %.4f of their rms", folder, row, error);
        double *worst = untouched ? &totals->worst : &totals->worst_heard;
        *worst = error > *worst ? error : *worst;
        totals->sum += error;
        totals->compared++;
        totals->untouched += untouched;
        if (row + 1 < choices->rows)
            totals->closest_control =
                fmin(totals->closest_control,
                     relative_rms(expected_row + vocabulary, expected_row, vocabulary));
    }
}

/* What one model's positions add up to. */
static void check_totals(const char *folder, enum cpu_isa isa, bool moe,
                         const struct totals *totals) {
    double mean = totals->sum / (double)totals->compared;
    printf("%s %s: off by %.4f of the logits' rms on average; at most %.4f (%lld positions) and, "
           "where another expert is heard, %.4f (%lld of %lld); neighbours differ by %.2f\n",
           folder, cpu_isa_name(isa), mean, totals->worst, (long long)totals->untouched,
           totals->worst_heard, (long long)(totals->compared - totals->untouched),
           (long long)(totals->positions - totals->untouched), totals->closest_control);
    EXPECT(mean <= ERROR_MEAN, "%s: off by %.4f on average", folder, mean);
    EXPECT((double)totals->compared >= (moe ? AGREEING_MIN : 1.0) * (double)totals->positions,
           "%s: only %lld positions are comparable", folder, (long long)totals->compared);
    EXPECT((double)totals->untouched >= (moe ? UNTOUCHED_MIN : 1.0) * (double)totals->positions,
           "%s: only %lld positions are untouched", folder, (long long)totals->untouched);
    EXPECT(totals->closest_control > 2.0 * ERROR_MAX,
           "%s: control: neighbouring positions are too alike", folder);
}

static void check_prompt(const char *folder, struct fixture *f, const struct safetensors_file *file,
                         int32_t prompt, struct totals *totals) {
    int64_t count, logits_count, ids_count;
    int32_t *tokens = expected(file, prompt, "input_ids", &count);
    float *want = expected(file, prompt, "logits", &logits_count);
    int32_t *wanted_ids = expected(file, prompt, "router_ids", &ids_count);
    EXPECT(tokens != NULL && logits_count == count * f->spec.vocabulary, "%s: p%d is incomplete",
           folder, prompt);
    struct choices choices = {.spec = &f->spec, .rows = (int32_t)count};
    choices.ids = take(sizeof(int32_t) * (size_t)f->spec.layers * (size_t)count *
                       (size_t)(f->spec.moe.router.top_k + 1));
    struct sequence sequence;
    batch_clear(&f->batch);
    if (tokens == NULL)
        exit(1);
    fixture_begin(f, &sequence, choices.rows);
    fixture_append(f, &sequence, tokens, choices.rows, true);
    struct model_observer observer = {.see = see, .context = &choices};
    const float *got = fixture_forward(f, &observer);
    compare(folder, got, want, &choices, wanted_ids, totals);
    fixture_end(f, &sequence);
    free(choices.ids), free(wanted_ids), free(want), free(tokens);
}

static void check_folder(const char *folder, enum cpu_isa isa) {
    struct fixture f;
    struct fixture_options options = {.dtype = DTYPE_BF16,
                                      .isa = isa,
                                      .threads = 2,
                                      .rows = 128,
                                      .positions = 128,
                                      .sequences = 1};
    char path[512];
    struct safetensors_file *file;
    struct totals totals = {.closest_control = HUGE_VAL};
    fixture_open(&f, folder, &options);
    snprintf(path, sizeof path, "%s/expected.safetensors", folder);
    if (safetensors_open(path, &file) != STATUS_OK)
        exit(1);
    for (int32_t prompt = 0; prompt < PROMPTS; prompt++)
        check_prompt(folder, &f, file, prompt, &totals);
    check_totals(folder, isa, f.spec.moe.router.experts > 0, &totals);
    safetensors_close(file);
    fixture_close(&f);
}

int main(int argc, char **argv) {
    if (argc < 2) {
        fprintf(stderr, "usage: test_bf16 FOLDER...\n");
        return 2;
    }
    for (int i = 1; i < argc; i++)
        for (int isa = 0; isa < CPU_ISA_COUNT; isa++)
            if (cpu_isa_supported((enum cpu_isa)isa))
                check_folder(argv[i], (enum cpu_isa)isa);
    return expect_failures == 0 ? 0 : 1;
}
