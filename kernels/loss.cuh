// Losses of rows of logits: shared by the kernels of head.cu, which add them up, and by classify.cu.
#pragma once

#include "columns.cuh"
#include "math.cuh"
#include "varlen.cuh"

enum LossKind : uint32_t { kLossCrossEntropy = 0, kLossSquared = 1, kLossBinary = 2 };
MIRRORED(LossKind);

struct LossArgs {
    const BatchHeader* batch;
    const uint32_t* cu_seqlens;
    // f32 [rows, outputs]
    const float* logits;
    // Class ids or the bits of f32 targets per row, or the two ends of a span per sequence.
    const uint32_t* labels;
    // [outputs], or null if all are 1.
    const float* class_weights;
    // Or null.
    float* dlogits;
    // For labelled tokens: which they are, and the loss of each.
    const uint32_t* labelled;
    float* losses;
    StepState* state;
    const StepNumbers* numbers;
    uint32_t outputs;
    // LossKind
    uint32_t kind;
};
MIRRORED(LossArgs);

// Softmax cross-entropy of `count` logits that are `stride` apart, computed by `Lanes` lanes together. `d`, or null, gets
// `factor` times the gradient.
template <int Lanes>
__device__ __forceinline__ float softmax_loss(const float* x, float* d, uint32_t count, uint32_t stride,
                                              uint32_t label, float factor) {
    static_assert(Lanes == 1 || Lanes == kWarp);
    const uint32_t lane = threadIdx.x % Lanes;
    float most = -INFINITY, sum = 0.0f;
    for (uint32_t c = lane; c < count; c += Lanes) most = fmaxf(most, x[c * stride]);
    if constexpr (Lanes > 1) most = warp_max(most);
    // Unrolled further, the token loss spills on sm_80 and sm_90: 1,024 threads leave 64 registers each.
#pragma unroll 2
    for (uint32_t c = lane; c < count; c += Lanes) sum += expf(x[c * stride] - most);
    if constexpr (Lanes > 1) sum = warp_sum(sum);
    if (d != nullptr) {
#pragma unroll 2
        for (uint32_t c = lane; c < count; c += Lanes) {
            d[c * stride] = factor * (expf(x[c * stride] - most) / sum - (c == label ? 1.0f : 0.0f));
        }
    }
    return logf(sum) - (x[label * stride] - most);
}

// A sequence's loss, computed by a warp: added to `of_rows`, the same in each lane, or to this lane's `of_elements`.
__device__ __forceinline__ void of_sequence(const LossArgs& args, uint32_t s, float& of_rows, float& of_elements) {
    const uint32_t lane = threadIdx.x % kWarp;
    const float weight = args.numbers->weight;
    const float* logits = args.logits + size_t(s) * args.outputs;
    float* d = args.dlogits == nullptr ? nullptr : args.dlogits + size_t(s) * args.outputs;
    if (args.kind == kLossCrossEntropy) {
        const uint32_t label = args.labels[s];
        const float of_class = args.class_weights == nullptr ? 1.0f : args.class_weights[label];
        const float row = softmax_loss<kWarp>(logits, d, args.outputs, 1, label, weight * of_class);
        of_rows = fmaf(of_class, row, of_rows);
        return;
    }
    const uint32_t* targets = args.labels + size_t(s) * args.outputs;
    for (uint32_t c = lane; c < args.outputs; c += kWarp) {
        const float x = logits[c], y = __uint_as_float(targets[c]);
        float gradient;
        if (args.kind == kLossSquared) {
            const float difference = x - y;
            of_elements = fmaf(difference, difference, of_elements);
            gradient = 2.0f * difference;
        } else {
            // In this form no logit overflows.
            const float small = expf(-fabsf(x));
            of_elements += fmaxf(x, 0.0f) - x * y + log1pf(small);
            gradient = (x < 0.0f ? small : 1.0f) / (1.0f + small) - y;
        }
        if (d != nullptr) d[c] = weight * gradient;
    }
}
