// What every kernel shares: the half type of this build, 16-byte accesses, warp reductions.
//
// Each .cu file is compiled twice, with -DBITFIT_F16 and -DBITFIT_BF16. Storage is 16 bits, arithmetic f32.
#pragma once

#include "mirrored.cuh"

#include <stdint.h>

#if !defined(BITFIT_F16) && !defined(BITFIT_BF16)
#define BITFIT_F16 // for editors and stand-alone compiles
#endif

// One stored element. Only the conversions below look inside.
struct Half {
    uint16_t bits;
};

// A kind chosen at launch, as a type: code compiled for it does not check again.
template <uint32_t Value>
struct Kind {
    static constexpr uint32_t value = Value;
};

// Threads per warp, and the columns it covers with eight per thread.
constexpr int kWarp = 32, kPart = 8 * kWarp;
MIRRORED(Warp);
constexpr uint32_t kFullWarp = 0xffffffffu;

// --- conversions -----------------------------------------------------------------------------------------

// Two f32 to two packed elements, rounded to nearest even; `low` goes to the lower address.
__device__ __forceinline__ uint32_t pack(float low, float high) {
    uint32_t word;
#if defined(BITFIT_BF16)
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(word) : "f"(high), "f"(low));
#else
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(word) : "f"(high), "f"(low));
#endif
    return word;
}

__device__ __forceinline__ float2 unpack(uint32_t word) {
    float2 pair;
#if defined(BITFIT_BF16)
    pair.x = __uint_as_float(word << 16);
    pair.y = __uint_as_float(word & 0xffff0000u);
#else
    asm("{\n\t.reg .b16 low, high;\n\t"
        "mov.b32 {low, high}, %2;\n\t"
        "cvt.f32.f16 %0, low;\n\t"
        "cvt.f32.f16 %1, high;\n\t}"
        : "=f"(pair.x), "=f"(pair.y)
        : "r"(word));
#endif
    return pair;
}

// --- 16-byte accesses ------------------------------------------------------------------------------------

// Eight neighbouring elements as f32.
struct Eight {
    float v[8];
};

__device__ __forceinline__ Eight unpack8(uint4 words) {
    Eight e;
    const uint32_t w[4] = {words.x, words.y, words.z, words.w};
#pragma unroll
    for (int i = 0; i < 4; ++i) {
        const float2 pair = unpack(w[i]);
        e.v[2 * i] = pair.x;
        e.v[2 * i + 1] = pair.y;
    }
    return e;
}

__device__ __forceinline__ uint4 pack8(const Eight& e) {
    return make_uint4(pack(e.v[0], e.v[1]), pack(e.v[2], e.v[3]), pack(e.v[4], e.v[5]), pack(e.v[6], e.v[7]));
}

__device__ __forceinline__ Eight load8(const Half* from) {
    return unpack8(*reinterpret_cast<const uint4*>(from));
}

__device__ __forceinline__ void store8(Half* to, const Eight& e) {
    *reinterpret_cast<uint4*>(to) = pack8(e);
}

// `to` is 16-byte aligned.
__device__ __forceinline__ void store8(float* to, const Eight& e) {
    reinterpret_cast<float4*>(to)[0] = make_float4(e.v[0], e.v[1], e.v[2], e.v[3]);
    reinterpret_cast<float4*>(to)[1] = make_float4(e.v[4], e.v[5], e.v[6], e.v[7]);
}

// Eight f32 parameters. Encoder parameters are 16-byte aligned unless something of an odd size lies among them, so every lane
// takes the same side of the branch.
__device__ __forceinline__ Eight load8(const float* from) {
    Eight e;
    if (reinterpret_cast<uintptr_t>(from) % 16 == 0) {
        const float4 low = __ldg(reinterpret_cast<const float4*>(from));
        const float4 high = __ldg(reinterpret_cast<const float4*>(from) + 1);
        e = {{low.x, low.y, low.z, low.w, high.x, high.y, high.z, high.w}};
    } else {
#pragma unroll
        for (int i = 0; i < 8; ++i) e.v[i] = __ldg(from + i);
    }
    return e;
}

// --- reductions ------------------------------------------------------------------------------------------

// The sum over the warp, in every lane. A butterfly: the same order whatever the schedule.
__device__ __forceinline__ float warp_sum(float x) {
#pragma unroll
    for (int offset = 16; offset > 0; offset >>= 1) x += __shfl_xor_sync(kFullWarp, x, offset);
    return x;
}

__device__ __forceinline__ float warp_max(float x) {
#pragma unroll
    for (int offset = 16; offset > 0; offset >>= 1) x = fmaxf(x, __shfl_xor_sync(kFullWarp, x, offset));
    return x;
}

// --- exchanges -------------------------------------------------------------------------------------------

// Four words from each of four lanes that are `Stride` apart: lane i gets word i of all four, in lane order.
template <int Stride, class Word>
__device__ __forceinline__ void transpose4(Word (&w)[4]) {
    const int i = int(threadIdx.x) / Stride % 4;
    const bool low = i % 2 == 0, front = i < 2;
    // Words i % 2 and i % 2 + 2 of both lanes of this pair.
    const Word got0 = __shfl_xor_sync(kFullWarp, low ? w[1] : w[0], Stride);
    const Word got1 = __shfl_xor_sync(kFullWarp, low ? w[3] : w[2], Stride);
    const Word a0 = low ? w[0] : got0, a1 = low ? got0 : w[1];
    const Word b0 = low ? w[2] : got1, b1 = low ? got1 : w[3];
    // Word i of all four.
    const Word far0 = __shfl_xor_sync(kFullWarp, front ? b0 : a0, 2 * Stride);
    const Word far1 = __shfl_xor_sync(kFullWarp, front ? b1 : a1, 2 * Stride);
    w[0] = front ? a0 : far0;
    w[1] = front ? a1 : far1;
    w[2] = front ? far0 : b0;
    w[3] = front ? far1 : b1;
}
