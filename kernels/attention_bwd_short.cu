// Backward of attention in one kernel, for batches whose longest sequence has at most 128 tokens: a block has all keys of one
// head of one sequence, 16 keys per warp, and walks over the queries. Each of the five products is computed once:
//
//   S = k · qᵀ and dP = (v · doutᵀ) ⊙ M, keys by queries, so that they stay in registers as the left operand of
//   dv += (P ⊙ M) · dout and dk += dS · q, where dS = P ⊙ (dP - delta) and delta = Σ P ⊙ dP over the keys;
//   dq = dSᵀ · k, for which the warps share dS in shared memory: all keys are there, so it is complete at once.
//
// delta is summed from the same numbers it is subtracted from, not from Σ dout · out (attention_bwd.cu says why), and the
// output is not read at all. The order of every sum depends only on the sequence's length. Grid: 1 × heads × sequences; a
// block has one warp per 16 tokens of the batch's longest sequence.

#include "attention.cuh"

constexpr int kShortKeys = 128;
// Elements of the tiles that a block walks over.
constexpr int kShortElements = 2048;
MIRRORED(ShortAttention);
constexpr int kShortThreads = kShortKeys / 16 * kWarp;

// Sums, over the eight lanes that differ in g, of four numbers for columns 2t and 2t + 1 of two 8-column units: each lane
// gets the sum of one column, and so does its neighbour.
__device__ __forceinline__ float add_rows(const float (&v)[4]) {
    const int g = int(threadIdx.x) % kWarp / 4;
    const bool second = g >= 4, odd = g / 2 % 2 == 1;
    const float even_sum = (second ? v[2] : v[0]) + __shfl_xor_sync(kFullWarp, second ? v[0] : v[2], 16);
    const float odd_sum = (second ? v[3] : v[1]) + __shfl_xor_sync(kFullWarp, second ? v[1] : v[3], 16);
    const float sum = (odd ? odd_sum : even_sum) + __shfl_xor_sync(kFullWarp, odd ? even_sum : odd_sum, 8);
    return sum + __shfl_xor_sync(kFullWarp, sum, 4);
}

// Which of the sixteen columns' sums this lane gets.
__device__ __forceinline__ int row_sum_column() {
    const int lane = threadIdx.x % kWarp;
    return lane / 16 * 8 + lane % 4 * 2 + lane / 8 % 2;
}

template <int D>
__device__ __forceinline__ void gradient(const AttentionArgs& args) {
    using H = Head<D>;
    // Queries per step: one 16 × 16 piece of dq for each of eight warps.
    constexpr int kStep = kShortElements / D, kSlices = kStep / 16, kPieces = D / 16;
    constexpr int kStepBytes = kStep * H::kRowBytes;
    // Queries whose lse and delta a lane holds for the others.
    constexpr int kHeld = kStep > kWarp ? 2 : 1;
    using Q = typename H::T;
    // dS, one row per key.
    using S = Tile<kStep>;
    extern __shared__ __align__(128) unsigned char memory[];
    const Work work(args);
    if (!work.any) return;
    const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp, warps = blockDim.x / kWarp;
    const int g = lane / 4, t = lane % 4;
    const int len = work.len, head_dim = work.head_dim, key_slices = (len + 15) / 16;
    // Warps beyond the sequence's keys only help with copies and dq.
    const bool has_keys = warp < key_slices;
    const Half* q = args.qkv + work.row3(0);
    const Half* dout = args.dout + work.row(0);

    const int key_bytes = warps * 16 * H::kRowBytes;
    const uint32_t k_tile = shared_address(memory), v_tile = k_tile + key_bytes;
    const uint32_t ring = v_tile + key_bytes, ds_tile = ring + 4 * kStepBytes;
    // Σ P ⊙ dP over each warp's keys, and column sums of dq over each slice of queries.
    float* sums = reinterpret_cast<float*>(memory + 2 * key_bytes + 4 * kStepBytes + warps * 16 * kStep * 2);
    float* query_sums = sums + warps * kStep;

    auto copy = [&](uint32_t to, const Half* from, size_t stride, int first, int most) {
        constexpr int kChunks = D / 8;
        const int rows = min(most, key_slices * 16 - first);
        for (int id = threadIdx.x; id < rows * kChunks; id += blockDim.x) {
            const int row = id / kChunks, chunk = id % kChunks;
            const bool inside = first + row < len && chunk * 8 < head_dim;
            copy16_async(to + Q::offset(row, chunk), from + (inside ? (first + row) * stride + chunk * 8 : 0), inside);
        }
    };
    auto copy_step = [&](int at) {
        const uint32_t to = ring + at / kStep % 2 * 2 * kStepBytes;
        copy(to, q, work.stride, at, kStep);
        copy(to + kStepBytes, dout, work.hidden, at, kStep);
    };
    copy(k_tile, q + work.hidden, work.stride, 0, kShortKeys);
    copy(v_tile, q + 2 * work.hidden, work.stride, 0, kShortKeys);
    copy_step(0);
    commit_copies();
    for (int i = threadIdx.x; i < kSlices * D; i += blockDim.x) query_sums[i] = 0.0f;
    wait_copies<0>();
    __syncthreads();

    const Dropout dropout = dropout_of(args);
    const float scale = args.scale * kLog2e;
    const int key = warp * 16 + g;
    typename H::template Left<(D <= 64)> keys, values;
    float dk[D / 8][4] = {}, dv[D / 8][4] = {};
    if (has_keys) {
        keys.load(k_tile);
        values.load(v_tile);
    }
    for (int at = 0; at < len; at += kStep) {
        float lse[kHeld], delta[kHeld];
#pragma unroll
        for (int i = 0; i < kHeld; ++i) {
            const int query = at + lane % kStep + i * kWarp;
            // Queries past the end get probability zero.
            lse[i] = query < len ? args.lse[work.statistic(args, query)] * kLog2e : INFINITY;
        }
        // The previous tiles are no longer needed.
        if (at + kStep < len) copy_step(at + kStep);
        commit_copies();
        const uint32_t q_tile = ring + at / kStep % 2 * 2 * kStepBytes, do_tile = q_tile + kStepBytes;

        float p[kSlices][2][4], ds[kSlices][2][4];
        // Both statistics of queries 2t and 2t + 1 of a unit, from the lanes that hold them.
        auto of_unit = [&](const float (&held)[kHeld], int unit) {
            const float x = held[unit * 8 / kWarp];
            const int from = unit * 8 % kWarp + t * 2;
            return make_float2(__shfl_sync(kFullWarp, x, from), __shfl_sync(kFullWarp, x, from + 1));
        };
        if (has_keys) {
#pragma unroll
            for (int slice = 0; slice < kSlices; ++slice) {
                if (at + slice * 16 >= len) break;
                keys.scores(p[slice], q_tile, slice);
                values.scores(ds[slice], do_tile, slice);
                float kept[2][4], along[4] = {};
                TransposedMask mask{};
                if (dropout.active()) {
                    mask.make(dropout, work.mask_row(args, at + slice * 16 + t * 2), args.heads, warp * 2);
                }
#pragma unroll
                for (int n = 0; n < 2; ++n) {
                    const float2 l = of_unit(lse, slice * 2 + n);
#pragma unroll
                    for (int i = 0; i < 4; ++i) {
                        const bool inside = key + i / 2 * 8 < len;
                        float& x = p[slice][n][i];
                        x = inside ? exp2_fast(fmaf(x, scale, i % 2 == 0 ? -l.x : -l.y)) : 0.0f;
                        const float factor = mask.factor(dropout, n, i);
                        kept[n][i] = x * factor;
                        ds[slice][n][i] *= factor;
                        along[n * 2 + i % 2] = fmaf(x, ds[slice][n][i], along[n * 2 + i % 2]);
                    }
                }
                uint32_t left[4];
                H::as_left(left, kept);
                H::accumulate(dv, left, do_tile, slice);
                const float sum = add_rows(along);
                if (g % 2 == 0) sums[warp * kStep + slice * 16 + row_sum_column()] = sum;
            }
        }
        __syncthreads();

        if (has_keys) {
#pragma unroll
            for (int i = 0; i < kHeld; ++i) {
                const int query = lane % kStep + i * kWarp;
                delta[i] = 0.0f;
                if (at + query >= len) continue;
                for (int w = 0; w < key_slices; ++w) delta[i] += sums[w * kStep + query];
            }
#pragma unroll
            for (int slice = 0; slice < kSlices; ++slice) {
                if (at + slice * 16 >= len) break;
#pragma unroll
                for (int n = 0; n < 2; ++n) {
                    const float2 d = of_unit(delta, slice * 2 + n);
#pragma unroll
                    for (int i = 0; i < 4; ++i) {
                        float& x = ds[slice][n][i];
                        // A single key has all of the probability, whatever its score.
                        x = len > 1 ? p[slice][n][i] * (x - (i % 2 == 0 ? d.x : d.y)) : 0.0f;
                    }
                }
                uint32_t left[4];
                H::as_left(left, ds[slice]);
#pragma unroll
                for (int i = 0; i < 4; ++i) {
                    const uint32_t to = S::offset(key + i % 2 * 8, slice * 2 + i / 2) + t * 4;
                    *reinterpret_cast<uint32_t*>(memory + (ds_tile - k_tile) + to) = left[i];
                }
                H::accumulate(dk, left, q_tile, slice);
            }
        }
        // The next tiles, too, are now visible to everyone.
        wait_copies<0>();
        __syncthreads();

        // If there are more warps than pieces, they take turns.
        const int turn = at / kStep * kSlices * kPieces;
        for (int piece = (warp + turn) % warps; piece < kSlices * kPieces; piece += warps) {
            const int slice = piece / kPieces, n = piece % kPieces, first = at + slice * 16;
            if (first >= len || n * 16 >= head_dim) continue;
            float dq[2][4] = {};
            for (int k = 0; k < key_slices; ++k) {
                uint32_t a[4], b[4];
                S::left_trans(a, ds_tile, k * 16, slice);
                Q::right_trans(b, k_tile, k * 16, n);
                mma(dq[0], a, b[0], b[1]);
                mma(dq[1], a, b[2], b[3]);
            }
#pragma unroll
            for (int i = 0; i < 4; ++i) {
                dq[0][i] *= args.scale;
                dq[1][i] *= args.scale;
            }
            Half* to = args.dqkv + work.row3(first) + n * 16;
            H::store(dq[0], dq[1], to, work.stride, len - first, head_dim - n * 16);
            if (args.partial_query != nullptr) {
                float columns[4];
#pragma unroll
                for (int i = 0; i < 4; ++i) columns[i] = dq[i / 2][i % 2] + dq[i / 2][i % 2 + 2];
                const float sum = add_rows(columns);
                if (g % 2 == 0) query_sums[slice * D + n * 16 + row_sum_column()] += sum;
            }
        }
    }

#pragma unroll
    for (int n = 0; n < D / 8; ++n) {
#pragma unroll
        for (int i = 0; i < 4; ++i) dk[n][i] *= args.scale;
    }
    Half* to = args.dqkv + work.row3(0) + work.hidden;
    H::store(dk, to, work.stride, len, head_dim);
    H::store(dv, to + work.hidden, work.stride, len, head_dim);
    if (args.partial_value != nullptr) {
        float* shared = reinterpret_cast<float*>(memory + 2 * key_bytes);
        H::column_sums(dv, shared, args.partial_value + work.partial(kShortKeys), head_dim, key_slices);
    }
    if (args.partial_query != nullptr) {
        __syncthreads();
        for (int column = threadIdx.x; column < head_dim; column += blockDim.x) {
            float sum = query_sums[column];
#pragma unroll
            for (int slice = 1; slice < kSlices; ++slice) sum += query_sums[slice * D + column];
            args.partial_query[work.partial(kShortKeys) + column] = sum;
        }
    }
}

#define ATTENTION_KERNEL(dim, ...)                                                                           \
    extern "C" __global__ void __launch_bounds__(__VA_ARGS__)                                                \
        attention_backward_short_##dim(const __grid_constant__ AttentionArgs args) {                         \
        gradient<dim>(args);                                                                                 \
    }

ATTENTION_KERNEL(32, kShortThreads)
ATTENTION_KERNEL(64, kShortThreads)
ATTENTION_KERNEL(128, kShortThreads)
