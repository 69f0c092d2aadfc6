// What only full fine-tuning needs, besides the gradients of tables (embed_grad.cu): gradients of matrices, and the 16-bit
// working copies of the matrices that train.

#include "weight_grad.cuh"

using Large = WeightGrad<kLargeTile, 64>;
using Small = WeightGrad<kSmallTile, 32>;

extern "C" __global__ void __launch_bounds__(Large::kThreads)
    weight_grad_large(const __grid_constant__ WeightGradArgs args) {
    Large::run(args);
}

extern "C" __global__ void __launch_bounds__(Small::kThreads)
    weight_grad_small(const __grid_constant__ WeightGradArgs args) {
    Small::run(args);
}

struct RefreshArgs {
    // A matrix in the parameter vector and its working copy; its size is a multiple of 8 elements.
    const float* value;
    Half* copy;
    uint64_t count;
};
MIRRORED(RefreshArgs);

constexpr int kRefreshThreads = 256;
MIRRORED(RefreshBlock);

extern "C" __global__ void __launch_bounds__(kRefreshThreads)
    refresh(const __grid_constant__ RefreshArgs args) {
    const uint64_t at = (uint64_t(blockIdx.x) * kRefreshThreads + threadIdx.x) * 8;
    if (at >= args.count) return;
    store8(args.copy + at, load8(args.value + at));
}
