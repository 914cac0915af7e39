/* The executor and the checks around a scheduler, see the header. What it expects it derives from
 * requests and plans alone; only the accounts of blocks are read from the scheduler's state. */
#include "tests/support/scheduler_world.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Keeps the first complaint. */
#define BREAK(world, ...)                                                                          \
    do {                                                                                           \
        if ((world)->broken[0] == '\0')                                                            \
            snprintf((world)->broken, sizeof(world)->broken, __VA_ARGS__);                         \
    } while (0)

static void *take(size_t count, size_t size) {
    void *memory = calloc(count, size);
    if (memory == NULL) {
        fprintf(stderr, "scheduler_world: no memory\n");
        exit(1);
    }
    return memory;
}

static uint64_t mix(uint64_t a, uint64_t b) {
    uint64_t x = (a ^ 0x9e3779b97f4a7c15u) * 0xbf58476d1ce4e5b9u + b;
    x = (x ^ x >> 30) * 0x94d049bb133111ebu;
    return x ^ x >> 31;
}

void scheduler_world_begin(struct scheduler_world *world, const struct scheduler_limits *limits,
                           uint64_t seed) {
    *world = (struct scheduler_world){.limits = *limits, .random = seed};
    if (scheduler_create(limits, &world->scheduler) != STATUS_OK)
        exit(1);
    world->longest = scheduler_longest(limits);
    world->handles = scheduler_handles(limits);
    world->table_length = world->longest / KV_BLOCK_TOKENS + 1;
    size_t blocks = (size_t)limits->groups * (size_t)limits->blocks;
    world->request = take((size_t)world->handles, sizeof *world->request);
    world->slots = take(blocks * KV_BLOCK_TOKENS, sizeof *world->slots);
    world->place_of = take((size_t)limits->places, sizeof *world->place_of);
    world->owners = take(blocks, sizeof *world->owners);
    world->was_decoding = take((size_t)world->handles, sizeof *world->was_decoding);
    for (int32_t i = 0; i < limits->places; i++)
        world->place_of[i] = -1;
}

static void forget(struct scheduler_world *world, struct world_request *request) {
    if (request->running)
        world->place_of[request->place] = -1;
    free(request->asked.tokens);
    free(request->prefix);
    free(request->blocks);
    world->live -= request->live ? 1 : 0;
    *request = (struct world_request){0};
}

void scheduler_world_end(struct scheduler_world *world) {
    for (int32_t i = 0; i < world->handles; i++)
        forget(world, &world->request[i]);
    scheduler_destroy(world->scheduler);
    free(world->request);
    free(world->slots);
    free(world->place_of);
    free(world->owners);
    free(world->was_decoding);
}

int32_t scheduler_world_random(struct scheduler_world *world, int32_t below) {
    world->random = mix(world->random, 1);
    return (int32_t)(world->random % (uint64_t)below);
}

struct scheduler_request scheduler_world_request(struct scheduler_world *world,
                                                 int32_t prompt_count, int32_t max_tokens,
                                                 int32_t vocabulary) {
    struct scheduler_request request = {.prompt_count = prompt_count,
                                        .max_tokens = max_tokens,
                                        .deadline_ns = SCHEDULER_NEVER_NS,
                                        .limit_ns = SCHEDULER_NEVER_NS,
                                        .sibling = -1};
    request.tokens = take((size_t)(prompt_count + max_tokens), sizeof *request.tokens);
    for (int32_t i = 0; i < prompt_count; i++)
        request.tokens[i] = scheduler_world_random(world, vocabulary);
    return request;
}

static void append_prefix(struct world_request *request) {
    int32_t last = request->count++;
    request->prefix[last] =
        mix(last > 0 ? request->prefix[last - 1] : 0, (uint64_t)request->asked.tokens[last] + 1);
}

int32_t scheduler_world_submit(struct scheduler_world *world,
                               const struct scheduler_request *request, int32_t output) {
    int32_t handle;
    if (scheduler_submit(world->scheduler, request, &handle) != STATUS_OK) {
        free(request->tokens);
        world->refused++;
        return -1;
    }
    if (handle < 0 || handle >= world->handles || world->request[handle].live) {
        BREAK(world, "submit gave handle %d, which is in use", handle);
        return -1;
    }
    struct world_request *own = &world->request[handle];
    size_t length = (size_t)(request->prompt_count + request->max_tokens);
    *own = (struct world_request){.live = true,
                                  .serial = world->submitted++,
                                  .asked = *request,
                                  .output = output,
                                  .prefix = take(length, sizeof *own->prefix),
                                  .blocks = take((size_t)world->table_length, sizeof *own->blocks),
                                  .submitted_step = world->step,
                                  .first_token_step = -1};
    own->seed = (uint64_t)own->serial;
    while (own->count < request->prompt_count)
        append_prefix(own);
    world->live++;
    return handle;
}

void scheduler_world_cancel(struct scheduler_world *world, int32_t handle) {
    scheduler_cancel(world->scheduler, handle);
    world->cancelled++;
    forget(world, &world->request[handle]);
}

/* ---- executing a plan ---- */

static uint64_t *slot_of(const struct scheduler_world *world, const struct world_request *request,
                         int32_t position) {
    int64_t block = (int64_t)request->group * world->limits.blocks +
                    request->blocks[position / KV_BLOCK_TOKENS];
    return &world->slots[block * KV_BLOCK_TOKENS + position % KV_BLOCK_TOKENS];
}

static void apply_ended(struct scheduler_world *world) {
    for (int32_t i = 0; i < world->plan->ended_count; i++) {
        const struct scheduler_ended *ended = &world->plan->ended[i];
        struct world_request *request = &world->request[ended->handle];
        int64_t end_ns = ended->end == SCHEDULER_END_DEADLINE ? request->asked.deadline_ns
                                                              : request->asked.limit_ns;
        if (!request->live || end_ns > world->now_ns)
            BREAK(world, "handle %d ended without reason", ended->handle);
        world->timed_out++;
        forget(world, request);
    }
}

/* Whether a has to be preempted before b. */
static bool is_lesser(const struct scheduler_world *world, int32_t a, int32_t b) {
    const struct scheduled_request *x = &world->scheduler->request[a],
                                   *y = &world->scheduler->request[b];
    return x->rank != y->rank ? x->rank > y->rank : x->admission > y->admission;
}

/* Places that are void: of the ended (already forgotten) and of the preempted, who must be the
 * least of their group. */
static void apply_freed(struct scheduler_world *world) {
    for (int32_t i = 0; i < world->plan->freed_count; i++) {
        int32_t place = world->plan->freed[i].place, handle = world->place_of[place];
        if (handle < 0)
            continue;
        world->request[handle].running = false;
        world->request[handle].block_count = world->request[handle].computed = 0;
        world->place_of[place] = -1;
        for (int32_t other = 0; other < world->limits.places; other++)
            if (world->place_of[other] >= 0 &&
                other % world->limits.groups == place % world->limits.groups &&
                !is_lesser(world, handle, world->place_of[other])) {
                bool later = false; /* itself to be freed in this plan */
                for (int32_t k = i + 1; k < world->plan->freed_count; k++)
                    later = later || world->plan->freed[k].place == other;
                if (!later)
                    BREAK(world, "preempted %d, but %d ranks below", handle,
                          world->place_of[other]);
            }
    }
}

static void begin_request(struct scheduler_world *world, const struct scheduler_entry *entry) {
    struct world_request *request = &world->request[entry->handle];
    if (request->running || entry->place < 0 || entry->place >= world->limits.places ||
        entry->place % world->limits.groups != entry->group || world->place_of[entry->place] >= 0)
        BREAK(world, "handle %d cannot begin in place %d", entry->handle, entry->place);
    if (entry->cached != entry->keep || entry->cached % KV_BLOCK_TOKENS != 0 ||
        (entry->cached > 0 && (!world->limits.prefix_cache || request->asked.whole_prompt)))
        BREAK(world, "handle %d: %d cached positions, keep %d", entry->handle, entry->cached,
              entry->keep);
    request->running = true;
    request->group = entry->group;
    request->place = entry->place;
    request->computed = entry->keep;
    world->place_of[entry->place] = entry->handle;
    world->cached += entry->cached;
    world->sibling_cached += request->asked.sibling >= 0 ? entry->cached : 0;
}

static void apply_entry(struct scheduler_world *world, const struct scheduler_entry *entry) {
    struct world_request *request = &world->request[entry->handle];
    if (entry->begins)
        begin_request(world, entry);
    else if (!request->running || request->place != entry->place || request->group != entry->group)
        BREAK(world, "handle %d goes on where it is not", entry->handle);
    if (!request->live || entry->keep != request->computed || entry->rows < 1 ||
        entry->keep + entry->rows > request->count ||
        entry->completes != (entry->keep + entry->rows == request->count))
        BREAK(world, "handle %d: keep %d, rows %d of %d tokens, %d computed", entry->handle,
              entry->keep, entry->rows, request->count, request->computed);
    if (request->block_count + entry->block_count > world->table_length) {
        BREAK(world, "handle %d: block table overflows", entry->handle);
        return;
    }
    for (int32_t i = 0; i < entry->block_count; i++)
        request->blocks[request->block_count++] = entry->blocks[i];
    if (request->block_count * KV_BLOCK_TOKENS < entry->keep + entry->rows)
        BREAK(world, "handle %d: %d blocks for %d positions", entry->handle, request->block_count,
              entry->keep + entry->rows);
}

/* Whether positions [0, count) of a request would be read right. */
static void check_prefix(struct scheduler_world *world, const struct scheduler_entry *entry,
                         int32_t count, const char *when) {
    const struct world_request *request = &world->request[entry->handle];
    for (int32_t i = 0; i < count; i++)
        if (*slot_of(world, request, i) != request->prefix[i])
            BREAK(world, "handle %d reads another's keys at position %d %s", entry->handle, i,
                  when);
}

static void write_rows(struct scheduler_world *world, const struct scheduler_entry *entry) {
    const struct world_request *request = &world->request[entry->handle];
    for (int32_t i = 0; i < entry->rows; i++) {
        int32_t position = entry->keep + i;
        uint64_t before = position > 0 ? *slot_of(world, request, position - 1) : 0;
        *slot_of(world, request, position) = mix(before, (uint64_t)entry->tokens[i] + 1);
    }
}

static void commit(struct scheduler_world *world, const struct scheduler_entry *entry) {
    struct world_request *request = &world->request[entry->handle];
    int32_t vocabulary = 1 + (int32_t)(request->seed % 50);
    uint64_t state = *slot_of(world, request, request->count - 1); /* what the row would know */
    int32_t token = (int32_t)(mix(state, request->seed) % (uint64_t)vocabulary);
    int32_t produced = request->count + 1 - request->asked.prompt_count;
    bool finished = produced == request->output;
    request->asked.tokens[request->count] = -1;
    scheduler_commit(world->scheduler, entry->handle, token, finished);
    if (request->asked.tokens[request->count] != token)
        BREAK(world, "handle %d: commit did not write the token", entry->handle);
    append_prefix(request);
    world->tokens++;
    if (request->first_token_step < 0)
        request->first_token_step = world->step;
    if (finished) {
        world->finished++;
        forget(world, request);
    }
}

/* ---- invariants ---- */

static void check_decodes(struct scheduler_world *world) {
    for (int32_t i = 0; i < world->plan->entries; i++)
        world->was_decoding[world->plan->entry[i].handle] = false;
    for (int32_t i = 0; i < world->handles; i++)
        if (world->was_decoding[i] && world->request[i].running)
            BREAK(world, "handle %d was decoding and has no row", i);
}

static void count_owners(struct scheduler_world *world) {
    const struct scheduler_limits *limits = &world->limits;
    memset(world->owners, 0,
           sizeof *world->owners * (size_t)limits->groups * (size_t)limits->blocks);
    for (int32_t i = 0; i < world->handles; i++) {
        const struct world_request *request = &world->request[i];
        for (int32_t k = 0; request->running && k < request->block_count; k++) {
            int32_t block = request->blocks[k];
            if (block < 0 || block >= limits->blocks) {
                BREAK(world, "handle %d has block %d", i, block);
                return;
            }
            world->owners[request->group * limits->blocks + block]++;
        }
    }
}

/* Blocks that are written in this step have one owner. */
static void check_writes(struct scheduler_world *world) {
    for (int32_t i = 0; i < world->plan->entries; i++) {
        const struct scheduler_entry *entry = &world->plan->entry[i];
        const struct world_request *request = &world->request[entry->handle];
        for (int32_t k = entry->keep / KV_BLOCK_TOKENS;
             k <= (entry->keep + entry->rows - 1) / KV_BLOCK_TOKENS; k++)
            if (world->owners[request->group * world->limits.blocks + request->blocks[k]] != 1)
                BREAK(world, "handle %d writes into block %d, which is shared", entry->handle,
                      request->blocks[k]);
    }
}

/* The pool's accounts are those of the tables. */
static void check_pool(struct scheduler_world *world, int32_t number) {
    const struct block_pool *pool = &world->scheduler->group[number].pool;
    int32_t used = 0, cached = 0, listed = 0;
    for (int32_t i = 0; i < pool->count; i++) {
        int32_t owners = world->owners[number * pool->count + i];
        if (pool->block[i].references != owners)
            BREAK(world, "group %d block %d: %d references, %d owners", number, i,
                  pool->block[i].references, owners);
        used += owners > 0 ? 1 : 0;
        cached += owners == 0 && pool->block[i].content != 0 ? 1 : 0;
    }
    for (int32_t i = pool->first_free; i >= 0 && listed <= pool->count; i = pool->block[i].next)
        listed++;
    if (used != pool->used || cached != pool->cached || listed != pool->count - used)
        BREAK(world, "group %d: counts %d used, %d cached, %d free; are %d, %d, %d", number,
              pool->used, pool->cached, listed, used, cached, pool->count - used);
}

static void check_counts(struct scheduler_world *world) {
    struct scheduler_stats stats;
    scheduler_stats(world->scheduler, &stats);
    int32_t running = 0;
    for (int32_t i = 0; i < world->handles; i++) {
        running += world->request[i].running ? 1 : 0;
        if (world->request[i].live && (world->request[i].asked.deadline_ns <= world->now_ns ||
                                       world->request[i].asked.limit_ns <= world->now_ns))
            BREAK(world, "handle %d lives past its end", i);
    }
    if (stats.running != running || stats.running + stats.waiting != world->live)
        BREAK(world, "%d running and %d waiting, counted %d and %d", stats.running, stats.waiting,
              running, world->live - running);
    if (world->live > 0 && world->plan->rows == 0)
        BREAK(world, "%d requests and no row", world->live);
}

static void check_plan(struct scheduler_world *world) {
    int32_t rows = 0;
    for (int32_t i = 0; i < world->plan->entries; i++)
        rows += world->plan->entry[i].rows;
    if (rows != world->plan->rows || rows > world->limits.rows ||
        world->plan->entries > scheduler_entries_max(&world->limits))
        BREAK(world, "%d rows in %d entries, %d counted", world->plan->rows, world->plan->entries,
              rows);
    check_decodes(world);
    count_owners(world);
    for (int32_t i = 0; i < world->limits.groups; i++)
        check_pool(world, i);
    if (world->broken[0] == '\0')
        check_writes(world);
    check_counts(world);
}

bool scheduler_world_step(struct scheduler_world *world) {
    for (int32_t i = 0; i < world->handles; i++)
        world->was_decoding[i] =
            world->request[i].running && world->request[i].count - world->request[i].computed == 1;
    if (world->sabotage != NULL)
        world->sabotage(world->scheduler, world->step);
    world->plan = scheduler_plan(world->scheduler, world->now_ns);
    apply_ended(world);
    apply_freed(world);
    for (int32_t i = 0; i < world->plan->entries; i++)
        apply_entry(world, &world->plan->entry[i]);
    if (world->broken[0] == '\0')
        check_plan(world);
    if (world->broken[0] != '\0')
        return false;
    for (int32_t i = 0; i < world->plan->entries; i++)
        check_prefix(world, &world->plan->entry[i], world->plan->entry[i].keep, "before the step");
    for (int32_t i = 0; i < world->plan->entries; i++)
        write_rows(world, &world->plan->entry[i]);
    for (int32_t i = 0; i < world->plan->entries; i++)
        check_prefix(world, &world->plan->entry[i],
                     world->plan->entry[i].keep + world->plan->entry[i].rows, "in the step");
    for (int32_t i = 0; i < world->plan->entries && world->broken[0] == '\0'; i++) {
        const struct scheduler_entry *entry = &world->plan->entry[i];
        world->request[entry->handle].computed += entry->rows;
        if (entry->completes)
            commit(world, entry);
    }
    world->step++;
    return world->broken[0] == '\0';
}

bool scheduler_world_drain(struct scheduler_world *world, int64_t steps) {
    for (int64_t i = 0; i < steps && world->live > 0; i++)
        if (!scheduler_world_step(world))
            return false;
    if (world->live > 0)
        BREAK(world, "%d requests still there after %lld steps", world->live, (long long)steps);
    return world->broken[0] == '\0';
}
