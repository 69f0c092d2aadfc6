// The second stage of column sums: adds up the rows of partial sums that blocks wrote (columns.cuh). It runs as a kernel of
// its own, or in extra blocks of another kernel.
#pragma once

#include "columns.cuh"
#include "varlen.cuh"

// A sum whose partial rows are ready.
struct FinishSum {
    const float* partial;
    float* grad;
    uint32_t width;
    // Rows per row of partial sums.
    uint32_t tile_rows;
    // RowKind of the summed tensor.
    uint32_t rows;
    // 1 if tiles do not cross sequences (tile_slot).
    uint32_t by_sequence;
    // If tiles do, the most rows of partial sums: the number of blocks that made them.
    uint32_t most;
    uint32_t padding;
};
MIRRORED(FinishSum);

struct ColumnFinishArgs {
    const BatchHeader* batch;
    const uint32_t* cu_seqlens;
    const StepState* state;
    // The sums of several operations.
    FinishSum sums[32];
    // Blocks per sum: as many as the widest sum has `kFinishColumns` columns.
    uint32_t blocks;
    uint32_t padding;
};
MIRRORED(ColumnFinishArgs);

constexpr int kFinishColumns = 32, kFinishGroups = 8;
MIRRORED(ColumnFinish);
constexpr int kFinishFloats = kFinishGroups * kFinishColumns;

// grad += the sum of the partial rows, with the loss scale removed. Group g of eight adds rows g, g + 8, … of a column; the
// groups are then added in order. No two sums of a table have the same gradient. Called by all `Threads` of a block; `block`
// is the block's index among those that work on the sums, one sum after another. Returns the new gradient in the thread that
// wrote it, and 0 in all others.
template <int Threads>
__device__ __forceinline__ float finish_columns(const ColumnFinishArgs& args, uint32_t block, float* shared) {
    const FinishSum& sum_of = args.sums[block / args.blocks];
    const uint32_t width = sum_of.width, tile_rows = sum_of.tile_rows;
    const uint32_t first = block % args.blocks * kFinishColumns;
    if (first >= width) return 0.0f;
    const uint32_t c = threadIdx.x % kFinishColumns, column = first + c;
    static_assert(Threads % kFinishColumns == 0, "whole groups");
#pragma unroll
    for (uint32_t i = 0; i < kFinishGroups; i += Threads / kFinishColumns) {
        const uint32_t group = i + threadIdx.x / kFinishColumns;
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
        shared[group * kFinishColumns + c] = sum;
    }
    __syncthreads();
    if (threadIdx.x >= kFinishColumns || column >= width) return 0.0f;
    float sum = shared[c];
#pragma unroll
    for (int g = 1; g < kFinishGroups; ++g) sum += shared[g * kFinishColumns + c];
    return sum_of.grad[column] += sum * args.state->inverse_scale;
}
