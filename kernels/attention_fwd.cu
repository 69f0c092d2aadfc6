// out = dropout(softmax(q · kᵀ / sqrt(head_dim))) · v within each sequence, without ever storing the scores: FlashAttention-2
// (Dao, 2023). Keeps the log of the softmax's denominator for backward.
//
// A block has up to four warps, as many as the longest sequence has rows for. For heads up to 64 wide, a warp has two groups
// of 16 rows, and the keys and values it loads serve both.

#include "attention.cuh"

template <int D>
struct Forward : Head<D> {
    // Groups of 16 rows per warp.
    static constexpr int kGroups = (D == 128 ? kForwardRowsWide : kForwardRows) / 16;
    // One group's queries stay in registers. Two groups' do not fit and are fetched at each step.
    static constexpr bool kKept = kGroups == 1;
};

template <int D>
__device__ __forceinline__ void attention(const AttentionArgs& args) {
    using H = Forward<D>;
    constexpr int kGroups = H::kGroups;
    // Scores of a step in mma's 8-column units.
    constexpr int kUnits = H::kStep / 8;
    extern __shared__ __align__(128) unsigned char memory[];
    const int rows = int(blockDim.x) / kWarp * 16 * kGroups;
    const Work work(args, rows);
    if (!work.any) return;
    const int lane = threadIdx.x % kWarp, own = int(threadIdx.x) / kWarp * 16 * kGroups;
    const int first = work.first, len = work.len;
    const Half* q = args.qkv + work.row3(first);
    const Half* k = args.qkv + work.row3(0) + work.hidden;

    const uint32_t q_tile = shared_address(memory), ring = q_tile + rows * H::kRowBytes;
    auto copy_step = [&](int step) {
        const uint32_t to = ring + step % 2 * 2 * H::kStepBytes;
        const int at = step * H::kStep;
        const Half* from = k + at * work.stride;
        H::copy_rows(to, from, work.stride, H::kStep, len - at, work.head_dim);
        H::copy_rows(to + H::kStepBytes, from + work.hidden, work.stride, H::kStep, len - at, work.head_dim);
    };
    H::copy_rows(q_tile, q, work.stride, rows, len - first, work.head_dim);
    copy_step(0);
    commit_copies();

    const float scale = args.scale * kLog2e;
    // Rows g and g + 8 of each group: running maximum of the raw scores, denominator, output.
    const int g = lane / 4, t = lane % 4;
    float largest[kGroups][2], total[kGroups][2] = {};
    float acc[kGroups][D / 8][4] = {};
    uint32_t queries[kGroups][H::kKept ? H::kInner : 1][4];
    auto fetch = [&](int k) {
#pragma unroll
        for (int group = 0; group < kGroups; ++group) {
            H::T::left(queries[group][H::kKept ? k : 0], q_tile, own + group * 16, k);
        }
    };
#pragma unroll
    for (int group = 0; group < kGroups; ++group) largest[group][0] = largest[group][1] = -INFINITY;

    const int steps = (len + H::kStep - 1) / H::kStep;
    for (int step = 0; step < steps; ++step) {
        if (step + 1 < steps) copy_step(step + 1);
        commit_copies();
        wait_copies<1>();
        __syncthreads();
        if (H::kKept && step == 0) {
#pragma unroll
            for (int k = 0; k < H::kInner; ++k) fetch(k);
        }
        const uint32_t tile = ring + step % 2 * 2 * H::kStepBytes;
        const int key0 = step * H::kStep;
        float s[kGroups][H::kSlices][2][4] = {};
#pragma unroll
        for (int k = 0; k < H::kInner; ++k) {
            if (!H::kKept) fetch(k);
#pragma unroll
            for (int slice = 0; slice < H::kSlices; ++slice) {
                uint32_t b[4];
                H::T::right(b, tile, slice * 16, k);
#pragma unroll
                for (int group = 0; group < kGroups; ++group) {
                    const uint32_t(&a)[4] = queries[group][H::kKept ? k : 0];
                    mma(s[group][slice][0], a, b[0], b[1]);
                    mma(s[group][slice][1], a, b[2], b[3]);
                }
            }
        }
        if (key0 + H::kStep > len) {
#pragma unroll
            for (int n = 0; n < kUnits; ++n) {
#pragma unroll
                for (int i = 0; i < 4; ++i) {
                    if (key0 + n * 8 + t * 2 + i % 2 < len) continue;
#pragma unroll
                    for (int group = 0; group < kGroups; ++group) s[group][n / 2][n % 2][i] = -INFINITY;
                }
            }
        }

#pragma unroll
        for (int half = 0; half < 2 * kGroups; ++half) {
            const int group = half / 2, upper = half % 2 * 2;
            float most = largest[group][half % 2];
#pragma unroll
            for (int n = 0; n < kUnits; ++n) {
                const float(&x)[4] = s[group][n / 2][n % 2];
                most = fmaxf(most, fmaxf(x[upper], x[upper + 1]));
            }
            most = fmaxf(most, __shfl_xor_sync(kFullWarp, most, 1));
            most = fmaxf(most, __shfl_xor_sync(kFullWarp, most, 2));
            // The first tile scales zeros; exp2(-inf) is 0.
            const float shrink = exp2_fast((largest[group][half % 2] - most) * scale);
            largest[group][half % 2] = most;
            float sum = 0.0f;
#pragma unroll
            for (int n = 0; n < kUnits; ++n) {
#pragma unroll
                for (int i = upper; i < upper + 2; ++i) {
                    float& x = s[group][n / 2][n % 2][i];
                    x = exp2_fast(fmaf(x, scale, -most * scale));
                    sum += x;
                }
            }
            // Each lane of a row keeps its own part of the denominator until the end.
            total[group][half % 2] = total[group][half % 2] * shrink + sum;
#pragma unroll
            for (int n = 0; n < D / 8; ++n) {
                acc[group][n][upper] *= shrink;
                acc[group][n][upper + 1] *= shrink;
            }
        }

        if (args.dropout.dropped > 0) {
            // Built here: kept across the loop, the seed and the step spill on sm_90.
            const Dropout dropout = dropout_of(args);
#pragma unroll
            for (int group = 0; group < kGroups; ++group) {
                const uint32_t row = work.mask_row(args, first + own + group * 16 + g);
#pragma unroll
                for (int slice = 0; slice < H::kSlices; ++slice) {
                    mask_scores(dropout, row, row + 8 * args.heads, key0 + slice * 16, s[group][slice]);
                }
            }
        }
#pragma unroll
        for (int slice = 0; slice < H::kSlices; ++slice) {
            uint32_t p[kGroups][4];
#pragma unroll
            for (int group = 0; group < kGroups; ++group) H::as_left(p[group], s[group][slice]);
#pragma unroll
            for (int n = 0; n < D / 16; ++n) {
                uint32_t b[4];
                H::T::right_trans(b, tile + H::kStepBytes, slice * 16, n);
#pragma unroll
                for (int group = 0; group < kGroups; ++group) {
                    mma(acc[group][2 * n], p[group], b[0], b[1]);
                    mma(acc[group][2 * n + 1], p[group], b[2], b[3]);
                }
            }
        }
        // The next iteration's copies overwrite the neighbouring place in the ring.
        __syncthreads();
    }

#pragma unroll
    for (int group = 0; group < kGroups; ++group) {
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            float sum = total[group][half];
            sum += __shfl_xor_sync(kFullWarp, sum, 1);
            sum += __shfl_xor_sync(kFullWarp, sum, 2);
            const float inverse = 1.0f / sum;
#pragma unroll
            for (int n = 0; n < D / 8; ++n) {
                acc[group][n][2 * half] *= inverse;
                acc[group][n][2 * half + 1] *= inverse;
            }
            const int row = first + own + group * 16 + g + 8 * half;
            if (args.lse != nullptr && t == 0 && row < len) {
                args.lse[work.statistic(args, row)] = largest[group][half] * args.scale + logf(sum);
            }
        }
        H::store_rows(
            acc[group], own + group * 16, args.out + work.row(first), work.hidden, len - first, work.head_dim);
    }
}

#define ATTENTION_KERNEL(dim, ...)                                                                           \
    extern "C" __global__ void __launch_bounds__(__VA_ARGS__)                                                \
        attention_forward_##dim(const __grid_constant__ AttentionArgs args) {                                \
        attention<dim>(args);                                                                                \
    }

// Three and two blocks per multiprocessor, 12 and 8 warps of 32 rows each: by default the compiler spills to fit more.
ATTENTION_KERNEL(32, kAttentionThreads, 3)
ATTENTION_KERNEL(64, kAttentionThreads, 2)
ATTENTION_KERNEL(128, kAttentionThreads)
