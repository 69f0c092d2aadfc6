// What only full fine-tuning needs beside the gradients of tables (embed_grad.cu): gradients of matrices and gains,
// and the 16-bit working copies of the matrices that train.

#include "weight_grad.cuh"

using Large = WeightGrad<128, 64>;
using Small = WeightGrad<64, 32>;

extern "C" __global__ void __launch_bounds__(Large::kThreads)
    weight_grad_large(const __grid_constant__ WeightGradArgs args) {
    Large::run(args);
}

extern "C" __global__ void __launch_bounds__(Small::kThreads)
    weight_grad_small(const __grid_constant__ WeightGradArgs args) {
    Small::run(args);
}

// Mirrored by `GainPartialArgs` in src/backend/cuda/args.rs.
struct GainPartialArgs {
    const BatchHeader* batch;
    // [tokens, width]
    const Half* dy;
    const Half* x_hat;
    // [row tiles, width]
    float* partial;
    uint32_t width;
    uint32_t padding;
};
static_assert(sizeof(GainPartialArgs) == 40, "mirrored by src/backend/cuda/args.rs");

constexpr int kWarps = 4;
constexpr int kTileRows = 32;

// First stage of a gain's gradient: sums of dy ⊙ x̂ over 32 rows. Grid: 256-column parts × row tiles.
extern "C" __global__ void __launch_bounds__(kWarps * kWarp)
    gain_partial(const __grid_constant__ GainPartialArgs args) {
    __shared__ __align__(16) float shared[ColumnSums<1, kWarps>::kFloats];
    const uint32_t rows = args.batch->tokens;
    if (blockIdx.y * kTileRows >= rows) return;
    const int width = int(args.width), first = blockIdx.x * 256;
    const int column = first + int(threadIdx.x) % kWarp * 8;

    Eight sums[1] = {};
    if (column < width) {
        for (int i = 0; i < kTileRows / kWarps; ++i) {
            const uint32_t row = blockIdx.y * kTileRows + i * kWarps + threadIdx.x / kWarp;
            if (row >= rows) break;
            const size_t at = size_t(row) * width + column;
            const Eight dy = load8(args.dy + at), x_hat = load8(args.x_hat + at);
#pragma unroll
            for (int j = 0; j < 8; ++j) sums[0].v[j] = fmaf(dy.v[j], x_hat.v[j], sums[0].v[j]);
        }
    }
    const int here = min(width - first, 256);
    ColumnSums<1, kWarps>::add(sums, shared, args.partial + size_t(blockIdx.y) * width + first, here);
}

// Mirrored by `RefreshArgs` in src/backend/cuda/args.rs.
struct RefreshArgs {
    // A matrix in the parameter vector, and its working copy: a multiple of 8 elements.
    const float* value;
    Half* copy;
    uint64_t count;
};
static_assert(sizeof(RefreshArgs) == 24, "mirrored by src/backend/cuda/args.rs");

constexpr int kRefreshThreads = 256;

extern "C" __global__ void __launch_bounds__(kRefreshThreads)
    refresh(const __grid_constant__ RefreshArgs args) {
    const uint64_t at = (uint64_t(blockIdx.x) * kRefreshThreads + threadIdx.x) * 8;
    if (at >= args.count) return;
    store8(args.copy + at, load8(args.value + at));
}
