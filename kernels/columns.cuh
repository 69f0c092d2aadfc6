// Column sums without atomics, in two stages: a block adds up its own rows in a fixed order and writes one row of
// partial sums; bias_grad.cu adds those rows up. The result is the same from run to run.
#pragma once

#include "common.cuh"

// The device's part of an optimizer step; mirrored by `StepState` in src/backend/cuda/args.rs.
struct StepState {
    float loss;
    float grad_norm;
    // Factor on the gradients that flow through the encoder in 16 bits, a power of two, and its inverse.
    float scale;
    float inverse_scale;
    // Steps since the scale last changed.
    uint32_t good_steps;
    // Not 0 where the gradient is not finite and the step must change nothing; kSkipOverflow where the loss scale
    // was lowered in answer.
    uint32_t skip;
    // What clipping multiplies the gradient with.
    float clip;
    // Steps after which the scale is doubled; 0 keeps it.
    uint32_t growth_interval;
};
constexpr uint32_t kSkip = 1, kSkipOverflow = 2;
static_assert(sizeof(StepState) == 32, "mirrored by src/backend/cuda/args.rs");

// What a step needs to know from the host, in device memory, so that a recorded step finds the numbers of today; mirrored
// by `StepNumbers` in src/backend/cuda/args.rs.
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
    uint32_t padding[2];
};
static_assert(sizeof(StepNumbers) == 48, "mirrored by src/backend/cuda/args.rs");

// Adds up, over the `Warps` warps of a block, sums that each warp holds for the same columns: lane l of a warp
// has columns 256 * c + 8 * l .. + 7 in sums[c]. Writes columns below `width` (a multiple of 8) to `out`.
//
// Each half of a lane's eight words has its own plane in `shared` (ColumnSums<C, Warps>::kFloats of them), so that
// neighbouring lanes write neighbouring 16 bytes; the planes are half the banks apart, so reading alternates
// between them without a conflict.
template <int C, int Warps>
struct ColumnSums {
    static constexpr int kPlane = C * 128 + 16;
    static constexpr int kFloats = Warps * 2 * kPlane;

    static __device__ __forceinline__ void add(const Eight (&sums)[C], float* shared, float* out, int width) {
        const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
        float* mine = shared + warp * 2 * kPlane;
#pragma unroll
        for (int c = 0; c < C; ++c) {
            const float(&v)[8] = sums[c].v;
            float* to = mine + (c * kWarp + lane) * 4;
            *reinterpret_cast<float4*>(to) = make_float4(v[0], v[1], v[2], v[3]);
            *reinterpret_cast<float4*>(to + kPlane) = make_float4(v[4], v[5], v[6], v[7]);
        }
        __syncthreads();
        for (int i = threadIdx.x; i * 4 < width; i += Warps * kWarp) {
            const float* from = shared + i % 2 * kPlane + i / 2 * 4;
            float4 sum = *reinterpret_cast<const float4*>(from);
#pragma unroll
            for (int w = 1; w < Warps; ++w) {
                const float4 x = *reinterpret_cast<const float4*>(from + w * 2 * kPlane);
                sum = make_float4(sum.x + x.x, sum.y + x.y, sum.z + x.z, sum.w + x.w);
            }
            reinterpret_cast<float4*>(out)[i] = sum;
        }
        // The caller may use `shared` again.
        __syncthreads();
    }
};
