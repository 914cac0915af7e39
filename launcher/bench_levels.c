/* The output of bench throughput. */
#include "launcher/bench_levels.h"

#include <stdio.h>

#include "runtime/json_writer.h"

static double output_rate(const struct bench_level *level) {
    return (double)level->output_tokens / level->seconds;
}

/* The rate of one sequence, if that was measured; else 0. */
static double rate_of_one(const struct bench_levels *levels) {
    for (int32_t i = 0; i < levels->count; i++)
        if (levels->level[i].concurrency == 1)
            return output_rate(&levels->level[i]);
    return 0.0;
}

static void print_step(const struct bench_level *level) {
    double step = (double)level->step_ns, forward = (double)level->forward_ns,
           sampling = (double)level->sample_ns;
    printf("%.0f us: %.1f %% forward, %.1f %% sampling, %.1f %% rest |\n",
           step * 1e-3 / (double)level->steps, 100.0 * forward / step, 100.0 * sampling / step,
           100.0 * (step - forward - sampling) / step);
}

void bench_levels_table(const struct bench_levels *levels) {
    double one = rate_of_one(levels);
    printf("%s, %s, %s; ranks: %d, threads: %d\n\n", levels->family, levels->dtype, levels->isa,
           levels->ranks, levels->threads);
    printf("| sequences | requests | output tokens/s | all tokens/s | times one | %s | a step |\n",
           levels->ranks > 1 ? "waiting for other ranks"
                             : "of multiply-add peak | of read bandwidth");
    printf("|---|---|---|---|---|---|---|%s\n", levels->ranks > 1 ? "" : "---|");
    for (int32_t i = 0; i < levels->count; i++) {
        const struct bench_level *level = &levels->level[i];
        printf("| %d | %d | %.1f | %.1f | ", level->concurrency, level->requests,
               output_rate(level),
               (double)(level->prompt_tokens + level->output_tokens) / level->seconds);
        printf(one > 0.0 ? "%.2f | " : "- | ", one > 0.0 ? output_rate(level) / one : 0.0);
        if (levels->ranks > 1)
            printf("%.0f %% | ", 100.0 * level->waiting);
        else
            printf("%.0f %% of %.1f GFLOP/s | %.0f %% of %.1f GB/s | ",
                   100.0 * level->flop / level->seconds / levels->peak, levels->peak * 1e-9,
                   100.0 * level->bytes / level->seconds / levels->bandwidth,
                   levels->bandwidth * 1e-9);
        print_step(level);
    }
}

static void write_level(const struct bench_levels *levels, struct json_writer *json,
                        const struct bench_level *level) {
    double one = rate_of_one(levels);
    json_writer_begin_object(json, NULL);
    json_writer_integer(json, "concurrency", level->concurrency);
    json_writer_integer(json, "requests", level->requests);
    json_writer_number(json, "seconds", level->seconds);
    json_writer_number(json, "cpu_seconds", level->cpu_seconds);
    json_writer_integer(json, "steps", level->steps);
    json_writer_number(json, "step_seconds", (double)level->step_ns * 1e-9);
    json_writer_number(json, "forward_seconds", (double)level->forward_ns * 1e-9);
    json_writer_number(json, "sampling_seconds", (double)level->sample_ns * 1e-9);
    json_writer_integer(json, "prompt_tokens", level->prompt_tokens);
    json_writer_integer(json, "output_tokens", level->output_tokens);
    json_writer_number(json, "output_tokens_per_second", output_rate(level));
    if (one > 0.0)
        json_writer_number(json, "times_one", output_rate(level) / one);
    if (levels->peak > 0.0) {
        json_writer_number(json, "flop_per_second", level->flop / level->seconds);
        json_writer_number(json, "machine_flop_per_second", levels->peak);
        json_writer_number(json, "bytes_per_second", level->bytes / level->seconds);
        json_writer_number(json, "machine_bytes_per_second", levels->bandwidth);
    }
    json_writer_number(json, "waiting", level->waiting);
    json_writer_end_object(json);
}

void bench_levels_json(const struct bench_levels *levels) {
    struct json_writer json = {.out = stdout};
    json_writer_begin_object(&json, NULL);
    json_writer_text(&json, "family", levels->family);
    json_writer_text(&json, "dtype", levels->dtype);
    json_writer_text(&json, "isa", levels->isa);
    json_writer_integer(&json, "ranks", levels->ranks);
    json_writer_integer(&json, "threads", levels->threads);
    json_writer_begin_array(&json, "levels");
    for (int32_t i = 0; i < levels->count; i++)
        write_level(levels, &json, &levels->level[i]);
    json_writer_end_array(&json);
    json_writer_end_object(&json);
    printf("\n");
}
