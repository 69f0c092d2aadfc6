// Frozen matrices as a product reads them: a policy for each type of storage says how tiles of the matrix come to
// shared memory. What reads a tile finds 16-bit elements in the places that Tile gives them, whatever the policy; this
// file has the policy of matrices that are stored so, quantised.cuh the others.
#pragma once

#include "common.cuh"
#include "mma.cuh"

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
    // What one thread copies of each tile: one 16-byte chunk in every kRows-th row. Only the pointer and the distance
    // to the end of k move from tile to tile.
    template <bool Transposed, int BlockN, int BlockK, int Threads>
    struct Copier {
        using Layout = Tile<Transposed ? BlockN : BlockK>;
        static constexpr int kChunks = Layout::kChunks;
        static constexpr int kRows = Threads / kChunks, kCopies = (Transposed ? BlockK : BlockN) / kRows;
        // So that a row step leaves the swizzle as it is.
        static_assert(kRows % 8 == 0, "whole swizzle periods");

        const Half* from;
        size_t step, tile;
        uint32_t to;
        // Bit i: row i of this thread's copies is inside. Transposed, all rows share the columns' answer.
        uint32_t inside;
        // Elements of k from this thread's first on.
        int left;

        __device__ __forceinline__ Copier(const MatrixArgs& matrix, int n, int k) {
            const int row = int(threadIdx.x) / kChunks, chunk = int(threadIdx.x) % kChunks;
            const Half* w = static_cast<const Half*>(matrix.codes);
            to = Layout::offset(row, chunk);
            if constexpr (Transposed) {
                const int column = blockIdx.x * BlockN + chunk * 8;
                from = w + size_t(row) * n + column;
                step = size_t(kRows) * n;
                tile = size_t(BlockK) * n;
                left = k - row;
                inside = column < n ? ~0u : 0u;
            } else {
                const int first = blockIdx.x * BlockN + row;
                from = w + size_t(first) * k + chunk * 8;
                step = size_t(kRows) * k;
                tile = BlockK;
                left = k - chunk * 8;
                inside = 0;
#pragma unroll
                for (int i = 0; i < kCopies; ++i) inside |= uint32_t(first + i * kRows < n) << i;
            }
        }

        // Starts the copy of the next tile.
        __device__ __forceinline__ void next(uint32_t shared) {
#pragma unroll
            for (int i = 0; i < kCopies; ++i) {
                const bool valid = (Transposed ? left - i * kRows : left) > 0 && (inside >> i & 1) != 0;
                copy16_async(shared + to + i * kRows * kChunks * 16, from + i * step, valid);
            }
            from += tile;
            left -= BlockK;
        }

        // Makes halves of what this thread copied into a tile.
        __device__ __forceinline__ void unpack(uint32_t) {}
    };
};
