// LayerNorm of one row by one warp, forward and backward, for the residual sums and the embeddings alike.
#pragma once

#include "philox.cuh"
#include "planes.cuh"

// Rows per block, forward: one warp each. They share γ and β.
constexpr int kBlockRows = 8;
MIRRORED(RowBlock);

// A row held by a warp: lane l has columns 256 * c + 8 * l .. + 7 in part[c]. Columns beyond the row's width are zero after
// loading or summing, but are not kept zero.
template <int C>
struct Row {
    Eight part[C];

    static __device__ __forceinline__ int column(int c) { return (c * kWarp + int(threadIdx.x) % kWarp) * 8; }

    // Prefetches a row of 16-bit elements into the L2 cache.
    static __device__ __forceinline__ void prefetch(const Half* from, int width) {
#pragma unroll
        for (int c = 0; c < C; ++c) {
            if (column(c) < width) asm volatile("prefetch.global.L2 [%0];" ::"l"(from + column(c)));
        }
    }

    // `From` is a pointer, or anything load8 accepts like one.
    template <class From>
    static __device__ __forceinline__ Row load(From from, int width) {
        Row r = {};
#pragma unroll
        for (int c = 0; c < C; ++c) {
            if (column(c) < width) r.part[c] = load8(from + column(c));
        }
        return r;
    }

    // The sum of three rows: the three embedding tables' rows for a token.
    template <class From>
    static __device__ __forceinline__ Row sum(From word, From position, From type, int width) {
        Row r = load(word, width);
#pragma unroll
        for (int c = 0; c < C; ++c) {
            if (column(c) >= width) continue;
            const Eight p = load8(position + column(c)), t = load8(type + column(c));
#pragma unroll
            for (int i = 0; i < 8; ++i) r.part[c].v[i] += p.v[i] + t.v[i];
        }
        return r;
    }

    // Normalises in place, in two passes: E[x²] - E[x]² would cancel. Returns 1 / sqrt(variance + eps).
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

    // This row, the gradient of γ·x̂ + β, becomes the gradient of the normalised input: rstd·(g - mean(g) - x̂·mean(g·x̂)), g
    // = dy·γ. `gamma` is a row of Planes<C>.
    __device__ __forceinline__ void back(const Row& x_hat, float* gamma, float rstd, int width) {
        float mean = 0.0f, mean_x = 0.0f;
#pragma unroll
        for (int c = 0; c < C; ++c) {
            if (column(c) >= width) continue;
            const Eight gain = Planes<C>::load(gamma, c);
#pragma unroll
            for (int i = 0; i < 8; ++i) {
                part[c].v[i] *= gain.v[i];
                mean += part[c].v[i];
                mean_x = fmaf(part[c].v[i], x_hat.part[c].v[i], mean_x);
            }
        }
        mean = warp_sum(mean) / float(width);
        mean_x = warp_sum(mean_x) / float(width);
#pragma unroll
        for (int c = 0; c < C; ++c) {
            if (column(c) >= width) continue;
#pragma unroll
            for (int i = 0; i < 8; ++i) {
                part[c].v[i] = rstd * (part[c].v[i] - mean - x_hat.part[c].v[i] * mean_x);
            }
        }
    }
};

// γ and β in shared memory, for all rows of a block.
template <int C>
struct __align__(16) Affine {
    float gamma[Planes<C>::kFloats];
    float beta[Planes<C>::kFloats];

    // Called by all threads of a block, which must synchronise before they call `of`.
    __device__ __forceinline__ void fill(const float* g, const float* b, int width) {
        Planes<C>::fill(gamma, g, width);
        Planes<C>::fill(beta, b, width);
    }

    // γ·x̂ + β of this lane's columns of part c.
    __device__ __forceinline__ Eight of(const Eight& x_hat, int c) {
        const Eight g = Planes<C>::load(gamma, c), b = Planes<C>::load(beta, c);
        Eight y;
#pragma unroll
        for (int i = 0; i < 8; ++i) y.v[i] = fmaf(x_hat.v[i], g.v[i], b.v[i]);
        return y;
    }
};
