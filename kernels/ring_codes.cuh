// Stages of the ring (ring.cuh) for matrices in 8 and 4 bits: the warpgroup that fills it reads codes and writes the 16-bit
// elements they become, in the place and order in which the copy engine would have put them. The tensor cores never wait as
// long as this takes no longer than a stage's products, and no 16-bit copy of the matrix is ever in memory.
#pragma once

#include "quantised.cuh"
#include "ring.cuh"

template <class Format, int BlockN, bool Transposed>
struct Expanded {
    using Tile = RightTile<BlockN, Transposed>;
    static constexpr bool kAllThreads = true;
    static constexpr int kThreads = 4 * kWarp;
    // Each thread arrives, and the first one again for the copy of x.
    static constexpr int kArrivals = kThreads + 1, kCopied = 0;
    // What two warpgroups of at most 192 columns leave.
    static constexpr int kFillRegisters = 104, kMultiplyRegisters = 200;
    static_assert(BlockN <= 192, "sums leave registers for codes");

    // Elements a thread makes at a time, all of one row: neighbouring threads have neighbouring rows, whose codes are
    // neighbours.
    static constexpr int kStretches = Tile::kColumns / kStretch;
    static constexpr int kParts = Tile::kRows * kStretches % kThreads == 0 ? 1 : 2, kElements = kStretch / kParts;
    static constexpr int kUnits = Tile::kRows * kStretches * kParts / kThreads;
    static_assert(kUnits * kThreads == Tile::kRows * kStretches * kParts, "whole units");
    static constexpr int kWords = kElements * Format::kPlanes / 8, kChunks = kElements / 8;

    const GemmArgs& args;
    // The size of W as stored, and the distance from one step's codes to the next.
    const int height, width;
    const size_t stride;
    // Per unit: its first element, where its codes are, and where its elements go within a tile.
    int row[kUnits], column[kUnits];
    const uint8_t* from[kUnits];
    uint32_t to[kUnits];
    // What is held for the next step. Bit i: unit i is inside of W.
    uint32_t codes[kUnits][kWords];
    typename Format::Scale scale[kUnits];
    uint32_t inside;

    __device__ __forceinline__ explicit Expanded(const RingArgs& ring)
        : args(ring.gemm), height(int(Transposed ? args.k : args.n)), width(int(Transposed ? args.n : args.k)),
          stride(size_t(Transposed ? kRingDepth : kRingDepth / kStretch * Format::kPlanes * args.w.stored_rows) * 16) {
#pragma unroll
        for (int u = 0; u < kUnits; ++u) to[u] = Tile::address(0, row_of(u), column_of(u));
    }

    static __device__ __forceinline__ void ahead(const RingArgs&, int, int) {}

    static __device__ __forceinline__ int row_of(int unit) {
        return (unit * kThreads + int(threadIdx.x)) % Tile::kRows;
    }
    static __device__ __forceinline__ int column_of(int unit) {
        return (unit * kThreads + int(threadIdx.x)) / Tile::kRows * kElements;
    }

    __device__ __forceinline__ void begin(int first) {
#pragma unroll
        for (int u = 0; u < kUnits; ++u) {
            row[u] = row_of(u) + (Transposed ? 0 : first);
            column[u] = column_of(u) + (Transposed ? first : 0);
            from[u] = code_at<Format>(args.w, row[u], column[u]);
        }
        load<true>();
    }

    template <bool First>
    __device__ __forceinline__ void load() {
        inside = 0;
#pragma unroll
        for (int u = 0; u < kUnits; ++u) {
            if (row[u] >= height || column[u] >= width) continue;
            inside |= 1u << u;
            // In int8 a row has one scale for all steps.
            if (First || Transposed || !Format::kScaleOfRow) {
                scale[u] = typename Format::Scale(args.w, width, row[u], column[u]);
            }
#pragma unroll
            for (int w = 0; w < kWords; w += 4) {
                if constexpr (kWords % 4 == 0) {
                    const uint8_t* plane = w == 0 ? from[u] : from[u] + size_t(args.w.stored_rows) * 16;
                    const uint4 four = __ldg(reinterpret_cast<const uint4*>(plane));
                    codes[u][w] = four.x;
                    codes[u][w + 1] = four.y;
                    codes[u][w + 2] = four.z;
                    codes[u][w + 3] = four.w;
                } else {
                    const uint2 two = __ldg(reinterpret_cast<const uint2*>(from[u]));
                    codes[u][0] = two.x;
                    codes[u][1] = two.y;
                }
            }
        }
    }

    // Writes the tile whose codes are held, and requests the codes of the next one of this column.
    __device__ __forceinline__ void fill(uint32_t tile, int step, int steps, uint32_t full) {
#pragma unroll
        for (int u = 0; u < kUnits; ++u) {
            // A row's 16-byte chunks are contiguous except for the swizzle, which stays within them.
            if ((inside >> u & 1) != 0) {
                const typename Format::Decoder decoder(scale[u].get(args.w));
#pragma unroll
                for (int i = 0; i < kChunks; ++i) {
                    store_shared(tile + (to[u] ^ i * 16), decoder.eight(codes[u] + i * kWords / kChunks));
                }
            } else {
                // Neither infinite nor NaN, since they are multiplied by zeros of x.
#pragma unroll
                for (int i = 0; i < kChunks; ++i) store_shared(tile + (to[u] ^ i * 16), make_uint4(0, 0, 0, 0));
            }
        }
        fence_shared_writes();
        barrier_arrive(full);
        if (step + 1 == steps) return;
#pragma unroll
        for (int u = 0; u < kUnits; ++u) {
            from[u] += stride;
            (Transposed ? row[u] : column[u]) += kRingDepth;
        }
        load<false>();
    }
};

template <int BlockN, bool Transposed>
using ExpandedInt8 = Expanded<Int8, BlockN, Transposed>;
template <int BlockN, bool Transposed>
using ExpandedNf4 = Expanded<Nf4, BlockN, Transposed>;
