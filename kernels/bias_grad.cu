// Gradients of biases and gains: column sums of an activation gradient, and the second stage of every fused one.

#include "columns.cuh"
#include "philox.cuh"

struct ColumnPartialArgs {
    const BatchHeader* batch;
    // [rows, width]
    const Half* dy;
    // What dy is multiplied with, or null: x̂ for a gain.
    const Half* factor;
    // [row tiles, width]
    float* partial;
    DropoutArgs dropout;
    uint32_t width;
    // RowKind of dy.
    uint32_t rows;
};
MIRRORED(ColumnPartialArgs);

// First stage where no other kernel passes over the gradient anyway: sums of dropout'(dy) ⊙ factor over 32 rows.
// Grid: row tiles × 256-column parts.
extern "C" __global__ void __launch_bounds__(kTileWarps * kWarp)
    column_partial(const __grid_constant__ ColumnPartialArgs args) {
    __shared__ __align__(16) float shared[ColumnSums<1, kTileWarps>::kFloats];
    const uint32_t rows = row_count(args.batch, args.rows);
    if (blockIdx.x * kTileRows >= rows) return;
    const Dropout dropout(args.dropout, args.batch);
    const int width = int(args.width), first = blockIdx.y * 256;
    const int column = first + int(threadIdx.x) % kWarp * 8;

    Eight sums[1] = {};
    if (column < width) {
        for (int i = 0; i < kTileRows / kTileWarps; ++i) {
            const uint32_t row = blockIdx.x * kTileRows + i * kTileWarps + threadIdx.x / kWarp;
            if (row >= rows) break;
            const size_t at = size_t(row) * width + column;
            Eight dy = load8(args.dy + at);
            if (dropout.active()) dropout.apply8(dy.v, row, column);
            Eight factor = {{1.0f, 1.0f, 1.0f, 1.0f, 1.0f, 1.0f, 1.0f, 1.0f}};
            if (args.factor != nullptr) factor = load8(args.factor + at);
#pragma unroll
            for (int j = 0; j < 8; ++j) sums[0].v[j] = fmaf(dy.v[j], factor.v[j], sums[0].v[j]);
        }
    }
    const int here = min(width - first, 256);
    ColumnSums<1, kTileWarps>::add(sums, shared, args.partial + size_t(blockIdx.x) * width + first, here);
}

struct ColumnFinishArgs {
    const BatchHeader* batch;
    const uint32_t* cu_seqlens;
    const StepState* state;
    // One or two sums of the same shape: blockIdx.y chooses.
    const float* partial[2];
    float* grad[2];
    uint32_t width;
    // Rows that one row of partial sums stands for.
    uint32_t tile_rows;
    // RowKind of the summed tensor.
    uint32_t rows;
    // 1 where tiles do not cross sequences (tile_slot).
    uint32_t by_sequence;
};
MIRRORED(ColumnFinishArgs);

constexpr int kFinishColumns = 32, kFinishGroups = 8;
MIRRORED(ColumnFinish);

// grad += the sum of the partial rows, freed of the loss scale. Thread (c, g) adds rows g, g + 8, … of column c;
// the eight groups are then added in order.
extern "C" __global__ void __launch_bounds__(kFinishColumns * kFinishGroups)
    column_finish(const __grid_constant__ ColumnFinishArgs args) {
    __shared__ float shared[kFinishGroups][kFinishColumns];
    const uint32_t c = threadIdx.x % kFinishColumns, group = threadIdx.x / kFinishColumns;
    const uint32_t column = blockIdx.x * kFinishColumns + c;
    const bool second = blockIdx.y == 1;
    const float* partial = second ? args.partial[1] : args.partial[0];
    float* grad = second ? args.grad[1] : args.grad[0];

    float sum = 0.0f;
    if (column < args.width) {
        if (args.by_sequence == 0) {
            const uint32_t rows = row_count(args.batch, args.rows);
            const uint32_t tiles = (rows + args.tile_rows - 1) / args.tile_rows;
            for (uint32_t t = group; t < tiles; t += kFinishGroups) sum += partial[size_t(t) * args.width + column];
        } else {
            for (uint32_t s = group; s < args.batch->sequences; s += kFinishGroups) {
                const Span span = span_of(args.cu_seqlens, s);
                const uint32_t tiles = (span.len + args.tile_rows - 1) / args.tile_rows;
                for (uint32_t t = 0; t < tiles; ++t) {
                    sum += partial[size_t(tile_slot(span, s, t, args.tile_rows)) * args.width + column];
                }
            }
        }
    }
    shared[group][c] = sum;
    __syncthreads();
    if (group == 0 && column < args.width) {
#pragma unroll
        for (int g = 1; g < kFinishGroups; ++g) sum += shared[g][c];
        grad[column] += sum * args.state->inverse_scale;
    }
}
