/* Reads the environment: who started us and how many, and what it says about flags. */
#define _GNU_SOURCE
#include "launcher/config.h"

#include <ctype.h>
#include <limits.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PREFIX "MOEBIUS_"

bool config_under_launcher(void) {
    /* Open MPI's mpirun; PMIx (srun --mpi=pmix, prterun); PMI (MPICH's and Slurm's). */
    static const char *const marks[] = {"OMPI_COMM_WORLD_SIZE", "PMIX_RANK", "PMI_RANK"};
    for (size_t i = 0; i < sizeof marks / sizeof marks[0]; i++)
        if (getenv(marks[i]) != NULL)
            return true;
    return false;
}

int config_processes(void) {
    /* Open MPI, PMI, and a Slurm step even where its MPI plugin is off. The first that speaks
     * counts: mpirun inside a Slurm job is itself a step, with a number of its own. */
    static const char *const counts[] = {"OMPI_COMM_WORLD_SIZE", "PMI_SIZE",
                                         "SLURM_STEP_NUM_TASKS"};
    for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++) {
        const char *text = getenv(counts[i]);
        long count = text != NULL ? strtol(text, NULL, 10) : 0;
        if (count >= 1 && count <= INT_MAX)
            return (int)count;
    }
    return 1;
}

int32_t config_rank(void) {
    /* In the order of config_processes; PMIx says no number of processes, but a rank. */
    static const char *const ranks[] = {"OMPI_COMM_WORLD_RANK", "PMIX_RANK", "PMI_RANK",
                                        "SLURM_PROCID"};
    if (config_processes() == 1)
        return 0;
    for (size_t i = 0; i < sizeof ranks / sizeof ranks[0]; i++) {
        const char *text = getenv(ranks[i]);
        if (text != NULL)
            return (int32_t)strtol(text, NULL, 10);
    }
    return 0;
}

const char *config_environment(const char *flag) {
    char name[96] = PREFIX;
    size_t length = sizeof PREFIX - 1;
    for (; *flag != '\0' && length < sizeof name - 1; flag++)
        name[length++] = *flag == '-' ? '_' : (char)toupper((unsigned char)*flag);
    name[length] = '\0';
    return getenv(name);
}

bool config_environment_flag(int32_t index, char *name, size_t size) {
    for (char **variable = environ; *variable != NULL; variable++) {
        if (strncmp(*variable, PREFIX, sizeof PREFIX - 1) != 0 || index-- > 0)
            continue;
        const char *from = *variable + sizeof PREFIX - 1;
        size_t length = 0;
        for (; from[length] != '\0' && from[length] != '=' && length + 1 < size; length++)
            name[length] = from[length] == '_' ? '-' : (char)tolower((unsigned char)from[length]);
        name[length] = '\0';
        return true;
    }
    return false;
}
