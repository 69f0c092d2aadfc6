// Tensor-core products and the shared-memory traffic around them, one instruction per function.
//
// Fragment layouts are those of the PTX manual, "Matrix fragments for mma.m16n8k16": with g = lane / 4 and
// t = lane % 4 an accumulator holds rows g and g + 8, columns 2t and 2t + 1.
#pragma once

#include "common.cuh"

// Products: rows and columns of a block's tile of the result, the depth of its operand tiles, how many are in flight, and the
// threads per block.
constexpr int kLargeTile = 128, kMediumRows = 96, kMediumColumns = 128, kSmallTile = 64;
constexpr int kTileDepth = 32, kTileStages = 3, kProductThreads = 128;
MIRRORED(ProductTile);

__device__ __forceinline__ uint32_t shared_address(const void* pointer) {
    return uint32_t(__cvta_generic_to_shared(pointer));
}

// d += a · b; a is 16×16 row-major, b is 16×8 column-major.
__device__ __forceinline__ void mma(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
#if defined(BITFIT_BF16)
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
#else
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 "
#endif
                 "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

// Four 8×8 matrices; lane l gives the address of row l % 8 of matrix l / 8.
__device__ __forceinline__ void ldmatrix(uint32_t (&r)[4], uint32_t address) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(address)
                 : "memory");
}

// The same, each 8×8 matrix transposed on the way.
__device__ __forceinline__ void ldmatrix_trans(uint32_t (&r)[4], uint32_t address) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(address)
                 : "memory");
}

// Sixteen bytes from global to shared memory, bypassing registers; if `valid` is false, zeros and no access.
__device__ __forceinline__ void copy16_async(uint32_t to, const void* from, bool valid) {
    const int bytes = valid ? 16 : 0;
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from), "r"(bytes) : "memory");
}

// The same with eight bytes.
__device__ __forceinline__ void copy8_async(uint32_t to, const void* from, bool valid) {
    const int bytes = valid ? 8 : 0;
    asm volatile("cp.async.ca.shared.global [%0], [%1], 8, %2;" ::"r"(to), "l"(from), "r"(bytes) : "memory");
}

__device__ __forceinline__ void commit_copies() {
    asm volatile("cp.async.commit_group;" ::: "memory");
}

// Waits until at most `Pending` of this thread's newest groups are unfinished.
template <int Pending>
__device__ __forceinline__ void wait_copies() {
    asm volatile("cp.async.wait_group %0;" ::"n"(Pending) : "memory");
}

// Two f32 to shared memory in one access: by default the compiler may split the store and cause bank conflicts.
__device__ __forceinline__ void store_shared(uint32_t address, float low, float high) {
    asm volatile("st.shared.v2.f32 [%0], {%1, %2};" ::"r"(address), "f"(low), "f"(high) : "memory");
}

// Sixteen bytes to global memory in one access, which the compiler may split as well.
__device__ __forceinline__ void store16(void* to, const uint32_t (&w)[4]) {
    asm volatile("st.global.v4.b32 [%0], {%1, %2, %3, %4};" ::"l"(to), "r"(w[0]), "r"(w[1]), "r"(w[2]), "r"(w[3])
                 : "memory");
}

// Four or two words to and from shared memory, in one access.
__device__ __forceinline__ void store_shared(uint32_t address, uint4 v) {
    asm volatile("st.shared.v4.u32 [%0], {%1, %2, %3, %4};" ::"r"(address), "r"(v.x), "r"(v.y), "r"(v.z), "r"(v.w)
                 : "memory");
}

__device__ __forceinline__ uint4 load_shared4(uint32_t address) {
    uint4 v;
    asm volatile("ld.shared.v4.u32 {%0, %1, %2, %3}, [%4];" : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w) : "r"(address)
                 : "memory");
    return v;
}

__device__ __forceinline__ uint2 load_shared2(uint32_t address) {
    uint2 v;
    asm volatile("ld.shared.v2.u32 {%0, %1}, [%2];" : "=r"(v.x), "=r"(v.y) : "r"(address) : "memory");
    return v;
}

// A tile of `Columns` elements per row in shared memory, in 16-byte chunks whose place within the row is XORed with the row,
// so that neither eight rows at one column (ldmatrix) nor one row's chunks (copies) have bank conflicts.
template <int Columns>
struct Tile {
    static constexpr int kChunks = Columns / 8;
    static_assert(kChunks == 2 || kChunks == 4 || kChunks % 8 == 0, "32-byte or 64-byte rows or multiples of 128");
    // Chunks that the XOR permutes among, and rows that share the 128 bytes that span all banks.
    static constexpr int kPlaces = kChunks < 8 ? kChunks : 8, kTogether = 8 / kPlaces;

    // Bytes from the start of the tile to chunk `chunk` of `row`.
    static __device__ __forceinline__ uint32_t offset(int row, int chunk) {
        return uint32_t(row * kChunks + (chunk ^ uint32_t(row) / kTogether % kPlaces)) * 16;
    }

    // Fragment of the left operand: rows row..row + 15, columns 16 * k .. + 15, stored row by row.
    static __device__ __forceinline__ void left(uint32_t (&a)[4], uint32_t tile, int row, int k) {
        const int lane = threadIdx.x % kWarp;
        ldmatrix(a, tile + offset(row + lane % 16, 2 * k + lane / 16));
    }

    // The same for an operand stored [k][row]: k rows k..k + 15, output rows 16 * m .. + 15.
    static __device__ __forceinline__ void left_trans(uint32_t (&a)[4], uint32_t tile, int k, int m) {
        const int lane = threadIdx.x % kWarp;
        ldmatrix_trans(a, tile + offset(k + lane % 8 + lane / 16 * 8, 2 * m + lane / 8 % 2));
    }

    // Fragments of the right operand for 16 output columns, stored [column][k]: b[0], b[1] serve output columns
    // row..row + 7, b[2], b[3] the next eight.
    static __device__ __forceinline__ void right(uint32_t (&b)[4], uint32_t tile, int row, int k) {
        const int lane = threadIdx.x % kWarp;
        ldmatrix(b, tile + offset(row + lane % 8 + lane / 16 * 8, 2 * k + lane / 8 % 2));
    }

    // The same for an operand stored [k][column]: k rows row..row + 15, output columns 16 * n .. + 15.
    static __device__ __forceinline__ void right_trans(uint32_t (&b)[4], uint32_t tile, int row, int n) {
        const int lane = threadIdx.x % kWarp;
        ldmatrix_trans(b, tile + offset(row + lane % 16, 2 * n + lane / 16));
    }
};
