/* Tiles for AVX2 and FMA. Compiled with that instruction set's flags: nothing
 * here runs before cpu_isa_supported has said yes. */
#include "kernels/vec_avx2.h"

#define TILE_ROWS 3
#define TILE_VECS 4

#include "kernels/gemm_micro_tile.h"

const struct gemm_micro gemm_micro_avx2 = {
    .panel = TILE_PANEL,
    .tile_rows = TILE_ROWS,
    .tile_f32 = tile_f32,
    .tile_bf16 = tile_bf16,
    .swiglu = tile_swiglu,
    .round_bf16 = tile_round_bf16,
    .read = tile_read,
};
