// Tensor-core products with a frozen matrix, both ways from one copy of it:
//
//   forward    out (rows, n) = x (rows, k) · Wᵀ      W stored [n, k]
//   backward   out (rows, n) = x (rows, k) · W       W stored [k, n], read with ldmatrix.trans
//
// A block computes a BM × BN tile of `out` with four warps. Tiles of both operands arrive by cp.async in a ring of
// stages; fragments are loaded one step ahead of the tensor cores. W may be stored in 8 or 4 bits: then each thread
// makes elements of what it copied when it has arrived, in its place (weights.cuh), and everything after that is the
// same. k and n are multiples of 8 (16 bytes); what lies beyond an edge is filled with zeros and never stored.
#pragma once

#include "common.cuh"
#include "derivative.cuh"
#include "math.cuh"
#include "mma.cuh"
#include "varlen.cuh"
#include "weights.cuh"

struct GemmArgs {
    const BatchHeader* batch;
    const Half* x;
    MatrixArgs w;
    Half* out;
    // Forward: parts of equal length that make up the bias.
    const float* bias[3];
    // Forward: act', written if not null; then `out` may be null. Backward: what the product is multiplied with,
    // element by element, and may be `out` itself.
    void* derivative;
    // Column sums of this block's rows, [row tiles, n]; null where nobody asks.
    float* partial;
    uint32_t n;
    uint32_t k;
    uint32_t bias_part;
    uint32_t rows;
    uint32_t activation;
    // DerivativeKind of `derivative`.
    uint32_t derivative_kind;
};
MIRRORED(GemmArgs);

enum class Epilogue { kBias, kBiasActivation, kStore, kAccumulate, kDerivative };

// `Weights` is how W is stored: Half16 or Quantised of a format.
template <class Weights, int BlockM, int BlockN, int WarpM, int WarpN>
struct Gemm {
    static constexpr int kBlockM = BlockM, kBlockN = BlockN, kBlockK = kTileDepth, kStages = kTileStages;
    static constexpr int kWarpsM = BlockM / WarpM, kWarpsN = BlockN / WarpN;
    static constexpr int kThreads = kWarpsM * kWarpsN * kWarp;
    static_assert(kThreads == kProductThreads, "what the host launches");
    static constexpr int kBytesX = BlockM * kBlockK * 2, kBytesW = BlockN * kBlockK * 2;
    static constexpr int kStageBytes = kBytesX + kBytesW;
    // Rows of the epilogue's staging area are 8 words past a multiple of 32, so that the accumulator layout
    // (four rows × eight words a half-warp) meets each bank once.
    static constexpr int kStaging = WarpN + 8;
    static constexpr int kSharedBytes = kStages * kStageBytes;
    static_assert(kWarpsM * kWarpsN * 16 * kStaging * 4 + kWarpsM * BlockN * 4 <= kSharedBytes, "epilogue fits");

    using TileX = Tile<kBlockK>;

    static constexpr int kRepeatM = WarpM / 16, kRepeatN = WarpN / 16;

    // Two adjacent 8-column accumulators for each 16-column fragment.
    struct Accumulators {
        float v[kRepeatM][2 * kRepeatN][4];
    };
    struct Fragments {
        uint32_t x[kRepeatM][4];
        uint32_t w[kRepeatN][4];
    };

    template <bool Transposed>
    using CopierW = typename Weights::template Copier<Transposed, BlockN, kBlockK, kThreads>;

    // A grid has 65,535 rows of blocks at most: what a long batch has more lies behind them.
    static __device__ __forceinline__ uint32_t row_tile() { return blockIdx.z * gridDim.y + blockIdx.y; }

    // What one thread copies of each tile of x: one 16-byte chunk in every kRows-th row. Only the pointer and the
    // distance to the end of k move from tile to tile.
    struct CopierX {
        static constexpr int kRows = kThreads / (kBlockK / 8), kCopies = BlockM / kRows;
        // So that a row step leaves the swizzle as it is.
        static_assert(kRows % 8 == 0, "whole swizzle periods");

        const Half* from;
        size_t step;
        uint32_t to;
        // Bit i: row i of this thread's copies is inside.
        uint32_t inside;
        // Elements of k from this thread's first on.
        int left;

        __device__ __forceinline__ CopierX(const Half* x, uint32_t rows, int k) {
            const int row = int(threadIdx.x) / (kBlockK / 8), chunk = int(threadIdx.x) % (kBlockK / 8);
            const uint32_t first = row_tile() * BlockM + row;
            from = x + size_t(first) * k + chunk * 8;
            step = size_t(kRows) * k;
            left = k - chunk * 8;
            to = TileX::offset(row, chunk);
            inside = 0;
#pragma unroll
            for (int i = 0; i < kCopies; ++i) inside |= uint32_t(first + i * kRows < rows) << i;
        }

        // Starts the copy of the next tile.
        __device__ __forceinline__ void next(uint32_t shared) {
#pragma unroll
            for (int i = 0; i < kCopies; ++i) {
                const bool valid = left > 0 && (inside >> i & 1) != 0;
                copy16_async(shared + to + i * kRows * kBlockK * 2, from + i * step, valid);
            }
            from += kBlockK;
            left -= kBlockK;
        }
    };

    template <bool Transposed>
    static __device__ __forceinline__ void load(Fragments& f, uint32_t stage, int warp_m, int warp_n, int step) {
#pragma unroll
        for (int m = 0; m < kRepeatM; ++m) TileX::left(f.x[m], stage, warp_m * WarpM + m * 16, step);
#pragma unroll
        for (int n = 0; n < kRepeatN; ++n) {
            if constexpr (Transposed) {
                Tile<BlockN>::right_trans(f.w[n], stage + kBytesX, step * 16, warp_n * (WarpN / 16) + n);
            } else {
                TileX::right(f.w[n], stage + kBytesX, warp_n * WarpN + n * 16, step);
            }
        }
    }

    static __device__ __forceinline__ void multiply(Accumulators& acc, const Fragments& f) {
#pragma unroll
        for (int m = 0; m < kRepeatM; ++m) {
#pragma unroll
            for (int n = 0; n < kRepeatN; ++n) {
                mma(acc.v[m][2 * n], f.x[m], f.w[n][0], f.w[n][1]);
                mma(acc.v[m][2 * n + 1], f.x[m], f.w[n][2], f.w[n][3]);
            }
        }
    }

    template <bool Transposed>
    static __device__ __forceinline__ void product(
        Accumulators& acc, const GemmArgs& args, uint32_t shared, uint32_t rows, int warp_m, int warp_n) {
        const int n = int(args.n), k = int(args.k);
        const int tiles = (k + kBlockK - 1) / kBlockK;
        constexpr int kSteps = kBlockK / 16;
        CopierX x(args.x, rows, k);
        CopierW<Transposed> w(args.w, n, k);
#pragma unroll
        for (int s = 0; s < kStages - 1; ++s) {
            if (s < tiles) {
                x.next(shared + s * kStageBytes);
                w.next(shared + s * kStageBytes + kBytesX);
            }
            commit_copies();
        }
        wait_copies<kStages - 2>();
        w.unpack(shared + kBytesX);
        __syncthreads();

        Fragments fragments[2];
        uint32_t read = shared, write = shared + (kStages - 1) * kStageBytes;
        const uint32_t end = shared + kStages * kStageBytes;
        load<Transposed>(fragments[0], read, warp_m, warp_n, 0);
        for (int tile = 0; tile < tiles; ++tile) {
#pragma unroll
            for (int step = 0; step < kSteps; ++step) {
                if (step == kSteps - 1) {
                    // The next tile must be here, and everyone done with the stage that is filled next.
                    wait_copies<kStages - 2>();
                    const uint32_t following = read + kStageBytes == end ? shared : read + kStageBytes;
                    if (tile + 1 < tiles) w.unpack(following + kBytesX);
                    __syncthreads();
                    read = following;
                }
                if (step < kSteps - 1 || tile + 1 < tiles) {
                    load<Transposed>(fragments[(step + 1) % 2], read, warp_m, warp_n, (step + 1) % kSteps);
                }
                if (step == 0) {
                    if (tile + kStages - 1 < tiles) {
                        x.next(write);
                        w.next(write + kBytesX);
                    }
                    commit_copies();
                    write = write + kStageBytes == end ? shared : write + kStageBytes;
                }
                multiply(acc, fragments[step % 2]);
            }
        }
        // The epilogue takes over the stages.
        wait_copies<0>();
        __syncthreads();
    }

    // Turns eight finished sums of one row into stored elements. Returns what was stored, in f32.
    // `Activation` is its kind, where there is one: asked once per block, not per element.
    template <Epilogue E, uint32_t Activation>
    static __device__ __forceinline__ void finish8(
        const GemmArgs& args, Eight& e, const Eight& bias, size_t at) {
        if constexpr (E == Epilogue::kBias || E == Epilogue::kBiasActivation) {
#pragma unroll
            for (int i = 0; i < 8; ++i) e.v[i] += bias.v[i];
        }
        if constexpr (E == Epilogue::kBiasActivation) {
            Eight slope;
#pragma unroll
            for (int i = 0; i < 8; ++i) e.v[i] = activate<Activation>(e.v[i], slope.v[i]);
            if (args.derivative != nullptr) store_derivative(args.derivative, args.derivative_kind, at, slope);
            // Backward makes the derivative again and has no use for the value.
            if (args.out == nullptr) return;
        }
        if constexpr (E == Epilogue::kAccumulate) {
            const Eight old = load8(args.out + at);
#pragma unroll
            for (int i = 0; i < 8; ++i) e.v[i] += old.v[i];
        }
        if constexpr (E == Epilogue::kDerivative) {
            const Eight slope = load_derivative(args.derivative, args.derivative_kind, at);
#pragma unroll
            for (int i = 0; i < 8; ++i) e.v[i] *= slope.v[i];
        }
        store8(args.out + at, e);
    }

    template <Epilogue E, uint32_t Activation = kGeluErf>
    static __device__ __forceinline__ void store(
        const Accumulators& acc, const GemmArgs& args, float* shared, uint32_t rows, int warp_m, int warp_n) {
        const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
        float* staging = shared + warp * 16 * kStaging;
        const uint32_t stage = shared_address(staging + lane / 4 * kStaging + lane % 4 * 2);
        float* block_sums = shared + kWarpsM * kWarpsN * 16 * kStaging;

        // Accumulators leave through shared memory, so that a lane holds eight neighbouring columns (16 bytes).
        constexpr int kLanesPerRow = WarpN / 8, kRowsPerPass = kWarp / kLanesPerRow;
        const int chunk = lane % kLanesPerRow;
        const uint32_t first_row = row_tile() * BlockM + warp_m * WarpM;
        const uint32_t column = blockIdx.x * BlockN + warp_n * WarpN + chunk * 8;
        const bool inside = column < args.n;

        Eight bias = {};
        if constexpr (E == Epilogue::kBias || E == Epilogue::kBiasActivation) {
            if (inside) {
                const uint32_t part = column / args.bias_part;
                const float* from = part == 0 ? args.bias[0] : part == 1 ? args.bias[1] : args.bias[2];
                bias = load8(from + (column - part * args.bias_part));
            }
        }
        Eight sums = {};
        // Half of each group of eight lanes reads its second four words first: no bank twice.
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
#pragma unroll
            for (int pass = 0; pass < 16 / kRowsPerPass; ++pass) {
                const int row = pass * kRowsPerPass + lane / kLanesPerRow;
                const float* from = staging + row * kStaging + chunk * 8;
                const float4 first = *reinterpret_cast<const float4*>(from + (swap ? 4 : 0));
                const float4 second = *reinterpret_cast<const float4*>(from + (swap ? 0 : 4));
                const float4 low = swap ? second : first, high = swap ? first : second;
                Eight e = {{low.x, low.y, low.z, low.w, high.x, high.y, high.z, high.w}};
                const uint32_t out_row = first_row + m * 16 + row;
                if (inside && out_row < rows) {
                    finish8<E, Activation>(args, e, bias, size_t(out_row) * args.n + column);
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
            // Over the lanes that share the columns, then over the warps that do: always in the same order.
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
        const int warp = threadIdx.x / kWarp;
        const int warp_m = warp % kWarpsM, warp_n = warp / kWarpsM;
        Accumulators acc = {};
        product<Transposed>(acc, args, shared_address(memory), rows, warp_m, warp_n);
        float* shared = reinterpret_cast<float*>(memory);
        if (E == Epilogue::kBiasActivation && args.activation == kGeluTanh) {
            store<E, kGeluTanh>(acc, args, shared, rows, warp_m, warp_n);
        } else if (E == Epilogue::kBiasActivation && args.activation == kRelu) {
            store<E, kRelu>(acc, args, shared, rows, warp_m, warp_n);
        } else {
            store<E>(acc, args, shared, rows, warp_m, warp_n);
        }
    }
};
