// The kept derivative of an activation function: in the half type, or in linear codes of 8 or 4 bits, d = (code - zero) /
// steps, that cover the range of GELU's derivative and represent 0 and 1 exactly.
#pragma once

#include "common.cuh"

enum DerivativeKind : uint32_t { kDerivativeFull = 0, kDerivativeBits8 = 1, kDerivativeBits4 = 2, kDerivativeNone = 3 };
MIRRORED(DerivativeKind);

// Calls `with` with the type of a kind.
template <class With>
__device__ __forceinline__ void with_derivative(uint32_t kind, With with) {
    if (kind == kDerivativeFull) return with(Kind<kDerivativeFull>());
    if (kind == kDerivativeBits8) return with(Kind<kDerivativeBits8>());
    with(Kind<kDerivativeBits4>());
}

template <int Steps, int Zero, int Bits>
struct Code {
    // Eight neighbouring derivatives, the first in the lowest bits: one or two words.
    static constexpr int kWords = Bits / 4;
    static constexpr int kPerWord = 32 / Bits;

    // The nearest code; halves round up. A NaN becomes 0: it shows in the value stored next to it.
    static __device__ __forceinline__ void encode(const Eight& e, uint32_t (&words)[kWords]) {
        constexpr float kMost = float((1 << Bits) - 1);
#pragma unroll
        for (int w = 0; w < kWords; ++w) {
            words[w] = 0;
#pragma unroll
            for (int i = 0; i < kPerWord; ++i) {
                const float scaled = fmaf(e.v[w * kPerWord + i], float(Steps), float(Zero) + 0.5f);
                words[w] |= uint32_t(fminf(fmaxf(scaled, 0.0f), kMost)) << (i * Bits);
            }
        }
    }

    static __device__ __forceinline__ Eight decode(const uint32_t (&words)[kWords]) {
        constexpr float kStep = 1.0f / float(Steps);
        static_assert(float(Steps) * kStep == 1.0f, "1 is exact");
        Eight e;
#pragma unroll
        for (int i = 0; i < 8; ++i) {
            const uint32_t code = words[i / kPerWord] >> (i % kPerWord * Bits) & ((1u << Bits) - 1);
            e.v[i] = float(int(code) - Zero) * kStep;
        }
        return e;
    }
};

using Byte = Code<200, 26, 8>;
using HalfByte = Code<11, 2, 4>;

// Eight derivatives at element `at` (a multiple of 8) of a tensor whose row width is a multiple of 8.
template <uint32_t Stored>
__device__ __forceinline__ void store_derivative(void* tensor, size_t at, const Eight& e) {
    if constexpr (Stored == kDerivativeFull) {
        store8(static_cast<Half*>(tensor) + at, e);
    } else if constexpr (Stored == kDerivativeBits8) {
        uint32_t words[2];
        Byte::encode(e, words);
        *reinterpret_cast<uint2*>(static_cast<uint8_t*>(tensor) + at) = make_uint2(words[0], words[1]);
    } else {
        uint32_t words[1];
        HalfByte::encode(e, words);
        *reinterpret_cast<uint32_t*>(static_cast<uint8_t*>(tensor) + at / 2) = words[0];
    }
}

template <uint32_t Stored>
__device__ __forceinline__ Eight load_derivative(const void* tensor, size_t at) {
    if constexpr (Stored == kDerivativeFull) return load8(static_cast<const Half*>(tensor) + at);
    if constexpr (Stored == kDerivativeBits8) {
        const uint2 both = *reinterpret_cast<const uint2*>(static_cast<const uint8_t*>(tensor) + at);
        const uint32_t words[2] = {both.x, both.y};
        return Byte::decode(words);
    }
    const uint32_t words[1] = {*reinterpret_cast<const uint32_t*>(static_cast<const uint8_t*>(tensor) + at / 2)};
    return HalfByte::decode(words);
}

// The same for a kind known only at run time.
__device__ __forceinline__ void store_derivative(void* tensor, uint32_t kind, size_t at, const Eight& e) {
    with_derivative(kind, [&](auto stored) { store_derivative<decltype(stored)::value>(tensor, at, e); });
}

__device__ __forceinline__ Eight load_derivative(const void* tensor, uint32_t kind, size_t at) {
    Eight e;
    with_derivative(kind, [&](auto stored) { e = load_derivative<decltype(stored)::value>(tensor, at); });
    return e;
}
