/* The commands of the program. Each gets argv from its own name on and returns a status; it has
 * logged why when that is not STATUS_OK. */
#ifndef MOEBIUS_LAUNCHER_COMMANDS_H
#define MOEBIUS_LAUNCHER_COMMANDS_H

#include "kernels/base/status.h"

enum status command_generate(int argc, char **argv);
enum status command_serve(int argc, char **argv);
enum status command_tokenize(int argc, char **argv);
enum status command_inspect(int argc, char **argv);
enum status command_bench(int argc, char **argv);
enum status command_bench_latency(int argc, char **argv);
enum status command_bench_serve(int argc, char **argv);
enum status command_bench_startup(int argc, char **argv);
enum status command_bench_throughput(int argc, char **argv);
enum status command_complete(int argc, char **argv);
enum status command_chat(int argc, char **argv);
enum status command_doctor(int argc, char **argv);

#endif
