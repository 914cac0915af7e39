/* How the tests start ranks on one machine: shared cores, loopback only, also as root. */
#ifndef MOEBIUS_TESTS_SUPPORT_MPIRUN_H
#define MOEBIUS_TESTS_SUPPORT_MPIRUN_H

/* Elements of an argument list. Ranks that share cores must yield, and mpirun knows that it
 * oversubscribes only when told. */
#define MPIRUN_FLAGS                                                                               \
    "--allow-run-as-root", "--oversubscribe", "--mca", "mpi_yield_when_idle", "1", "--mca", "pml", \
        "ob1", "--mca", "btl", "self,vader,tcp", "--mca", "btl_tcp_if_include", "lo"

#endif
