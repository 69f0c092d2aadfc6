// Gradients of biases and gains: column sums of an activation gradient, and the second stage of every fused one.

#include "columns.cuh"
#include "philox.cuh"
#include "x_hat.cuh"

struct ColumnPartialArgs {
    const BatchHeader* batch;
    // [rows, width]
    const Half* dy;
    // What dy is multiplied with, or null: x̂ for a gain.
    const void* factor;
    // A number for each row, or null: rows with another than `only` are left out.
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

// First stage where no other kernel passes over the gradient anyway: sums of dropout'(dy) ⊙ factor over 32 rows.
// Grid: row tiles × 256-column parts.
extern "C" __global__ void __launch_bounds__(kTileWarps * kWarp)
    column_partial(const __grid_constant__ ColumnPartialArgs args) {
    __shared__ __align__(16) float shared[ColumnSums<1, kTileWarps>::kFloats];
    const uint32_t rows = row_count(args.batch, args.rows);
    if (blockIdx.x * kTileRows >= rows) return;
    const Dropout dropout(args.dropout, args.batch, first_row(args.batch, args.rows));
    const int width = int(args.width), first = blockIdx.y * 256;
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
    const int here = min(width - first, 256);
    ColumnSums<1, kTileWarps>::add(sums, shared, args.partial + size_t(blockIdx.x) * width + first, here);
}

// A sum whose partial rows are there.
struct FinishSum {
    const float* partial;
    float* grad;
    uint32_t width;
    // Rows that one row of partial sums stands for.
    uint32_t tile_rows;
    // RowKind of the summed tensor.
    uint32_t rows;
    // 1 where tiles do not cross sequences (tile_slot).
    uint32_t by_sequence;
    // Rows of partial sums where tiles do, at most: the blocks that made them.
    uint32_t most;
    uint32_t padding;
};
MIRRORED(FinishSum);

struct ColumnFinishArgs {
    const BatchHeader* batch;
    const uint32_t* cu_seqlens;
    const StepState* state;
    // Those of several operations: blockIdx.y chooses.
    FinishSum sums[32];
};
MIRRORED(ColumnFinishArgs);

constexpr int kFinishColumns = 32, kFinishGroups = 8;
MIRRORED(ColumnFinish);

// grad += the sum of the partial rows, freed of the loss scale. Thread (c, g) adds rows g, g + 8, … of column c; the eight
// groups are then added in order. No two sums of a launch have the same gradient. Grid: 32 columns of the widest × sums.
extern "C" __global__ void __launch_bounds__(kFinishColumns * kFinishGroups)
    column_finish(const __grid_constant__ ColumnFinishArgs args) {
    __shared__ float shared[kFinishGroups][kFinishColumns];
    const FinishSum& sum_of = args.sums[blockIdx.y];
    const uint32_t width = sum_of.width, tile_rows = sum_of.tile_rows;
    if (blockIdx.x * kFinishColumns >= width) return;
    const uint32_t c = threadIdx.x % kFinishColumns, group = threadIdx.x / kFinishColumns;
    const uint32_t column = blockIdx.x * kFinishColumns + c;

    float sum = 0.0f;
    if (column < width) {
        const float* partial = sum_of.partial + column;
        if (sum_of.by_sequence == 0) {
            const uint32_t rows = row_count(args.batch, sum_of.rows);
            const uint32_t tiles = min((rows + tile_rows - 1) / tile_rows, sum_of.most);
            for (uint32_t t = group; t < tiles; t += kFinishGroups) sum += partial[size_t(t) * width];
        } else {
            for (uint32_t s = group; s < args.batch->sequences; s += kFinishGroups) {
                const Span span = span_of(args.cu_seqlens, s);
                const uint32_t tiles = (span.len + tile_rows - 1) / tile_rows;
                for (uint32_t t = 0; t < tiles; ++t) {
                    sum += partial[size_t(tile_slot(span, s, t, tile_rows)) * width];
                }
            }
        }
    }
    shared[group][c] = sum;
    __syncthreads();
    if (group == 0 && column < width) {
#pragma unroll
        for (int g = 1; g < kFinishGroups; ++g) sum += shared[g][c];
        sum_of.grad[column] += sum * args.state->inverse_scale;
    }
}
