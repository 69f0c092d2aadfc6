// Multiplies columns by trained factors, and the backward: what IA3 adds to a block. One warp per row, eight columns per
// lane. Grid: row tiles × 256-column parts.

#include "columns.cuh"
#include "derivative.cuh"
#include "varlen.cuh"

struct ScaleArgs {
    const BatchHeader* batch;
    // [rows, width]
    const Half* x;
    // For the last `scaled` columns.
    const float* factor;
    // [rows, width]
    Half* out;
    uint32_t width;
    uint32_t scaled;
    // RowKind of x.
    uint32_t rows;
    uint32_t padding;
};
MIRRORED(ScaleArgs);

extern "C" __global__ void __launch_bounds__(kTileWarps * kWarp)
    scale_forward(const __grid_constant__ ScaleArgs args) {
    const uint32_t rows = row_count(args.batch, args.rows);
    const int width = int(args.width), from = width - int(args.scaled);
    const int column = int(blockIdx.y) * kPart + int(threadIdx.x) % kWarp * 8;
    if (column >= width) return;
    Eight factor = {{1.0f, 1.0f, 1.0f, 1.0f, 1.0f, 1.0f, 1.0f, 1.0f}};
    if (column >= from) factor = load8(args.factor + (column - from));
    for (int i = 0; i < kTileRows / kTileWarps; ++i) {
        const uint32_t row = blockIdx.x * kTileRows + i * kTileWarps + threadIdx.x / kWarp;
        if (row >= rows) return;
        const size_t at = size_t(row) * width + column;
        Eight x = load8(args.x + at);
#pragma unroll
        for (int j = 0; j < 8; ++j) x.v[j] *= factor.v[j];
        store8(args.out + at, x);
    }
}

struct ScaleBackArgs {
    const BatchHeader* batch;
    // [rows, width]. In: the gradient of the scaled output. Out: the gradient of x.
    Half* dx;
    // [rows, width]
    const Half* x;
    // For the last `scaled` columns.
    const float* factor;
    // [rows, width], of the activation that made x, or null. If set, all columns are scaled.
    const void* slope;
    // [row tiles, scaled], or null.
    float* partial;
    uint32_t width;
    uint32_t scaled;
    // RowKind of x.
    uint32_t rows;
    // DerivativeKind of the slope.
    uint32_t slope_kind;
};
MIRRORED(ScaleBackArgs);

// The grid covers only columns with a factor: the others stay as they are.
extern "C" __global__ void __launch_bounds__(kTileWarps * kWarp)
    scale_backward(const __grid_constant__ ScaleBackArgs args) {
    __shared__ __align__(16) float shared[ColumnSums<1, kTileWarps>::kFloats];
    const uint32_t rows = row_count(args.batch, args.rows);
    if (blockIdx.x * kTileRows >= rows) return;
    const int width = int(args.width), scaled = int(args.scaled);
    const int first = int(blockIdx.y) * kPart, column = first + int(threadIdx.x) % kWarp * 8;

    Eight sums[1] = {};
    if (column < scaled) {
        const Eight factor = load8(args.factor + column);
        for (int i = 0; i < kTileRows / kTileWarps; ++i) {
            const uint32_t row = blockIdx.x * kTileRows + i * kTileWarps + threadIdx.x / kWarp;
            if (row >= rows) break;
            const size_t at = size_t(row) * width + (width - scaled + column);
            Eight dy = load8(args.dx + at);
            const Eight x = load8(args.x + at);
#pragma unroll
            for (int j = 0; j < 8; ++j) {
                sums[0].v[j] = fmaf(dy.v[j], x.v[j], sums[0].v[j]);
                dy.v[j] *= factor.v[j];
            }
            if (args.slope != nullptr) {
                const Eight slope = load_derivative(args.slope, args.slope_kind, at);
#pragma unroll
                for (int j = 0; j < 8; ++j) dy.v[j] *= slope.v[j];
            }
            store8(args.dx + at, dy);
        }
    }
    if (args.partial == nullptr) return;
    ColumnSums<1, kTileWarps>::add(sums, shared, args.partial + size_t(blockIdx.x) * scaled + first,
                                   min(scaled - first, kPart));
}
