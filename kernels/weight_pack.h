/* Packing of row-major checkpoint data into panels: the ops tables' weight_pack. */
#ifndef MOEBIUS_KERNELS_WEIGHT_PACK_H
#define MOEBIUS_KERNELS_WEIGHT_PACK_H

#include "kernels/weight.h"

/* Converts and transposes one piece (see weight_pack in weight.h). Needs no particular instruction
 * set. Local. */
void weight_pack_panels(const struct weight *weight, const struct weight_piece *piece);

#endif
