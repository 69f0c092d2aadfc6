// Tensor-core products with a frozen matrix, both ways from one copy of it:
//
//   forward    out (rows, n) = x (rows, k) · Wᵀ      W stored [n, k]
//   backward   out (rows, n) = x (rows, k) · W       W stored [k, n], read with ldmatrix.trans
//
// W may be stored in 8 or 4 bits: then each thread expands the codes it copied into elements, in place, once they have
// arrived (weights.cuh), and everything after that is the same. k and n are multiples of 8 (16 bytes); nothing beyond an edge
// is ever stored.
#pragma once

#include "epilogue.cuh"
#include "product.cuh"

// `Weights` is how W is stored: Half16 or Quantised of a format.
template <class Weights, int BlockM, int BlockN, int WarpM, int WarpN>
struct Gemm {
    using Tiles = Product<BlockM, BlockN, WarpM, WarpN>;
    using Accumulators = typename Tiles::Accumulators;
    static constexpr int kThreads = Tiles::kThreads, kWarpsM = Tiles::kWarpsM;
    static constexpr int kRepeatM = Tiles::kRepeatM, kRepeatN = Tiles::kRepeatN;
    // Rows of the epilogue's staging area are 8 words past a multiple of 32, so that the accumulator layout (four rows ×
    // eight words per half-warp) hits each bank once.
    static constexpr int kStaging = WarpN + 8;
    static constexpr int kStagingFloats = kThreads / kWarp * 16 * kStaging;
    static_assert((kStagingFloats + kWarpsM * BlockN) * 4 <= Tiles::kSharedBytes, "epilogue fits");

    // A grid has at most 65,535 rows of blocks: further rows of a long batch are along z.
    static __device__ __forceinline__ uint32_t row_tile() { return blockIdx.z * gridDim.y + blockIdx.y; }

    template <Epilogue E, uint32_t Activation, uint32_t Derivative>
    static __device__ __forceinline__ void store(
        const Accumulators& acc, const GemmArgs& args, float* shared, uint32_t rows) {
        const int lane = threadIdx.x % kWarp, warp_m = Tiles::warp_m(), warp_n = Tiles::warp_n();
        float* staging = shared + threadIdx.x / kWarp * 16 * kStaging;
        const uint32_t stage = shared_address(staging + lane / 4 * kStaging + lane % 4 * 2);
        float* block_sums = shared + kStagingFloats;

        // Accumulators leave through shared memory, so that a lane holds eight neighbouring columns (16 bytes).
        constexpr int kLanesPerRow = WarpN / 8, kRowsPerPass = kWarp / kLanesPerRow, kPasses = 16 / kRowsPerPass;
        // An activation is long, and code that runs once still has to be fetched.
        constexpr int kUnrolled = E == Epilogue::kBiasActivation ? 1 : kPasses;
        const int chunk = lane % kLanesPerRow;
        const uint32_t first_row = row_tile() * BlockM + warp_m * WarpM;
        const uint32_t column = blockIdx.x * BlockN + warp_n * WarpN + chunk * 8;
        const bool inside = column < args.n;

        Eight bias = {};
        if constexpr (E == Epilogue::kBias || E == Epilogue::kBiasActivation) {
            if (inside) bias = bias_of(args, column);
        }
        Eight sums = {};
        // Half of each group of eight lanes reads its second four words first: no bank conflicts.
        const bool swap = (lane & 4) != 0;

#pragma unroll
        for (int m = 0; m < kRepeatM; ++m) {
#pragma unroll
            for (int n = 0; n < 2 * kRepeatN; ++n) {
                const uint32_t to = stage + n * 32;
                store_shared(to, acc.v[m][n][0], acc.v[m][n][1]);
                store_shared(to + 8 * kStaging * 4, acc.v[m][n][2], acc.v[m][n][3]);
            }
            __syncwarp();
#pragma unroll kUnrolled
            for (int pass = 0; pass < kPasses; ++pass) {
                const float* from = staging + (pass * kRowsPerPass + lane / kLanesPerRow) * kStaging + chunk * 8;
                const float4 first = *reinterpret_cast<const float4*>(from + (swap ? 4 : 0));
                const float4 second = *reinterpret_cast<const float4*>(from + (swap ? 0 : 4));
                const float4 low = swap ? second : first, high = swap ? first : second;
                Eight e = {{low.x, low.y, low.z, low.w, high.x, high.y, high.z, high.w}};
                const uint32_t row = first_row + m * 16 + pass * kRowsPerPass + lane / kLanesPerRow;
                if (inside && row < rows) {
                    const size_t at = size_t(row) * args.n + column;
                    finish8<E, Activation, Derivative>(args, e, bias, at);
                    if constexpr (E == Epilogue::kDerivative) {
#pragma unroll
                        for (int i = 0; i < 8; ++i) sums.v[i] += e.v[i];
                    }
                }
            }
            __syncwarp();
        }

        if constexpr (E == Epilogue::kDerivative) {
            if (args.partial == nullptr) return;
            // Over the lanes that share the columns, then over the warps: always in the same order.
#pragma unroll
            for (int i = 0; i < 8; ++i) {
#pragma unroll
                for (int offset = kLanesPerRow; offset < kWarp; offset <<= 1) {
                    sums.v[i] += __shfl_xor_sync(kFullWarp, sums.v[i], offset);
                }
            }
            if (lane < kLanesPerRow) {
                float* to = block_sums + warp_m * BlockN + warp_n * WarpN + chunk * 8;
                const float4 low = make_float4(sums.v[0], sums.v[1], sums.v[2], sums.v[3]);
                const float4 high = make_float4(sums.v[4], sums.v[5], sums.v[6], sums.v[7]);
                *reinterpret_cast<float4*>(to + (swap ? 4 : 0)) = swap ? high : low;
                *reinterpret_cast<float4*>(to + (swap ? 0 : 4)) = swap ? low : high;
            }
            __syncthreads();
            for (int c = threadIdx.x; c < BlockN; c += kThreads) {
                float sum = block_sums[c];
#pragma unroll
                for (int m = 1; m < kWarpsM; ++m) sum += block_sums[m * BlockN + c];
                const uint32_t to = blockIdx.x * BlockN + c;
                if (to < args.n) args.partial[size_t(row_tile()) * args.n + to] = sum;
            }
        }
    }

    // The whole kernel. Grid: column tiles × row tiles (× row tiles).
    template <bool Transposed, Epilogue E>
    static __device__ __forceinline__ void run(const GemmArgs& args) {
        extern __shared__ __align__(128) unsigned char memory[];
        const uint32_t rows = row_count(args.batch, args.rows);
        if (row_tile() * BlockM >= rows) return;
        const int n = int(args.n), k = int(args.k);
        Accumulators acc = {};
        const HalfCopier<false, BlockM, kThreads> x(args.x, row_tile() * BlockM, rows, k);
        const typename Weights::template Copier<Transposed, BlockN, kThreads> w(args.w, n, k);
        Tiles::template accumulate<Transposed>(acc, x, w, k, shared_address(memory));
        // Chosen once per block.
        with_kinds<E>(args, [&](auto activation, auto derivative) {
            store<E, decltype(activation)::value, decltype(derivative)::value>(
                acc, args, reinterpret_cast<float*>(memory), rows);
        });
    }
};
