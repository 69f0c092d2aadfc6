// What the tensor-core products share: how operand tiles get to shared memory and from there to the tensor cores.
//
//   out (rows, columns) = Σ over k of left (rows, k) · right (columns, k)
//
// An operand is stored row by row, or transposed, with k as its rows; then its fragments come by ldmatrix.trans. A block
// computes a BM × BN tile of `out` with four warps. Tiles of both operands arrive by cp.async in a ring of stages; fragments
// are loaded one step ahead of the tensor cores. A stored row's length is a multiple of 8 (16 bytes); whatever lies beyond an
// edge is filled with zeros.
#pragma once

#include "common.cuh"
#include "mma.cuh"

// One thread's share of each tile of a 16-bit operand, `Block` of its rows wide: one 16-byte chunk in every kRows-th row as
// stored. Only the pointer and the distance to the end of k change from tile to tile.
template <bool Transposed, int Block, int Threads>
struct HalfCopier {
    static constexpr int kDepth = kTileDepth;
    using Layout = Tile<Transposed ? Block : kDepth>;
    static constexpr int kChunks = Layout::kChunks;
    static constexpr int kRows = Threads / kChunks, kCopies = (Transposed ? kDepth : Block) / kRows;
    // So that a row step leaves the swizzle unchanged.
    static_assert(kRows % 8 == 0, "whole swizzle periods");

    const Half* from;
    size_t step;
    uint32_t to;
    // Bit i: row i of this thread's copies is inside.
    uint32_t inside;
    // Elements of k left, counted from this thread's first. Transposed: none for columns outside.
    int left;

    // For the operand's rows from `first` on; it has `rows` in all.
    __device__ __forceinline__ HalfCopier(const Half* operand, uint32_t first, uint32_t rows, int k) {
        const int row = int(threadIdx.x) / kChunks, chunk = int(threadIdx.x) % kChunks;
        to = Layout::offset(row, chunk);
        if constexpr (Transposed) {
            const uint32_t column = first + chunk * 8;
            from = operand + size_t(row) * rows + column;
            step = size_t(kRows) * rows;
            left = column < rows ? k - row : 0;
            inside = 0;
        } else {
            from = operand + size_t(first + row) * k + chunk * 8;
            step = size_t(kRows) * k;
            left = k - chunk * 8;
            inside = 0;
#pragma unroll
            for (int i = 0; i < kCopies; ++i) inside |= uint32_t(first + row + i * kRows < rows) << i;
        }
    }

    // Starts the copy of the next tile.
    __device__ __forceinline__ void next(uint32_t shared) {
#pragma unroll
        for (int i = 0; i < kCopies; ++i) {
            const bool valid = Transposed ? left > i * kRows : left > 0 && (inside >> i & 1) != 0;
            copy16_async(shared + to + i * kRows * kChunks * 16, from + i * step, valid);
        }
        from += Transposed ? kCopies * step : kDepth;
        left -= kDepth;
    }

    // Turns what this thread copied into halves: it already is.
    __device__ __forceinline__ void unpack(uint32_t) {}
};

template <int BlockM, int BlockN, int WarpM, int WarpN>
struct Product {
    static constexpr int kWarpsM = BlockM / WarpM, kWarpsN = BlockN / WarpN;
    static constexpr int kThreads = kWarpsM * kWarpsN * kWarp;
    static_assert(kThreads == kProductThreads, "what the host launches");
    static constexpr int kStages = kTileStages;
    static constexpr int kLeftBytes = BlockM * kTileDepth * 2, kStageBytes = kLeftBytes + BlockN * kTileDepth * 2;
    static constexpr int kSharedBytes = kStages * kStageBytes;
    static constexpr int kRepeatM = WarpM / 16, kRepeatN = WarpN / 16;

    // Two adjacent 8-column accumulators for each 16-column fragment.
    struct Accumulators {
        float v[kRepeatM][2 * kRepeatN][4];
    };
    struct Fragments {
        uint32_t left[kRepeatM][4];
        uint32_t right[kRepeatN][4];
    };

    static __device__ __forceinline__ int warp_m() { return int(threadIdx.x / kWarp) % kWarpsM; }
    static __device__ __forceinline__ int warp_n() { return int(threadIdx.x / kWarp) / kWarpsM; }

    template <bool LeftTransposed, bool RightTransposed>
    static __device__ __forceinline__ void load(Fragments& f, uint32_t stage, int step) {
#pragma unroll
        for (int m = 0; m < kRepeatM; ++m) {
            if constexpr (LeftTransposed) {
                Tile<BlockM>::left_trans(f.left[m], stage, step * 16, warp_m() * kRepeatM + m);
            } else {
                Tile<kTileDepth>::left(f.left[m], stage, warp_m() * WarpM + m * 16, step);
            }
        }
#pragma unroll
        for (int n = 0; n < kRepeatN; ++n) {
            if constexpr (RightTransposed) {
                Tile<BlockN>::right_trans(f.right[n], stage + kLeftBytes, step * 16, warp_n() * kRepeatN + n);
            } else {
                Tile<kTileDepth>::right(f.right[n], stage + kLeftBytes, warp_n() * WarpN + n * 16, step);
            }
        }
    }

    static __device__ __forceinline__ void multiply(Accumulators& acc, const Fragments& f) {
#pragma unroll
        for (int m = 0; m < kRepeatM; ++m) {
#pragma unroll
            for (int n = 0; n < kRepeatN; ++n) {
                mma(acc.v[m][2 * n], f.left[m], f.right[n][0], f.right[n][1]);
                mma(acc.v[m][2 * n + 1], f.left[m], f.right[n][2], f.right[n][3]);
            }
        }
    }

    // Adds this block's tile of left, stored row by row, times right to the accumulators, through kSharedBytes of shared
    // memory, which are free again at the end.
    template <bool RightTransposed, class Left, class Right>
    static __device__ __forceinline__ void accumulate(
        Accumulators& acc, Left left, Right right, int k, uint32_t shared) {
        constexpr int kSteps = kTileDepth / 16;
        const int tiles = (k + kTileDepth - 1) / kTileDepth;
#pragma unroll
        for (int s = 0; s < kStages - 1; ++s) {
            if (s < tiles) {
                left.next(shared + s * kStageBytes);
                right.next(shared + s * kStageBytes + kLeftBytes);
            }
            commit_copies();
        }
        wait_copies<kStages - 2>();
        right.unpack(shared + kLeftBytes);
        __syncthreads();

        Fragments fragments[2];
        uint32_t read = shared, write = shared + (kStages - 1) * kStageBytes;
        const uint32_t end = shared + kStages * kStageBytes;
        load<false, RightTransposed>(fragments[0], read, 0);
        for (int tile = 0; tile < tiles; ++tile) {
#pragma unroll
            for (int step = 0; step < kSteps; ++step) {
                if (step == kSteps - 1) {
                    // The next tile must be here, and everyone done with the stage that is filled next.
                    wait_copies<kStages - 2>();
                    const uint32_t following = read + kStageBytes == end ? shared : read + kStageBytes;
                    if (tile + 1 < tiles) right.unpack(following + kLeftBytes);
                    __syncthreads();
                    read = following;
                }
                if (step < kSteps - 1 || tile + 1 < tiles) {
                    load<false, RightTransposed>(fragments[(step + 1) % 2], read, (step + 1) % kSteps);
                }
                if (step == 0) {
                    if (tile + kStages - 1 < tiles) {
                        left.next(write);
                        right.next(write + kLeftBytes);
                    }
                    commit_copies();
                    write = write + kStageBytes == end ? shared : write + kStageBytes;
                }
                multiply(acc, fragments[step % 2]);
            }
        }
        wait_copies<0>();
        __syncthreads();
    }
};
