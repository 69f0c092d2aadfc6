// Elementary functions: the hardware's base-2 exponential if its 2 ulp suffice, and the activations.
#pragma once

#include "common.cuh"

constexpr float kLog2e = 1.4426950408889634f;
constexpr float kLn2 = 0.6931471805599453f;

__device__ __forceinline__ float exp2_fast(float x) {
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

enum ActivationKind : uint32_t { kGeluErf = 0, kGeluTanh = 1, kRelu = 2 };
MIRRORED(ActivationKind);

// act(x), and act'(x) in `derivative`.
template <uint32_t Kind>
__device__ __forceinline__ float activate(float x, float& derivative) {
    if constexpr (Kind == kGeluErf) {
        // x · Φ(x); the density is what Φ's derivative adds. The same bits as 0.5 · (1 + erf): halving is exact.
        const float cdf = fmaf(0.5f, erff(x * 0.7071067811865476f), 0.5f);
        const float density = 0.3989422804014327f * exp2_fast(x * x * (-0.5f * kLog2e));
        derivative = fmaf(x, density, cdf);
        return x * cdf;
    }
    if constexpr (Kind == kGeluTanh) {
        // 0.5 · x · (1 + tanh(u)), u = sqrt(2/π) · (x + 0.044715 x³)
        const float c = 0.7978845608028654f;
        const float x2 = x * x;
        const float t = tanhf(c * x * fmaf(0.044715f, x2, 1.0f));
        const float slope = c * fmaf(3.0f * 0.044715f, x2, 1.0f);
        derivative = 0.5f * (1.0f + t) + 0.5f * x * (1.0f - t * t) * slope;
        return 0.5f * x * (1.0f + t);
    }
    derivative = x > 0.0f ? 1.0f : 0.0f;
    return fmaxf(x, 0.0f);
}

// Calls `with` with the type of a kind.
template <class With>
__device__ __forceinline__ void with_activation(uint32_t kind, With with) {
    if (kind == kGeluErf) return with(Kind<kGeluErf>());
    if (kind == kGeluTanh) return with(Kind<kGeluTanh>());
    with(Kind<kRelu>());
}
