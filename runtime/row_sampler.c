/* The last part of a step on the ranks: logits become tokens. step_executor.c gives the logits,
 * slice by slice; the results go to the coordinator in step_link.c's message. */
#include "runtime/row_sampler.h"

#include <math.h>
#include <string.h>

#include "kernels/base/check.h"
#include "kernels/base/log.h"
#include "kernels/base/memory.h"
#include "kernels/thread_pool.h"

#define PART_IDS 16384 /* ids that one thread looks at, where a row can be shared */
#define WHOLE (-1)     /* the part of an item that is a whole row */

struct sampler_place {
    struct sampling_params sampling; /* stop ids and end tokens stand behind the banned ids */
    int32_t prompt_count, min_tokens, prompt_top;
    int32_t end_count; /* of those, banned while min_tokens are missing */
    int32_t said;      /* tokens in `state` */
    struct sampler_state *state;
};

enum row_purpose { ROW_SENT_ONLY, ROW_CHOOSES, ROW_IS_SCORED };

/* A row whose logits are wanted. */
struct row_job {
    struct sampler_place *place;
    int64_t position; /* of the token that its logits choose */
    enum row_purpose purpose;
    bool sends;
    bool whole;   /* needs all logits in one place */
    int32_t next; /* the token there, of a scored row */
    float *sent;  /* where they are sent from */
    struct step_result result;
    struct sampler_best best; /* of the ids looked at so far */
};

struct row_item {
    struct row_job *job;
    int32_t row, part; /* of the slice; of the own ids */
    struct sampler_best best;
};

static int32_t own_first(const struct row_sampler_options *options) {
    return options->shards[options->group_ranks.self];
}

static int32_t own_ids(const struct row_sampler_options *options) {
    return options->shards[options->group_ranks.self + 1] - own_first(options);
}

static int32_t own_places(const struct row_sampler_options *options) {
    return (options->places - options->group + options->groups - 1) / options->groups;
}

static int32_t parts_of_row(const struct row_sampler_options *options) {
    int32_t parts = (own_ids(options) + PART_IDS - 1) / PART_IDS;
    return parts > 0 ? parts : 1;
}

static bool is_leader(const struct row_sampler_options *options) {
    return options->group_ranks.self == 0;
}

/* ---- memory ---- */

static void lay_out_exchange(struct row_sampler *sampler, struct arena *arena) {
    const struct row_sampler_options *options = &sampler->options;
    struct row_exchange *exchange = &sampler->exchange;
    size_t rows = (size_t)options->slice_rows, members = (size_t)options->group_ranks.count;
    size_t most = sizeof(struct sampler_best);
    for (size_t i = 0; i < members; i++) {
        size_t ids = (size_t)(options->shards[i + 1] - options->shards[i]);
        most = ids * sizeof(float) > most ? ids * sizeof(float) : most;
    }
    exchange->message_bytes = (int64_t)(rows * most);
    exchange->outgoing = arena_take(arena, rows * most);
    if (!is_leader(options))
        return;
    exchange->incoming = arena_take(arena, members * rows * most);
    exchange->into = arena_take(arena, members * sizeof *exchange->into);
    exchange->sizes = arena_take(arena, members * sizeof *exchange->sizes);
    exchange->whole = arena_take(arena, rows * (size_t)options->vocabulary * sizeof(float));
    for (size_t i = 0; exchange->incoming != NULL && i < members; i++)
        exchange->into[i] = exchange->incoming + i * rows * most;
}

static void lay_out(struct row_sampler *sampler, struct arena *arena) {
    const struct row_sampler_options *options = &sampler->options;
    size_t parts = (size_t)parts_of_row(options);
    size_t threads = (size_t)thread_pool_threads(options->kernels->pool);
    sampler->places = arena_take(arena, (size_t)own_places(options) * sizeof *sampler->places);
    sampler->jobs = arena_take(arena, (size_t)options->rows * sizeof *sampler->jobs);
    sampler->items =
        arena_take(arena, (size_t)options->slice_rows * parts * sizeof *sampler->items);
    struct arena each = {0};
    arena_take(&each, sampler_scratch_bytes(options->vocabulary));
    arena_take(&each, 1); /* rounds up to the alignment of the next thread's */
    sampler->scratch_bytes = each.used - 1;
    sampler->scratch = arena_take(arena, threads * sampler->scratch_bytes);
    if (options->group_ranks.count > 1)
        lay_out_exchange(sampler, arena);
}

int64_t row_sampler_memory_bytes(const struct row_sampler_options *options) {
    struct row_sampler sampler = {.options = *options};
    struct arena measure = {0};
    lay_out(&sampler, &measure);
    return (int64_t)measure.used +
           (int64_t)sampler_state_bytes(options->vocabulary, options->positions) *
               own_places(options);
}

enum status row_sampler_init(struct row_sampler *sampler,
                             const struct row_sampler_options *options) {
    *sampler = (struct row_sampler){.options = *options};
    struct arena arena = {0};
    lay_out(sampler, &arena);
    sampler->region_bytes = arena.used;
    RETURN_IF_ERROR(memory_acquire("sampler", sampler->region_bytes, &sampler->region));
    arena = (struct arena){.base = sampler->region, .capacity = sampler->region_bytes};
    lay_out(sampler, &arena);
    for (int32_t i = 0; i < own_places(options); i++)
        RETURN_IF_ERROR(sampler_state_create(options->vocabulary, options->positions,
                                             &sampler->places[i].state));
    return STATUS_OK;
}

void row_sampler_deinit(struct row_sampler *sampler) {
    for (int32_t i = 0; sampler->region != NULL && i < own_places(&sampler->options); i++)
        sampler_state_destroy(sampler->places[i].state);
    memory_release(sampler->region, sampler->region_bytes);
    *sampler = (struct row_sampler){0};
}

/* ---- what the plan says ---- */

/* The next tokens of the sequence: of its prompt, or its own. */
static enum status say(struct sampler_place *place, const int32_t *tokens, int32_t count) {
    int32_t prompt = place->prompt_count - place->said;
    prompt = prompt < 0 ? 0 : prompt < count ? prompt : count;
    if (prompt > 0)
        RETURN_IF_ERROR(sampler_state_add_prompt(place->state, tokens, prompt));
    for (int32_t i = prompt; i < count; i++)
        RETURN_IF_ERROR(sampler_state_push(place->state, tokens[i]));
    place->said += count;
    return STATUS_OK;
}

static struct sampler_place *place_of(const struct row_sampler *sampler, int32_t place) {
    return &sampler->places[place / sampler->options.groups];
}

static void admit(struct row_sampler *sampler, const struct step_admission *admission) {
    const struct row_sampler_options *options = &sampler->options;
    struct sampler_place *place = place_of(sampler, admission->place);
    place->sampling = *admission->sampling;
    place->prompt_count = admission->prompt_count;
    place->min_tokens = admission->min_tokens;
    place->prompt_top = admission->prompt_top;
    place->said = 0;
    sampler_state_reset(place->state);
    place->end_count = admission->stop_count;
    for (int32_t i = 0; admission->min_tokens > 0 && i < options->end_count; i++) {
        int32_t at = place->sampling.banned_count + place->end_count++;
        ASSERT(at < SAMPLING_BANNED_MAX);
        place->sampling.banned[at] = options->end_ids[i];
    }
    (void)say(place, admission->history, admission->history_count); /* ids were checked */
}

void row_sampler_admit(struct row_sampler *sampler, const struct step_plan *plan) {
    for (int32_t i = 0; i < plan->admissions; i++)
        if (plan->admission[i].group == sampler->options.group)
            admit(sampler, &plan->admission[i]);
}

/* Brings the token counts to the end of the entry's rows. */
static enum status follow(struct sampler_place *place, const struct step_plan *plan,
                          const struct step_entry *entry) {
    if (!sampling_params_have_penalty(&place->sampling))
        return STATUS_OK;
    int32_t dropped = place->said - entry->keep;
    if (dropped < 0 || dropped > sampler_state_output_count(place->state)) {
        LOG_ERROR("step %lld: place %d: expected %d tokens said before, got %d",
                  (long long)plan->step, entry->place, entry->keep, place->said);
        return STATUS_INTERNAL;
    }
    sampler_state_pop(place->state, dropped);
    place->said -= dropped;
    return say(place, plan->tokens + entry->first_row, entry->rows);
}

static bool restricts(const struct sampling_params *params) {
    return params->temperature > 0.0f &&
           (params->top_k > 0 || params->top_p < 1.0f || params->min_p > 0.0f);
}

static void add_jobs(struct row_sampler *sampler, const struct step_plan *plan,
                     const struct step_entry *entry) {
    struct sampler_place *place = place_of(sampler, entry->place);
    for (int32_t row = entry->logit_from; row < entry->rows; row++) {
        bool last = row == entry->rows - 1, scored = row - entry->logit_from < entry->scores;
        struct row_job job = {.place = place,
                              .position = (int64_t)entry->keep + row + 1,
                              .purpose = scored                   ? ROW_IS_SCORED
                                         : last && entry->samples ? ROW_CHOOSES
                                                                  : ROW_SENT_ONLY,
                              .sends = entry->sends,
                              .best = {.id = -1}};
        if (scored)
            job.next = last ? entry->next : plan->tokens[entry->first_row + row + 1];
        job.whole = job.sends || job.purpose != ROW_CHOOSES || place->sampling.logprobs >= 0 ||
                    restricts(&place->sampling);
        ASSERT(sampler->job_count < sampler->options.rows);
        sampler->jobs[sampler->job_count++] = job;
    }
}

enum status row_sampler_begin(struct row_sampler *sampler, const struct step_plan *plan) {
    sampler->job_count = 0;
    for (int32_t i = 0; i < plan->entries; i++) {
        const struct step_entry *entry = &plan->entry[i];
        if (entry->group != sampler->options.group)
            continue;
        RETURN_IF_ERROR(follow(place_of(sampler, entry->place), plan, entry));
        add_jobs(sampler, plan, entry);
    }
    return STATUS_OK;
}

/* ---- one item on one thread ---- */

struct item_work {
    struct row_sampler *sampler;
    const float *part_rows;  /* [count][own ids] */
    const float *whole_rows; /* [count][vocabulary] */
};

/* The request's parameters; while min_tokens are missing, in `with_ends` with the end tokens
 * banned.
 */
static const struct sampling_params *params_at(const struct row_job *job,
                                               struct sampling_params *with_ends) {
    const struct sampler_place *place = job->place;
    if (job->position - place->prompt_count >= place->min_tokens)
        return &place->sampling;
    *with_ends = place->sampling;
    with_ends->banned_count += place->end_count;
    return with_ends;
}

static void choose_from_part(const struct item_work *work, struct row_item *item, void *scratch) {
    const struct row_sampler_options *options = &work->sampler->options;
    const struct row_job *job = item->job;
    int32_t ids = own_ids(options), first = item->part * PART_IDS;
    struct sampling_params with_ends;
    const struct sampling_params *params = params_at(job, &with_ends);
    struct sampler_row row = {.logits = work->part_rows + (size_t)item->row * (size_t)ids + first,
                              .first_id = own_first(options) + first,
                              .count = ids - first < PART_IDS ? ids - first : PART_IDS,
                              .position = job->position,
                              .ops = options->kernels->ops->sample};
    struct sampler_scan scan = sampler_prepare(params, job->place->state, &row, scratch);
    struct sampler_border open = {.value = -INFINITY, .id = -1};
    item->best = sampler_best(params, open, &scan, job->position);
}

static void look_at_whole(const struct item_work *work, struct row_item *item, void *scratch) {
    const struct row_sampler_options *options = &work->sampler->options;
    struct row_job *job = item->job;
    size_t vocabulary = (size_t)options->vocabulary;
    struct sampler_row row = {.logits = work->whole_rows + (size_t)item->row * vocabulary,
                              .count = options->vocabulary,
                              .position = job->position,
                              .ops = options->kernels->ops->sample};
    struct sampling_params with_ends;
    const struct sampling_params *params = params_at(job, &with_ends);
    struct step_result *result = &job->result;
    bool chooses = job->purpose == ROW_CHOOSES;
    int32_t top = job->purpose == ROW_IS_SCORED ? job->place->prompt_top : params->logprobs;
    struct sampler_scan scan =
        sampler_prepare(chooses ? params : NULL, job->place->state, &row, scratch);
    result->token = job->next;
    if (chooses &&
        sampler_choose(params, &scan, job->position, scratch, &result->token) != STATUS_OK)
        result->token = -1;
    result->has_logprobs = job->purpose != ROW_SENT_ONLY && top >= 0 && result->token >= 0;
    if (result->has_logprobs) {
        if (scan.logits != row.logits)
            scan = sampler_prepare(NULL, NULL, &row, scratch);
        sampler_logprobs(&scan, result->token, top, &result->logprobs);
    }
    if (job->sends)
        memcpy(job->sent, row.logits, vocabulary * sizeof(float));
}

static void run_item(void *context, int32_t item, int32_t thread) {
    const struct item_work *work = context;
    struct row_sampler *sampler = work->sampler;
    char *scratch = sampler->scratch + (size_t)thread * sampler->scratch_bytes;
    if (sampler->items[item].part == WHOLE)
        look_at_whole(work, &sampler->items[item], scratch);
    else
        choose_from_part(work, &sampler->items[item], scratch);
}

/* ---- a slice ---- */

static int32_t add_items(struct row_sampler *sampler, const struct row_slice_logits *slice,
                         bool whole) {
    int32_t parts = whole ? 1 : parts_of_row(&sampler->options), items = 0;
    for (int32_t row = 0; row < slice->count; row++) {
        struct row_job *job = &sampler->jobs[slice->first + row];
        for (int32_t part = 0; job->whole == whole && part < parts; part++)
            sampler->items[items++] = (struct row_item){
                .job = job, .row = row, .part = whole ? WHOLE : part, .best = {.id = -1}};
    }
    return items;
}

static void run_items(struct row_sampler *sampler, int32_t items, struct item_work *work) {
    if (items > 0)
        thread_pool_run(sampler->options.kernels->pool, items, run_item, work);
    for (int32_t i = 0; i < items; i++) {
        struct row_item *item = &sampler->items[i];
        if (item->part != WHOLE)
            item->job->best = sampler_best_merge(item->job->best, item->best);
    }
}

/* Says what a row without a possible token is: sampler_choose says it of whole rows. */
static void name_best(struct row_job *job) {
    job->result.token = job->best.id;
    if (job->best.id < 0)
        LOG_ERROR("logits at position %lld: expected at least one id above -infinity, got none "
                  "(all NaN, -infinity or banned)",
                  (long long)job->position);
}

static int64_t item_bytes(const struct row_sampler_options *options, const struct row_job *job,
                          int32_t member) {
    int32_t ids = options->shards[member + 1] - options->shards[member];
    return job->whole ? ids * (int64_t)sizeof(float) : (int64_t)sizeof(struct sampler_best);
}

/* Every rank's bests and whole rows, in order of rows, to the leader. */
static enum status send_to_leader(struct row_sampler *sampler,
                                  const struct row_slice_logits *slice) {
    const struct row_sampler_options *options = &sampler->options;
    const struct collective_group *group = &options->group_ranks;
    struct row_exchange *exchange = &sampler->exchange;
    size_t ids = (size_t)own_ids(options);
    char *at = exchange->outgoing;
    for (int32_t row = 0; row < slice->count; row++) {
        const struct row_job *job = &sampler->jobs[slice->first + row];
        struct sampler_best best;
        memset(&best, 0, sizeof best);
        best.id = job->best.id;
        best.value = job->best.value;
        const void *from =
            job->whole ? (const void *)(slice->logits + (size_t)row * ids) : (const void *)&best;
        size_t bytes = (size_t)item_bytes(options, job, group->self);
        if (bytes > 0)
            memcpy(at, from, bytes);
        at += bytes;
    }
    struct transport_scope scope = {.step = slice->step, .layer = -1, .kind = TRAFFIC_ROWS};
    return collective_gather(group, &scope, exchange->outgoing, at - exchange->outgoing,
                             exchange->into, exchange->message_bytes, exchange->sizes);
}

/* One member's message on the leader. */
static enum status merge(struct row_sampler *sampler, const struct row_slice_logits *slice,
                         int32_t member) {
    const struct row_sampler_options *options = &sampler->options;
    const struct row_exchange *exchange = &sampler->exchange;
    int64_t expected = 0;
    for (int32_t row = 0; row < slice->count; row++)
        expected += item_bytes(options, &sampler->jobs[slice->first + row], member);
    if (exchange->sizes[member] != expected) {
        struct transport_scope scope = {.step = slice->step, .layer = -1, .kind = TRAFFIC_ROWS};
        return transport_garbled(options->group_ranks.transport, &scope,
                                 options->group_ranks.members[member], exchange->sizes[member]);
    }
    const char *at = exchange->into[member];
    for (int32_t row = 0; row < slice->count; row++) {
        struct row_job *job = &sampler->jobs[slice->first + row];
        size_t bytes = (size_t)item_bytes(options, job, member);
        struct sampler_best best;
        if (job->whole) {
            float *whole = exchange->whole + (size_t)row * (size_t)options->vocabulary;
            memcpy(whole + options->shards[member], at, bytes);
        } else {
            memcpy(&best, at, sizeof best);
            job->best = sampler_best_merge(job->best, best);
        }
        at += bytes;
    }
    return STATUS_OK;
}

static enum status exchange_parts(struct row_sampler *sampler,
                                  const struct row_slice_logits *slice) {
    RETURN_IF_ERROR(send_to_leader(sampler, slice));
    for (int32_t i = 0; is_leader(&sampler->options) && i < sampler->options.group_ranks.count; i++)
        RETURN_IF_ERROR(merge(sampler, slice, i));
    return STATUS_OK;
}

enum status row_sampler_take(struct row_sampler *sampler, const struct row_slice_logits *slice,
                             int32_t *sent_count) {
    const struct row_sampler_options *options = &sampler->options;
    bool shards = options->group_ranks.count > 1;
    struct item_work work = {.sampler = sampler, .part_rows = slice->logits};
    ASSERT(slice->count <= options->slice_rows &&
           slice->first + slice->count <= sampler->job_count);
    run_items(sampler, add_items(sampler, slice, false), &work);
    if (shards)
        RETURN_IF_ERROR(exchange_parts(sampler, slice));
    *sent_count = 0;
    if (!is_leader(options))
        return STATUS_OK;
    for (int32_t row = 0; row < slice->count; row++) {
        struct row_job *job = &sampler->jobs[slice->first + row];
        if (job->sends)
            job->sent = slice->sent + (size_t)options->vocabulary * (size_t)(*sent_count)++;
        if (!job->whole)
            name_best(job);
    }
    work.whole_rows = shards ? sampler->exchange.whole : slice->logits;
    run_items(sampler, add_items(sampler, slice, true), &work);
    return STATUS_OK;
}

void row_sampler_put_results(const struct row_sampler *sampler, struct wire_writer *writer) {
    for (int32_t i = 0; i < sampler->job_count; i++)
        if (sampler->jobs[i].purpose != ROW_SENT_ONLY)
            step_result_put(writer, &sampler->jobs[i].result);
}
