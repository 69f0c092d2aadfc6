// The kept x̂ of a LayerNorm: in the half type, or in codes of a signed byte, x̂ = c·|c|·√width/127².
#pragma once

#include "common.cuh"

enum XHatKind : uint32_t { kXHatFull = 0, kXHatBits8 = 1 };
MIRRORED(XHatKind);

// Accurate to one unit in the last place, in one instruction.
__device__ __forceinline__ float root(float x) {
    float r;
    asm("sqrt.approx.f32 %0, %1;" : "=f"(r) : "f"(x));
    return r;
}

// Eight x̂ at element `at` (a multiple of 8) of a tensor whose row width is a multiple of 8. The root is rounded to nearest;
// a NaN becomes 0: it shows in the output next to it.
__device__ __forceinline__ void store_x_hat(void* tensor, uint32_t kind, int width, size_t at, const Eight& e) {
    if (kind == kXHatFull) {
        store8(static_cast<Half*>(tensor) + at, e);
        return;
    }
    // ±127 is ±√width, which no row of normalised values exceeds.
    const float squares = 127.0f * 127.0f * rsqrtf(float(width));
    uint32_t words[2] = {0, 0};
#pragma unroll
    for (int i = 0; i < 8; ++i) {
        const int code = __float2int_rn(copysignf(root(fabsf(e.v[i]) * squares), e.v[i]));
        words[i / 4] |= (uint32_t(code) & 255u) << (i % 4 * 8);
    }
    *reinterpret_cast<uint2*>(static_cast<uint8_t*>(tensor) + at) = make_uint2(words[0], words[1]);
}

__device__ __forceinline__ Eight load_x_hat(const void* tensor, uint32_t kind, int width, size_t at) {
    if (kind == kXHatFull) return load8(static_cast<const Half*>(tensor) + at);
    const uint2 both = *reinterpret_cast<const uint2*>(static_cast<const uint8_t*>(tensor) + at);
    const uint32_t words[2] = {both.x, both.y};
    const float unit = root(float(width)) * (1.0f / (127.0f * 127.0f));
    Eight e;
#pragma unroll
    for (int i = 0; i < 8; ++i) {
        const float c = float(int8_t(words[i / 4] >> (i % 4 * 8)));
        e.v[i] = c * fabsf(c) * unit;
    }
    return e;
}
