// Backward of attention in two kernels that both recompute the probabilities from q, k and the saved log of the denominator.
// Each owns what it writes, so there are no atomic additions and every run gives the same bits:
//
//   dq       a block has 64 queries and walks over the keys; also makes delta, the sum of P ⊙ dP over the keys
//   dk, dv   a block has 64 keys and walks over the queries, with all scores transposed so that they stay in
//            registers as the left operand of the next product
//
// With P the probabilities, M the dropout mask and dP = (dout · vᵀ) ⊙ M:  dS = P ⊙ (dP - delta), dq = dS · k / sqrt(d), dk =
// dSᵀ · q / sqrt(d), dv = (P ⊙ M)ᵀ · dout.
//
// delta equals Σ dout · out, which needs no walk over the keys. But out was rounded to 16 bits, and if P has one large
// element, dS is so small a difference that it is all rounding error. The estimate's error is the row sum of P ⊙ (dP -
// estimate), since the rows of P add up to 1. So the walk that makes dq also measures this rest and removes it with one more
// product: dq = (P ⊙ (dP - estimate)) · k - rest · (P · k), where rest sums what the first product is given, so that a row
// with one key comes out as exactly zero.

#include "attention.cuh"

template <int D>
__device__ __forceinline__ void query_gradient(const AttentionArgs& args) {
    using H = Head<D>;
    extern __shared__ __align__(128) unsigned char memory[];
    const Work work(args);
    if (!work.any) return;
    const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
    const int first = work.first, len = work.len;
    const Half* q = args.qkv + work.row3(first);
    const Half* k = args.qkv + work.row3(0) + work.hidden;

    const uint32_t q_tile = shared_address(memory), do_tile = q_tile + H::kBlockBytes;
    const uint32_t ring = do_tile + H::kBlockBytes;
    auto copy_step = [&](int step) {
        const uint32_t to = ring + step % 2 * 2 * H::kStepBytes;
        const int at = step * H::kStep;
        const Half* from = k + at * work.stride;
        H::template copy<H::kStep>(to, from, work.stride, len - at, work.head_dim);
        H::template copy<H::kStep>(to + H::kStepBytes, from + work.hidden, work.stride, len - at, work.head_dim);
    };
    // The output is needed once, for the estimate of delta: it borrows the second stage.
    static_assert(2 * H::kStepBytes >= H::kBlockBytes, "the output fits a stage");
    const uint32_t o_tile = ring + 2 * H::kStepBytes;
    const int rows = len - first;
    H::template copy<kAttentionRows>(q_tile, q, work.stride, rows, work.head_dim);
    H::template copy<kAttentionRows>(do_tile, args.dout + work.row(first), work.hidden, rows, work.head_dim);
    H::template copy<kAttentionRows>(o_tile, args.out + work.row(first), work.hidden, rows, work.head_dim);
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
        // Rows past the end get probability zero.
        lse[half] = row < len ? args.lse[work.statistic(args, row)] * kLog2e : INFINITY;
    }

    typename H::template Left<(D <= 64)> queries, gradients;
    queries.load(q_tile);
    gradients.load(do_tile);
    // Everyone must be done with the output before the second stage is filled.
    __syncthreads();

    const Dropout dropout = dropout_of(args);
    const float scale = args.scale * kLog2e;
    const uint32_t mask_row = work.mask_row(args, first + warp * 16 + g);
    float acc[D / 8][4] = {}, mean_key[D / 8][4] = {};
    // Row sums of P ⊙ (dP - estimate), exact and as given to the product in 16 bits.
    float rest[2] = {0.0f, 0.0f}, stored_rest[2] = {0.0f, 0.0f};
    const int steps = (len + H::kStep - 1) / H::kStep;
    for (int step = 0; step < steps; ++step) {
        if (step + 1 < steps) copy_step(step + 1);
        commit_copies();
        wait_copies<1>();
        __syncthreads();
        const uint32_t tile = ring + step % 2 * 2 * H::kStepBytes;
        // Slice by slice, so that few scores are held at a time.
#pragma unroll 1
        for (int slice = 0; slice < H::kSlices; ++slice) {
            float p[2][4], ds[2][4];
            queries.scores(p, tile, slice);
            gradients.scores(ds, tile + H::kStepBytes, slice);
            const int first_key = step * H::kStep + slice * 16;
            if (dropout.active()) mask_scores(dropout, mask_row, mask_row + 8 * args.heads, first_key, ds);
#pragma unroll
            for (int n = 0; n < 2; ++n) {
                const int key = first_key + n * 8;
#pragma unroll
                for (int i = 0; i < 4; ++i) {
                    const bool inside = key + t * 2 + i % 2 < len;
                    p[n][i] = inside ? exp2_fast(fmaf(p[n][i], scale, -lse[i / 2])) : 0.0f;
                    ds[n][i] = p[n][i] * (ds[n][i] - delta[i / 2]);
                    rest[i / 2] += ds[n][i];
                }
            }
            uint32_t left[4];
            H::as_left(left, ds);
#pragma unroll
            for (int i = 0; i < 4; ++i) {
                // Words 0 and 2 belong to row g, 1 and 3 to row g + 8.
                const float2 stored = unpack(left[i]);
                stored_rest[i % 2] += stored.x + stored.y;
            }
            H::accumulate(acc, left, tile, slice);
            H::as_left(left, p);
            H::accumulate(mean_key, left, tile, slice);
        }
        __syncthreads();
    }

#pragma unroll
    for (int half = 0; half < 2; ++half) {
#pragma unroll
        for (int lanes = 1; lanes < 4; lanes <<= 1) {
            rest[half] += __shfl_xor_sync(kFullWarp, rest[half], lanes);
            stored_rest[half] += __shfl_xor_sync(kFullWarp, stored_rest[half], lanes);
        }
        const int row = first + warp * 16 + g + 8 * half;
        if (t == 0 && row < len) args.delta[work.statistic(args, row)] = delta[half] + rest[half];
    }
#pragma unroll
    for (int n = 0; n < D / 8; ++n) {
#pragma unroll
        for (int i = 0; i < 4; ++i) acc[n][i] = args.scale * fmaf(-stored_rest[i / 2], mean_key[n][i], acc[n][i]);
    }
    H::store(acc, args.dqkv + work.row3(first), work.stride, rows, work.head_dim);
    if (args.partial_query != nullptr) {
        float* shared = reinterpret_cast<float*>(memory + 2 * H::kBlockBytes);
        H::column_sums(acc, shared, args.partial_query + work.partial(kAttentionRows), work.head_dim, kAttentionWarps);
    }
}

template <int D>
__device__ __forceinline__ void key_value_gradient(const AttentionArgs& args) {
    using H = Head<D>;
    extern __shared__ __align__(128) unsigned char memory[];
    const Work work(args);
    if (!work.any) return;
    const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
    const int first = work.first, len = work.len;
    const Half* q = args.qkv + work.row3(0);
    const Half* k = args.qkv + work.row3(first) + work.hidden;
    const Half* dout = args.dout + work.row(0);

    const uint32_t k_tile = shared_address(memory), v_tile = k_tile + H::kBlockBytes;
    const uint32_t ring = v_tile + H::kBlockBytes;
    // lse and delta for the two stages.
    float* statistics = reinterpret_cast<float*>(memory + 2 * H::kBlockBytes + 4 * H::kStepBytes);
    auto copy_step = [&](int step) {
        const uint32_t to = ring + step % 2 * 2 * H::kStepBytes;
        const int at = step * H::kStep;
        H::template copy<H::kStep>(to, q + at * work.stride, work.stride, len - at, work.head_dim);
        H::template copy<H::kStep>(to + H::kStepBytes, dout + at * work.hidden, work.hidden, len - at, work.head_dim);
        const int row = threadIdx.x;
        if (row < H::kStep) {
            float* to = statistics + step % 2 * 2 * H::kStep + row;
            const size_t from = work.statistic(args, at + row);
            const bool inside = at + row < len;
            // Queries past the end get probability zero.
            to[0] = inside ? args.lse[from] * kLog2e : INFINITY;
            to[H::kStep] = inside ? args.delta[from] : 0.0f;
        }
    };
    const int rows = len - first;
    H::template copy<kAttentionRows>(k_tile, k, work.stride, rows, work.head_dim);
    H::template copy<kAttentionRows>(v_tile, k + work.hidden, work.stride, rows, work.head_dim);
    copy_step(0);
    commit_copies();

    const Dropout dropout = dropout_of(args);
    const float scale = args.scale * kLog2e;
    const int g = lane / 4, t = lane % 4;
    const int key = first + warp * 16 + g;
    typename H::template Left<(D <= 32)> keys, values;
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
#pragma unroll 1
        for (int slice = 0; slice < H::kSlices; ++slice) {
            float p[2][4], ds[2][4];
            keys.scores(p, tile, slice);
            values.scores(ds, tile + H::kStepBytes, slice);
            TransposedMask mask{};
            if (dropout.active()) {
                const uint32_t row = work.mask_row(args, step * H::kStep + slice * 16 + t * 2);
                mask.make(dropout, row, args.heads, (first + warp * 16) / 8);
            }
#pragma unroll
            for (int n = 0; n < 2; ++n) {
                const int query = slice * 16 + n * 8 + t * 2;
                const float2 l = *reinterpret_cast<const float2*>(lse + query);
                const float2 d = *reinterpret_cast<const float2*>(delta + query);
#pragma unroll
                for (int i = 0; i < 4; ++i) {
                    const bool inside = key + i / 2 * 8 < len;
                    const float row_lse = i % 2 == 0 ? l.x : l.y, row_delta = i % 2 == 0 ? d.x : d.y;
                    const float probability = inside ? exp2_fast(fmaf(p[n][i], scale, -row_lse)) : 0.0f;
                    const float factor = mask.factor(dropout, n, i);
                    p[n][i] = probability * factor;
                    ds[n][i] = probability * (ds[n][i] * factor - row_delta);
                }
            }
            uint32_t left[4];
            H::as_left(left, p);
            H::accumulate(dv, left, tile + H::kStepBytes, slice);
            H::as_left(left, ds);
            H::accumulate(dk, left, tile, slice);
        }
        __syncthreads();
    }

#pragma unroll
    for (int n = 0; n < D / 8; ++n) {
#pragma unroll
        for (int i = 0; i < 4; ++i) dk[n][i] *= args.scale;
    }
    Half* to = args.dqkv + work.row3(first) + work.hidden;
    H::store(dk, to, work.stride, rows, work.head_dim);
    H::store(dv, to + work.hidden, work.stride, rows, work.head_dim);
    if (args.partial_value != nullptr) {
        float* shared = reinterpret_cast<float*>(memory + 2 * H::kBlockBytes);
        H::column_sums(dv, shared, args.partial_value + work.partial(kAttentionRows), work.head_dim, kAttentionWarps);
    }
}

#define ATTENTION_KERNELS(dim, ...)                                                                          \
    extern "C" __global__ void __launch_bounds__(__VA_ARGS__)                                                \
        attention_backward_q_##dim(const __grid_constant__ AttentionArgs args) {                             \
        query_gradient<dim>(args);                                                                           \
    }                                                                                                        \
    extern "C" __global__ void __launch_bounds__(kAttentionThreads)                                          \
        attention_backward_kv_##dim(const __grid_constant__ AttentionArgs args) {                            \
        key_value_gradient<dim>(args);                                                                       \
    }

// Two blocks per multiprocessor: by default the compiler spills (sm_90) to make room for a third.
ATTENTION_KERNELS(32, kAttentionThreads)
ATTENTION_KERNELS(64, kAttentionThreads, 2)
ATTENTION_KERNELS(128, kAttentionThreads)
