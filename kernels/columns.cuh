// Column sums without atomics, in two stages: a block adds up its own rows in a fixed order and writes one row of
// partial sums; finish.cuh adds those rows up. The result is the same from run to run.
#pragma once

#include "planes.cuh"

// Rows that a block makes one row of partial sums of, and its warps, which take turns at them: few enough rows to fill the
// device, many enough that the partial sums are a small part of the traffic.
constexpr int kTileRows = 32, kTileWarps = 4;
MIRRORED(RowTile);

// The rows that a warp goes through where a grid may have fewer blocks than there are tiles of rows: a tile per block, in
// which the warps take turns, and else the warps of all blocks take turns. A block that has any rows writes one row of
// partial sums, so there are as many of these as tiles, or as blocks where those are fewer.
struct RowWalk {
    uint32_t first, end, step;

    // By the first `blocks` of a grid.
    __device__ __forceinline__ RowWalk(uint32_t rows, uint32_t blocks) {
        const uint32_t warp = threadIdx.x / kWarp;
        const bool tiles = blocks * kTileRows >= rows;
        first = blockIdx.x * (tiles ? kTileRows : kTileWarps) + warp;
        end = tiles ? min(rows, (blockIdx.x + 1) * kTileRows) : rows;
        step = tiles ? kTileWarps : blocks * kTileWarps;
    }
};

// What comes of a step.
struct StepOutcome {
    float loss;
    float grad_norm;
    // Not 0 where the gradient is not finite and the step must change nothing; kSkipOverflow where the loss scale
    // was lowered in answer.
    uint32_t skip;
    uint32_t padding;
};
MIRRORED(StepOutcome);
constexpr uint32_t kSkip = 1, kSkipOverflow = 2;
MIRRORED(SkipKind);

// The device's part of an optimizer step. The parameters' gradients follow it in memory: a step begins with one clearing, of
// these and of `now`.
struct StepState {
    // Factor on the gradients that flow through the encoder in 16 bits, a power of two, and its inverse.
    float scale;
    float inverse_scale;
    // Steps since the scale last changed.
    uint32_t good_steps;
    // What clipping multiplies the gradient with.
    float clip;
    // Steps after which the scale is doubled; 0 keeps it.
    uint32_t growth_interval;
    // So that gradients begin where a sector does.
    uint32_t padding[7];
    // Of the last two steps that ended, in turn: one is on its way to the host while the next step runs.
    StepOutcome ended[2];
    StepOutcome now;
};
MIRRORED(StepState);

// What a step needs to know from the host, in device memory, so that a recorded step finds the numbers of today.
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
    // Learning rate over the first moment's bias correction.
    float step_size;
    // One over the root of the second moment's bias correction.
    float root_correction;
    float eps;
    // Which of StepState::ended the step leaves its outcome in.
    uint32_t turn;
    uint32_t padding;
};
MIRRORED(StepNumbers);

// Adds up, over the `Warps` warps of a block, sums that each warp has for the same columns, in its own row of `shared`
// (kFloats of them). Writes columns below `width` (a multiple of 8) to `out`.
template <int C, int Warps>
struct ColumnSums {
    using Row = Planes<C>;
    static constexpr int kFloats = Warps * Row::kFloats;

    // This warp's row, of the given sums.
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

    // Of sums that the warps hold in registers.
    static __device__ __forceinline__ void add(const Eight (&sums)[C], float* shared, float* out, int width) {
        start(shared, sums);
        finish(shared, out, width);
    }
};
