/* What sampler.c, sampler_reach.c and sampler_logprobs.c know of a row before they look at its
 * ids. */
#include "runtime/sampler_scan.h"

#include <stddef.h>

#include "kernels/ref_sample.h"

static int32_t skipped(const struct sampler_scan *scan) {
    return scan->first_id % SAMPLE_GROUP;
}

int32_t sampler_scan_groups(int32_t first_id, int32_t count) {
    return (first_id % SAMPLE_GROUP + count + SAMPLE_GROUP - 1) / SAMPLE_GROUP;
}

void sampler_scan_begin(struct sampler_scan *scan) {
    struct peak_args args = {.x = scan->logits,
                             .skipped = skipped(scan),
                             .count = scan->count,
                             .octets = scan->octets,
                             .groups = scan->peaks};
    if (scan->ops == NULL)
        scan->ops = &ref_sample_ops;
    scan->greatest = scan->ops->peaks(&args);
}

struct sampler_span sampler_scan_span(const struct sampler_scan *scan, int32_t group) {
    int32_t first = group * SAMPLE_GROUP - skipped(scan), end = first + SAMPLE_GROUP;
    return (struct sampler_span){.first = first < 0 ? 0 : first,
                                 .end = end < scan->count ? end : scan->count};
}

bool sampler_scan_next(const struct sampler_scan *scan, float least, struct sampler_span *span) {
    int32_t groups = sampler_scan_groups(scan->first_id, scan->count);
    int32_t group = span->end > 0 ? sampler_scan_groups(scan->first_id, span->end) : 0;
    while (group < groups && !(scan->peaks[group] >= least))
        group++;
    if (group == groups)
        return false;
    span->first = sampler_scan_span(scan, group).first;
    while (group < groups && scan->peaks[group] >= least)
        group++;
    span->end = sampler_scan_span(scan, group - 1).end;
    return true;
}
