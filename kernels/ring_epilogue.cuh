// How a warpgroup's sums of a tile (ring.cuh) become stored elements: lanes exchange them, so that each has eight
// neighbouring columns (16 bytes) of one row, without going through shared memory.
#pragma once

#include "ring.cuh"

// The sum over the sixteen lanes that have the same eight columns, for the column given by the lane's upper three bits. Each
// exchange halves what is left to add.
__device__ __forceinline__ float column_sum(const Eight& e, int lane) {
    float v[8];
#pragma unroll
    for (int i = 0; i < 8; ++i) v[i] = e.v[i];
#pragma unroll
    for (int half = 4; half > 0; half /= 2) {
        const bool upper = (lane & 4 * half) != 0;
#pragma unroll
        for (int i = 0; i < half; ++i) {
            const float got = __shfl_xor_sync(kFullWarp, upper ? v[i] : v[i + half], 4 * half);
            v[i] = (upper ? v[i + half] : v[i]) + got;
        }
    }
    return v[0] + __shfl_xor_sync(kFullWarp, v[0], 2);
}

template <class Loop, int BlockN, Epilogue E>
struct RingEpilogue {
    static constexpr int kSums = Loop::kSums;
    // Sums that are unrolled: an activation is long, and code that runs once still has to be fetched.
    static constexpr int kPiece = E != Epilogue::kBiasActivation ? kSums : BlockN == 96 ? 16 : 32;
    static_assert(kSums % kPiece == 0 && kPiece % 8 == 0, "whole pieces");
    static constexpr int kMultipliers = kRingThreads - Loop::kGroup;

    template <uint32_t Activation, uint32_t Derivative>
    static __device__ __forceinline__ void store(
        float (&sums)[kSums], const GemmArgs& args, uint32_t first_row, uint32_t first_column, uint32_t rows,
        float* block_sums) {
        const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp - Loop::kGroup / kWarp;
        // Two units of eight columns and rows g and g + 8 make four segments of eight columns: one for each of four lanes.
        const int segment = lane % 4;
        const uint32_t row = first_row + warp * 16 + lane / 4 + segment / 2 * 8;
        uint32_t within = segment % 2 * 8;
#pragma unroll 1
        for (int piece = 0; piece < kSums / kPiece; ++piece) {
#pragma unroll
            for (int j = 0; j < kPiece; j += 8) {
                float even[4] = {sums[j], sums[j + 4], sums[j + 2], sums[j + 6]};
                float odd[4] = {sums[j + 1], sums[j + 5], sums[j + 3], sums[j + 7]};
                transpose4<1>(even);
                transpose4<1>(odd);
                Eight e = {{even[0], odd[0], even[1], odd[1], even[2], odd[2], even[3], odd[3]}};
                const uint32_t column = first_column + within + 2 * j;
                const bool inside = row < rows && column < args.n;
                if (inside) {
                    Eight bias = {};
                    if constexpr (E == Epilogue::kBias || E == Epilogue::kBiasActivation) bias = bias_of(args, column);
                    finish8<E, Activation, Derivative>(args, e, bias, size_t(row) * args.n + column);
                }
                if constexpr (E == Epilogue::kDerivative) {
#pragma unroll
                    for (int i = 0; i < 8; ++i) e.v[i] = inside ? e.v[i] : 0.0f;
                    const float sum = column_sum(e, lane);
                    const int place = (lane & 16) / 4 + (lane & 8) / 4 + (lane & 4) / 4;
                    if ((lane & 2) == 0) block_sums[warp * BlockN + within + 2 * j + place] = sum;
                }
            }
            // The next piece moves into this one's registers, which cannot be indexed at run time.
            if constexpr (kPiece < kSums) {
#pragma unroll
                for (int i = 0; i < kSums - kPiece; ++i) sums[i] = sums[i + kPiece];
                within += 2 * kPiece;
            }
        }
        if constexpr (E == Epilogue::kDerivative) {
            if (args.partial == nullptr) return;
            barrier_threads<1, kMultipliers>();
            const uint32_t c = threadIdx.x - Loop::kGroup, column = first_column + c;
            if (c < BlockN && column < args.n) {
                float sum = block_sums[c];
#pragma unroll
                for (int w = 1; w < kMultipliers / kWarp; ++w) sum += block_sums[w * BlockN + c];
                args.partial[size_t(first_row / kRingRows) * args.n + column] = sum;
            }
            // Before the next tile's sums are written.
            barrier_threads<1, kMultipliers>();
        }
    }

    static __device__ __forceinline__ void run(const RingArgs& args) {
        Loop::run(args, [&](float(&sums)[kSums], uint32_t row, uint32_t column, uint32_t rows, unsigned char* memory) {
            float* block_sums = reinterpret_cast<float*>(memory + Loop::kSumsAt);
            with_kinds<E>(args.gemm, [&](auto activation, auto derivative) {
                store<decltype(activation)::value, decltype(derivative)::value>(
                    sums, args.gemm, row, column, rows, block_sums);
            });
        });
    }
};
