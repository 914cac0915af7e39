/* The memory plan: what a model will take, told and checked before the first byte of it is taken.
 */
#ifndef MOEBIUS_RUNTIME_MEMORY_PLAN_H
#define MOEBIUS_RUNTIME_MEMORY_PLAN_H

#include <stdint.h>
#include <stdio.h>

#include "kernels/base/status.h"
#include "runtime/model.h"

/* "11.2 MiB", "112 MiB": binary units up to TiB, one decimal below 100. Writes to text[size] and
 * returns it. Local. */
const char *memory_plan_format(int64_t bytes, char *text, size_t size);

/* Bytes that this process can still take: the smaller of the system's available memory and what the
 * control group allows; INT64_MAX when neither can be read. Local. */
int64_t memory_plan_available(void);

/* One line a kind, then the total beside what is available. `positions` is how many the KV blocks
 * hold. Local. */
void memory_plan_print(FILE *out, const struct model_memory *memory, int64_t positions);

/* Logs the plan as one line beside this rank's share of what is available (`ranks_here` share this
 * machine); STATUS_NO_MEMORY (logged: needed, available, what to change) when it
 * does not fit. Local. */
enum status memory_plan_check(const struct model_memory *memory, int64_t positions,
                              int32_t ranks_here);

#endif
