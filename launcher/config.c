/* Reads the environment: today only who started us. */
#include "launcher/config.h"

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
