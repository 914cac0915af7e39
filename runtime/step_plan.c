/* The message that starts every step on every rank. */
#include "runtime/step_plan.h"

#include "kernels/base/check.h"
#include "kernels/base/log.h"
#include "kernels/base/memory.h"
#include "kernels/kv_layout.h"
#include "runtime/wire.h"

#define HEAD_BYTES_MAX (sizeof(int64_t) + 5 * (size_t)WIRE_NUMBER_BYTES_MAX)
#define ENTRY_NUMBERS 10 /* of the head of an entry on the wire */

enum entry_flags {
    FLAG_CHAIN = 1,
    FLAG_SAMPLES = 2,
    FLAG_SENDS = 4,
    FLAG_LOGITS = 8,
    FLAGS_ALL = 15
};

/* Takes everything from an arena, or measures it. */
static void lay_out(struct step_plan *plan, struct arena *arena) {
    const struct step_limits *limits = &plan->limits;
    size_t entries = (size_t)limits->entries, rows = (size_t)limits->rows;
    plan->entry = arena_take(arena, entries * sizeof *plan->entry);
    plan->tokens = arena_take(arena, rows * sizeof *plan->tokens);
    plan->parents = arena_take(arena, rows * sizeof *plan->parents);
    plan->block = arena_take(arena, (size_t)limits->blocks * sizeof *plan->block);
    plan->admission = arena_take(arena, entries * sizeof *plan->admission);
    plan->sampling = arena_take(arena, entries * sizeof *plan->sampling);
    plan->decoded_history =
        arena_take(arena, (size_t)limits->history * sizeof *plan->decoded_history);
}

int64_t step_plan_memory_bytes(const struct step_limits *limits) {
    struct step_plan plan = {.limits = *limits};
    struct arena measure = {0};
    lay_out(&plan, &measure);
    return (int64_t)measure.used;
}

enum status step_plan_init(struct step_plan *plan, const struct step_limits *limits) {
    *plan = (struct step_plan){.limits = *limits};
    size_t bytes = (size_t)step_plan_memory_bytes(limits);
    RETURN_IF_ERROR(memory_acquire("plan of a step", bytes, &plan->region));
    struct arena arena = {.base = plan->region, .capacity = bytes};
    lay_out(plan, &arena);
    return STATUS_OK;
}

void step_plan_deinit(struct step_plan *plan) {
    memory_release(plan->region, (size_t)step_plan_memory_bytes(&plan->limits));
    *plan = (struct step_plan){0};
}

void step_plan_clear(struct step_plan *plan, int64_t step) {
    plan->step = step;
    plan->stop = plan->tell = plan->more = 0;
    plan->entries = plan->rows = plan->blocks = plan->admissions = plan->history = 0;
}

void step_plan_add_chain(struct step_plan *plan, struct step_entry entry, const int32_t *tokens,
                         const int32_t *blocks) {
    ASSERT(plan->entries < plan->limits.entries && entry.rows <= plan->limits.rows - plan->rows &&
           entry.blocks <= plan->limits.blocks - plan->blocks);
    entry.first_row = plan->rows;
    entry.first_block = plan->blocks;
    plan->entry[plan->entries++] = entry;
    for (int32_t i = 0; i < entry.rows; i++) {
        plan->tokens[plan->rows] = tokens[i];
        plan->parents[plan->rows++] = i - 1;
    }
    for (int32_t i = 0; i < entry.blocks; i++)
        plan->block[plan->blocks++] = blocks[i];
}

bool step_plan_admits(const struct step_plan *plan, const struct step_admission *admission) {
    return plan->admissions < plan->limits.entries &&
           admission->history_count <= plan->limits.history - plan->history;
}

void step_plan_add_admission(struct step_plan *plan, const struct step_admission *admission) {
    ASSERT(step_plan_admits(plan, admission));
    plan->admission[plan->admissions++] = *admission;
    plan->history += admission->history_count;
}

int64_t step_plan_bytes_max(const struct step_limits *limits) {
    int64_t numbers = (int64_t)limits->entries * ENTRY_NUMBERS + (int64_t)limits->rows * 2 +
                      (int64_t)limits->blocks + (int64_t)limits->history;
    return (int64_t)HEAD_BYTES_MAX + numbers * WIRE_NUMBER_BYTES_MAX +
           limits->entries * step_admission_bytes_max();
}

/* ---- to the wire ---- */

static bool is_chain(const struct step_plan *plan, const struct step_entry *entry) {
    for (int32_t i = 0; i < entry->rows; i++)
        if (plan->parents[entry->first_row + i] != i - 1)
            return false;
    return true;
}

static void put_entry(struct wire_writer *writer, const struct step_plan *plan,
                      const struct step_entry *entry) {
    bool chain = is_chain(plan, entry), logits = entry->logit_from < entry->rows;
    wire_put(writer, (chain ? FLAG_CHAIN : 0) | (entry->samples ? FLAG_SAMPLES : 0) |
                         (entry->sends ? FLAG_SENDS : 0) | (logits ? FLAG_LOGITS : 0));
    wire_put(writer, entry->group);
    wire_put(writer, entry->place);
    wire_put(writer, entry->keep);
    wire_put(writer, entry->rows);
    wire_put(writer, entry->table_first);
    wire_put(writer, entry->blocks);
    if (logits) {
        wire_put(writer, entry->rows - 1 - entry->logit_from);
        wire_put(writer, entry->scores);
        if (entry->scores > 0)
            wire_put(writer, entry->next + 1);
    }
    for (int32_t i = 0; i < entry->rows; i++)
        wire_put(writer, plan->tokens[entry->first_row + i]);
    for (int32_t i = 0; !chain && i < entry->rows; i++)
        wire_put(writer, plan->parents[entry->first_row + i] + 1);
    for (int32_t i = 0; i < entry->blocks; i++)
        wire_put(writer, plan->block[entry->first_block + i]);
}

int64_t step_plan_encode(const struct step_plan *plan, char *bytes) {
    struct wire_writer writer = {.at = bytes};
    wire_put_bytes(&writer, &plan->step, sizeof plan->step);
    wire_put(&writer, plan->stop);
    wire_put(&writer, plan->tell);
    wire_put(&writer, plan->more);
    wire_put(&writer, plan->admissions);
    wire_put(&writer, plan->entries);
    for (int32_t i = 0; i < plan->admissions; i++)
        step_admission_put(&writer, &plan->admission[i]);
    for (int32_t i = 0; i < plan->entries; i++)
        put_entry(&writer, plan, &plan->entry[i]);
    return writer.at - bytes;
}

/* ---- and back ---- */

/* Whether the entry's positions are within the longest sequence and in its blocks. */
static bool reaches(const struct step_limits *limits, const struct step_entry *entry) {
    int64_t table = (int64_t)entry->table_first + entry->blocks;
    int64_t length = (int64_t)entry->keep + entry->rows;
    return length <= limits->positions && length <= table * KV_BLOCK_TOKENS;
}

/* Whether the place is the group's: its ranks have room for their own places only. */
static bool is_place(const struct step_limits *limits, int32_t group, int32_t place) {
    return group < limits->groups && place < limits->places && place % limits->groups == group;
}

static void get_admission(struct wire_reader *reader, struct step_plan *plan) {
    const struct step_limits *limits = &plan->limits;
    struct step_admission *admission = &plan->admission[plan->admissions];
    step_admission_get(reader, limits->vocabulary, limits->history - plan->history,
                       &plan->sampling[plan->admissions], plan->decoded_history + plan->history,
                       admission);
    if (!is_place(limits, admission->group, admission->place) ||
        admission->prompt_count > limits->positions)
        reader->bad = true;
    plan->admissions++;
    plan->history += admission->history_count;
}

/* Which logits an entry wants, and what for. */
static void get_wishes(struct wire_reader *reader, int32_t vocabulary, struct step_entry *entry) {
    entry->logit_from = entry->rows - 1 - wire_get_within(reader, 0, entry->rows - 1);
    int32_t wanted = entry->rows - entry->logit_from;
    entry->scores = wire_get_within(reader, 0, wanted);
    if (entry->scores > 0)
        entry->next = wire_get_within(reader, 0, vocabulary) - 1;
    if (entry->scores == wanted && (entry->next < 0 || entry->samples))
        reader->bad = true; /* the last row has nothing behind it */
}

static void get_entry(struct wire_reader *reader, struct step_plan *plan) {
    const struct step_limits *limits = &plan->limits;
    struct step_entry entry = {.first_row = plan->rows, .first_block = plan->blocks, .next = -1};
    int32_t flags = wire_get_within(reader, 0, FLAGS_ALL);
    bool chain = flags & FLAG_CHAIN;
    entry.samples = flags & FLAG_SAMPLES;
    entry.sends = flags & FLAG_SENDS;
    entry.group = wire_get(reader);
    entry.place = wire_get(reader);
    entry.keep = wire_get_within(reader, 0, limits->positions);
    entry.rows = wire_get_within(reader, 0, limits->rows - plan->rows);
    entry.table_first = wire_get_within(reader, 0, limits->kv_blocks);
    entry.blocks = wire_get_within(reader, 0, limits->blocks - plan->blocks);
    entry.logit_from = entry.rows;
    if (flags & FLAG_LOGITS)
        get_wishes(reader, limits->vocabulary, &entry);
    else if (entry.samples || entry.sends)
        reader->bad = true;
    if (!is_place(limits, entry.group, entry.place) || !reaches(limits, &entry))
        reader->bad = true;
    for (int32_t i = 0; i < entry.rows && !reader->bad; i++)
        plan->tokens[plan->rows + i] = wire_get_within(reader, 0, limits->vocabulary - 1);
    for (int32_t i = 0; i < entry.rows && !reader->bad; i++)
        plan->parents[plan->rows + i] = chain ? i - 1 : wire_get_within(reader, 0, i) - 1;
    for (int32_t i = 0; i < entry.blocks && !reader->bad; i++)
        plan->block[plan->blocks + i] = wire_get_within(reader, 0, limits->kv_blocks - 1);
    plan->entry[plan->entries++] = entry;
    plan->rows += entry.rows;
    plan->blocks += entry.blocks;
}

enum status step_plan_decode(struct step_plan *plan, const char *bytes, int64_t length) {
    struct wire_reader reader = {.at = bytes, .end = bytes + length};
    step_plan_clear(plan, 0);
    wire_get_bytes(&reader, &plan->step, sizeof plan->step);
    plan->stop = wire_get_within(&reader, 0, 1);
    plan->tell = wire_get_within(&reader, 0, 1);
    plan->more = wire_get_within(&reader, 0, 1);
    int32_t admissions = wire_get_within(&reader, 0, plan->limits.entries);
    int32_t entries = wire_get_within(&reader, 0, plan->limits.entries);
    for (int32_t i = 0; i < admissions && !reader.bad; i++)
        get_admission(&reader, plan);
    for (int32_t i = 0; i < entries && !reader.bad; i++)
        get_entry(&reader, plan);
    if (!reader.bad && reader.at == reader.end)
        return STATUS_OK;
    step_plan_clear(plan, 0);
    LOG_ERROR("plan: expected one of at most %d sequences and %d rows, got %lld bytes that are "
              "none: do all ranks run the same program with the same flags?",
              plan->limits.entries, plan->limits.rows, (long long)length);
    return STATUS_PEER;
}

int32_t step_plan_logit_rows(const struct step_entry *entry) {
    return entry->rows - entry->logit_from;
}
