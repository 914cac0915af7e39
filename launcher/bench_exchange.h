/* moebius bench exchange. */
#ifndef MOEBIUS_LAUNCHER_BENCH_EXCHANGE_H
#define MOEBIUS_LAUNCHER_BENCH_EXCHANGE_H

#include "kernels/base/status.h"

/* argv[0] is "exchange". As a command of commands.h. */
enum status bench_exchange(int argc, char **argv);

#endif
