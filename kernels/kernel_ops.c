/* The visible list: one ops table for each instruction set. A new backend is a file of its own and
 * a table here. */
#include "kernels/kernel_ops.h"

#include "kernels/base/check.h"
#include "kernels/base/log.h"
#include "kernels/base/memory.h"
#include "kernels/cpu_attention.h"
#include "kernels/cpu_gemm.h"
#include "kernels/cpu_kv_store.h"
#include "kernels/cpu_ops.h"
#include "kernels/cpu_sample.h"
#include "kernels/gemm_micro.h"
#include "kernels/ref_attention.h"
#include "kernels/ref_gemm.h"
#include "kernels/ref_ops.h"
#include "kernels/ref_sample.h"
#include "kernels/weight_pack.h"

static const struct kernel_ops kernel_ops_reference = {
    .name = "reference",
    .panel = 2,
    .weight_pack = weight_pack_panels,
    .embedding = ref_ops_embedding,
    .rmsnorm = ref_ops_rmsnorm,
    .head_norm = ref_ops_head_norm,
    .square_sum = ref_ops_square_sum,
    .rope = ref_ops_rope,
    .clamp = ref_ops_clamp,
    .gemm = ref_gemm_gemm,
    .expert_gate_up = ref_gemm_expert_gate_up,
    .expert_down = ref_gemm_expert_down,
    .router = ref_ops_router,
    .combine = ref_ops_combine,
    .add = ref_ops_add,
    .kv_store = ref_ops_kv_store,
    .attention = ref_attention_attention,
    .sample = &ref_sample_ops,
};

static const struct kernel_ops kernel_ops_baseline = {
    .name = "baseline",
    .panel = 16,
    .micro = &gemm_micro_baseline,
    .weight_pack = weight_pack_panels,
    .embedding = cpu_ops_embedding_baseline,
    .rmsnorm = cpu_ops_rmsnorm_baseline,
    .head_norm = cpu_ops_head_norm_baseline,
    .square_sum = cpu_ops_square_sum_baseline,
    .rope = cpu_ops_rope_baseline,
    .clamp = cpu_ops_clamp_baseline,
    .gemm = cpu_gemm_gemm,
    .expert_gate_up = cpu_gemm_expert_gate_up,
    .expert_down = cpu_gemm_expert_down,
    .router = cpu_ops_router_baseline,
    .combine = cpu_ops_combine_baseline,
    .add = cpu_ops_add_baseline,
    .kv_store = cpu_kv_store_kv_store_baseline,
    .attention = cpu_attention_attention_baseline,
    .sample = &cpu_sample_ops_baseline,
};

#if MOEBIUS_X86
static const struct kernel_ops kernel_ops_avx2 = {
    .name = "avx2",
    .panel = 32,
    .micro = &gemm_micro_avx2,
    .weight_pack = weight_pack_panels,
    .embedding = cpu_ops_embedding_avx2,
    .rmsnorm = cpu_ops_rmsnorm_avx2,
    .head_norm = cpu_ops_head_norm_avx2,
    .square_sum = cpu_ops_square_sum_avx2,
    .rope = cpu_ops_rope_avx2,
    .clamp = cpu_ops_clamp_avx2,
    .gemm = cpu_gemm_gemm,
    .expert_gate_up = cpu_gemm_expert_gate_up,
    .expert_down = cpu_gemm_expert_down,
    .router = cpu_ops_router_avx2,
    .combine = cpu_ops_combine_avx2,
    .add = cpu_ops_add_avx2,
    .kv_store = cpu_kv_store_kv_store_avx2,
    .attention = cpu_attention_attention_avx2,
    .sample = &cpu_sample_ops_avx2,
};

static const struct kernel_ops kernel_ops_avx512 = {
    .name = "avx512",
    .panel = 64,
    .micro = &gemm_micro_avx512,
    .weight_pack = weight_pack_panels,
    .embedding = cpu_ops_embedding_avx512,
    .rmsnorm = cpu_ops_rmsnorm_avx512,
    .head_norm = cpu_ops_head_norm_avx512,
    .square_sum = cpu_ops_square_sum_avx512,
    .rope = cpu_ops_rope_avx512,
    .clamp = cpu_ops_clamp_avx512,
    .gemm = cpu_gemm_gemm,
    .expert_gate_up = cpu_gemm_expert_gate_up,
    .expert_down = cpu_gemm_expert_down,
    .router = cpu_ops_router_avx512,
    .combine = cpu_ops_combine_avx512,
    .add = cpu_ops_add_avx512,
    .kv_store = cpu_kv_store_kv_store_avx512,
    .attention = cpu_attention_attention_avx512,
    .sample = &cpu_sample_ops_avx512,
};

static const struct kernel_ops kernel_ops_avx512_bf16 = {
    .name = "avx512-bf16",
    .panel = 64,
    .micro = &gemm_micro_avx512_bf16,
    .weight_pack = weight_pack_panels,
    .embedding = cpu_ops_embedding_avx512_bf16,
    .rmsnorm = cpu_ops_rmsnorm_avx512_bf16,
    .head_norm = cpu_ops_head_norm_avx512_bf16,
    .square_sum = cpu_ops_square_sum_avx512_bf16,
    .rope = cpu_ops_rope_avx512_bf16,
    .clamp = cpu_ops_clamp_avx512_bf16,
    .gemm = cpu_gemm_gemm,
    .expert_gate_up = cpu_gemm_expert_gate_up,
    .expert_down = cpu_gemm_expert_down,
    .router = cpu_ops_router_avx512_bf16,
    .combine = cpu_ops_combine_avx512_bf16,
    .add = cpu_ops_add_avx512_bf16,
    .kv_store = cpu_kv_store_kv_store_avx512_bf16,
    .attention = cpu_attention_attention_avx512_bf16,
    .sample = &cpu_sample_ops_avx512_bf16,
};
#endif

static const struct kernel_ops *const ops_of_isa[CPU_ISA_COUNT] = {
    [CPU_ISA_REFERENCE] = &kernel_ops_reference,
    [CPU_ISA_BASELINE] = &kernel_ops_baseline,
#if MOEBIUS_X86
    [CPU_ISA_AVX2] = &kernel_ops_avx2,
    [CPU_ISA_AVX512] = &kernel_ops_avx512,
    [CPU_ISA_AVX512_BF16] = &kernel_ops_avx512_bf16,
#endif
};

enum status kernels_init(struct kernels *kernels, enum cpu_isa isa, int32_t threads) {
    if (!cpu_isa_supported(isa)) {
        LOG_ERROR("cpu isa: this machine or build cannot run %s, best is %s", cpu_isa_name(isa),
                  cpu_isa_name(cpu_isa_best()));
        return STATUS_UNSUPPORTED;
    }
    void *scratch = NULL;
    struct thread_pool *pool = NULL;
    size_t scratch_bytes = (size_t)threads * KERNELS_SCRATCH_BYTES;
    RETURN_IF_ERROR(memory_acquire("kernel scratch", scratch_bytes, &scratch));
    enum status status = thread_pool_create(threads, &pool);
    if (status != STATUS_OK) {
        memory_release(scratch, scratch_bytes);
        return status;
    }
    ASSERT(ops_of_isa[isa] != NULL);
    *kernels = (struct kernels){ops_of_isa[isa], isa, pool, scratch};
    return STATUS_OK;
}

void kernels_deinit(struct kernels *kernels) {
    if (kernels->pool == NULL)
        return;
    size_t threads = (size_t)thread_pool_threads(kernels->pool);
    thread_pool_destroy(kernels->pool);
    memory_release(kernels->scratch, threads * KERNELS_SCRATCH_BYTES);
    *kernels = (struct kernels){0};
}
