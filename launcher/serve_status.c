/* How a server does, in one line: rates since the last line, and where things stand. */
#include "launcher/serve_status.h"

#include <stdio.h>

#include "kernels/base/log.h"
#include "runtime/memory_plan.h"

static int64_t sent_bytes(const struct metrics *metrics) {
    int64_t sum = 0;
    for (int32_t rank = 0; rank < metrics_ranks(metrics); rank++) {
        struct metrics_rank accounts;
        metrics_get_rank(metrics, rank, &accounts);
        for (int kind = 0; kind < TRAFFIC_KIND_COUNT; kind++)
            sum +=
                accounts.sent[kind][TRAFFIC_NODE].bytes + accounts.sent[kind][TRAFFIC_REMOTE].bytes;
    }
    return sum;
}

static void read_counters(struct serve_status *status) {
    const struct metrics *metrics = status->metrics;
    status->prompt_tokens = metrics_count(metrics, METRICS_PROMPT_TOKENS);
    status->generation_tokens = metrics_count(metrics, METRICS_GENERATION_TOKENS);
    status->steps = metrics_count(metrics, METRICS_STEPS);
    status->queries = metrics_count(metrics, METRICS_PREFIX_CACHE_QUERIES);
    status->hits = metrics_count(metrics, METRICS_PREFIX_CACHE_HITS);
    status->sent_bytes = sent_bytes(metrics);
    status->copies = metrics_count(metrics, METRICS_COPIES);
    status->remote_pairs =
        metrics_count(metrics, METRICS_ROUTED_PAIRS) - metrics_count(metrics, METRICS_LOCAL_PAIRS);
}

void serve_status_init(struct serve_status *status, const struct metrics *metrics, int64_t now_ns) {
    *status = (struct serve_status){.metrics = metrics, .then_ns = now_ns};
    read_counters(status);
}

/* What crossed ranks, and the share of token copies that sending each once to a rank has saved
 * beside once an expert. */
static void describe_traffic(const struct serve_status *before, const struct serve_status *now,
                             char *text, size_t size) {
    char bytes[32];
    int64_t steps = now->steps - before->steps, pairs = now->remote_pairs - before->remote_pairs;
    int64_t sent = now->sent_bytes - before->sent_bytes;
    text[0] = '\0';
    if (metrics_ranks(now->metrics) < 2 || steps == 0)
        return;
    double saved = pairs > 0 ? 1.0 - (double)(now->copies - before->copies) / (double)pairs : 0.0;
    snprintf(text, size, ", %s sent a step, %.1f %% of token copies saved",
             memory_plan_format(sent / steps, bytes, sizeof bytes), saved * 100.0);
}

void serve_status_tell(struct serve_status *status, int64_t now_ns) {
    const struct metrics *metrics = status->metrics;
    struct serve_status before = *status;
    double seconds = (double)(now_ns - before.then_ns) * 1e-9;
    double running = metrics_value(metrics, METRICS_REQUESTS_RUNNING);
    double waiting = metrics_value(metrics, METRICS_REQUESTS_WAITING);
    read_counters(status);
    status->then_ns = now_ns;
    if (seconds <= 0.0 || (status->steps == before.steps && running + waiting == 0.0))
        return;
    char traffic[128];
    describe_traffic(&before, status, traffic, sizeof traffic);
    int64_t queries = status->queries - before.queries;
    double hits = queries > 0 ? (double)(status->hits - before.hits) / (double)queries : 0.0;
    LOG_INFO("prompt %.1f tokens/s, generation %.1f tokens/s, running %.0f, waiting %.0f, KV cache "
             "%.1f %%, prefix cache hits %.1f %%%s",
             (double)(status->prompt_tokens - before.prompt_tokens) / seconds,
             (double)(status->generation_tokens - before.generation_tokens) / seconds, running,
             waiting, metrics_value(metrics, METRICS_KV_CACHE_USAGE) * 100.0, hits * 100.0,
             traffic);
}
