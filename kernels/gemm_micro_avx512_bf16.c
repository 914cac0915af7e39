/* Tiles for AVX-512 with bf16 dot products. Compiled with that instruction set's flags: nothing
 * here runs before cpu_isa_supported has said yes. */
#include "kernels/vec_avx512.h"

#define TILE_ROWS 6
#define TILE_VECS 4

#define TILE_HAS_BF16_DOT
static inline vec_f32 vec_bf16_dot(vec_f32 sum, vec_u32 a, vec_u32 b) {
    return (vec_f32)_mm512_dpbf16_ps((__m512)sum, (__m512bh)a, (__m512bh)b);
}

#include "kernels/gemm_micro_tile.h"

const struct gemm_micro gemm_micro_avx512_bf16 = {
    .panel = TILE_PANEL,
    .tile_rows = TILE_ROWS,
    .tile_f32 = tile_f32,
    .tile_bf16 = tile_bf16,
    .swiglu = tile_swiglu,
    .round_bf16 = tile_round_bf16,
    .read = tile_read,
};
