// Derivatives of activation functions as the forward pass keeps them for the backward pass: in full, in a byte each,
// or two to a byte. The codes are those of `DerivativeType` in src/backend/mod.rs.
#pragma once

#include "common.cuh"

// Mirrored by `stored_kind` in src/backend/cuda/linear.rs.
enum SlopeStored : uint32_t { kSlopeFull = 0, kSlopeBits8 = 1, kSlopeBits4 = 2 };

struct SlopeCode {
    float steps, zero, most;
};
constexpr SlopeCode kCode8 = {200.0f, 26.0f, 255.0f}, kCode4 = {11.0f, 2.0f, 15.0f};

// The nearest code; halves round up.
__device__ __forceinline__ uint32_t slope_code(float slope, SlopeCode c) {
    return uint32_t(fminf(fmaxf(fmaf(slope, c.steps, c.zero + 0.5f), 0.0f), c.most));
}

// Keeps the derivatives of elements at..at + 8; `at` and the width of a row are multiples of 8.
__device__ __forceinline__ void keep_slopes(Half* to, uint32_t stored, size_t at, const Eight& slope) {
    if (stored == kSlopeFull) {
        store8(to + at, slope);
    } else if (stored == kSlopeBits8) {
        uint2 codes = {0, 0};
#pragma unroll
        for (int i = 0; i < 4; ++i) {
            codes.x |= slope_code(slope.v[i], kCode8) << (8 * i);
            codes.y |= slope_code(slope.v[i + 4], kCode8) << (8 * i);
        }
        reinterpret_cast<uint2*>(to)[at / 8] = codes;
    } else {
        uint32_t codes = 0;
#pragma unroll
        for (int i = 0; i < 8; ++i) codes |= slope_code(slope.v[i], kCode4) << (4 * i);
        reinterpret_cast<uint32_t*>(to)[at / 8] = codes;
    }
}

__device__ __forceinline__ Eight kept_slopes(const Half* from, uint32_t stored, size_t at) {
    if (stored == kSlopeFull) return load8(from + at);
    Eight slope;
    if (stored == kSlopeBits8) {
        const uint2 codes = reinterpret_cast<const uint2*>(from)[at / 8];
#pragma unroll
        for (int i = 0; i < 4; ++i) {
            slope.v[i] = (float(codes.x >> (8 * i) & 255u) - kCode8.zero) * (1.0f / kCode8.steps);
            slope.v[i + 4] = (float(codes.y >> (8 * i) & 255u) - kCode8.zero) * (1.0f / kCode8.steps);
        }
    } else {
        const uint32_t codes = reinterpret_cast<const uint32_t*>(from)[at / 8];
#pragma unroll
        for (int i = 0; i < 8; ++i) slope.v[i] = (float(codes >> (4 * i) & 15u) - kCode4.zero) * (1.0f / kCode4.steps);
    }
    return slope;
}
