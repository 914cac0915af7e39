/* --verify-ranks: a bit that changes on the way from one rank to another stops the job, and the
 * coordinator says which rank, at which step, and what differs. Run by mpirun on 2 ranks.
 * Usage: test_rank_verify FOLDER
 *
 * The bits are flipped by a transport between the MPI one and the engine. The controls: without a
 * flip nothing is found, and without the mode the flipped bit passes. */
#include <stdlib.h>
#include <string.h>

#include "comm/rank_group.h"
#include "kernels/base/log.h"
#include "tests/support/engine_session.h"
#include "tests/support/expect.h"
#include "tests/support/log_capture.h"

#define TIMEOUT_MS 60000
#define POSITIONS 64
#define PLANS_BEFORE 6 /* plans that arrive whole */

/* The last byte of a decode row's plan is the end of its token id: 128 further is another id. */
static struct {
    const struct transport_ops *real;
    enum traffic_kind kind;
    int32_t messages_before; /* of that kind that arrive whole; -1: all do */
} corruption;

static void corrupt(const struct transport_scope *scope, const struct transport_receive *receive) {
    if (scope->kind != corruption.kind || receive->bytes == 0 || corruption.messages_before < 0)
        return;
    if (corruption.messages_before-- == 0)
        ((char *)receive->buffer)[receive->bytes - 1] ^= 1;
}

static enum status corrupt_await(struct transport *transport, const struct transport_scope *scope,
                                 struct transport_receive *receive) {
    RETURN_IF_ERROR(corruption.real->await(transport, scope, receive));
    corrupt(scope, receive);
    return STATUS_OK;
}

static enum status corrupt_exchange(struct transport *transport,
                                    const struct transport_scope *scope,
                                    const struct transport_send *sends, int32_t send_count,
                                    struct transport_receive *receives, int32_t receive_count) {
    RETURN_IF_ERROR(
        corruption.real->exchange(transport, scope, sends, send_count, receives, receive_count));
    for (int32_t i = 0; i < receive_count; i++)
        corrupt(scope, &receives[i]);
    return STATUS_OK;
}

struct verify_case {
    const char *label;
    int32_t tensor;
    bool verify;
    enum traffic_kind kind;
    int32_t messages_before;
    const char *found; /* NULL: nothing */
};

static const struct verify_case cases[] = {
    {"no flip", 1, true, TRAFFIC_PLAN, -1, NULL},
    {"no flip, tensor parallel", 2, true, TRAFFIC_ALL_GATHER, -1, NULL},
    {"a plan", 1, true, TRAFFIC_PLAN, PLANS_BEFORE, "step 7: rank 1 on "},
    {"a plan, unseen", 1, false, TRAFFIC_PLAN, PLANS_BEFORE, NULL},
    {"a residual", 2, true, TRAFFIC_ALL_GATHER, 20, "residual: expected digest "},
    {"a residual, unseen", 2, false, TRAFFIC_ALL_GATHER, 20, NULL},
};

/* Steps until the end or a failure; what was said meanwhile goes to text[size]. */
static enum status run(struct engine_session *session, char *text, size_t size) {
    static const int32_t prompt[] = {5, 17, 99, 200, 3, 44, 310};
    struct engine_request request = {.prompt = prompt,
                                     .prompt_count = 7,
                                     .max_tokens = 30,
                                     .ignore_eos = true,
                                     .sampling = sampling_params_default()};
    struct engine_stream stream = {0};
    int32_t handle;
    enum status status = engine_session_submit(session, &request, &stream, &handle);
    struct log_capture log;
    log_capture_begin(&log);
    while (status == STATUS_OK && engine_running(session->engine) > 0)
        status = engine_session_step(session);
    (void)log_capture_end(&log, text, size);
    if (engine_running(session->engine) > 0)
        engine_session_cancel(session, handle);
    return status;
}

static void run_case(const char *folder, struct rank_group *ranks, const struct verify_case *c) {
    struct engine_session session;
    struct engine_options options = {.model_folder = folder,
                                     .dtype = ENGINE_DTYPE_F32,
                                     .isa = cpu_isa_best(),
                                     .threads = 1,
                                     .positions = POSITIONS,
                                     .requests = 2,
                                     .rows = 16,
                                     .verify_ranks = c->verify,
                                     .ranks = ranks};
    corruption.messages_before = -1;
    if (rank_group_shape(ranks, c->tensor, 0) != STATUS_OK)
        rank_group_abort(ranks, 1);
    engine_session_open(&session, &options);
    corruption.kind = c->kind;
    corruption.messages_before = ranks->rank == 1 ? c->messages_before : -1;
    if (ranks->rank > 0) {
        (void)engine_serve(session.engine, NULL);
    } else {
        char text[4096];
        enum status status = run(&session, text, sizeof text);
        EXPECT(status == (c->found != NULL ? STATUS_INTERNAL : STATUS_OK), "%s: %s", c->label,
               status_name(status));
        EXPECT(c->found == NULL || strstr(text, c->found) != NULL, "%s: no \"%s\" in %s", c->label,
               c->found, text);
        EXPECT(c->found == NULL || strstr(text, "not of one mind") != NULL, "%s: %s", c->label,
               text);
        printf("%s: %s", c->label, c->found != NULL ? text : "nothing\n");
        EXPECT(engine_stop(session.engine) == STATUS_OK, "%s: the ranks do not stop", c->label);
    }
    engine_session_close(&session);
}

int main(int argc, char **argv) {
    if (argc != 2) {
        fprintf(stderr, "usage: test_rank_verify FOLDER\n");
        return 2;
    }
    struct rank_group ranks;
    const struct rank_group_options join = {
        .under_launcher = true, .timeout_ms = TIMEOUT_MS, .command = "test_rank_verify"};
    if (rank_group_start(&join, &ranks) != STATUS_OK)
        return 1;
    log_setup(LOG_LEVEL_ERROR, ranks.rank);
    static struct transport_ops ops;
    corruption.real = ranks.transport->ops;
    ops = *ranks.transport->ops;
    ops.await = corrupt_await;
    ops.exchange = corrupt_exchange;
    ranks.transport->ops = &ops;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        run_case(argv[1], &ranks, &cases[i]);
    ranks.transport->ops = corruption.real;
    if (expect_failures > 0)
        rank_group_abort(&ranks, 1);
    rank_group_finish(&ranks);
    return 0;
}
