// Tensor-core product for the gradient of a trained matrix:
//
//   grad (m, n), f32  +=  dy (tokens, m)ᵀ · x (tokens, n) / loss scale
//
// Both operands are stored with the tokens, over which the sum runs, as rows, so both fragments come by
// ldmatrix.trans. Each element is the sum of one block, over the tokens in order: no second stage, no atomics. m and n
// are multiples of 8 (16 bytes); tokens beyond the batch are filled with zeros.
#pragma once

#include "columns.cuh"
#include "mma.cuh"
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
    static constexpr int kBlockK = kTileDepth, kStages = kTileStages;
    static constexpr int kWarps = Block / Warp;
    static constexpr int kThreads = kWarps * kWarps * kWarp;
    static_assert(kThreads == kProductThreads, "what the host launches");
    static constexpr int kTileBytes = kBlockK * Block * 2;
    static constexpr int kStageBytes = 2 * kTileBytes;
    static constexpr int kRepeat = Warp / 16;
    using Operand = Tile<Block>;

    struct Fragments {
        uint32_t left[kRepeat][4];
        uint32_t right[kRepeat][4];
    };
    struct Accumulators {
        float v[kRepeat][2 * kRepeat][4];
    };

    // What one thread copies of each tile: one 16-byte chunk in every kRows-th token, of both operands.
    struct Copier {
        static constexpr int kChunks = Block / 8, kRows = kThreads / kChunks, kCopies = kBlockK / kRows;
        // So that a row step leaves the swizzle as it is.
        static_assert(kRows % 8 == 0, "whole swizzle periods");

        const Half* dy;
        const Half* x;
        size_t m, n;
        uint32_t to;
        bool inside_m, inside_n;
        // Tokens from this thread's first on.
        int left;

        __device__ __forceinline__ Copier(const WeightGradArgs& args, uint32_t tokens) {
            const int row = threadIdx.x / kChunks, chunk = threadIdx.x % kChunks;
            const uint32_t first_m = blockIdx.y * Block + chunk * 8, first_n = blockIdx.x * Block + chunk * 8;
            m = args.m;
            n = args.n;
            dy = args.dy + row * m + first_m;
            x = args.x + row * n + first_n;
            inside_m = first_m < args.m;
            inside_n = first_n < args.n;
            to = Operand::offset(row, chunk);
            left = int(tokens) - row;
        }

        // Starts the copy of the next tiles into a stage.
        __device__ __forceinline__ void next(uint32_t stage) {
#pragma unroll
            for (int i = 0; i < kCopies; ++i) {
                const bool token = left > i * kRows;
                const uint32_t at = stage + to + i * kRows * Block * 2;
                copy16_async(at, dy + size_t(i) * kRows * m, token && inside_m);
                copy16_async(at + kTileBytes, x + size_t(i) * kRows * n, token && inside_n);
            }
            dy += size_t(kBlockK) * m;
            x += size_t(kBlockK) * n;
            left -= kBlockK;
        }
    };

    static __device__ __forceinline__ void load(Fragments& f, uint32_t stage, int warp_m, int warp_n, int step) {
#pragma unroll
        for (int i = 0; i < kRepeat; ++i) {
            Operand::left_trans(f.left[i], stage, step * 16, warp_m * kRepeat + i);
            Operand::right_trans(f.right[i], stage + kTileBytes, step * 16, warp_n * kRepeat + i);
        }
    }

    static __device__ __forceinline__ void multiply(Accumulators& acc, const Fragments& f) {
#pragma unroll
        for (int m = 0; m < kRepeat; ++m) {
#pragma unroll
            for (int n = 0; n < kRepeat; ++n) {
                mma(acc.v[m][2 * n], f.left[m], f.right[n][0], f.right[n][1]);
                mma(acc.v[m][2 * n + 1], f.left[m], f.right[n][2], f.right[n][3]);
            }
        }
    }

    static __device__ __forceinline__ void product(
        Accumulators& acc, const WeightGradArgs& args, uint32_t shared, uint32_t tokens, int warp_m, int warp_n) {
        const int tiles = (int(tokens) + kBlockK - 1) / kBlockK;
        constexpr int kSteps = kBlockK / 16;
        Copier copier(args, tokens);
#pragma unroll
        for (int s = 0; s < kStages - 1; ++s) {
            if (s < tiles) copier.next(shared + s * kStageBytes);
            commit_copies();
        }
        for (int tile = 0; tile < tiles; ++tile) {
            // This tile must be here, and everyone done with the stage that is filled next.
            wait_copies<kStages - 2>();
            __syncthreads();
            const int ahead = tile + kStages - 1;
            if (ahead < tiles) copier.next(shared + ahead % kStages * kStageBytes);
            commit_copies();
            const uint32_t stage = shared + tile % kStages * kStageBytes;
            Fragments fragments[2];
            load(fragments[0], stage, warp_m, warp_n, 0);
#pragma unroll
            for (int step = 0; step < kSteps; ++step) {
                if (step + 1 < kSteps) load(fragments[(step + 1) % 2], stage, warp_m, warp_n, step + 1);
                multiply(acc, fragments[step % 2]);
            }
        }
        wait_copies<0>();
    }

    // The accumulators of four neighbouring lanes are 32 neighbouring bytes of a row.
    static __device__ __forceinline__ void add(
        const Accumulators& acc, const WeightGradArgs& args, int warp_m, int warp_n) {
        const int lane = threadIdx.x % kWarp;
        const float unscale = args.state->inverse_scale;
        // The place of a matrix in the parameter vector is a multiple of 8 unless the head lies before it.
        const bool aligned = reinterpret_cast<uintptr_t>(args.grad) % 8 == 0;
#pragma unroll
        for (int m = 0; m < kRepeat; ++m) {
#pragma unroll
            for (int n = 0; n < 2 * kRepeat; ++n) {
#pragma unroll
                for (int half = 0; half < 2; ++half) {
                    const uint32_t row = blockIdx.y * Block + warp_m * Warp + m * 16 + half * 8 + lane / 4;
                    const uint32_t column = blockIdx.x * Block + warp_n * Warp + n * 8 + lane % 4 * 2;
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
        const int warp = threadIdx.x / kWarp;
        const int warp_m = warp % kWarps, warp_n = warp / kWarps;
        Accumulators acc = {};
        product(acc, args, shared_address(memory), args.batch->tokens, warp_m, warp_n);
        add(acc, args, warp_m, warp_n);
    }
};
