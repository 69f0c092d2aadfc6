// What forward and backward attention share: tiles of one head, their copies, masks and column sums.
//
// A block works on 64 rows (queries or keys) of one head of one sequence, 16 rows per warp, and walks over the other side in
// tiles of kStep rows, two in flight (attention_bwd_short.cu: on all keys of a short sequence; attention_fwd.cu: on as many
// rows as its warps hold). Heads narrower than D are padded with zeros, in shared memory only. Grid: tiles of the longest
// sequence × heads × sequences, at most 65,535 of the last per launch.
#pragma once

#include "math.cuh"
#include "mma.cuh"
#include "philox.cuh"

constexpr int kAttentionRows = 64, kAttentionWarps = 4;
// Rows of the tiles that a block walks over; fewer for 128-wide heads.
constexpr int kAttentionStep = 64, kAttentionStepWide = 32;
// Rows per warp in forward, and the same for 128-wide heads: the keys and values a warp loads serve all of them.
constexpr int kForwardRows = 32, kForwardRowsWide = 16;
MIRRORED(AttentionTile);
constexpr int kAttentionThreads = kAttentionWarps * kWarp;

// Only backward uses the second half.
struct AttentionArgs {
    const BatchHeader* batch;
    const uint32_t* cu_seqlens;
    // [tokens, 3 · heads · head_dim]
    const Half* qkv;
    // [tokens, heads · head_dim]
    Half* out;
    // [heads, tokens]: log of the softmax's denominator; forward writes it if not null.
    float* lse;
    const Half* dout;
    Half* dqkv;
    // [heads, tokens]: Σ P ⊙ dP, made by the dq kernel for the dk/dv kernel.
    float* delta;
    // [tile slots, heads · head_dim], or null.
    float* partial_query;
    float* partial_value;
    DropoutArgs dropout;
    uint32_t heads;
    uint32_t head_dim;
    // 1 / sqrt(head_dim)
    float scale;
    // This launch's first sequence.
    uint32_t first_sequence;
};
MIRRORED(AttentionArgs);

// Which rows of which head this block works on.
struct Work {
    uint32_t sequence, head;
    Span span;
    // The block's first row within its sequence, and the sequence's length.
    int first, len;
    int head_dim;
    // Elements per row of out and of qkv, and the head's offset in a row.
    size_t hidden, stride, column;
    // False for blocks beyond the batch or beyond their sequence.
    bool any;

    // For blocks of this many rows.
    __device__ __forceinline__ explicit Work(const AttentionArgs& args, int rows = kAttentionRows)
        : sequence(args.first_sequence + blockIdx.z), head(blockIdx.y), span{}, first(int(blockIdx.x) * rows), len(0),
          head_dim(int(args.head_dim)), hidden(size_t(args.heads) * head_dim), stride(3 * hidden),
          column(size_t(head) * head_dim), any(false) {
        if (sequence >= args.batch->sequences) return;
        span = span_of(args.cu_seqlens, sequence);
        len = int(span.len);
        any = first < len;
    }

    // Row `row` of the sequence in a [tokens, hidden] tensor, and where q is in a [tokens, 3 · hidden] one; k and v follow
    // `hidden` and 2 · `hidden` later.
    __device__ __forceinline__ size_t row(int row) const { return (span.start + row) * hidden + column; }
    __device__ __forceinline__ size_t row3(int row) const { return (span.start + row) * stride + column; }
    // The same in a [heads, tokens] tensor. Not stored: forward is short of registers.
    __device__ __forceinline__ size_t statistic(const AttentionArgs& args, int row) const {
        return size_t(head) * args.batch->tokens + span.start + row;
    }
    // Its row in the dropout mask [tokens · heads, keys].
    __device__ __forceinline__ uint32_t mask_row(const AttentionArgs& args, int row) const {
        return (span.start + row) * args.heads + head;
    }
    // This block's row of partial column sums, for tiles of `rows` rows.
    __device__ __forceinline__ size_t partial(uint32_t rows) const {
        return tile_slot(span, sequence, blockIdx.x, rows) * hidden + column;
    }
};

// The mask of the probabilities; its rows are counted over the whole batch.
__device__ __forceinline__ Dropout dropout_of(const AttentionArgs& args) {
    return Dropout(args.dropout, args.batch, args.batch->first_token * args.heads);
}

// Masks the scores of a slice: rows are queries g and g + 8 (dropout rows `row` and `row8`), columns are 2t and 2t + 1 of the
// eight keys from `key`, and of the next eight. Four lanes share the four blocks of words of their two rows: each computes
// one, and a 4 × 4 transposition gives every lane its word of all four.
__device__ __forceinline__ void mask_scores(
    const Dropout& dropout, uint32_t row, uint32_t row8, uint32_t key, float (&v)[2][4]) {
    const int t = threadIdx.x % 4;
    Words w = dropout.words(t < 2 ? row : row8, key / 8 + t % 2);
    transpose4<1>(w.w);
#pragma unroll
    for (int i = 0; i < 4; ++i) {
        v[i % 2][i / 2 * 2] *= dropout.even(w.w[i]);
        v[i % 2][i / 2 * 2 + 1] *= dropout.odd(w.w[i]);
    }
}

// Half words for a slice of transposed scores: rows are keys g and g + 8, columns queries 2t and 2t + 1 of eight, and of the
// next eight.
struct TransposedMask {
    // Per eight queries: of key g (query 2t low, 2t + 1 high), of key g + 8.
    uint32_t halves[2][2];

    // `query_row` is the dropout row of query 2t, `stride` the distance to the next, `group` that of keys 0 to 7. The eight
    // lanes of a column pair each need half of each of eight blocks. Each computes one: even lanes those of the first eight
    // queries, odd lanes the rest. A transposition hands out words, and neighbours exchange halves.
    __device__ __forceinline__ void make(const Dropout& dropout, uint32_t query_row, uint32_t stride, uint32_t group) {
        const uint32_t lane = threadIdx.x / 4 % 8, i = lane / 2;
        const bool odd = lane % 2 == 1;
        Words w = dropout.words(query_row + ((odd ? 8 : 0) + i % 2) * stride, group + i / 2);
        transpose4<8>(w.w);
#pragma unroll
        for (int k = 0; k < 2; ++k) {
            const uint32_t low = __byte_perm(w.w[2 * k], w.w[2 * k + 1], 0x5410);
            const uint32_t high = __byte_perm(w.w[2 * k], w.w[2 * k + 1], 0x7632);
            const uint32_t got = __shfl_xor_sync(kFullWarp, odd ? low : high, 4);
            halves[0][k] = odd ? got : low;
            halves[1][k] = odd ? high : got;
        }
    }

    // Of element `i` of an accumulator of queries `n`.
    __device__ __forceinline__ float factor(const Dropout& dropout, int n, int i) const {
        return i % 2 == 0 ? dropout.even(halves[n][i / 2]) : dropout.odd(halves[n][i / 2]);
    }
};

template <int D>
struct Head {
    // Rows per step of the side that is walked over: 128-wide heads leave fewer registers for scores.
    static constexpr int kStep = D == 128 ? kAttentionStepWide : kAttentionStep;
    // 16-wide slices per step, and of the inner dimension.
    static constexpr int kSlices = kStep / 16, kInner = D / 16;
    static constexpr int kRowBytes = D * 2;
    static constexpr int kBlockBytes = kAttentionRows * kRowBytes, kStepBytes = kStep * kRowBytes;
    using T = Tile<D>;

    // Starts the copy of `Rows` rows of one head; rows from `valid` on and columns from head_dim on become zero. `from` is
    // the head's place in the first row.
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

    // The same for a number of rows known only at run time, by a block of any number of warps.
    static __device__ __forceinline__ void copy_rows(
        uint32_t to, const Half* from, size_t stride, int rows, int valid, int head_dim) {
        constexpr int kChunks = D / 8;
        for (int id = threadIdx.x; id < rows * kChunks; id += blockDim.x) {
            const int row = id / kChunks, chunk = id % kChunks;
            const bool inside = row < valid && chunk * 8 < head_dim;
            copy16_async(to + T::offset(row, chunk), from + (inside ? row * stride + chunk * 8 : 0), inside);
        }
    }

    // One operand's 16 rows of this warp: in registers, or fetched for each use if registers are short.
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

    // Writes 16 × 16 numbers, those of two neighbouring 8-column units, to global memory, 16 bytes per lane: the four lanes
    // of a row exchange their parts of two rows' chunks. Rows from `valid` and columns from `width` on are not written.
    static __device__ __forceinline__ void store(
        const float (&left)[4], const float (&right)[4], Half* to, size_t stride, int valid, int width) {
        const int g = int(threadIdx.x) % kWarp / 4, t = threadIdx.x % 4;
        uint32_t w[4] = {
            pack(left[0], left[1]), pack(right[0], right[1]), pack(left[2], left[3]), pack(right[2], right[3])};
        transpose4<1>(w);
        const int row = g + t / 2 * 8, column = t % 2 * 8;
        if (row < valid && column < width) store16(to + row * stride + column, w);
    }

    // The same for 16 × D numbers, for rows from `first` on.
    static __device__ __forceinline__ void store_rows(
        const float (&acc)[D / 8][4], int first, Half* to, size_t stride, int valid, int head_dim) {
#pragma unroll
        for (int n = 0; n < D / 16; ++n) {
            store(acc[2 * n], acc[2 * n + 1], to + first * stride + n * 16, stride, valid - first, head_dim - n * 16);
        }
    }

    // The same for 16 rows per warp.
    static __device__ __forceinline__ void store(
        const float (&acc)[D / 8][4], Half* to, size_t stride, int valid, int head_dim) {
        store_rows(acc, int(threadIdx.x) / kWarp * 16, to, stride, valid, head_dim);
    }

    // Column sums over the 16 × D accumulators of the first `warps` warps, written to `to`. All threads call it; `shared`
    // holds D floats per warp and is no longer in use.
    static __device__ __forceinline__ void column_sums(
        const float (&acc)[D / 8][4], float* shared, float* to, int head_dim, int warps) {
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
        for (int column = threadIdx.x; column < head_dim; column += blockDim.x) {
            float sum = shared[column];
            for (int w = 1; w < warps; ++w) sum += shared[w * D + column];
            to[column] = sum;
        }
    }
};
