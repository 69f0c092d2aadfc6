// LayerNorm of one row by one warp, for the residual sums and the embeddings alike.
#pragma once

#include "common.cuh"
#include "philox.cuh"

// A row held by a warp: lane l has columns 256 * c + 8 * l .. + 7 in part[c].
template <int C>
struct Row {
    Eight part[C];

    static __device__ __forceinline__ int column(int c) { return (c * kWarp + int(threadIdx.x) % kWarp) * 8; }

    // Normalises in place, in two passes: E[x²] - E[x]² would cancel. Columns from `width` on must be zero and
    // are not kept so. Returns 1 / sqrt(variance + eps).
    __device__ __forceinline__ float normalise(int width, float eps) {
        float sum = 0.0f;
#pragma unroll
        for (int c = 0; c < C; ++c) {
#pragma unroll
            for (int i = 0; i < 8; ++i) sum += part[c].v[i];
        }
        const float mean = warp_sum(sum) / float(width);
        float squares = 0.0f;
#pragma unroll
        for (int c = 0; c < C; ++c) {
            if (column(c) < width) {
#pragma unroll
                for (int i = 0; i < 8; ++i) {
                    const float d = part[c].v[i] - mean;
                    part[c].v[i] = d;
                    squares = fmaf(d, d, squares);
                }
            }
        }
        const float rstd = 1.0f / sqrtf(warp_sum(squares) / float(width) + eps);
#pragma unroll
        for (int c = 0; c < C; ++c) {
#pragma unroll
            for (int i = 0; i < 8; ++i) part[c].v[i] *= rstd;
        }
        return rstd;
    }
};
