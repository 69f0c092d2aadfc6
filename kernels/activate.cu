// An activation whose input is a product with something added to it, and its backward. One warp per row, eight columns per
// lane. Grid: row tiles × 256-column parts.

#include "columns.cuh"
#include "derivative.cuh"
#include "math.cuh"
#include "varlen.cuh"

struct ActivateArgs {
    const BatchHeader* batch;
    // [rows, width]
    const Half* x;
    // [rows, width]; either or neither is null.
    Half* out;
    void* slope;
    // Backward. In: the gradient of the activation's output. Out: the gradient of its input.
    Half* dx;
    // Backward: [row tiles, width], or null.
    float* partial;
    uint32_t width;
    // RowKind of each.
    uint32_t rows;
    // ActivationKind
    uint32_t activation;
    // DerivativeKind of the slope.
    uint32_t slope_kind;
};
MIRRORED(ActivateArgs);

// As many as fit on a multiprocessor, which has room for 2048 or 1536 threads.
#if defined(__CUDA_ARCH__) && (__CUDA_ARCH__ == 800 || __CUDA_ARCH__ == 900 || __CUDA_ARCH__ == 1000)
constexpr int kForwardBlocks = 16;
#else
constexpr int kForwardBlocks = 12;
#endif

extern "C" __global__ void __launch_bounds__(kTileWarps * kWarp, kForwardBlocks)
    activate_forward(const __grid_constant__ ActivateArgs args) {
    const uint32_t rows = row_count(args.batch, args.rows);
    const uint32_t column = blockIdx.y * kPart + threadIdx.x % kWarp * 8;
    if (column >= args.width) return;
    for (int i = 0; i < kTileRows / kTileWarps; ++i) {
        const uint32_t row = blockIdx.x * kTileRows + i * kTileWarps + threadIdx.x / kWarp;
        if (row >= rows) return;
        const size_t at = size_t(row) * args.width + column;
        Eight x = load8(args.x + at), slope;
        with_activation(args.activation, [&](auto kind) {
#pragma unroll
            for (int j = 0; j < 8; ++j) x.v[j] = activate<decltype(kind)::value>(x.v[j], slope.v[j]);
        });
        if (args.out != nullptr) store8(args.out + at, x);
        if (args.slope != nullptr) store_derivative(args.slope, args.slope_kind, at, slope);
    }
}

extern "C" __global__ void __launch_bounds__(kTileWarps * kWarp)
    activate_backward(const __grid_constant__ ActivateArgs args) {
    __shared__ __align__(16) float shared[ColumnSums<1, kTileWarps>::kFloats];
    const uint32_t rows = row_count(args.batch, args.rows);
    if (blockIdx.x * kTileRows >= rows) return;
    const int width = int(args.width), first = int(blockIdx.y) * kPart;
    const int column = first + int(threadIdx.x) % kWarp * 8;
    Eight sums[1] = {};
    if (column < width) {
        for (int i = 0; i < kTileRows / kTileWarps; ++i) {
            const uint32_t row = blockIdx.x * kTileRows + i * kTileWarps + threadIdx.x / kWarp;
            if (row >= rows) break;
            const size_t at = size_t(row) * width + column;
            Eight dx = load8(args.dx + at);
            const Eight slope = load_derivative(args.slope, args.slope_kind, at);
#pragma unroll
            for (int j = 0; j < 8; ++j) {
                dx.v[j] *= slope.v[j];
                sums[0].v[j] += dx.v[j];
            }
            store8(args.dx + at, dx);
        }
    }
    if (args.partial == nullptr) return;
    ColumnSums<1, kTileWarps>::add(sums, shared, args.partial + size_t(blockIdx.x) * width + first,
                                   min(width - first, kPart));
}
