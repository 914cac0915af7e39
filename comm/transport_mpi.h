/* The transport over MPI; see transport.h. */
#ifndef MOEBIUS_COMM_TRANSPORT_MPI_H
#define MOEBIUS_COMM_TRANSPORT_MPI_H

#include "comm/doorbell.h"
#include "comm/transport.h"

/* MPI is initialised. node_of and host_of [world size] and the settled doorbell are borrowed.
 * STATUS_NO_MEMORY (logged). Collective. */
enum status transport_mpi_create(const int32_t *node_of, const char (*host_of)[64],
                                 struct doorbell *doorbell, int32_t timeout_ms,
                                 struct transport **transport);

#endif
