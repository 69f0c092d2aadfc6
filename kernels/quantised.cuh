// Matrices in 8 and 4 bits: what a code means, and how codes become a product's tile.
//
// A matrix used in products is cut into stretches of 32 columns, the last padded with zeros. A stretch has one plane (NF4) or
// two (int8) of 16 bytes per row, and a plane's rows are contiguous: a tile of either direction is then read in whole lines.
// An int8 table has its rows one after another. src/backend/cuda/weights.rs lays both out.
#pragma once

#include "weights.cuh"

constexpr int kStretch = 32;
MIRRORED(Stretch);

__device__ __forceinline__ uint32_t permute(uint32_t low, uint32_t high, uint32_t selector) {
    uint32_t word;
    asm("prmt.b32 %0, %1, %2, %3;" : "=r"(word) : "r"(low), "r"(high), "r"(selector));
    return word;
}

// The codes' bytes in the matrix; `Format` has kPlanes.
template <class Format>
__device__ __forceinline__ const uint8_t* code_at(const MatrixArgs& matrix, size_t row, int column) {
    const int byte = column % kStretch * (16 * Format::kPlanes) / kStretch;
    const size_t plane = size_t(column / kStretch) * Format::kPlanes + byte / 16;
    return static_cast<const uint8_t*>(matrix.codes) + (plane * matrix.stored_rows + row) * 16 + byte % 16;
}

// Symmetric, one scale per row: src/backend/int8.rs.
struct Int8 {
    static constexpr int kPlanes = 2;
    static constexpr bool kScaleOfRow = true;

    struct Scale {
        float value;

        __device__ __forceinline__ Scale(const MatrixArgs& matrix, int, int row, int) : value(matrix.scales[row]) {}
        __device__ __forceinline__ Scale() : value(0.0f) {}
        __device__ __forceinline__ float get(const MatrixArgs&) const { return value; }
    };

    struct Decoder {
        float scale;

        __device__ __forceinline__ explicit Decoder(float scale) : scale(scale) {}

        // Eight codes in two words. A byte in the lowest place of 2^23 makes that float plus its value, without a conversion,
        // which is slow.
        __device__ __forceinline__ Eight wide(uint32_t low, uint32_t high) const {
            Eight e;
#pragma unroll
            for (int i = 0; i < 8; ++i) {
                const uint32_t biased = (i < 4 ? low : high) ^ 0x80808080u;
                e.v[i] = (__uint_as_float(permute(biased, 0x4b000000u, 0x7540u + i % 4)) - 8388736.0f) * scale;
            }
            return e;
        }

        // The same as stored elements.
        __device__ __forceinline__ uint4 eight(const uint32_t* codes) const { return pack8(wide(codes[0], codes[1])); }
    };
};

// LEVELS in src/backend/nf4.rs.
__constant__ float kNf4Levels[16] = {
    -1.0f,        -0.6961928f,  -0.52507305f, -0.3949175f, -0.28444138f, -0.18477343f, -0.091050036f, 0.0f,
    0.0795803f,   0.1609302f,   0.2461123f,   0.33791524f, 0.44070983f,  0.562617f,    0.72295684f,   1.0f,
};

// NF4 with double-quantised scales: src/backend/nf4.rs.
constexpr int kNf4Block = 64, kNf4Group = 256;
MIRRORED(Nf4Blocks);

struct Nf4 {
    static constexpr int kPlanes = 1;
    static constexpr bool kScaleOfRow = false;

    // For one block.
    struct Scale {
        int code;
        float step;

        __device__ __forceinline__ Scale(const MatrixArgs& matrix, int columns, int row, int column) {
            const int blocks = (columns + kNf4Block - 1) / kNf4Block, block = column / kNf4Block;
            code = matrix.block_scales[size_t(block) * matrix.stored_rows + row];
            step = matrix.scales[((row + int(matrix.first)) * blocks + block) / kNf4Group];
        }
        __device__ __forceinline__ Scale() : code(0), step(0.0f) {}
        // Rounded twice, like on the CPU.
        __device__ __forceinline__ float get(const MatrixArgs& matrix) const {
            return __fadd_rn(matrix.mean_scale, __fmul_rn(float(code), step));
        }
    };

    // The sixteen levels of a block as stored elements, bytewise: four low or four high bytes per register, so that one byte
    // permutation looks up four codes among eight levels.
    struct Decoder {
        uint32_t low[4], high[4];

        __device__ __forceinline__ explicit Decoder(float scale) {
#pragma unroll
            for (int i = 0; i < 4; ++i) {
                const float* level = kNf4Levels + 4 * i;
                const uint32_t a = pack(level[0] * scale, level[1] * scale);
                const uint32_t b = pack(level[2] * scale, level[3] * scale);
                low[i] = permute(a, b, 0x6420u);
                high[i] = permute(a, b, 0x7531u);
            }
        }

        // Two words of elements for four codes: `within` selects among eight levels, `which` the eight.
        __device__ __forceinline__ uint2 four(uint32_t within, uint32_t which) const {
            const uint32_t l = permute(permute(low[0], low[1], within), permute(low[2], low[3], within), which);
            const uint32_t h = permute(permute(high[0], high[1], within), permute(high[2], high[3], within), which);
            return make_uint2(permute(l, h, 0x5140u), permute(l, h, 0x7362u));
        }

        // Eight elements of the codes in a word.
        __device__ __forceinline__ uint4 eight(const uint32_t* codes) const {
            const uint32_t within = codes[0] & 0x77777777u;
            // Byte i of the first eight levels' result, or of the others'.
            const uint32_t which = (codes[0] >> 1 & 0x44444444u) | 0x32103210u;
            const uint2 a = four(within, which), b = four(within >> 16, which >> 16);
            return make_uint4(a.x, a.y, b.x, b.y);
        }
    };
};

template <class Format>
struct Quantised {
    // One thread's share of each tile: neighbouring columns of one row, which share a scale. Their codes arrive at the start
    // of the space of the elements they become, so neither touches another thread's elements.
    template <bool Transposed, int BlockN, int Threads>
    struct Copier {
        static constexpr int kDepth = kTileDepth;
        using Layout = Tile<Transposed ? BlockN : kDepth>;
        static_assert(kDepth == kStretch, "a tile is a stretch deep");
        static constexpr int kElements = BlockN * kDepth / Threads, kParts = kStretch / kElements;
        static constexpr int kOctets = (Transposed ? kDepth : BlockN) / 8;
        static constexpr int kBytes = kElements * 16 * Format::kPlanes / kStretch;
        static constexpr int kCopyBytes = kBytes < 16 ? kBytes : 16, kCopies = kBytes / kCopyBytes;
        static constexpr int kChunks = kElements / 8, kWords = kBytes / 4;
        static_assert(kParts * kElements == kStretch && kCopyBytes >= 8, "whole parts, and copies of 8 or 16 bytes");

        const MatrixArgs& matrix;
        const int columns;
        const uint8_t* from;
        uint32_t to;
        // Where the next tile to be unpacked has its scale.
        int row, column;
        // Elements of k left from this thread's first, for the next tile to be copied and the next to be unpacked. None
        // outside of n.
        int left, left_packed;
        typename Format::Scale scale;

        // Eight threads take eight rows, the next eight the other part of the stretch: no bank conflicts, whole lines.
        __device__ __forceinline__ Copier(const MatrixArgs& matrix, int n, int k)
            : matrix(matrix), columns(Transposed ? n : k) {
            const int octet = int(threadIdx.x) / 8, part = octet % kParts;
            const int tile_row = octet / kParts % kOctets * 8 + int(threadIdx.x) % 8;
            const int tile_column = octet / kParts / kOctets * kStretch + part * kElements;
            row = tile_row + (Transposed ? 0 : int(blockIdx.x) * BlockN);
            column = tile_column + (Transposed ? int(blockIdx.x) * BlockN : 0);
            from = code_at<Format>(matrix, row, column);
            to = Layout::offset(tile_row, tile_column / 8) + uint32_t(part * kBytes) % 16;
            left = (Transposed ? column : row) < n ? k - (Transposed ? row : column) : 0;
            left_packed = left;
            if (left > 0) scale = {matrix, columns, row, column};
        }

        // Starts the copy of the next tile.
        __device__ __forceinline__ void next(uint32_t shared) {
#pragma unroll
            for (int i = 0; i < kCopies; ++i) {
                const uint32_t at = (shared + to) ^ (i * 16);
                if constexpr (kCopyBytes == 16) {
                    copy16_async(at, from + size_t(i) * matrix.stored_rows * 16, left > 0);
                } else {
                    copy8_async(at, from, left > 0);
                }
            }
            from += (Transposed ? size_t(kDepth) : size_t(matrix.stored_rows) * Format::kPlanes) * 16;
            left -= kDepth;
        }

        // Turns what this thread copied into a tile into halves. Tiles come in order.
        __device__ __forceinline__ void unpack(uint32_t shared) {
            uint32_t codes[kWords];
            const uint32_t at = shared + to;
#pragma unroll
            for (int i = 0; i < kCopies; ++i) {
                if constexpr (kCopyBytes == 16) {
                    const uint4 four = load_shared4(at ^ (i * 16));
                    codes[4 * i] = four.x;
                    codes[4 * i + 1] = four.y;
                    codes[4 * i + 2] = four.z;
                    codes[4 * i + 3] = four.w;
                } else {
                    const uint2 two = load_shared2(at);
                    codes[0] = two.x;
                    codes[1] = two.y;
                }
            }
            const typename Format::Decoder decoder(scale.get(matrix));
#pragma unroll
            for (int i = 0; i < kChunks; ++i) {
                store_shared((at & ~15u) ^ (i * 16), decoder.eight(codes + i * kWords / kChunks));
            }
            if constexpr (!Transposed && Format::kScaleOfRow) return;
            // The next tile's scale, long before it is needed. Past the end, the product has zeros or is not stored.
            (Transposed ? row : column) += kDepth;
            left_packed -= kDepth;
            if (left_packed > 0) scale = {matrix, columns, row, column};
        }
    };
};

// --- single elements -------------------------------------------------------------------------------------

// An element of a matrix used in products, in f32.
__device__ __forceinline__ float element(const MatrixArgs& matrix, int columns, int row, int column) {
    if (matrix.format == kFormatInt8) {
        const Int8::Scale scale(matrix, columns, row, column);
        return float(*reinterpret_cast<const int8_t*>(code_at<Int8>(matrix, row, column))) * scale.get(matrix);
    }
    const Nf4::Scale scale(matrix, columns, row, column);
    const uint32_t pair = *code_at<Nf4>(matrix, row, column);
    return kNf4Levels[pair >> column % 2 * 4 & 15] * scale.get(matrix);
}

// A row of an int8 table from some column on: the counterpart of a pointer into a 16-bit row.
struct Int8Row {
    const int8_t* codes;
    float scale;

    __device__ __forceinline__ Int8Row operator+(int columns) const { return {codes + columns, scale}; }
};

__device__ __forceinline__ Eight load8(const Int8Row& from) {
    const uint2 words = *reinterpret_cast<const uint2*>(from.codes);
    return Int8::Decoder(from.scale).wide(words.x, words.y);
}

// A row of an embedding table of `width` columns.
template <class TableRow>
__device__ __forceinline__ TableRow table_row(const MatrixArgs& table, size_t row, int width);

template <>
__device__ __forceinline__ const Half* table_row(const MatrixArgs& table, size_t row, int width) {
    return static_cast<const Half*>(table.codes) + row * width;
}

template <>
__device__ __forceinline__ Int8Row table_row(const MatrixArgs& table, size_t row, int width) {
    return {static_cast<const int8_t*>(table.codes) + row * width, table.scales[row]};
}
