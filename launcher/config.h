/* What the environment says. The one place that reads it. */
#ifndef MOEBIUS_LAUNCHER_CONFIG_H
#define MOEBIUS_LAUNCHER_CONFIG_H

#include <stdbool.h>

/* Whether mpirun or srun started this process as one of its ranks. Local. */
bool config_under_launcher(void);

/* How many processes mpirun or srun says it started beside each other; 1 when nobody says. Local.
 */
int config_processes(void);

#endif
