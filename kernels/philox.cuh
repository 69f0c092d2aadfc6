// Dropout masks by Philox4x32-10 (Salmon et al., SC 2011), the same words as src/rng.rs.
//
// Element (row, col) uses half col % 2 of word col % 8 / 2 of the block with counter [col / 8, row, site, step], and is kept
// if that is not below `dropped`. Nothing is stored: backward recomputes the same words. If a launch has only part of a
// batch, rows are still counted over the whole batch.
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
    // Half words below this drop their element.
    uint32_t dropped;
    // What kept elements are multiplied by.
    float keep;
    uint32_t site;
    uint32_t padding;
};
MIRRORED(DropoutArgs);

struct Dropout {
    uint32_t dropped;
    float keep;
    uint32_t site, step, k0, k1, first_row;

    // `first_row` is added to the rows whose masks are requested.
    __device__ __forceinline__ Dropout(const DropoutArgs& args, const BatchHeader* batch, uint32_t first_row)
        : dropped(args.dropped), keep(args.keep), site(args.site), step(batch->step), k0(batch->seed_low), k1(batch->seed_high),
          first_row(first_row) {}

    __device__ __forceinline__ bool active() const { return dropped > 0; }

    // The block of words for columns 8 * group .. 8 * group + 7 of a row.
    __device__ __forceinline__ Words words(uint32_t row, uint32_t group) const {
        return philox(group, first_row + row, site, step, k0, k1);
    }

    // For the columns whose halves a word holds: an even one, and the one after it.
    __device__ __forceinline__ float even(uint32_t word) const { return (word & 0xffffu) >= dropped ? keep : 0.0f; }
    __device__ __forceinline__ float odd(uint32_t word) const { return word >> 16 >= dropped ? keep : 0.0f; }

    // Multiplies columns col..col + 7 (col a multiple of 8) of a row by the mask.
    __device__ __forceinline__ void apply8(float (&v)[8], uint32_t row, uint32_t col) const {
        const Words w = words(row, col / 8);
#pragma unroll
        for (int i = 0; i < 4; ++i) {
            v[2 * i] *= even(w.w[i]);
            v[2 * i + 1] *= odd(w.w[i]);
        }
    }
};
