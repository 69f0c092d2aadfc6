// out = dropout(softmax(q · kᵀ / sqrt(head_dim))) · v within each sequence, without ever storing the scores:
// FlashAttention-2 (Dao, 2023). Keeps the log of the softmax's denominator for backward.

#include "attention.cuh"

template <int D>
__device__ __forceinline__ void attention(const AttentionArgs& args) {
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
    const Half* q = args.qkv + (span.start + first) * stride + head * head_dim;
    const Half* k = args.qkv + span.start * stride + hidden + head * head_dim;
    const Half* v = k + hidden;

    const uint32_t q_tile = shared_address(memory), ring = q_tile + H::kBlockBytes;
    auto copy_step = [&](int step) {
        const uint32_t to = ring + step % 2 * 2 * H::kStepBytes;
        const int at = step * H::kStep;
        H::template copy<H::kStep>(to, k + at * stride, stride, len - at, head_dim);
        H::template copy<H::kStep>(to + H::kStepBytes, v + at * stride, stride, len - at, head_dim);
    };
    H::template copy<kAttentionRows>(q_tile, q, stride, len - first, head_dim);
    copy_step(0);
    commit_copies();

    const Dropout dropout(args.dropout, args.batch);
    const float scale = args.scale * kLog2e;
    // Rows g and g + 8 of the warp: running maximum of the raw scores, denominator, output.
    const int g = lane / 4, t = lane % 4;
    float largest[2] = {-INFINITY, -INFINITY}, total[2] = {0.0f, 0.0f};
    float acc[D / 8][4] = {};
    uint32_t q_fragments[H::kInner][4];

    const int steps = (len + H::kStep - 1) / H::kStep;
    for (int step = 0; step < steps; ++step) {
        if (step + 1 < steps) copy_step(step + 1);
        commit_copies();
        wait_copies<1>();
        __syncthreads();
        if (step == 0) {
#pragma unroll
            for (int i = 0; i < H::kInner; ++i) H::T::left(q_fragments[i], q_tile, warp * 16, i);
        }
        const uint32_t tile = ring + step % 2 * 2 * H::kStepBytes;
        float s[H::kScores][4];
        H::scores(s, q_fragments, tile);

        const int key0 = step * H::kStep;
        if (key0 + H::kStep > len) {
#pragma unroll
            for (int n = 0; n < H::kScores; ++n) {
#pragma unroll
                for (int i = 0; i < 4; ++i) {
                    if (key0 + n * 8 + t * 2 + i % 2 >= len) s[n][i] = -INFINITY;
                }
            }
        }

#pragma unroll
        for (int half = 0; half < 2; ++half) {
            float most = largest[half];
#pragma unroll
            for (int n = 0; n < H::kScores; ++n) most = fmaxf(most, fmaxf(s[n][2 * half], s[n][2 * half + 1]));
            most = fmaxf(most, __shfl_xor_sync(kFullWarp, most, 1));
            most = fmaxf(most, __shfl_xor_sync(kFullWarp, most, 2));
            // The first tile scales zeros; exp2(-inf) is 0.
            const float shrink = exp2_fast((largest[half] - most) * scale);
            largest[half] = most;
            float sum = 0.0f;
#pragma unroll
            for (int n = 0; n < H::kScores; ++n) {
#pragma unroll
                for (int i = 2 * half; i < 2 * half + 2; ++i) {
                    s[n][i] = exp2_fast(fmaf(s[n][i], scale, -most * scale));
                    sum += s[n][i];
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

        if (dropout.active()) {
            // A block of four words serves four columns, so two lanes; the even lane computes that of row g, the odd
            // one that of row g + 8, and they exchange halves.
            const bool odd = t % 2 == 1;
            const uint32_t token = span.start + first + warp * 16 + g + (odd ? 8 : 0);
#pragma unroll
            for (int n = 0; n < H::kScores; ++n) {
                const Words w = dropout.words(token * args.heads + head, (key0 + n * 8) / 4 + t / 2);
                const uint32_t got0 = __shfl_xor_sync(kFullWarp, odd ? w.w[0] : w.w[2], 1);
                const uint32_t got1 = __shfl_xor_sync(kFullWarp, odd ? w.w[1] : w.w[3], 1);
                s[n][0] *= dropout.factor(odd ? got0 : w.w[0]);
                s[n][1] *= dropout.factor(odd ? got1 : w.w[1]);
                s[n][2] *= dropout.factor(odd ? w.w[2] : got0);
                s[n][3] *= dropout.factor(odd ? w.w[3] : got1);
            }
        }
        H::accumulate(acc, s, tile + H::kStepBytes);
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
            args.lse[size_t(span.start + row) * args.heads + head] = largest[half] * args.scale + logf(total[half]);
        }
    }
    Half* out = args.out + (span.start + first) * hidden + head * head_dim;
    H::store(memory, acc, out, hidden, len - first, head_dim);
}

#define ATTENTION_KERNEL(dim)                                                                                \
    extern "C" __global__ void __launch_bounds__(kAttentionThreads)                                          \
        attention_forward_##dim(const __grid_constant__ AttentionArgs args) {                                \
        attention<dim>(args);                                                                                \
    }

ATTENTION_KERNEL(32)
ATTENTION_KERNEL(64)
ATTENTION_KERNEL(128)
