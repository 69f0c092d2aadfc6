// C = A · B in f16 with f32 accumulation on tensor cores: 128 × 128 tiles, 32 deep, two stages of cp.async, ldmatrix
// from XOR-swizzled shared memory, eight warps of 64 × 32.
// A: (M, K) row-major, B: (K, N) row-major, C: (M, N) f32. M and N multiples of 128, K of 32.
#include <cuda_fp16.h>
#include <stdint.h>

constexpr int BM = 128, BN = 128, BK = 32, STAGES = 2;

// 16-byte chunk `c` of row `r`, A tile: 4 chunks per row. Two rows share a line of 128 bytes.
__device__ __forceinline__ int swizzle_a(int r, int c) { return r * BK + ((c ^ ((r >> 1) & 3)) << 3); }
// B tile: 16 chunks per row.
__device__ __forceinline__ int swizzle_b(int r, int c) { return r * BN + ((c ^ (r & 7)) << 3); }

__device__ __forceinline__ void copy16(half *to, const half *from) {
    uint32_t s = (uint32_t)__cvta_generic_to_shared(to);
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(s), "l"(from));
}
__device__ __forceinline__ void ldmatrix4(uint32_t *d, const half *from) {
    uint32_t s = (uint32_t)__cvta_generic_to_shared(from);
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(d[0]), "=r"(d[1]), "=r"(d[2]), "=r"(d[3]) : "r"(s));
}
__device__ __forceinline__ void ldmatrix4_trans(uint32_t *d, const half *from) {
    uint32_t s = (uint32_t)__cvta_generic_to_shared(from);
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(d[0]), "=r"(d[1]), "=r"(d[2]), "=r"(d[3]) : "r"(s));
}
__device__ __forceinline__ void mma(float *c, const uint32_t *a, const uint32_t *b) {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

extern "C" __global__ void __launch_bounds__(256) gemm(const half *A, const half *B, float *C, int M, int N, int K) {
    __shared__ __align__(128) half as[STAGES][BM * BK];
    __shared__ __align__(128) half bs[STAGES][BK * BN];
    const int tid = threadIdx.x, lane = tid & 31, warp = tid >> 5;
    const int wm = (warp >> 2) * 64, wn = (warp & 3) * 32;
    const half *a0 = A + (size_t)blockIdx.y * BM * K;
    const half *b0 = B + (size_t)blockIdx.x * BN;

    auto load = [&](int stage, int k0) {
#pragma unroll
        for (int i = 0; i < 2; i++) {
            int chunk = tid + i * 256;
            int ra = chunk >> 2, ca = chunk & 3;
            copy16(&as[stage][swizzle_a(ra, ca)], a0 + (size_t)ra * K + k0 + ca * 8);
            int rb = chunk >> 4, cb = chunk & 15;
            copy16(&bs[stage][swizzle_b(rb, cb)], b0 + (size_t)(k0 + rb) * N + cb * 8);
        }
        asm volatile("cp.async.commit_group;");
    };

    float acc[4][4][4] = {};
    load(0, 0);
    const int steps = K / BK;
    for (int step = 0; step < steps; step++) {
        const int stage = step & 1;
        if (step + 1 < steps) {
            load(stage ^ 1, (step + 1) * BK);
            asm volatile("cp.async.wait_group 1;");
        } else {
            asm volatile("cp.async.wait_group 0;");
        }
        __syncthreads();
#pragma unroll
        for (int kk = 0; kk < BK; kk += 16) {
            uint32_t a[4][4], b[4][2];
#pragma unroll
            for (int i = 0; i < 4; i++)
                ldmatrix4(a[i], &as[stage][swizzle_a(wm + i * 16 + (lane & 15), kk / 8 + (lane >> 4))]);
#pragma unroll
            for (int j = 0; j < 2; j++)
                ldmatrix4_trans(b[2 * j], &bs[stage][swizzle_b(kk + (lane & 15), (wn + j * 16) / 8 + (lane >> 4))]);
#pragma unroll
            for (int i = 0; i < 4; i++)
#pragma unroll
                for (int j = 0; j < 4; j++)
                    mma(acc[i][j], a[i], b[j]);
        }
        __syncthreads();
    }
    const int row0 = blockIdx.y * BM + wm + (lane >> 2), col0 = blockIdx.x * BN + wn + (lane & 3) * 2;
#pragma unroll
    for (int i = 0; i < 4; i++)
#pragma unroll
        for (int j = 0; j < 4; j++) {
            float *c = C + (size_t)(row0 + i * 16) * N + col0 + j * 8;
            *(float2 *)c = make_float2(acc[i][j][0], acc[i][j][1]);
            *(float2 *)(c + 8 * (size_t)N) = make_float2(acc[i][j][2], acc[i][j][3]);
        }
}
