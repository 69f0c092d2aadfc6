// Tensor-core product for the gradient of a trained matrix:
//
//   grad (m, n), f32  +=  dy (tokens, m)ᵀ · x (tokens, n) / loss scale
//
// Both operands are stored with tokens, the summed dimension, as rows. One block sums each element, over the tokens in order:
// no second stage, no atomics.
#pragma once

#include "columns.cuh"
#include "product.cuh"
#include "varlen.cuh"

struct WeightGradArgs {
    const BatchHeader* batch;
    const StepState* state;
    const Half* dy;
    const Half* x;
    float* grad;
    uint32_t m;
    uint32_t n;
};
MIRRORED(WeightGradArgs);

template <int Block, int Warp>
struct WeightGrad {
    using Tiles = Product<Block, Block, Warp, Warp>;
    using Copies = HalfCopier<true, Block, Tiles::kThreads>;
    static constexpr int kThreads = Tiles::kThreads;

    // Its own loop: Product's, which loads fragments across the barrier, takes 92 registers here instead of 64 (small tiles),
    // and a fifth more instructions.
    static __device__ __forceinline__ void product(
        typename Tiles::Accumulators& acc, const WeightGradArgs& args, uint32_t shared, uint32_t tokens) {
        const int tiles = (int(tokens) + kTileDepth - 1) / kTileDepth;
        constexpr int kSteps = kTileDepth / 16, kStages = Tiles::kStages;
        Copies dy(args.dy, blockIdx.y * Block, args.m, tokens), x(args.x, blockIdx.x * Block, args.n, tokens);
        const auto next = [&](uint32_t stage) {
            return stage + Tiles::kStageBytes == shared + Tiles::kSharedBytes ? shared : stage + Tiles::kStageBytes;
        };
        uint32_t read = shared, write = shared;
        const auto copy = [&](int tile) {
            if (tile < tiles) {
                dy.next(write);
                x.next(write + Tiles::kLeftBytes);
            }
            commit_copies();
            write = next(write);
        };
#pragma unroll
        for (int s = 0; s < kStages - 1; ++s) copy(s);
        for (int tile = 0; tile < tiles; ++tile) {
            // This tile must be here, and everyone done with the stage that is filled next.
            wait_copies<kStages - 2>();
            __syncthreads();
            copy(tile + kStages - 1);
            typename Tiles::Fragments fragments[2];
            Tiles::template load<true, true>(fragments[0], read, 0);
#pragma unroll
            for (int step = 0; step < kSteps; ++step) {
                if (step + 1 < kSteps) Tiles::template load<true, true>(fragments[(step + 1) % 2], read, step + 1);
                Tiles::multiply(acc, fragments[step % 2]);
            }
            read = next(read);
        }
        wait_copies<0>();
    }

    // The accumulators of four neighbouring lanes are 32 contiguous bytes of a row.
    static __device__ __forceinline__ void add(const typename Tiles::Accumulators& acc, const WeightGradArgs& args) {
        const int lane = threadIdx.x % kWarp;
        const float unscale = args.state->inverse_scale;
        // A matrix starts at a multiple of 8 in the parameter vector unless the head is before it.
        const bool aligned = reinterpret_cast<uintptr_t>(args.grad) % 8 == 0;
#pragma unroll
        for (int m = 0; m < Tiles::kRepeatM; ++m) {
#pragma unroll
            for (int n = 0; n < 2 * Tiles::kRepeatN; ++n) {
#pragma unroll
                for (int half = 0; half < 2; ++half) {
                    const uint32_t row = blockIdx.y * Block + Tiles::warp_m() * Warp + m * 16 + half * 8 + lane / 4;
                    const uint32_t column = blockIdx.x * Block + Tiles::warp_n() * Warp + n * 8 + lane % 4 * 2;
                    if (row >= args.m || column >= args.n) continue;
                    float* to = args.grad + size_t(row) * args.n + column;
                    const float first = acc.v[m][n][2 * half] * unscale;
                    const float second = acc.v[m][n][2 * half + 1] * unscale;
                    if (aligned) {
                        float2 sum = *reinterpret_cast<float2*>(to);
                        sum.x += first;
                        sum.y += second;
                        *reinterpret_cast<float2*>(to) = sum;
                    } else {
                        to[0] += first;
                        to[1] += second;
                    }
                }
            }
        }
    }

    // The whole kernel. Grid: column tiles × row tiles of the matrix.
    static __device__ __forceinline__ void run(const WeightGradArgs& args) {
        extern __shared__ __align__(128) unsigned char memory[];
        const uint32_t tokens = args.batch->tokens;
        typename Tiles::Accumulators acc = {};
        product(acc, args, shared_address(memory), tokens);
        add(acc, args);
    }
};
