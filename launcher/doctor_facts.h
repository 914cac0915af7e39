/* What one rank knows about itself, for moebius doctor. */
#ifndef MOEBIUS_LAUNCHER_DOCTOR_FACTS_H
#define MOEBIUS_LAUNCHER_DOCTOR_FACTS_H

#include <stdbool.h>
#include <stdint.h>

#include "comm/rank_group.h"
#include "comm/topology.h"
#include "launcher/engine_flags.h"

/* Plain bytes: it travels to the coordinator as it is. */
struct doctor_facts {
    char build[160]; /* "moebius 0.1.0, build 1f0e... by gcc 12.2.0" */
    char mpi[96];    /* "Open MPI v4.1.4, thread level funneled, transport mpi" */
    enum status topology_status;
    struct topology topology; /* zeroed when topology_status is not ok */
    int32_t threads;          /* compute threads that generate would run here */
    int32_t isa;              /* enum cpu_isa: the best that this rank may use */
    char kernels[96];         /* "avx512-bf16 (this CPU has: baseline, avx2, ...)" */
    int64_t memory_bytes;     /* that this process can still take */
    int32_t cuda_count;
    char cuda[128];               /* the first device, or why there is none */
    enum status model_status;     /* what opening the model gave; its line is in this rank's log */
    int64_t digest;               /* model_digest.h; 0 when model_status is not ok */
    char model[192];              /* "qwen3_moe, 222 tensors in 1 file, 21.2 MiB, a tokenizer" */
    enum status tokenizer_status; /* a missing or unwanted tokenizer is ok */
    int32_t lacks_tokenizer;      /* one is wanted and there is no file */
};

/* Fills in everything. flags->model: the folder, or NULL for the demo model; options: of
 * engine_flags_values, after the ranks have joined. What does not work here is a fact too, never an
 * error. Local. */
void doctor_facts_collect(const struct rank_group *ranks, const struct engine_flags *flags,
                          const struct engine_options *options, bool skips_tokenizer,
                          struct doctor_facts *facts);

/* Brings all facts to the coordinator: all [ranks->size], by rank. STATUS_PEER (logged) when a rank
 * does not answer. Collective. */
enum status doctor_facts_gather(const struct rank_group *ranks, const struct doctor_facts *mine,
                                struct doctor_facts *all);

#endif
