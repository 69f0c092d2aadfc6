// Gradients of biases and gains: column sums of an activation gradient, and the second stage of the sums that no LayerNorm
// backward finishes.

#include "columns.cuh"
#include "finish.cuh"
#include "philox.cuh"
#include "x_hat.cuh"

struct ColumnPartialArgs {
    const BatchHeader* batch;
    // [rows, width]
    const Half* dy;
    // What dy is multiplied by, or null: x̂ for a gain.
    const void* factor;
    // A number per row, or null: only rows whose number is `only` count.
    const uint32_t* ids;
    // [row tiles, width]
    float* partial;
    DropoutArgs dropout;
    uint32_t width;
    // RowKind of dy.
    uint32_t rows;
    uint32_t only;
    // XHatKind of the factor.
    uint32_t factor_kind;
};
MIRRORED(ColumnPartialArgs);

// First stage, for gradients that no other kernel reads anyway: sums of dropout'(dy) ⊙ factor over 32 rows. Grid: row tiles ×
// 256-column parts.
extern "C" __global__ void __launch_bounds__(kTileWarps * kWarp)
    column_partial(const __grid_constant__ ColumnPartialArgs args) {
    __shared__ __align__(16) float shared[ColumnSums<1, kTileWarps>::kFloats];
    const uint32_t rows = row_count(args.batch, args.rows);
    if (blockIdx.x * kTileRows >= rows) return;
    const Dropout dropout(args.dropout, args.batch, first_row(args.batch, args.rows));
    const int width = int(args.width), first = blockIdx.y * kPart;
    const int column = first + int(threadIdx.x) % kWarp * 8;

    Eight sums[1] = {};
    if (column < width) {
        for (int i = 0; i < kTileRows / kTileWarps; ++i) {
            const uint32_t row = blockIdx.x * kTileRows + i * kTileWarps + threadIdx.x / kWarp;
            if (row >= rows) break;
            if (args.ids != nullptr && __ldg(args.ids + row) != args.only) continue;
            const size_t at = size_t(row) * width + column;
            Eight dy = load8(args.dy + at);
            if (dropout.active()) dropout.apply8(dy.v, row, column);
            Eight factor = {{1.0f, 1.0f, 1.0f, 1.0f, 1.0f, 1.0f, 1.0f, 1.0f}};
            if (args.factor != nullptr) factor = load_x_hat(args.factor, args.factor_kind, width, at);
#pragma unroll
            for (int j = 0; j < 8; ++j) sums[0].v[j] = fmaf(dy.v[j], factor.v[j], sums[0].v[j]);
        }
    }
    const int here = min(width - first, kPart);
    ColumnSums<1, kTileWarps>::add(sums, shared, args.partial + size_t(blockIdx.x) * width + first, here);
}

extern "C" __global__ void __launch_bounds__(kFinishColumns * kFinishGroups)
    column_finish(const __grid_constant__ ColumnFinishArgs args) {
    __shared__ float shared[kFinishFloats];
    finish_columns<kFinishColumns * kFinishGroups>(args, blockIdx.x, shared);
}
