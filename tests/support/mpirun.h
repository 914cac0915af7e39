/* How the tests start ranks on one machine: shared cores, loopback only, also as root. */
#ifndef MOEBIUS_TESTS_SUPPORT_MPIRUN_H
#define MOEBIUS_TESTS_SUPPORT_MPIRUN_H

/* LeakSanitizer must not speak of what MPI never gives back, and has to unwind through it. It must
 * not look for the thread-local variables of libraries that MPI opens: it takes what stands before
 * them in memory for their size, and now and then dies of it ("Tracer caught signal 11"). The tests
 * run from the top of the source tree. */
#ifdef __SANITIZE_ADDRESS__
#define SANITIZED_ASAN "ASAN_OPTIONS=fast_unwind_on_malloc=0:intercept_tls_get_addr=0"
#define SANITIZED_LSAN "LSAN_OPTIONS=print_suppressions=0:suppressions=tests/mpi_leaks.supp"
#define SANITIZED_ENVIRONMENT                                                                      \
    SANITIZED_ASAN, SANITIZED_LSAN, /* for env, where there is no mpirun */
#define MPIRUN_SANITIZED "--mca", "mca_base_env_list", SANITIZED_ASAN ";" SANITIZED_LSAN,
#else
#define SANITIZED_ENVIRONMENT
#define MPIRUN_SANITIZED
#endif

/* Elements of an argument list. Ranks that share cores must yield, and mpirun knows that it
 * oversubscribes only when told. */
#define MPIRUN_FLAGS                                                                               \
    MPIRUN_SANITIZED                                                                               \
    "--allow-run-as-root", "--oversubscribe", "--mca", "mpi_yield_when_idle", "1", "--mca", "pml", \
        "ob1", "--mca", "btl", "self,vader,tcp", "--mca", "btl_tcp_if_include", "lo"

#endif
