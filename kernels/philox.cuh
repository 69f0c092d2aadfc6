// Dropout masks by Philox4x32-10 (Salmon et al., SC 2011), the same words as src/rng.rs.
//
// Element (row, col) is kept where word col % 4 of the block with counter [col / 4, row, site, step], as a
// number in [0, 1), is at least p. Nothing is stored: backward computes the same words again. Rows are those of the whole
// batch where a launch has a part of it.
#pragma once

#include "varlen.cuh"

struct Words {
    uint32_t w[4];
};

__device__ __forceinline__ Words philox(uint32_t c0, uint32_t c1, uint32_t c2, uint32_t c3, uint32_t k0, uint32_t k1) {
#pragma unroll
    for (int round = 0; round < 10; ++round) {
        const uint64_t p0 = uint64_t(0xD2511F53u) * c0;
        const uint64_t p1 = uint64_t(0xCD9E8D57u) * c2;
        c0 = uint32_t(p1 >> 32) ^ c1 ^ k0;
        c2 = uint32_t(p0 >> 32) ^ c3 ^ k1;
        c1 = uint32_t(p1);
        c3 = uint32_t(p0);
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    return {{c0, c1, c2, c3}};
}

// Part of a kernel's arguments.
struct DropoutArgs {
    float p;
    // 1 / (1 - p), or 0 where everything is dropped.
    float keep;
    uint32_t site;
    uint32_t padding;
};
MIRRORED(DropoutArgs);

struct Dropout {
    float p;
    float keep;
    uint32_t site, step, k0, k1, first_row;

    // `first_row` is added to the rows that the masks are asked for.
    __device__ __forceinline__ Dropout(const DropoutArgs& args, const BatchHeader* batch, uint32_t first_row)
        : p(args.p), keep(args.keep), site(args.site), step(batch->step), k0(batch->seed_low), k1(batch->seed_high),
          first_row(first_row) {}

    __device__ __forceinline__ bool active() const { return p > 0.0f; }

    // The block of words for columns 4 * group .. 4 * group + 3 of a row.
    __device__ __forceinline__ Words words(uint32_t row, uint32_t group) const {
        return philox(group, first_row + row, site, step, k0, k1);
    }

    // 0 or 1 / (1 - p). The top 24 bits are exact in f32, as on the host.
    __device__ __forceinline__ float factor(uint32_t word) const {
        return float(word >> 8) * (1.0f / 16777216.0f) >= p ? keep : 0.0f;
    }

    // Multiplies columns col..col + 7 (col a multiple of 8) of a row by the mask.
    __device__ __forceinline__ void apply8(float (&v)[8], uint32_t row, uint32_t col) const {
        const Words low = words(row, col / 4), high = words(row, col / 4 + 1);
#pragma unroll
        for (int i = 0; i < 4; ++i) {
            v[i] *= factor(low.w[i]);
            v[4 + i] *= factor(high.w[i]);
        }
    }
};
