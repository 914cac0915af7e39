/* moebius doctor: looks at the machine, the ranks, the links between them and the model, says what
 * it finds in plain language, and ends with a verdict. Nothing is loaded. */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/base/log.h"
#include "kernels/thread_pool.h"
#include "launcher/binding.h"
#include "launcher/commands.h"
#include "launcher/doctor_report.h"
#include "launcher/job.h"
#include "launcher/options.h"

#define DOCTOR_ENTRIES 6

struct doctor_flags {
    const char *model, *log_level;
    int32_t threads, comm_timeout_s;
    bool json;
};

static void speak(const struct doctor_report *report, bool as_json,
                  const struct doctor_links *links, enum status *verdict) {
    static struct doctor_findings findings; /* large, and one is enough */
    doctor_findings_judge(report->ranks, report->facts, links, &findings);
    if (as_json) {
        doctor_report_json(report, links, &findings);
    } else {
        doctor_report_links(report, links);
        doctor_report_verdict(report, &findings);
    }
    fflush(stdout);
    *verdict = findings.worst;
}

/* What all ranks do; the coordinator speaks. *verdict is the worst of the problems found. */
static enum status examine(const struct doctor_flags *flags, const struct rank_group *ranks,
                           struct doctor_facts *facts, struct doctor_links *links,
                           enum status *verdict) {
    struct doctor_facts mine;
    struct doctor_report report = {.out = stdout, .ranks = ranks, .facts = facts};
    doctor_facts_collect(ranks, flags->model, &mine);
    RETURN_IF_ERROR(binding_settle(ranks, flags->threads, false, &mine.threads));
    RETURN_IF_ERROR(doctor_facts_gather(ranks, &mine, facts));
    if (ranks->rank == 0 && !flags->json) {
        doctor_report_facts(&report);
        fflush(stdout); /* a link that hangs must not take this with it */
    }
    RETURN_IF_ERROR(doctor_links_measure(ranks, links));
    if (ranks->rank == 0)
        speak(&report, flags->json, links, verdict);
    return STATUS_OK;
}

static enum status doctor(const struct doctor_flags *flags) {
    struct rank_group ranks = {0};
    struct doctor_links links = {0};
    struct job_options job = {.comm_timeout_ms = flags->comm_timeout_s * 1000};
    enum status verdict = STATUS_OK, status = job_start(&job, &ranks);
    struct doctor_facts *facts = NULL;
    if (status == STATUS_OK) {
        facts = calloc((size_t)ranks.size, sizeof *facts);
        if (facts != NULL) {
            status = examine(flags, &ranks, facts, &links, &verdict);
        } else {
            LOG_ERROR("doctor: cannot take the facts of %d ranks", ranks.size);
            status = STATUS_NO_MEMORY;
        }
    }
    doctor_links_deinit(&links);
    free(facts);
    job_end(&ranks, status); /* a problem that was found is no reason to end in disorder */
    return status != STATUS_OK ? status : verdict;
}

static enum status set_log_level(const char *name) {
    enum log_level level;
    if (log_level_parse(name, &level) == 0) {
        log_setup(level, 0);
        return STATUS_OK;
    }
    LOG_ERROR("--log-level: expected error, warn, info, debug or trace, got '%s'", name);
    return STATUS_USAGE;
}

enum status command_doctor(int argc, char **argv) {
    struct doctor_flags flags = {.log_level = "info", .comm_timeout_s = 10};
    const struct option_entry entries[DOCTOR_ENTRIES] = {
        {.kind = OPTION_HEADING, .name = "Options"},
        {OPTION_STRING, "model", &flags.model, "DIR",
         "a Hugging Face folder to open on every rank; default: the demo model", 0, 0},
        {OPTION_INT, "threads", &flags.threads, "N",
         "compute threads that a rank would run; default: its share of the CPUs it may use", 1,
         THREAD_POOL_THREADS_MAX},
        {OPTION_INT, "comm-timeout", &flags.comm_timeout_s, "SECONDS",
         "how long a rank waits for another; default 10", 1, 86400},
        {OPTION_FLAG, "json", &flags.json, NULL, "one object: ranks, links, findings, verdict", 0,
         0},
        {OPTION_STRING, "log-level", &flags.log_level, "LEVEL", "error, warn, info, debug or trace",
         0, 0},
    };
    struct option_command command = {
        .name = "doctor",
        .usage = "[options]",
        .summary = "Checks the machine, and under mpirun or srun all ranks and the links between "
                   "them, and that the model\ncan be opened everywhere. The last line is the "
                   "verdict; the exit code is that of the worst problem.",
        .entries = entries,
        .count = DOCTOR_ENTRIES};
    struct options_line line = {.only = NULL};
    RETURN_IF_ERROR(options_parse(&command, argc, argv, &line));
    if (line.help) {
        options_help(&command);
        return STATUS_OK;
    }
    if (line.first_operand < argc) {
        LOG_ERROR("doctor: expected flags only, got '%s'", argv[line.first_operand]);
        return STATUS_USAGE;
    }
    RETURN_IF_ERROR(set_log_level(flags.log_level));
    return doctor(&flags);
}
