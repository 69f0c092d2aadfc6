// The optimizer step over the flat vector of trainable parameters: the gradient norm, the decision whether the step counts,
// and AdamW (Loshchilov & Hutter, 2019). All on the device: the host learns of a skipped step later.

#include "finish.cuh"

constexpr int kUpdateThreads = 256, kWarps = kUpdateThreads / kWarp;
// Elements per partial sum of the norm.
constexpr uint32_t kNormChunk = 4096;
MIRRORED(UpdateBlocks);

// The block's sum, in thread 0. f64, so that squaring neither overflows nor underflows.
__device__ __forceinline__ double block_sum(double x) {
    __shared__ double shared[kWarps];
#pragma unroll
    for (int offset = 16; offset > 0; offset >>= 1) x += __shfl_xor_sync(kFullWarp, x, offset);
    if (threadIdx.x % kWarp == 0) shared[threadIdx.x / kWarp] = x;
    __syncthreads();
    if (threadIdx.x == 0) {
        for (int w = 1; w < kWarps; ++w) x += shared[w];
    }
    return x;
}

struct GradNormArgs {
    const float* gradient;
    // One sum per block.
    double* partial;
    // Number of blocks that have written their sum: 0 before and after a launch.
    uint32_t* arrived;
    StepState* state;
    const StepNumbers* numbers;
    uint64_t count;
    // How many sums the first blocks finish, and which. No chunk counts their gradients.
    uint32_t sums;
    uint32_t padding;
    ColumnFinishArgs finish;
};
MIRRORED(GradNormArgs);

// Whether other blocks finish gradients from `from` on, up to `to`.
__device__ __forceinline__ bool unfinished(const GradNormArgs& args, const float* from, const float* to) {
    for (uint32_t i = 0; i < args.sums; ++i) {
        const float* grad = args.finish.sums[i].grad;
        if (from < grad + args.finish.sums[i].width && grad < to) return true;
    }
    return false;
}

// Writes the step's outcome, the clipping factor and the next loss scale. The scale follows the usual rule: halve it when a
// gradient is not finite, double it after enough finite steps.
__device__ __forceinline__ void decide(StepState& state, float norm, const StepNumbers& numbers) {
    const float clip_norm = numbers.clip_norm;
    const bool finite = norm < INFINITY;
    uint32_t skip = finite ? 0 : kSkip;
    state.clip = clip_norm > 0.0f ? fminf(clip_norm / (norm + 1e-6f), 1.0f) : 1.0f;
    if (state.growth_interval > 0) {
        constexpr float kSmallest = 1.0f, kLargest = 16777216.0f;
        state.good_steps = finite ? state.good_steps + 1 : 0;
        if (!finite && state.scale > kSmallest) {
            state.scale *= 0.5f;
            skip = kSkipOverflow;
        }
        if (state.good_steps >= state.growth_interval) {
            state.scale = fminf(state.scale * 2.0f, kLargest);
            state.good_steps = 0;
        }
        state.inverse_scale = 1.0f / state.scale;
    }
    state.now.grad_norm = norm;
    state.now.skip = skip;
    state.ended[numbers.turn] = {state.now.loss, norm, skip, 0};
}

// The gradient's norm and what follows from it, and the column sums that the gradient still lacks. A block has 32 columns of
// such a sum, or a chunk of the rest; the last to arrive, whichever it is, adds up the squares of all in order. Grid: the
// blocks of the sums, then chunks of 4096 elements.
extern "C" __global__ void __launch_bounds__(kUpdateThreads) grad_norm(const __grid_constant__ GradNormArgs args) {
    __shared__ bool last;
    __shared__ float shared[kFinishFloats];
    const uint32_t finishing = args.sums * args.finish.blocks;
    double sum = 0.0;
    if (blockIdx.x < finishing) {
        const double g = finish_columns<kUpdateThreads>(args.finish, blockIdx.x, shared);
        // One sum may be the step's loss.
        const float* grad = args.finish.sums[blockIdx.x / args.finish.blocks].grad;
        if (grad >= args.gradient && grad < args.gradient + args.count) sum = g * g;
    } else {
        const uint64_t first = uint64_t(blockIdx.x - finishing) * kNormChunk;
        const float* chunk = args.gradient + first;
        const bool mixed = unfinished(args, chunk, chunk + kNormChunk);
#pragma unroll 4
        for (uint32_t i = threadIdx.x; i < kNormChunk; i += kUpdateThreads) {
            if (first + i < args.count && !(mixed && unfinished(args, chunk + i, chunk + i + 1))) {
                const double g = chunk[i];
                sum = fma(g, g, sum);
            }
        }
    }
    sum = block_sum(sum);
    if (threadIdx.x == 0) {
        args.partial[blockIdx.x] = sum;
        __threadfence();
        last = atomicAdd(args.arrived, 1u) == gridDim.x - 1;
    }
    __syncthreads();
    if (!last) return;
    __threadfence();
    sum = 0.0;
    for (uint32_t i = threadIdx.x; i < gridDim.x; i += kUpdateThreads) sum += __ldcg(args.partial + i);
    sum = block_sum(sum);
    if (threadIdx.x != 0) return;
    *args.arrived = 0;
    decide(*args.state, float(sqrt(sum)), *args.numbers);
}

struct AdamWArgs {
    float* value;
    const float* gradient;
    float* moment1;
    float* moment2;
    const StepState* state;
    const StepNumbers* numbers;
    uint64_t count;
};
MIRRORED(AdamWArgs);

extern "C" __global__ void __launch_bounds__(kUpdateThreads) adamw(const __grid_constant__ AdamWArgs args) {
    const uint64_t i = uint64_t(blockIdx.x) * kUpdateThreads + threadIdx.x;
    if (i >= args.count || args.state->now.skip != 0) return;
    const StepNumbers n = *args.numbers;
    const float g = args.gradient[i] * args.state->clip;
    const float m = n.beta1 * args.moment1[i] + n.one_minus_beta1 * g;
    const float v = n.beta2 * args.moment2[i] + n.one_minus_beta2 * g * g;
    args.moment1[i] = m;
    args.moment2[i] = v;
    args.value[i] = args.value[i] * n.decay - n.step_size * m / (sqrtf(v) * n.root_correction + n.eps);
}
