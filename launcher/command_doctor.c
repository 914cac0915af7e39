/* moebius doctor: looks at the machine, the ranks, the links between them and the model, says what
 * it finds in plain language, and ends with a verdict. Nothing is loaded. */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/base/log.h"
#include "launcher/commands.h"
#include "launcher/doctor_report.h"
#include "launcher/engine_flags.h"
#include "launcher/job.h"

#define DOCTOR_ENTRIES 3

struct doctor_flags {
    struct engine_flags engine;
    bool json, skip_tokenizer_init;
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
static enum status examine(const struct doctor_flags *flags, const struct engine_options *options,
                           struct doctor_facts *facts, struct doctor_links *links,
                           enum status *verdict) {
    struct doctor_facts mine;
    const struct rank_group *ranks = options->ranks;
    struct doctor_report report = {.out = stdout, .ranks = ranks, .facts = facts};
    doctor_facts_collect(ranks, &flags->engine, options, flags->skip_tokenizer_init, &mine);
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
    struct engine_options options;
    struct doctor_facts *facts = NULL;
    RETURN_IF_ERROR(engine_flags_values(&flags->engine, &options));
    enum status verdict = STATUS_OK, status = engine_flags_join(&flags->engine, &options, &ranks);
    if (status == STATUS_OK) {
        facts = calloc((size_t)ranks.size, sizeof *facts);
        if (facts != NULL) {
            status = examine(flags, &options, facts, &links, &verdict);
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

static int32_t fill_entries(struct doctor_flags *flags, struct option_entry *entries) {
    const struct option_entry own[DOCTOR_ENTRIES] = {
        {.kind = OPTION_HEADING, .name = "Report"},
        {OPTION_FLAG, "json", &flags->json, NULL, "one object: ranks, links, findings, verdict", 0,
         0},
        {OPTION_FLAG, "skip-tokenizer-init", &flags->skip_tokenizer_init, NULL,
         "do not look at the tokenizer", 0, 0},
    };
    memcpy(entries, own, sizeof own);
    int32_t count = engine_flags_entries(&flags->engine, entries, DOCTOR_ENTRIES);
    return engine_flags_rank_entries(&flags->engine, entries, count);
}

enum status command_doctor(int argc, char **argv) {
    struct doctor_flags flags = {.engine = engine_flags_default()};
    flags.engine.tells_machine = true;
    struct option_entry entries[DOCTOR_ENTRIES + ENGINE_FLAGS_ENTRIES + ENGINE_FLAGS_RANK_ENTRIES];
    struct option_command command = {
        .name = "doctor",
        .usage = "[options]",
        .summary = "Checks the machine, and under mpirun or srun all ranks and the links between "
                   "them, and that the model\ncan be opened everywhere with the flags given. The "
                   "last line is the verdict; the exit code is that of\nthe worst problem.",
        .entries = entries,
        .count = fill_entries(&flags, entries)};
    struct settings *settings = &flags.engine.settings;
    enum status status = settings_parse(&command, argc, argv, settings);
    if (status == STATUS_OK && !settings->answered && settings->first_operand < argc) {
        LOG_ERROR("doctor: expected flags only, got '%s'", argv[settings->first_operand]);
        status = STATUS_USAGE;
    }
    if (status == STATUS_OK && !settings->answered)
        status = doctor(&flags);
    settings_deinit(settings);
    return status;
}
