/* Tiles for SSE4.2 on x86, whatever the compiler aims at elsewhere. Compiled with that instruction
 * set's flags: nothing here runs before cpu_isa_supported has said yes. */
#include "kernels/vec_baseline.h"

#define TILE_ROWS 2
#define TILE_VECS 4

#include "kernels/gemm_micro_tile.h"

const struct gemm_micro gemm_micro_baseline = {
    .panel = TILE_PANEL,
    .tile_rows = TILE_ROWS,
    .tile_f32 = tile_f32,
    .tile_bf16 = tile_bf16,
    .swiglu = tile_swiglu,
    .round_bf16 = tile_round_bf16,
    .read = tile_read,
};
