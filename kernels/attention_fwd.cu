// out = dropout(softmax(q · kᵀ / sqrt(head_dim))) · v within each sequence, without ever storing the scores:
// FlashAttention-2 (Dao, 2023). Keeps the log of the softmax's denominator for backward.

#include "attention.cuh"

template <int D>
__device__ __forceinline__ void attention(const AttentionArgs& args) {
    using H = Head<D>;
    // Scores of a step in mma's units of eight columns.
    constexpr int kUnits = H::kStep / 8;
    extern __shared__ __align__(128) unsigned char memory[];
    const Work work(args);
    if (!work.any) return;
    const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
    const int first = work.first, len = work.len;
    const Half* q = args.qkv + work.row3(first);
    const Half* k = args.qkv + work.row3(0) + work.hidden;

    const uint32_t q_tile = shared_address(memory), ring = q_tile + H::kBlockBytes;
    auto copy_step = [&](int step) {
        const uint32_t to = ring + step % 2 * 2 * H::kStepBytes;
        const int at = step * H::kStep;
        const Half* from = k + at * work.stride;
        H::template copy<H::kStep>(to, from, work.stride, len - at, work.head_dim);
        H::template copy<H::kStep>(to + H::kStepBytes, from + work.hidden, work.stride, len - at, work.head_dim);
    };
    H::template copy<kAttentionRows>(q_tile, q, work.stride, len - first, work.head_dim);
    copy_step(0);
    commit_copies();

    const float scale = args.scale * kLog2e;
    // Rows g and g + 8 of the warp: running maximum of the raw scores, denominator, output.
    const int g = lane / 4, t = lane % 4;
    float largest[2] = {-INFINITY, -INFINITY}, total[2] = {0.0f, 0.0f};
    float acc[D / 8][4] = {};
    typename H::template Left<true> queries;

    const int steps = (len + H::kStep - 1) / H::kStep;
    for (int step = 0; step < steps; ++step) {
        if (step + 1 < steps) copy_step(step + 1);
        commit_copies();
        wait_copies<1>();
        __syncthreads();
        if (step == 0) queries.load(q_tile);
        const uint32_t tile = ring + step % 2 * 2 * H::kStepBytes;
        const int key0 = step * H::kStep;
        float s[H::kSlices][2][4];
#pragma unroll
        for (int slice = 0; slice < H::kSlices; ++slice) queries.scores(s[slice], tile, slice);
        if (key0 + H::kStep > len) {
#pragma unroll
            for (int n = 0; n < kUnits; ++n) {
#pragma unroll
                for (int i = 0; i < 4; ++i) {
                    if (key0 + n * 8 + t * 2 + i % 2 >= len) s[n / 2][n % 2][i] = -INFINITY;
                }
            }
        }

#pragma unroll
        for (int half = 0; half < 2; ++half) {
            float most = largest[half];
#pragma unroll
            for (int n = 0; n < kUnits; ++n) {
                const float(&x)[4] = s[n / 2][n % 2];
                most = fmaxf(most, fmaxf(x[2 * half], x[2 * half + 1]));
            }
            most = fmaxf(most, __shfl_xor_sync(kFullWarp, most, 1));
            most = fmaxf(most, __shfl_xor_sync(kFullWarp, most, 2));
            // The first tile scales zeros; exp2(-inf) is 0.
            const float shrink = exp2_fast((largest[half] - most) * scale);
            largest[half] = most;
            float sum = 0.0f;
#pragma unroll
            for (int n = 0; n < kUnits; ++n) {
#pragma unroll
                for (int i = 2 * half; i < 2 * half + 2; ++i) {
                    float& x = s[n / 2][n % 2][i];
                    x = exp2_fast(fmaf(x, scale, -most * scale));
                    sum += x;
                }
            }
            // Lanes of a row keep their own part of the denominator until the end.
            total[half] = total[half] * shrink + sum;
#pragma unroll
            for (int n = 0; n < D / 8; ++n) {
                acc[n][2 * half] *= shrink;
                acc[n][2 * half + 1] *= shrink;
            }
        }

        if (args.dropout.dropped > 0) {
            // Made here: kept over the loop, the seed and the step spill on sm_90.
            const Dropout dropout = dropout_of(args);
            const uint32_t row = work.mask_row(args, first + warp * 16 + g);
#pragma unroll
            for (int slice = 0; slice < H::kSlices; ++slice) {
                mask_scores(dropout, row, row + 8 * args.heads, key0 + slice * 16, s[slice]);
            }
        }
#pragma unroll
        for (int slice = 0; slice < H::kSlices; ++slice) {
            uint32_t p[4];
            H::as_left(p, s[slice]);
            H::accumulate(acc, p, tile + H::kStepBytes, slice);
        }
        // The next iteration's copies overwrite this tile's neighbour's place in the ring.
        __syncthreads();
    }

#pragma unroll
    for (int half = 0; half < 2; ++half) {
        total[half] += __shfl_xor_sync(kFullWarp, total[half], 1);
        total[half] += __shfl_xor_sync(kFullWarp, total[half], 2);
        const float inverse = 1.0f / total[half];
#pragma unroll
        for (int n = 0; n < D / 8; ++n) {
            acc[n][2 * half] *= inverse;
            acc[n][2 * half + 1] *= inverse;
        }
        const int row = first + warp * 16 + g + 8 * half;
        if (args.lse != nullptr && t == 0 && row < len) {
            args.lse[work.statistic(args, row)] = largest[half] * args.scale + logf(total[half]);
        }
    }
    H::store(acc, args.out + work.row(first), work.hidden, len - first, work.head_dim);
}

#define ATTENTION_KERNEL(dim, ...)                                                                           \
    extern "C" __global__ void __launch_bounds__(__VA_ARGS__)                                                \
        attention_forward_##dim(const __grid_constant__ AttentionArgs args) {                                \
        attention<dim>(args);                                                                                \
    }

// Four blocks a multiprocessor: left to itself the compiler spills (sm_120) to make room for a fifth.
ATTENTION_KERNEL(32, kAttentionThreads, 4)
ATTENTION_KERNEL(64, kAttentionThreads)
ATTENTION_KERNEL(128, kAttentionThreads)
