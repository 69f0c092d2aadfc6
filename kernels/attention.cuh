// What forward and backward attention share: tiles of one head, their copies, masks and column sums.
//
// A block works on 64 rows (queries, or keys) of one head of one sequence, 16 rows a warp, and walks over the
// other side in tiles of kStep rows that arrive two at a time. Heads narrower than D are padded with zeros in
// shared memory only. Grid: 64-row tiles of the longest sequence × heads × sequences.
#pragma once

#include "math.cuh"
#include "mma.cuh"
#include "philox.cuh"

constexpr int kAttentionRows = 64;
constexpr int kAttentionWarps = 4;
constexpr int kAttentionThreads = kAttentionWarps * kWarp;

// Mirrored by `AttentionArgs` in src/backend/cuda/launch.rs; backward alone uses the second half.
struct AttentionArgs {
    const BatchHeader* batch;
    const uint32_t* cu_seqlens;
    // [tokens, 3 · heads · head_dim]
    const Half* qkv;
    // [tokens, heads · head_dim]
    Half* out;
    // [tokens, heads]: log of the softmax's denominator; forward writes it if not null.
    float* lse;
    const Half* dout;
    Half* dqkv;
    // [tokens, heads]: Σ dout · out, made by the dq kernel for the dk/dv kernel.
    float* delta;
    // [tile slots, heads · head_dim], or null.
    float* partial_query;
    float* partial_value;
    DropoutArgs dropout;
    uint32_t heads;
    uint32_t head_dim;
    // 1 / sqrt(head_dim)
    float scale;
    uint32_t padding;
};
static_assert(sizeof(AttentionArgs) == 112, "mirrored by src/backend/cuda/launch.rs");

template <int D>
struct Head {
    // Rows of the side that is walked over: 128-wide heads leave fewer registers for scores.
    static constexpr int kStep = D == 128 ? 32 : 64;
    // Score columns in mma's 8-column units, and 16-wide steps of the inner dimension.
    static constexpr int kScores = kStep / 8, kInner = D / 16;
    static constexpr int kRowBytes = D * 2;
    static constexpr int kBlockBytes = kAttentionRows * kRowBytes, kStepBytes = kStep * kRowBytes;
    using T = Tile<D>;

    // Starts the copy of `Rows` rows of one head; rows from `valid` on and columns from head_dim on become zero.
    // `from` is the head's place in the first row.
    template <int Rows>
    static __device__ __forceinline__ void copy(
        uint32_t to, const Half* from, size_t stride, int valid, int head_dim) {
        constexpr int kChunks = D / 8;
#pragma unroll
        for (int i = 0; i < Rows * kChunks / kAttentionThreads; ++i) {
            const int id = threadIdx.x + i * kAttentionThreads;
            const int row = id / kChunks, chunk = id % kChunks;
            const bool inside = row < valid && chunk * 8 < head_dim;
            copy16_async(to + T::offset(row, chunk), from + (inside ? row * stride + chunk * 8 : 0), inside);
        }
    }

    // Scores of this warp's 16 rows of `left` against kStep rows of `right`.
    static __device__ __forceinline__ void scores(
        float (&s)[kScores][4], const uint32_t (&left)[kInner][4], uint32_t right) {
#pragma unroll
        for (int n = 0; n < kScores; ++n) {
#pragma unroll
            for (int i = 0; i < 4; ++i) s[n][i] = 0.0f;
        }
#pragma unroll
        for (int k = 0; k < kInner; ++k) {
#pragma unroll
            for (int n = 0; n < kScores / 2; ++n) {
                uint32_t b[4];
                T::right(b, right, n * 16, k);
                mma(s[2 * n], left[k], b[0], b[1]);
                mma(s[2 * n + 1], left[k], b[2], b[3]);
            }
        }
    }

    // The same with the left operand fetched again for each use, where registers are short.
    static __device__ __forceinline__ void scores(float (&s)[kScores][4], uint32_t left, int row, uint32_t right) {
#pragma unroll
        for (int n = 0; n < kScores; ++n) {
#pragma unroll
            for (int i = 0; i < 4; ++i) s[n][i] = 0.0f;
        }
#pragma unroll
        for (int k = 0; k < kInner; ++k) {
            uint32_t a[4];
            T::left(a, left, row, k);
#pragma unroll
            for (int n = 0; n < kScores / 2; ++n) {
                uint32_t b[4];
                T::right(b, right, n * 16, k);
                mma(s[2 * n], a, b[0], b[1]);
                mma(s[2 * n + 1], a, b[2], b[3]);
            }
        }
    }

    // acc (16 × D) += p (16 × kStep, in accumulator layout) · right (kStep × D)
    static __device__ __forceinline__ void accumulate(
        float (&acc)[D / 8][4], const float (&p)[kScores][4], uint32_t right) {
#pragma unroll
        for (int k = 0; k < kStep / 16; ++k) {
            // The accumulator layout of two 8-column units is the left operand's layout.
            const uint32_t a[4] = {
                pack(p[2 * k][0], p[2 * k][1]), pack(p[2 * k][2], p[2 * k][3]),
                pack(p[2 * k + 1][0], p[2 * k + 1][1]), pack(p[2 * k + 1][2], p[2 * k + 1][3])};
#pragma unroll
            for (int n = 0; n < D / 16; ++n) {
                uint32_t b[4];
                T::right_trans(b, right, k * 16, n);
                mma(acc[2 * n], a, b[0], b[1]);
                mma(acc[2 * n + 1], a, b[2], b[3]);
            }
        }
    }

    // Writes this warp's 16 rows to global memory, 16 bytes a lane, through rows of `tile` that only this warp
    // reads and writes.
    static __device__ __forceinline__ void store(
        unsigned char* tile, const float (&acc)[D / 8][4], Half* to, size_t stride, int valid, int head_dim) {
        const int lane = threadIdx.x % kWarp, first = threadIdx.x / kWarp * 16;
        __syncwarp();
#pragma unroll
        for (int n = 0; n < D / 8; ++n) {
            const int row = first + lane / 4;
            *reinterpret_cast<uint32_t*>(tile + T::offset(row, n) + lane % 4 * 4) = pack(acc[n][0], acc[n][1]);
            *reinterpret_cast<uint32_t*>(tile + T::offset(row + 8, n) + lane % 4 * 4) = pack(acc[n][2], acc[n][3]);
        }
        __syncwarp();
        constexpr int kChunks = D / 8;
#pragma unroll
        for (int i = 0; i < 16 * kChunks / kWarp; ++i) {
            const int id = lane + i * kWarp;
            const int row = first + id / kChunks, chunk = id % kChunks;
            if (row < valid && chunk * 8 < head_dim) {
                *reinterpret_cast<uint4*>(to + row * stride + chunk * 8) =
                    *reinterpret_cast<const uint4*>(tile + T::offset(row, chunk));
            }
        }
    }

    // Column sums of the block's 64 × D accumulators to `to`. All threads call it; `shared` holds 4 · D floats
    // that nobody uses any more.
    static __device__ __forceinline__ void column_sums(
        const float (&acc)[D / 8][4], float* shared, float* to, int head_dim) {
        const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
#pragma unroll
        for (int n = 0; n < D / 8; ++n) {
            float even = acc[n][0] + acc[n][2], odd = acc[n][1] + acc[n][3];
#pragma unroll
            for (int offset = 4; offset < kWarp; offset <<= 1) {
                even += __shfl_xor_sync(kFullWarp, even, offset);
                odd += __shfl_xor_sync(kFullWarp, odd, offset);
            }
            if (lane < 4) {
                *reinterpret_cast<float2*>(shared + warp * D + n * 8 + lane * 2) = make_float2(even, odd);
            }
        }
        __syncthreads();
        const int column = threadIdx.x;
        if (column < head_dim) {
            float sum = shared[column];
#pragma unroll
            for (int w = 1; w < kAttentionWarps; ++w) sum += shared[w * D + column];
            to[column] = sum;
        }
    }
};
