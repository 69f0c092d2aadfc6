// The products of the linear layers on Hopper: one block per multiprocessor goes through tiles of 128 rows, with a ring of
// stages in shared memory between the warpgroup that fills it and the two that multiply.
//
//   forward    out (rows, n) = x (rows, k) · Wᵀ      W stored [n, k]: both operands have k along their rows
//   backward   out (rows, n) = x (rows, k) · W       W stored [k, n]: the tensor cores transpose it, panel by panel
//
// x comes by tensor map: elements beyond its rows or columns become zeros, or with a plain map (for measuring) whatever lies
// there; a row of the result depends on no other row of x. W comes so, too, if it has 16 bits; ring_codes.cuh handles the
// others. The caller decides what a tile's sums become, and ignores rows beyond the last.
#pragma once

#include "epilogue.cuh"
#include "hopper.cuh"
#include "wgmma.cuh"

// Rows per tile, its depth, threads per block, and the most stages by the columns of a tile.
constexpr int kRingRows = 128, kRingDepth = 64, kRingThreads = 384;
constexpr int kRingStages96 = 7, kRingStages192 = 5, kRingStages256 = 4;
MIRRORED(RingTile);

// Whether the map of x leaves its bound to the kernel, or has the rows that there is room for.
enum LeftMap : uint32_t { kLeftRagged = 0, kLeftPlain = 1 };
MIRRORED(LeftMap);

struct RingArgs {
    TensorMap x;
    // For matrices in 16 bits.
    TensorMap w;
    GemmArgs gemm;
    // Stages in use, at least two and at most the tile's: a stage is released while the next one's products run.
    uint32_t stages;
    // LeftMap of `x`.
    uint32_t left_map;
    uint32_t padding[14];
};
MIRRORED(RingArgs);

// How tiles of W lie in shared memory: rows as stored, cut into panels that are `kSpan` bytes wide, in swizzle order.
template <int BlockN, bool Transposed>
struct RightTile {
    static constexpr int kRows = Transposed ? kRingDepth : BlockN;
    static constexpr int kColumns = Transposed ? BlockN : kRingDepth;
    static constexpr int kPanel = kColumns % 64 == 0 ? 64 : 32, kSpan = 2 * kPanel;
    static constexpr int kPanelBytes = kRows * kSpan, kBytes = kColumns / kPanel * kPanelBytes;

    // For `k16`, the index of 16 rows of the product's depth.
    static __device__ __forceinline__ uint64_t descriptor(uint32_t tile, int k16) {
        return tile_descriptor<kSpan>(tile + k16 * (Transposed ? 16 * kSpan : 32), kPanelBytes, 8 * kSpan);
    }

    // The address of eight elements of a row, starting at `column`, a multiple of 8.
    static __device__ __forceinline__ uint32_t address(uint32_t tile, int row, int column) {
        const uint32_t at = tile + column / kPanel * kPanelBytes + row * kSpan + column % kPanel * 2;
        return at ^ ((at >> 7) & (kSpan / 16 - 1)) << 4;
    }
};

// W in 16 bits: one thread asks for whole tiles.
template <int BlockN, bool Transposed>
struct Mapped {
    using Tile = RightTile<BlockN, Transposed>;
    // Whether the whole warpgroup fills a stage, how many arrivals the barrier of a full stage counts, and the bytes copied.
    static constexpr bool kAllThreads = false;
    static constexpr int kArrivals = 1, kCopied = Tile::kBytes;
    static constexpr int kFillRegisters = 40, kMultiplyRegisters = 232;

    const RingArgs& args;
    int column;

    __device__ __forceinline__ explicit Mapped(const RingArgs& args) : args(args), column(0) {}

    // May run before the previous kernel has ended: it only brings W to the L2 cache, where later writes land as well.
    static __device__ __forceinline__ void ahead(const RingArgs& args, int first, int steps) {
#pragma unroll 1
        for (int step = 0; step < steps; ++step) {
            boxes(step, first, [&](int, int along, int down) { prefetch_box(&args.w, along, down); });
        }
    }

    __device__ __forceinline__ void begin(int first) { column = first; }

    __device__ __forceinline__ void fill(uint32_t tile, int step, int, uint32_t full) {
        boxes(step, column, [&](int panel, int along, int down) {
            copy_box(tile + panel * Tile::kPanelBytes, &args.w, along, down, full);
        });
    }

    // Calls `with` for each panel of a step's tile, and its place in W.
    template <class With>
    static __device__ __forceinline__ void boxes(int step, int column, With with) {
#pragma unroll
        for (int p = 0; p < Tile::kColumns / Tile::kPanel; ++p) {
            const int along = (Transposed ? column : step * kRingDepth) + p * Tile::kPanel;
            with(p, along, Transposed ? step * kRingDepth : column);
        }
    }
};

template <int BlockN, bool Transposed, class Source>
struct Ring {
    static constexpr int kMostStages = BlockN == 96 ? kRingStages96 : BlockN == 192 ? kRingStages192 : kRingStages256;
    static constexpr int kGroup = 4 * kWarp, kGroups = kRingThreads / kGroup - 1;
    static_assert(kRingRows == 64 * kGroups && kRingDepth == 64, "64 rows and four products each");
    static constexpr int kSums = BlockN / 2;
    using Right = RightTile<BlockN, Transposed>;
    static constexpr int kLeftBytes = kRingRows * kRingDepth * 2, kRightBytes = Right::kBytes;
    // After the stages: column sums of each warp, then the barriers.
    static constexpr int kSumsAt = kMostStages * (kLeftBytes + kRightBytes);
    static constexpr int kBarriersAt = kSumsAt + kGroups * 4 * BlockN * 4;

    // Of the stages in use, one and the parity of its use.
    struct Turn {
        const int stages;
        int stage = 0;
        uint32_t parity = 0;

        __device__ __forceinline__ void next() {
            if (++stage == stages) {
                stage = 0;
                parity ^= 1;
            }
        }
        __device__ __forceinline__ int before() const { return (stage == 0 ? stages : stage) - 1; }
    };

    // The whole kernel; the threads that multiply call `finish(sums, first row, first column, rows, shared)` for each tile.
    // Grid: any number of blocks, which take tiles in turn, row by row.
    template <class Finish>
    static __device__ __forceinline__ void run(const RingArgs& args, Finish finish) {
        extern __shared__ __align__(1024) unsigned char memory[];
        const uint32_t left = shared_address(memory), right = left + kMostStages * kLeftBytes;
        const uint32_t full = left + kBarriersAt, empty = full + 8 * kMostStages;
        if (threadIdx.x == 0) {
            for (int s = 0; s < kMostStages; ++s) {
                barrier_init(full + 8 * s, Source::kArrivals);
                barrier_init(empty + 8 * s, kGroups);
            }
            barrier_init_fence();
        }
        const uint32_t columns = (args.gemm.n + BlockN - 1) / BlockN;
        const int steps = int(args.gemm.k + kRingDepth - 1) / kRingDepth;
        if (threadIdx.x == kRingThreads - 1) {
            Source::ahead(args, int(blockIdx.x % columns) * BlockN, min(steps, int(args.stages)));
        }
        __syncthreads();
        wait_for_previous();

        const uint32_t rows = row_count(args.gemm.batch, args.gemm.rows);
        const uint32_t tiles = (rows + kRingRows - 1) / kRingRows * columns;
        // The same in all lanes of a warp, and the compiler knows it.
        const int group = __shfl_sync(kFullWarp, int(threadIdx.x) / kGroup, 0);
        Turn turn{int(args.stages)};
        if (group == 0) {
            fewer_registers<Source::kFillRegisters>();
            if constexpr (!Source::kAllThreads) {
                if (threadIdx.x / kWarp != 0 || !elected()) return;
            }
            Source source(args);
            for (uint32_t t = blockIdx.x; t < tiles; t += gridDim.x) {
                source.begin(int(t % columns) * BlockN);
                for (int s = 0; s < steps; ++s, turn.next()) {
                    const uint32_t filled = full + 8 * turn.stage;
                    barrier_wait(empty + 8 * turn.stage, turn.parity ^ 1);
                    if (!Source::kAllThreads || threadIdx.x == 0) {
                        barrier_expect(filled, kLeftBytes + Source::kCopied);
                        copy_box_of(left + turn.stage * kLeftBytes, &args.x, s * kRingDepth,
                                    int(t / columns) * kRingRows, int(rows), args.left_map == kLeftPlain, filled);
                    }
                    source.fill(right + turn.stage * kRightBytes, s, steps, filled);
                }
            }
            // Its blocks find room as these end.
            let_next_begin();
        } else {
            more_registers<Source::kMultiplyRegisters>();
            for (uint32_t t = blockIdx.x; t < tiles; t += gridDim.x) {
                float sums[kSums];
                multiply(sums, steps, left + (group - 1) * (kLeftBytes / kGroups), right, full, empty, turn);
                finish(sums, t / columns * kRingRows, t % columns * BlockN, rows, memory);
            }
        }
    }

    // The sums of this warpgroup's 64 rows of a tile. A stage is released once the products after its own are under way.
    static __device__ __forceinline__ void multiply(
        float (&sums)[kSums], int steps, uint32_t left, uint32_t right, uint32_t full, uint32_t empty, Turn& turn) {
        const bool first = threadIdx.x % kGroup == 0;
        for (int s = 0; s < steps; ++s, turn.next()) {
            barrier_wait(full + 8 * turn.stage, turn.parity);
            hold(sums);
            products_fence();
#pragma unroll
            for (int k16 = 0; k16 < kRingDepth / 16; ++k16) {
                wgmma<Transposed>(
                    sums, tile_descriptor<128>(left + turn.stage * kLeftBytes + k16 * 32, 16, 1024),
                    Right::descriptor(right + turn.stage * kRightBytes, k16), s == 0 && k16 == 0);
            }
            products_commit();
            hold(sums);
            products_wait<1>();
            if (s > 0 && first) barrier_arrive(empty + 8 * turn.before());
        }
        products_wait<0>();
        hold(sums);
        if (first) barrier_arrive(empty + 8 * turn.before());
    }

    // Keeps the compiler from moving the sums while products write them.
    static __device__ __forceinline__ void hold(float (&sums)[kSums]) {
#pragma unroll
        for (int i = 0; i < kSums; ++i) asm volatile("" : "+f"(sums[i])::"memory");
    }
};
