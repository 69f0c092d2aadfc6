// Stages of the ring (ring.cuh) for matrices in 8 and 4 bits: the warpgroup that fills it reads codes and writes the 16-bit
// elements that they become, in the place and order in which the copy engine would have put them. The tensor cores wait for
// neither as long as it is done within a stage's products, and no 16-bit copy of the matrix is ever in memory.
#pragma once

#include "quantised.cuh"
#include "ring.cuh"

template <class Format, int BlockN, bool Transposed>
struct Expanded {
    using Tile = RightTile<BlockN, Transposed>;
    static constexpr bool kAllThreads = true;
    static constexpr int kThreads = 4 * kWarp;
    // Each thread arrives, and the first once more for the copy of x.
    static constexpr int kArrivals = kThreads + 1, kCopied = 0;
    // What two warpgroups of at most 192 columns leave.
    static constexpr int kFillRegisters = 104, kMultiplyRegisters = 200;
    static_assert(BlockN <= 192, "sums leave registers for codes");

    // A thread makes so many elements at a time, all of one row: neighbouring threads have neighbouring rows, whose codes
    // are neighbours.
    static constexpr int kStretches = Tile::kColumns / kStretch;
    static constexpr int kParts = Tile::kRows * kStretches % kThreads == 0 ? 1 : 2, kElements = kStretch / kParts;
    static constexpr int kUnits = Tile::kRows * kStretches * kParts / kThreads;
    static_assert(kUnits * kThreads == Tile::kRows * kStretches * kParts, "whole units");
    static constexpr int kWords = kElements * Format::kPlanes / 8, kChunks = kElements / 8;

    const GemmArgs& args;
    // Of the tile of W whose codes are held: its first row and column as it is stored.
    int row, column;
    uint32_t codes[kUnits][kWords];
    typename Format::Scale scale[kUnits];
    // Bit i: unit i is inside of W.
    uint32_t inside;

    __device__ __forceinline__ explicit Expanded(const RingArgs& args) : args(args.gemm) {}

    static __device__ __forceinline__ void ahead(const RingArgs&, int, int) {}

    static __device__ __forceinline__ int row_of(int unit) {
        return (unit * kThreads + int(threadIdx.x)) % Tile::kRows;
    }
    static __device__ __forceinline__ int column_of(int unit) {
        return (unit * kThreads + int(threadIdx.x)) / Tile::kRows * kElements;
    }

    __device__ __forceinline__ void begin(int first) {
        row = Transposed ? 0 : first;
        column = Transposed ? first : 0;
        load();
    }

    __device__ __forceinline__ void load() {
        const int width = int(Transposed ? args.n : args.k), height = int(Transposed ? args.k : args.n);
        inside = 0;
#pragma unroll
        for (int u = 0; u < kUnits; ++u) {
            const int r = row + row_of(u), c = column + column_of(u);
            if (r >= height || c >= width) continue;
            inside |= 1u << u;
            scale[u] = typename Format::Scale(args.w, width, r, c);
            const uint8_t* from = code_at<Format>(args.w, r, c);
#pragma unroll
            for (int w = 0; w < kWords; w += 4) {
                if constexpr (kWords % 4 == 0) {
                    const uint4 four = __ldg(reinterpret_cast<const uint4*>(from + size_t(w / 4) * args.w.stored_rows * 16));
                    codes[u][w] = four.x;
                    codes[u][w + 1] = four.y;
                    codes[u][w + 2] = four.z;
                    codes[u][w + 3] = four.w;
                } else {
                    const uint2 two = __ldg(reinterpret_cast<const uint2*>(from));
                    codes[u][0] = two.x;
                    codes[u][1] = two.y;
                }
            }
        }
    }

    // Writes the tile whose codes are held, and asks for the codes of the next one of this column.
    __device__ __forceinline__ void fill(uint32_t tile, int step, int steps, uint32_t full) {
#pragma unroll
        for (int u = 0; u < kUnits; ++u) {
            const bool made = (inside >> u & 1) != 0;
            const typename Format::Decoder decoder(made ? scale[u].get(args.w) : 0.0f);
#pragma unroll
            for (int i = 0; i < kChunks; ++i) {
                // What lies outside may be neither infinite nor NaN: zeros of x come to it.
                const uint4 eight = made ? decoder.eight(codes[u] + i * kWords / kChunks) : make_uint4(0, 0, 0, 0);
                store_shared(Tile::address(tile, row_of(u), column_of(u) + 8 * i), eight);
            }
        }
        fence_shared_writes();
        barrier_arrive(full);
        (Transposed ? row : column) += kRingDepth;
        if (step + 1 < steps) load();
    }
};

template <int BlockN, bool Transposed>
using ExpandedInt8 = Expanded<Int8, BlockN, Transposed>;
template <int BlockN, bool Transposed>
using ExpandedNf4 = Expanded<Nf4, BlockN, Transposed>;
