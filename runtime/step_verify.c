/* Digests of a step, for --verify-ranks: made by step_executor.c, compared by step_link.c. */
#include "runtime/step_verify.h"

#include <string.h>

#include "kernels/base/log.h"

#define PRIME UINT64_C(0x9e3779b97f4a7c15)

/* Multiply and fold, eight bytes at a time: every bit reaches every bit. */
static uint64_t mix(uint64_t digest, uint64_t word) {
    uint64_t x = (digest ^ word) * PRIME;
    x ^= x >> 32;
    x *= UINT64_C(0xd6e8feb86659fd93);
    return x ^ x >> 29;
}

uint64_t step_verify_hash(uint64_t digest, const void *data, size_t bytes) {
    const char *at = data;
    for (; bytes >= sizeof(uint64_t); bytes -= sizeof(uint64_t), at += sizeof(uint64_t)) {
        uint64_t word;
        memcpy(&word, at, sizeof word);
        digest = mix(digest, word);
    }
    uint64_t last = bytes;
    if (bytes > 0)
        memcpy((char *)&last + 1, at, bytes);
    return mix(digest, last);
}

static uint64_t hash_entry(uint64_t digest, const struct step_entry *entry) {
    const int32_t numbers[] = {entry->group,
                               entry->place,
                               entry->keep,
                               entry->first_row,
                               entry->rows,
                               entry->logit_from,
                               entry->scores,
                               entry->scores > 0 ? entry->next : -1,
                               entry->samples ? 1 : 0,
                               entry->sends ? 1 : 0,
                               entry->table_first,
                               entry->first_block,
                               entry->blocks};
    return step_verify_hash(digest, numbers, sizeof numbers);
}

uint64_t step_verify_plan(const struct step_plan *plan) {
    const int64_t head[] = {plan->step, plan->stop, plan->admissions, plan->entries};
    uint64_t digest = step_verify_hash(0, head, sizeof head);
    for (int32_t i = 0; i < plan->entries; i++)
        digest = hash_entry(digest, &plan->entry[i]);
    size_t number = sizeof(int32_t);
    digest = step_verify_hash(digest, plan->tokens, number * (size_t)plan->rows);
    digest = step_verify_hash(digest, plan->parents, number * (size_t)plan->rows);
    digest = step_verify_hash(digest, plan->block, number * (size_t)plan->blocks);
    for (int32_t i = 0; i < plan->admissions; i++) {
        const struct step_admission *admission = &plan->admission[i];
        const struct sampling_params *sampling = admission->sampling;
        const int64_t numbers[] = {admission->group,        admission->place,
                                   admission->prompt_count, admission->min_tokens,
                                   admission->prompt_top,   (int64_t)sampling->seed};
        if (sampling->temperature > 0.0f)
            digest = step_verify_hash(digest, numbers, sizeof numbers);
        else
            digest = step_verify_hash(digest, numbers, sizeof numbers - sizeof numbers[0]);
        digest =
            step_verify_hash(digest, admission->history, number * (size_t)admission->history_count);
    }
    return digest;
}

uint64_t step_verify_tables(const struct sequence *sequences, int32_t count) {
    uint64_t digest = 0;
    for (int32_t i = 0; i < count; i++) {
        const struct sequence *sequence = &sequences[i];
        const int32_t lengths[] = {i, sequence->committed, sequence->block_count};
        if (sequence->block_count == 0)
            continue;
        digest = step_verify_hash(digest, lengths, sizeof lengths);
        digest = step_verify_hash(digest, sequence->blocks,
                                  sizeof(int32_t) * (size_t)sequence->block_count);
    }
    return digest;
}

static enum status compare(const struct step_verify *verify, int32_t rank, const char *what,
                           uint64_t expected, uint64_t got) {
    if (expected == got)
        return STATUS_OK;
    LOG_ERROR("step %lld: rank %d on %s: %s: expected digest %016llx, got %016llx: the ranks are "
              "not of one mind",
              (long long)verify->step, rank, verify->ranks->host_of[rank], what,
              (unsigned long long)expected, (unsigned long long)got);
    return STATUS_INTERNAL;
}

enum status step_verify_rank(struct step_verify *verify, int32_t rank,
                             const struct step_digests *digests) {
    if (rank == 0)
        verify->first = *digests;
    if (rank % verify->ranks->tp_size == 0)
        verify->group = *digests;
    RETURN_IF_ERROR(compare(verify, rank, "plan", verify->first.plan, digests->plan));
    RETURN_IF_ERROR(compare(verify, rank, "block tables", verify->first.tables, digests->tables));
    return compare(verify, rank, "residual", verify->group.residual, digests->residual);
}
