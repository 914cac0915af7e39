/* Reads the environment: who started us, and how many. */
#include "launcher/config.h"

#include <limits.h>
#include <stddef.h>
#include <stdlib.h>

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
