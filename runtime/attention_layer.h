/* The attention block of one layer: projections, q/k norm, rope, KV store, attention, output
 * projection. */
#ifndef MOEBIUS_RUNTIME_ATTENTION_LAYER_H
#define MOEBIUS_RUNTIME_ATTENTION_LAYER_H

#include "runtime/model.h"

/* workspace.block_out = attention of the normed rows (workspace.normed_act): of a tensor-parallel
 * group, the own heads' part of the sum. Stores the rows' keys and values. STATUS_PEER. Local, but
 * Collective over the group for norms over the whole width of all heads. */
enum status attention_layer_forward(struct model *model, const struct batch *batch, int32_t layer);

#endif
