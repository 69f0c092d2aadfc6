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

// Mirrored by `AttentionArgs` in src/backend/cuda/args.rs; backward alone uses the second half.
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
static_assert(sizeof(AttentionArgs) == 112, "mirrored by src/backend/cuda/args.rs");

// Which rows of which head this block works on.
struct Work {
    uint32_t sequence, head;
    Span span;
    // First of the block's rows within its sequence, and the sequence's length.
    int first, len;
    int head_dim;
    // Elements of a row of out and of qkv, and the head's place in a row.
    size_t hidden, stride, column;
    // Blocks beyond the batch, or beyond their sequence, have nothing to do.
    bool any;

    __device__ __forceinline__ explicit Work(const AttentionArgs& args)
        : sequence(blockIdx.z), head(blockIdx.y), span{}, first(int(blockIdx.x) * kAttentionRows), len(0),
          head_dim(int(args.head_dim)), hidden(size_t(args.heads) * head_dim), stride(3 * hidden),
          column(size_t(head) * head_dim), any(false) {
        if (sequence >= args.batch->sequences) return;
        span = span_of(args.cu_seqlens, sequence);
        len = int(span.len);
        any = first < len;
    }

    // Row `row` of the sequence in a [tokens, hidden] tensor, and the place of q in a [tokens, 3 · hidden] one; k and
    // v follow `hidden` and 2 · `hidden` later.
    __device__ __forceinline__ size_t row(int row) const { return (span.start + row) * hidden + column; }
    __device__ __forceinline__ size_t row3(int row) const { return (span.start + row) * stride + column; }
    // The same in a [tokens, heads] tensor.
    __device__ __forceinline__ size_t statistic(int row, uint32_t heads) const {
        return size_t(span.start + row) * heads + head;
    }
    // This block's row of partial column sums.
    __device__ __forceinline__ size_t partial() const {
        return tile_slot(span, sequence, blockIdx.x, kAttentionRows) * hidden + column;
    }
};

// Masks four scores of an accumulator whose rows are queries g and g + 8 (dropout rows `row` and `row8`) and whose
// columns are 2t and 2t + 1 of eight keys from `key` on. A block of four words serves four columns, so two lanes: the
// even lane computes that of row g, the odd one that of row g + 8, and they exchange halves.
__device__ __forceinline__ void mask_scores(
    const Dropout& dropout, uint32_t row, uint32_t row8, uint32_t key, float (&v)[4]) {
    const int t = threadIdx.x % 4;
    const bool odd = t % 2 == 1;
    const Words w = dropout.words(odd ? row8 : row, key / 4 + t / 2);
    const uint32_t got0 = __shfl_xor_sync(kFullWarp, odd ? w.w[0] : w.w[2], 1);
    const uint32_t got1 = __shfl_xor_sync(kFullWarp, odd ? w.w[1] : w.w[3], 1);
    v[0] *= dropout.factor(odd ? got0 : w.w[0]);
    v[1] *= dropout.factor(odd ? got1 : w.w[1]);
    v[2] *= dropout.factor(odd ? w.w[2] : got0);
    v[3] *= dropout.factor(odd ? w.w[3] : got1);
}

template <int D>
struct Head {
    // Rows of the side that is walked over: 128-wide heads leave fewer registers for scores.
    static constexpr int kStep = D == 128 ? 32 : 64;
    // 16-wide slices of a step, and of the inner dimension.
    static constexpr int kSlices = kStep / 16, kInner = D / 16;
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

    // One operand's 16 rows of this warp: in registers, or fetched again for each use where those are short.
    template <bool Kept>
    struct Left {
        uint32_t fragments[Kept ? kInner : 1][4];
        uint32_t tile;

        static __device__ __forceinline__ void fetch(uint32_t (&a)[4], uint32_t tile, int k) {
            T::left(a, tile, int(threadIdx.x) / kWarp * 16, k);
        }

        __device__ __forceinline__ void load(uint32_t from) {
            tile = from;
            if constexpr (Kept) {
#pragma unroll
                for (int k = 0; k < kInner; ++k) fetch(fragments[k], tile, k);
            }
        }

        // Scores of the 16 rows against rows 16 · slice .. + 15 of `right`.
        __device__ __forceinline__ void scores(float (&s)[2][4], uint32_t right, int slice) const {
#pragma unroll
            for (int i = 0; i < 4; ++i) s[0][i] = s[1][i] = 0.0f;
#pragma unroll
            for (int k = 0; k < kInner; ++k) {
                uint32_t a[4], b[4];
                if constexpr (Kept) {
#pragma unroll
                    for (int i = 0; i < 4; ++i) a[i] = fragments[k][i];
                } else {
                    fetch(a, tile, k);
                }
                T::right(b, right, slice * 16, k);
                mma(s[0], a, b[0], b[1]);
                mma(s[1], a, b[2], b[3]);
            }
        }
    };

    // 16 × 16 numbers as a left operand: the accumulator layout of two 8-column units is that operand's layout.
    static __device__ __forceinline__ void as_left(uint32_t (&a)[4], const float (&p)[2][4]) {
        a[0] = pack(p[0][0], p[0][1]);
        a[1] = pack(p[0][2], p[0][3]);
        a[2] = pack(p[1][0], p[1][1]);
        a[3] = pack(p[1][2], p[1][3]);
    }

    // acc (16 × D) += a (16 × 16) · rows 16 · slice .. + 15 of `right`.
    static __device__ __forceinline__ void accumulate(
        float (&acc)[D / 8][4], const uint32_t (&a)[4], uint32_t right, int slice) {
#pragma unroll
        for (int n = 0; n < D / 16; ++n) {
            uint32_t b[4];
            T::right_trans(b, right, slice * 16, n);
            mma(acc[2 * n], a, b[0], b[1]);
            mma(acc[2 * n + 1], a, b[2], b[3]);
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
