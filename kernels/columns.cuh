// Column sums without atomics, in two stages: a block adds up its own rows in a fixed order and writes one row of partial
// sums; finish.cuh adds those rows up. The result is the same from run to run.
#pragma once

#include "planes.cuh"

// Rows per row of partial sums, and warps per block, which take turns at them: few enough rows to fill the device, many
// enough that the partial sums are a small part of the traffic.
constexpr int kTileRows = 32, kTileWarps = 4;
MIRRORED(RowTile);

// The rows a warp goes through when a grid may have fewer blocks than there are row tiles. With a tile per block, the block's
// warps take turns in it; otherwise the warps of all blocks take turns. A block with any rows writes one row of partial sums,
// so there are as many of these as tiles or blocks, whichever is fewer.
struct RowWalk {
    uint32_t first, end, step;

    // For the first `blocks` of a grid.
    __device__ __forceinline__ RowWalk(uint32_t rows, uint32_t blocks) {
        const uint32_t warp = threadIdx.x / kWarp;
        const bool tiles = blocks * kTileRows >= rows;
        first = blockIdx.x * (tiles ? kTileRows : kTileWarps) + warp;
        end = tiles ? min(rows, (blockIdx.x + 1) * kTileRows) : rows;
        step = tiles ? kTileWarps : blocks * kTileWarps;
    }
};

// The outcome of a step.
struct StepOutcome {
    float loss;
    float grad_norm;
    // Nonzero if the gradient is not finite and the step must change nothing; kSkipOverflow if the loss scale was lowered in
    // response.
    uint32_t skip;
    uint32_t padding;
};
MIRRORED(StepOutcome);
constexpr uint32_t kSkip = 1, kSkipOverflow = 2;
MIRRORED(SkipKind);

// The device's part of an optimizer step. The parameters' gradients follow it in memory: a step begins by clearing them and
// `now` in one go.
struct StepState {
    // Factor on the gradients that flow through the encoder in 16 bits, a power of two, and its inverse.
    float scale;
    float inverse_scale;
    // Steps since the scale last changed.
    uint32_t good_steps;
    // What clipping multiplies the gradient by.
    float clip;
    // Steps after which the scale is doubled; 0 keeps it.
    uint32_t growth_interval;
    // So that gradients start on a sector boundary.
    uint32_t padding[7];
    // Outcomes of the last two steps, alternating: one is on its way to the host while the next step runs.
    StepOutcome ended[2];
    StepOutcome now;
};
MIRRORED(StepState);

// What a step needs from the host, in device memory, so that a recorded step reads the current numbers.
struct StepNumbers {
    // Of one sequence's loss in the step's.
    float weight;
    // 0 switches clipping off.
    float clip_norm;
    // 1 - lr · weight_decay
    float decay;
    float beta1;
    float beta2;
    float one_minus_beta1;
    float one_minus_beta2;
    // Learning rate divided by the first moment's bias correction.
    float step_size;
    // One over the square root of the second moment's bias correction.
    float root_correction;
    float eps;
    // Which element of StepState::ended the step writes its outcome to.
    uint32_t turn;
    uint32_t padding;
};
MIRRORED(StepNumbers);

// Adds up, over the `Warps` warps of a block, each warp's sums for the same columns, in its own row of `shared` (kFloats
// each). Writes columns below `width` (a multiple of 8) to `out`.
template <int C, int Warps>
struct ColumnSums {
    using Row = Planes<C>;
    static constexpr int kFloats = Warps * Row::kFloats;

    // This warp's row, initialised with the given sums.
    static __device__ __forceinline__ float* start(float* shared, const Eight (&sums)[C] = {}) {
        float* row = shared + threadIdx.x / kWarp * Row::kFloats;
#pragma unroll
        for (int c = 0; c < C; ++c) Row::store(row, c, sums[c]);
        return row;
    }

    static __device__ __forceinline__ void finish(float* shared, float* out, int width) {
        __syncthreads();
        for (int i = threadIdx.x; i * 4 < width; i += Warps * kWarp) {
            float4 sum = Row::four(shared, i);
#pragma unroll
            for (int w = 1; w < Warps; ++w) {
                const float4 x = Row::four(shared + w * Row::kFloats, i);
                sum = make_float4(sum.x + x.x, sum.y + x.y, sum.z + x.z, sum.w + x.w);
            }
            reinterpret_cast<float4*>(out)[i] = sum;
        }
    }

    // For sums that the warps hold in registers.
    static __device__ __forceinline__ void add(const Eight (&sums)[C], float* shared, float* out, int width) {
        start(shared, sums);
        finish(shared, out, width);
    }
};
