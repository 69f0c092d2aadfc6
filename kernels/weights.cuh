// Frozen matrices as a product reads them: a policy per type of storage says how tiles of the matrix get to shared memory.
// Whatever reads a tile finds 16-bit elements in the places that Tile assigns, whatever the policy. This file has the policy
// for matrices stored in 16 bits, quantised.cuh the others.
#pragma once

#include "common.cuh"
#include "product.cuh"

// How the codes of a Matrix are stored.
enum MatrixFormat : uint32_t { kFormatHalf = 0, kFormatInt8 = 1, kFormatNf4 = 2 };
MIRRORED(MatrixFormat);

// A frozen [rows, columns] matrix.
struct MatrixArgs {
    // 16-bit elements row by row, or codes as in quantised.cuh.
    const void* codes;
    // Int8: one scale per row. NF4: the step of 256 scales.
    const float* scales;
    // NF4: a block's distance from the mean scale in such steps, [blocks per row, stored rows].
    const int8_t* block_scales;
    float mean_scale;
    // MatrixFormat of `codes`.
    uint32_t format;
    // It may be some rows of a larger matrix: how many rows that one has, and which of them is the first here. The pointers
    // point to that row.
    uint32_t stored_rows;
    uint32_t first;
};
MIRRORED(MatrixArgs);

struct Half16 {
    template <bool Transposed, int BlockN, int Threads>
    struct Copier : HalfCopier<Transposed, BlockN, Threads> {
        __device__ __forceinline__ Copier(const MatrixArgs& matrix, int n, int k)
            : HalfCopier<Transposed, BlockN, Threads>(
                  static_cast<const Half*>(matrix.codes), blockIdx.x * BlockN, n, k) {}
    };
};
