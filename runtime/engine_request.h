/* How requests come into an engine and leave it. For engine.c only. */
#ifndef MOEBIUS_RUNTIME_ENGINE_REQUEST_H
#define MOEBIUS_RUNTIME_ENGINE_REQUEST_H

#include "runtime/engine_start.h"

/* engine_submit. */
enum status engine_request_submit(struct engine *engine, const struct engine_request *request,
                                  int32_t *handle);

/* Frees what the engine holds for a handle that the scheduler knows no more. Local. */
void engine_request_free(struct engine *engine, int32_t handle);

#endif
