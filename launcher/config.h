/* What the environment says. The one place that reads it. */
#ifndef MOEBIUS_LAUNCHER_CONFIG_H
#define MOEBIUS_LAUNCHER_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Whether mpirun or srun started this process as one of its ranks. Local. */
bool config_under_launcher(void);

/* How many processes mpirun or srun says it started beside each other; 1 when nobody says. Local.
 */
int config_processes(void);

/* Which of them this process is, as its launcher says; 0 when nobody says. For the log, before MPI
 * has started: ranks come from MPI alone. Local. */
int32_t config_rank(void);

/* The value that the environment has for a flag: MOEBIUS_MAX_NUM_SEQS for "max-num-seqs". NULL:
 * none. Local. */
const char *config_environment(const char *flag);

/* The flag that the index-th (from 0) variable named MOEBIUS_... would be of, in name[size]; false:
 * there are no more. Local. */
bool config_environment_flag(int32_t index, char *name, size_t size);

#endif
