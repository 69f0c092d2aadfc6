// Frozen matrices as a product reads them: a policy for each type of storage says how tiles of the matrix come to
// shared memory. What reads a tile finds 16-bit elements in the places that Tile gives them, whatever the policy; this
// file has the policy of matrices that are stored so, quantised.cuh the others.
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
    // Int8: a row's scale. NF4: the step of 256 scales.
    const float* scales;
    // NF4: a block's distance from the mean scale in such steps, [blocks of a row, stored rows].
    const int8_t* block_scales;
    float mean_scale;
    // MatrixFormat of `codes`.
    uint32_t format;
    // It may be some rows of a larger matrix: how many that has, and its row that is the first here. The pointers are
    // those of that row.
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
