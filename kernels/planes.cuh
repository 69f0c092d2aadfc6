// Rows of f32 in shared memory, of which each lane of a warp has eight neighbouring columns at a time: column sums on their
// way across the warps, and parameters that a block reads once for all its rows.
#pragma once

#include "common.cuh"

// C parts of 256 columns: lane l has columns 256 * c + 8 * l .. + 7 of part c. Each half of a lane's eight has its own plane,
// so that neighbouring lanes access neighbouring 16 bytes; the planes are half the banks apart, so reading the columns in
// order, which alternates between them, has no conflict either.
template <int C>
struct Planes {
    static constexpr int kPlane = C * 128 + 16;
    static constexpr int kFloats = 2 * kPlane;

    // Columns 4 * i .. 4 * i + 3.
    static __device__ __forceinline__ float4& four(float* row, int i) {
        return *reinterpret_cast<float4*>(row + i % 2 * kPlane + i / 2 * 4);
    }

    // This lane's columns of part c.
    static __device__ __forceinline__ Eight load(float* row, int c) {
        const int i = 2 * (c * kWarp + int(threadIdx.x) % kWarp);
        const float4 low = four(row, i), high = four(row, i + 1);
        return {{low.x, low.y, low.z, low.w, high.x, high.y, high.z, high.w}};
    }

    static __device__ __forceinline__ void store(float* row, int c, const Eight& e) {
        float* to = row + (c * kWarp + int(threadIdx.x) % kWarp) * 4;
        *reinterpret_cast<float4*>(to) = make_float4(e.v[0], e.v[1], e.v[2], e.v[3]);
        *reinterpret_cast<float4*>(to + kPlane) = make_float4(e.v[4], e.v[5], e.v[6], e.v[7]);
    }

    static __device__ __forceinline__ void add(float* row, int c, const Eight& e) {
        Eight sum = load(row, c);
#pragma unroll
        for (int i = 0; i < 8; ++i) sum.v[i] += e.v[i];
        store(row, c, sum);
    }

    static __device__ __forceinline__ void add_product(float* row, int c, const Eight& a, const Eight& b) {
        Eight sum = load(row, c);
#pragma unroll
        for (int i = 0; i < 8; ++i) sum.v[i] = fmaf(a.v[i], b.v[i], sum.v[i]);
        store(row, c, sum);
    }

    // Copies a parameter of `width` columns, a multiple of 8. Called by all threads of a block, which must synchronise before
    // they read it.
    static __device__ __forceinline__ void fill(float* row, const float* from, int width) {
        if (reinterpret_cast<uintptr_t>(from) % 16 == 0) {
            for (int i = threadIdx.x; i * 4 < width; i += blockDim.x) {
                four(row, i) = __ldg(reinterpret_cast<const float4*>(from) + i);
            }
        } else {
            // A head of an odd size lies before it.
            for (int i = threadIdx.x; i < width; i += blockDim.x) (&four(row, i / 4).x)[i % 4] = __ldg(from + i);
        }
    }
};
