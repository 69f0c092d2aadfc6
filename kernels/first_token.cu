// The first token of each sequence, for heads that read no other: its row among all tokens, and its attention over the whole
// sequence. With one query per sequence, tensor cores have nothing to do; what counts is to read k and v once, 16 bytes per
// lane.

#include "math.cuh"
#include "mma.cuh"
#include "philox.cuh"

struct FirstTokenArgs {
    const BatchHeader* batch;
    const uint32_t* cu_seqlens;
    // [tokens, width]
    Half* tokens;
    // [sequences, width]
    Half* first;
    uint32_t width;
    uint32_t padding;
};
MIRRORED(FirstTokenArgs);

constexpr int kFirstRowWarps = 4;

// Addresses of this thread's eight elements, null if it has none. Grid: four sequences × 256-column parts.
struct Pair {
    Half* token;
    Half* first;

    __device__ __forceinline__ explicit Pair(const FirstTokenArgs& args) : token(nullptr), first(nullptr) {
        const uint32_t sequence = blockIdx.x * kFirstRowWarps + threadIdx.x / kWarp;
        const uint32_t column = (blockIdx.y * kWarp + threadIdx.x % kWarp) * 8;
        if (sequence >= args.batch->sequences || column >= args.width) return;
        token = args.tokens + size_t(span_of(args.cu_seqlens, sequence).start) * args.width + column;
        first = args.first + size_t(sequence) * args.width + column;
    }
};

// first[s] = tokens[first token of s]
extern "C" __global__ void __launch_bounds__(kFirstRowWarps * kWarp)
    gather_first(const __grid_constant__ FirstTokenArgs args) {
    const Pair at(args);
    if (at.token != nullptr) {
        *reinterpret_cast<uint4*>(at.first) = *reinterpret_cast<const uint4*>(at.token);
    }
}

// tokens[first token of s] += first[s]
extern "C" __global__ void __launch_bounds__(kFirstRowWarps * kWarp)
    add_first(const __grid_constant__ FirstTokenArgs args) {
    const Pair at(args);
    if (at.token == nullptr) return;
    Eight sum = load8(at.token);
    const Eight more = load8(at.first);
#pragma unroll
    for (int i = 0; i < 8; ++i) sum.v[i] += more.v[i];
    store8(at.token, sum);
}

// --- attention -------------------------------------------------------------------------------------------

// Only backward uses the second half.
struct FirstAttentionArgs {
    const BatchHeader* batch;
    const uint32_t* cu_seqlens;
    // [sequences, heads · head_dim]
    const Half* query;
    // [tokens, 2 · heads · head_dim]
    const Half* key_value;
    // [sequences, heads · head_dim]
    Half* out;
    // [sequences, heads]: log of the softmax's denominator; forward writes it if not null.
    float* lse;
    const Half* dout;
    Half* d_query;
    Half* d_key_value;
    // [sequences, heads · head_dim], or null.
    float* partial_query;
    float* partial_value;
    DropoutArgs dropout;
    uint32_t heads;
    uint32_t head_dim;
    // 1 / sqrt(head_dim)
    float scale;
    uint32_t padding;
};
MIRRORED(FirstAttentionArgs);

constexpr int kFirstWarps = 4;
MIRRORED(FirstToken);
constexpr int kFirstThreads = kFirstWarps * kWarp;

// One head of one sequence. Its keys are dealt out to groups of D / 8 lanes that together hold a row of the head, eight
// columns per lane; columns from head_dim on are zero. Grid: sequences × heads.
template <int D>
struct FirstHead {
    static constexpr int kLanes = D / 8, kGroups = kFirstThreads / kLanes;
    static_assert(kGroups % 4 == 0, "a round ends with whole fours");

    uint32_t sequence, head;
    Span span;
    // This lane's first column in the head, and whether the head is that wide.
    int chunk;
    bool inside;
    uint32_t group;
    // Elements per row of [sequences, hidden], and this lane's offset in the sequence's row.
    size_t hidden, place;

    __device__ __forceinline__ explicit FirstHead(const FirstAttentionArgs& args)
        : sequence(blockIdx.x), head(blockIdx.y), span(span_of(args.cu_seqlens, sequence)),
          chunk(int(threadIdx.x) % kLanes * 8), inside(chunk < int(args.head_dim)), group(threadIdx.x / kLanes),
          hidden(size_t(args.heads) * args.head_dim),
          place(sequence * hidden + size_t(head) * args.head_dim + chunk) {}

    // This lane's offset in k's row of a key; v's is `hidden` further on.
    __device__ __forceinline__ size_t row(uint32_t key) const {
        return size_t(span.start + key) * 2 * hidden + (place - sequence * hidden);
    }
    __device__ __forceinline__ Eight load(const Half* from, size_t at) const { return inside ? load8(from + at) : Eight{}; }
    __device__ __forceinline__ void store(Half* to, size_t at, const Eight& e) const {
        const uint4 packed = pack8(e);
        const uint32_t words[4] = {packed.x, packed.y, packed.z, packed.w};
        if (inside) store16(to + at, words);
    }

    // Rounds per group: the same for all, so that warps stay together, and past the last four keys.
    __device__ __forceinline__ uint32_t rounds() const { return (span.len + kGroups - 1) / kGroups; }

    static __device__ __forceinline__ float dot(const Eight& a, const Eight& b) {
        float sum = 0.0f;
#pragma unroll
        for (int i = 0; i < 8; ++i) sum = fmaf(a.v[i], b.v[i], sum);
#pragma unroll
        for (int offset = 1; offset < kLanes; offset <<= 1) sum += __shfl_xor_sync(kFullWarp, sum, offset);
        return sum;
    }

    // Adds up the groups' values for the same columns, in a fixed order; the first group has the sum. All threads call it.
    // `shared` holds kFirstWarps · D floats.
    __device__ __forceinline__ void sum_groups(Eight& e, float* shared) const {
#pragma unroll
        for (int i = 0; i < 8; ++i) {
#pragma unroll
            for (int offset = kLanes; offset < kWarp; offset <<= 1) {
                e.v[i] += __shfl_xor_sync(kFullWarp, e.v[i], offset);
            }
        }
        const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
        if (lane < kLanes) {
#pragma unroll
            // Plane by plane: neighbouring lanes use neighbouring banks.
            for (int i = 0; i < 8; ++i) shared[warp * D + i * kLanes + lane] = e.v[i];
        }
        __syncthreads();
        if (threadIdx.x < kLanes) {
#pragma unroll
            for (int i = 0; i < 8; ++i) {
                float sum = shared[i * kLanes + lane];
#pragma unroll
                for (int w = 1; w < kFirstWarps; ++w) sum += shared[w * D + i * kLanes + lane];
                e.v[i] = sum;
            }
        }
        __syncthreads();
    }

    // Dropout's factors for four neighbouring keys. The neighbour has the other half of their block of words.
    __device__ __forceinline__ void factors(
        const Dropout& dropout, uint32_t heads, uint32_t four, float (&m)[4]) const {
        uint32_t left = 0, right = 0;
        if (dropout.active()) {
            const Words w = dropout.words(sequence * heads + head, four / 2);
            left = four % 2 == 0 ? w.w[0] : w.w[2];
            right = four % 2 == 0 ? w.w[1] : w.w[3];
        }
        m[0] = dropout.even(left);
        m[1] = dropout.odd(left);
        m[2] = dropout.even(right);
        m[3] = dropout.odd(right);
    }
};

// The sum or maximum over the block, in every thread. `shared` holds kFirstWarps floats.
template <bool Max>
__device__ __forceinline__ float block_reduce(float x, float* shared) {
    x = Max ? warp_max(x) : warp_sum(x);
    if (threadIdx.x % kWarp == 0) shared[threadIdx.x / kWarp] = x;
    __syncthreads();
    x = shared[0];
#pragma unroll
    for (int w = 1; w < kFirstWarps; ++w) x = Max ? fmaxf(x, shared[w]) : x + shared[w];
    __syncthreads();
    return x;
}

// Groups write keys one by one and threads read them in fours, so dynamic shared memory holds whole fours.
extern __shared__ __align__(16) float first_scores[];

__device__ __forceinline__ float4& four_at(float* scores, uint32_t four) {
    return reinterpret_cast<float4*>(scores)[four];
}

template <int D>
__device__ __forceinline__ void first_forward(const FirstAttentionArgs& args) {
    __shared__ float shared[kFirstWarps * D];
    if (blockIdx.x >= args.batch->sequences) return;
    const FirstHead<D> at(args);
    const uint32_t len = at.span.len, fours = (len + 3) / 4;
    float* p = first_scores;

    const Eight q = at.load(args.query, at.place);
    float most = -INFINITY;
    for (uint32_t round = 0; round < at.rounds(); ++round) {
        const uint32_t key = round * FirstHead<D>::kGroups + at.group;
        const Eight k = key < len ? at.load(args.key_value, at.row(key)) : Eight{};
        const float score = FirstHead<D>::dot(q, k) * args.scale;
        if (key < len) most = fmaxf(most, score);
        // The padding of the last four has zero weight.
        if (at.chunk == 0 && key < fours * 4) p[key] = key < len ? score : -INFINITY;
    }
    most = block_reduce<true>(most, shared);

    const Dropout dropout(args.dropout, args.batch, args.batch->first_sequence * args.heads);
    float sum = 0.0f;
    for (uint32_t four = threadIdx.x; four < fours; four += kFirstThreads) {
        const float4 s = four_at(p, four);
        float e[4] = {s.x, s.y, s.z, s.w}, m[4];
        at.factors(dropout, args.heads, four, m);
#pragma unroll
        for (int i = 0; i < 4; ++i) {
            e[i] = exp2_fast((e[i] - most) * kLog2e);
            sum += e[i];
            e[i] *= m[i];
        }
        four_at(p, four) = make_float4(e[0], e[1], e[2], e[3]);
    }
    sum = block_reduce<false>(sum, shared);

    Eight out = {};
    for (uint32_t key = at.group; key < len; key += FirstHead<D>::kGroups) {
        const Eight v = at.load(args.key_value + at.hidden, at.row(key));
        const float weight = p[key];
#pragma unroll
        for (int i = 0; i < 8; ++i) out.v[i] = fmaf(weight, v.v[i], out.v[i]);
    }
    at.sum_groups(out, shared);
    if (threadIdx.x < FirstHead<D>::kLanes && at.inside) {
        const float inverse = 1.0f / sum;
#pragma unroll
        for (int i = 0; i < 8; ++i) out.v[i] *= inverse;
        store8(args.out + at.place, out);
    }
    if (args.lse != nullptr && threadIdx.x == 0) {
        args.lse[size_t(at.sequence) * args.heads + at.head] = most + logf(sum);
    }
}

// One block has all of one head of one sequence, so Σ p·dp is summed directly and this sequence's bias gradients are
// complete: dv's columns add up to dout times the sum of the probabilities that dropout left.
template <int D>
__device__ __forceinline__ void first_backward(const FirstAttentionArgs& args) {
    __shared__ float shared[kFirstWarps * D];
    if (blockIdx.x >= args.batch->sequences) return;
    const FirstHead<D> at(args);
    const uint32_t len = at.span.len, fours = (len + 3) / 4;
    float* p = first_scores;
    float* ds = first_scores + fours * 4;

    const Eight q = at.load(args.query, at.place), dout = at.load(args.dout, at.place);
    for (uint32_t round = 0; round < at.rounds(); ++round) {
        const uint32_t key = round * FirstHead<D>::kGroups + at.group;
        const bool valid = key < len;
        const Eight k = valid ? at.load(args.key_value, at.row(key)) : Eight{};
        const Eight v = valid ? at.load(args.key_value + at.hidden, at.row(key)) : Eight{};
        const float score = FirstHead<D>::dot(q, k) * args.scale, dp = FirstHead<D>::dot(dout, v);
        if (at.chunk == 0 && key < fours * 4) {
            p[key] = valid ? score : -INFINITY;
            ds[key] = dp;
        }
    }
    __syncthreads();

    const Dropout dropout(args.dropout, args.batch, args.batch->first_sequence * args.heads);
    const float lse = args.lse[size_t(at.sequence) * args.heads + at.head];
    float along = 0.0f, whole = 0.0f, kept = 0.0f;
    for (uint32_t four = threadIdx.x; four < fours; four += kFirstThreads) {
        const float4 s = four_at(p, four), d = four_at(ds, four);
        float e[4] = {s.x, s.y, s.z, s.w}, g[4] = {d.x, d.y, d.z, d.w}, m[4];
        at.factors(dropout, args.heads, four, m);
#pragma unroll
        for (int i = 0; i < 4; ++i) {
            e[i] = exp2_fast((e[i] - lse) * kLog2e);
            g[i] *= m[i];
            along = fmaf(e[i], g[i], along);
            whole += e[i];
            kept = fmaf(e[i], m[i], kept);
        }
        four_at(p, four) = make_float4(e[0], e[1], e[2], e[3]);
        four_at(ds, four) = make_float4(g[0], g[1], g[2], g[3]);
    }
    // Divided by the sum of p, which rounding leaves slightly off 1: a single key's gradient is then exactly zero.
    along = block_reduce<false>(along, shared) / block_reduce<false>(whole, shared);
    kept = block_reduce<false>(kept, shared);
    // The same fours as before: each thread reads only what it wrote.
    for (uint32_t four = threadIdx.x; four < fours; four += kFirstThreads) {
        const float4 s = four_at(p, four), d = four_at(ds, four);
        float e[4] = {s.x, s.y, s.z, s.w}, g[4] = {d.x, d.y, d.z, d.w}, m[4];
        at.factors(dropout, args.heads, four, m);
#pragma unroll
        for (int i = 0; i < 4; ++i) {
            g[i] = e[i] * (g[i] - along) * args.scale;
            e[i] *= m[i];
        }
        four_at(p, four) = make_float4(e[0], e[1], e[2], e[3]);
        four_at(ds, four) = make_float4(g[0], g[1], g[2], g[3]);
    }
    __syncthreads();

    Eight dq = {};
    for (uint32_t key = at.group; key < len; key += FirstHead<D>::kGroups) {
        const float weight = p[key], slope = ds[key];
        const Eight k = at.load(args.key_value, at.row(key));
        Eight dk, dv;
#pragma unroll
        for (int i = 0; i < 8; ++i) {
            dq.v[i] = fmaf(slope, k.v[i], dq.v[i]);
            dk.v[i] = slope * q.v[i];
            dv.v[i] = weight * dout.v[i];
        }
        at.store(args.d_key_value, at.row(key), dk);
        at.store(args.d_key_value + at.hidden, at.row(key), dv);
    }
    at.sum_groups(dq, shared);
    if (threadIdx.x < FirstHead<D>::kLanes && at.inside) {
        at.store(args.d_query, at.place, dq);
        Eight dv;
#pragma unroll
        for (int i = 0; i < 8; ++i) dv.v[i] = kept * dout.v[i];
        if (args.partial_query != nullptr) store8(args.partial_query + at.place, dq);
        if (args.partial_value != nullptr) store8(args.partial_value + at.place, dv);
    }
}

// Blocks per multiprocessor: by default the compiler spills to fit one more.
#define FIRST_ATTENTION_KERNELS(dim)                                                                         \
    extern "C" __global__ void __launch_bounds__(kFirstThreads, 8)                                           \
        first_attention_forward_##dim(const __grid_constant__ FirstAttentionArgs args) {                     \
        first_forward<dim>(args);                                                                            \
    }                                                                                                        \
    extern "C" __global__ void __launch_bounds__(kFirstThreads, 6)                                           \
        first_attention_backward_##dim(const __grid_constant__ FirstAttentionArgs args) {                    \
        first_backward<dim>(args);                                                                           \
    }

FIRST_ATTENTION_KERNELS(32)
FIRST_ATTENTION_KERNELS(64)
FIRST_ATTENTION_KERNELS(128)
