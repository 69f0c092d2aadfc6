// Backward of attention in two kernels that both recompute the probabilities from q, k and the saved log of the
// denominator. Each owns what it writes, so nothing is added up by atomics and every run gives the same bits:
//
//   dq       a block has 64 queries and walks over the keys; also makes delta = Σ dout · out
//   dk, dv   a block has 64 keys and walks over the queries, with all scores transposed so that they stay in
//            registers as the left operand of the next product
//
// With P the probabilities, M the dropout mask and dP = (dout · vᵀ) ⊙ M:  dS = P ⊙ (dP - delta),
// dq = dS · k / sqrt(d), dk = dSᵀ · q / sqrt(d), dv = (P ⊙ M)ᵀ · dout.

#include "attention.cuh"

// Left operands stay in registers where those suffice.
template <int D>
struct LeftOperand {
    using H = Head<D>;
    static constexpr bool kKept = D <= 64;
    uint32_t fragments[kKept ? H::kInner : 1][4];
    uint32_t tile;

    __device__ __forceinline__ void load(uint32_t from) {
        tile = from;
        if constexpr (kKept) {
#pragma unroll
            for (int i = 0; i < H::kInner; ++i) H::T::left(fragments[i], tile, int(threadIdx.x) / kWarp * 16, i);
        }
    }

    __device__ __forceinline__ void scores(float (&s)[H::kScores][4], uint32_t right) const {
        if constexpr (kKept) {
            H::scores(s, fragments, right);
        } else {
            H::scores(s, tile, int(threadIdx.x) / kWarp * 16, right);
        }
    }
};

template <int D>
__device__ __forceinline__ void query_gradient(const AttentionArgs& args) {
    using H = Head<D>;
    extern __shared__ __align__(128) unsigned char memory[];
    const uint32_t sequence = blockIdx.z, head = blockIdx.y;
    if (sequence >= args.batch->sequences) return;
    const Span span = span_of(args.cu_seqlens, sequence);
    const int first = blockIdx.x * kAttentionRows, len = int(span.len);
    if (first >= len) return;

    const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
    const int head_dim = int(args.head_dim);
    const size_t hidden = size_t(args.heads) * head_dim, stride = 3 * hidden;
    const size_t column = size_t(head) * head_dim;
    const Half* q = args.qkv + (span.start + first) * stride + column;
    const Half* k = args.qkv + span.start * stride + hidden + column;
    const Half* v = k + hidden;
    const size_t out_at = (span.start + first) * hidden + column;

    const uint32_t q_tile = shared_address(memory), do_tile = q_tile + H::kBlockBytes;
    const uint32_t ring = do_tile + H::kBlockBytes;
    auto copy_step = [&](int step) {
        const uint32_t to = ring + step % 2 * 2 * H::kStepBytes;
        const int at = step * H::kStep;
        H::template copy<H::kStep>(to, k + at * stride, stride, len - at, head_dim);
        H::template copy<H::kStep>(to + H::kStepBytes, v + at * stride, stride, len - at, head_dim);
    };
    // The output is needed once, for delta: it borrows the second stage.
    static_assert(2 * H::kStepBytes >= H::kBlockBytes, "the output fits a stage");
    const uint32_t o_tile = ring + 2 * H::kStepBytes;
    H::template copy<kAttentionRows>(q_tile, q, stride, len - first, head_dim);
    H::template copy<kAttentionRows>(do_tile, args.dout + out_at, hidden, len - first, head_dim);
    H::template copy<kAttentionRows>(o_tile, args.out + out_at, hidden, len - first, head_dim);
    copy_step(0);
    commit_copies();
    wait_copies<0>();
    __syncthreads();

    const int g = lane / 4, t = lane % 4;
    float delta[2] = {0.0f, 0.0f};
#pragma unroll
    for (int i = 0; i < H::kInner; ++i) {
        uint32_t o[4], d[4];
        H::T::left(o, o_tile, warp * 16, i);
        H::T::left(d, do_tile, warp * 16, i);
#pragma unroll
        for (int j = 0; j < 4; ++j) {
            // Words 0 and 2 belong to row g, 1 and 3 to row g + 8.
            const float2 x = unpack(o[j]), y = unpack(d[j]);
            delta[j % 2] = fmaf(x.x, y.x, fmaf(x.y, y.y, delta[j % 2]));
        }
    }
    float lse[2];
#pragma unroll
    for (int half = 0; half < 2; ++half) {
        delta[half] += __shfl_xor_sync(kFullWarp, delta[half], 1);
        delta[half] += __shfl_xor_sync(kFullWarp, delta[half], 2);
        const int row = first + warp * 16 + g + 8 * half;
        const size_t at = size_t(span.start + row) * args.heads + head;
        // Rows past the end get probability zero.
        lse[half] = row < len ? args.lse[at] * kLog2e : INFINITY;
        if (t == 0 && row < len) args.delta[at] = delta[half];
    }

    LeftOperand<D> queries, gradients;
    queries.load(q_tile);
    gradients.load(do_tile);
    // Everyone is done with the output before the second stage is filled.
    __syncthreads();

    const Dropout dropout(args.dropout, args.batch);
    const float scale = args.scale * kLog2e;
    float acc[D / 8][4] = {};
    const int steps = (len + H::kStep - 1) / H::kStep;
    for (int step = 0; step < steps; ++step) {
        if (step + 1 < steps) copy_step(step + 1);
        commit_copies();
        wait_copies<1>();
        __syncthreads();
        const uint32_t tile = ring + step % 2 * 2 * H::kStepBytes;
        float s[H::kScores][4], dp[H::kScores][4];
        queries.scores(s, tile);
        gradients.scores(dp, tile + H::kStepBytes);

        const int key0 = step * H::kStep;
        const bool odd = t % 2 == 1;
        const uint32_t token = span.start + first + warp * 16 + g + (odd ? 8 : 0);
#pragma unroll
        for (int n = 0; n < H::kScores; ++n) {
            if (dropout.active()) {
                // As in forward: each lane computes the words of one row and exchanges halves.
                const Words w = dropout.words(token * args.heads + head, (key0 + n * 8) / 4 + t / 2);
                const uint32_t got0 = __shfl_xor_sync(kFullWarp, odd ? w.w[0] : w.w[2], 1);
                const uint32_t got1 = __shfl_xor_sync(kFullWarp, odd ? w.w[1] : w.w[3], 1);
                dp[n][0] *= dropout.factor(odd ? got0 : w.w[0]);
                dp[n][1] *= dropout.factor(odd ? got1 : w.w[1]);
                dp[n][2] *= dropout.factor(odd ? w.w[2] : got0);
                dp[n][3] *= dropout.factor(odd ? w.w[3] : got1);
            }
#pragma unroll
            for (int i = 0; i < 4; ++i) {
                const bool inside = key0 + n * 8 + t * 2 + i % 2 < len;
                const float p = exp2_fast(fmaf(s[n][i], scale, -lse[i / 2]));
                s[n][i] = inside ? p * (dp[n][i] - delta[i / 2]) : 0.0f;
            }
        }
        H::accumulate(acc, s, tile);
        __syncthreads();
    }

#pragma unroll
    for (int n = 0; n < D / 8; ++n) {
#pragma unroll
        for (int i = 0; i < 4; ++i) acc[n][i] *= args.scale;
    }
    Half* dq = args.dqkv + (span.start + first) * stride + column;
    H::store(memory, acc, dq, stride, len - first, head_dim);
    if (args.partial_query != nullptr) {
        float* to = args.partial_query + tile_slot(span, sequence, blockIdx.x, kAttentionRows) * hidden + column;
        H::column_sums(acc, reinterpret_cast<float*>(memory + 2 * H::kBlockBytes), to, head_dim);
    }
}

// Mask words for the accumulators of transposed scores: rows are keys, columns queries. A lane's four elements
// lie in four blocks of words, and the four lanes whose keys share those blocks want a word of each: every lane
// computes one block, and a 4 × 4 transposition hands the words out.
__device__ __forceinline__ Words transposed_words(
    const Dropout& dropout, uint32_t query_row, uint32_t row_stride, uint32_t key_group) {
    const int i = int(threadIdx.x) / 4 % 4;
    // Lane i: queries 2t (i < 2) or 2t + 1, keys g (i even) or g + 8.
    const Words w = dropout.words(query_row + (i / 2) * row_stride, key_group + (i % 2) * 2);
    const bool low = i % 2 == 0, front = i < 2;
    // Words i % 2 and i % 2 + 2 of the two blocks of this pair of lanes.
    const uint32_t got0 = __shfl_xor_sync(kFullWarp, low ? w.w[1] : w.w[0], 4);
    const uint32_t got1 = __shfl_xor_sync(kFullWarp, low ? w.w[3] : w.w[2], 4);
    const uint32_t a0 = low ? w.w[0] : got0, a1 = low ? got0 : w.w[1];
    const uint32_t b0 = low ? w.w[2] : got1, b1 = low ? got1 : w.w[3];
    // Word i of all four.
    const uint32_t far0 = __shfl_xor_sync(kFullWarp, front ? b0 : a0, 8);
    const uint32_t far1 = __shfl_xor_sync(kFullWarp, front ? b1 : a1, 8);
    return {{front ? a0 : far0, front ? a1 : far1, front ? far0 : b0, front ? far1 : b1}};
}

template <int D>
__device__ __forceinline__ void key_value_gradient(const AttentionArgs& args) {
    using H = Head<D>;
    extern __shared__ __align__(128) unsigned char memory[];
    const uint32_t sequence = blockIdx.z, head = blockIdx.y;
    if (sequence >= args.batch->sequences) return;
    const Span span = span_of(args.cu_seqlens, sequence);
    const int first = blockIdx.x * kAttentionRows, len = int(span.len);
    if (first >= len) return;

    const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
    const int head_dim = int(args.head_dim);
    const size_t hidden = size_t(args.heads) * head_dim, stride = 3 * hidden;
    const size_t column = size_t(head) * head_dim;
    const Half* q = args.qkv + span.start * stride + column;
    const Half* k = args.qkv + (span.start + first) * stride + hidden + column;
    const Half* dout = args.dout + span.start * hidden + column;

    const uint32_t k_tile = shared_address(memory), v_tile = k_tile + H::kBlockBytes;
    const uint32_t ring = v_tile + H::kBlockBytes;
    // lse and delta of the two stages.
    float* statistics = reinterpret_cast<float*>(memory + 2 * H::kBlockBytes + 4 * H::kStepBytes);
    auto copy_step = [&](int step) {
        const uint32_t to = ring + step % 2 * 2 * H::kStepBytes;
        const int at = step * H::kStep;
        H::template copy<H::kStep>(to, q + at * stride, stride, len - at, head_dim);
        H::template copy<H::kStep>(to + H::kStepBytes, dout + at * hidden, hidden, len - at, head_dim);
        const int row = threadIdx.x;
        if (row < H::kStep) {
            float* to = statistics + step % 2 * 2 * H::kStep + row;
            const size_t from = size_t(span.start + at + row) * args.heads + head;
            const bool inside = at + row < len;
            // Queries past the end get probability zero.
            to[0] = inside ? args.lse[from] * kLog2e : INFINITY;
            to[H::kStep] = inside ? args.delta[from] : 0.0f;
        }
    };
    H::template copy<kAttentionRows>(k_tile, k, stride, len - first, head_dim);
    H::template copy<kAttentionRows>(v_tile, k + hidden, stride, len - first, head_dim);
    copy_step(0);
    commit_copies();

    const Dropout dropout(args.dropout, args.batch);
    const float scale = args.scale * kLog2e;
    const int g = lane / 4, t = lane % 4;
    const int key = first + warp * 16 + g;
    LeftOperand<D> keys, values;
    float dk[D / 8][4] = {}, dv[D / 8][4] = {};

    const int steps = (len + H::kStep - 1) / H::kStep;
    for (int step = 0; step < steps; ++step) {
        if (step + 1 < steps) copy_step(step + 1);
        commit_copies();
        wait_copies<1>();
        __syncthreads();
        if (step == 0) {
            keys.load(k_tile);
            values.load(v_tile);
        }
        const uint32_t tile = ring + step % 2 * 2 * H::kStepBytes;
        const float* lse = statistics + step % 2 * 2 * H::kStep;
        const float* delta = lse + H::kStep;
        float s[H::kScores][4], dp[H::kScores][4];
        keys.scores(s, tile);
        values.scores(dp, tile + H::kStepBytes);

#pragma unroll
        for (int n = 0; n < H::kScores; ++n) {
            const int query = n * 8 + t * 2;
            const float2 l = *reinterpret_cast<const float2*>(lse + query);
            const float2 d = *reinterpret_cast<const float2*>(delta + query);
            float mask[4] = {1.0f, 1.0f, 1.0f, 1.0f};
            if (dropout.active()) {
                const uint32_t row = (span.start + step * H::kStep + query) * args.heads + head;
                const uint32_t group = (first + warp * 16) / 4 + g / 4;
                const Words w = transposed_words(dropout, row, args.heads, group);
                mask[0] = dropout.factor(w.w[0]);
                mask[1] = dropout.factor(w.w[2]);
                mask[2] = dropout.factor(w.w[1]);
                mask[3] = dropout.factor(w.w[3]);
            }
#pragma unroll
            for (int i = 0; i < 4; ++i) {
                const bool inside = key + i / 2 * 8 < len;
                const float row_lse = i % 2 == 0 ? l.x : l.y, row_delta = i % 2 == 0 ? d.x : d.y;
                const float p = inside ? exp2_fast(fmaf(s[n][i], scale, -row_lse)) : 0.0f;
                s[n][i] = p * mask[i];
                dp[n][i] = p * (dp[n][i] * mask[i] - row_delta);
            }
        }
        H::accumulate(dv, s, tile + H::kStepBytes);
        H::accumulate(dk, dp, tile);
        __syncthreads();
    }

#pragma unroll
    for (int n = 0; n < D / 8; ++n) {
#pragma unroll
        for (int i = 0; i < 4; ++i) dk[n][i] *= args.scale;
    }
    Half* to = args.dqkv + (span.start + first) * stride + hidden + column;
    H::store(memory, dk, to, stride, len - first, head_dim);
    H::store(memory + H::kBlockBytes, dv, to + hidden, stride, len - first, head_dim);
    if (args.partial_value != nullptr) {
        float* sums = args.partial_value + tile_slot(span, sequence, blockIdx.x, kAttentionRows) * hidden + column;
        H::column_sums(dv, reinterpret_cast<float*>(memory + 2 * H::kBlockBytes), sums, head_dim);
    }
}

#define ATTENTION_KERNELS(dim)                                                                               \
    extern "C" __global__ void __launch_bounds__(kAttentionThreads)                                          \
        attention_backward_q_##dim(const __grid_constant__ AttentionArgs args) {                             \
        query_gradient<dim>(args);                                                                           \
    }                                                                                                        \
    extern "C" __global__ void __launch_bounds__(kAttentionThreads)                                          \
        attention_backward_kv_##dim(const __grid_constant__ AttentionArgs args) {                            \
        key_value_gradient<dim>(args);                                                                       \
    }

ATTENTION_KERNELS(32)
ATTENTION_KERNELS(64)
ATTENTION_KERNELS(128)
