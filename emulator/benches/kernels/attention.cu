// Attention forward, one block for 64 queries of one head, keys and values in blocks of 64, online softmax, the two
// products on tensor cores. Q, K, V, O: (heads, length, 64) f16. length a multiple of 64.
#include <cuda_fp16.h>
#include <stdint.h>

constexpr int D = 64, BQ = 64, BKV = 64;

__device__ __forceinline__ int swizzle(int r, int c) { return r * D + ((c ^ (r & 7)) << 3); }
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
__device__ __forceinline__ uint32_t pack(float a, float b) {
    half2 h = __floats2half2_rn(a, b);
    return *(uint32_t *)&h;
}

extern "C" __global__ void __launch_bounds__(128)
attention(const half *Q, const half *K, const half *V, half *O, int length, float scale_log2e) {
    __shared__ __align__(128) half qs[BQ * D], ks[BKV * D], vs[BKV * D];
    const int tid = threadIdx.x, lane = tid & 31, warp = tid >> 5;
    const size_t head = (size_t)blockIdx.y * length * D;
    auto load = [&](half *to, const half *from) {
#pragma unroll
        for (int i = 0; i < 4; i++) {
            int chunk = tid + i * 128, r = chunk >> 3, c = chunk & 7;
            copy16(&to[swizzle(r, c)], from + r * D + c * 8);
        }
    };
    load(qs, Q + head + (size_t)blockIdx.x * BQ * D);
    float o[8][4] = {}, top[2] = {-INFINITY, -INFINITY}, sum[2] = {};
    uint32_t q[4][4];
    for (int start = 0; start < length; start += BKV) {
        __syncthreads();
        load(ks, K + head + (size_t)start * D);
        load(vs, V + head + (size_t)start * D);
        asm volatile("cp.async.wait_all;");
        __syncthreads();
        if (start == 0)
#pragma unroll
            for (int k = 0; k < 4; k++) ldmatrix4(q[k], &qs[swizzle(warp * 16 + (lane & 15), 2 * k + (lane >> 4))]);
        float s[8][4] = {};
#pragma unroll
        for (int k = 0; k < 4; k++)
#pragma unroll
            for (int j = 0; j < 4; j++) {
                uint32_t b[4];
                ldmatrix4(b, &ks[swizzle(j * 16 + (lane & 7) + ((lane >> 4) << 3), 2 * k + ((lane >> 3) & 1))]);
                mma(s[2 * j], q[k], b);
                mma(s[2 * j + 1], q[k], b + 2);
            }
#pragma unroll
        for (int h = 0; h < 2; h++) {
            float m = top[h];
#pragma unroll
            for (int j = 0; j < 8; j++) m = fmaxf(m, fmaxf(s[j][2 * h], s[j][2 * h + 1]));
            m = fmaxf(m, __shfl_xor_sync(~0u, m, 1));
            m = fmaxf(m, __shfl_xor_sync(~0u, m, 2));
            float shrink = exp2f((top[h] - m) * scale_log2e);
            top[h] = m;
            float add = 0;
#pragma unroll
            for (int j = 0; j < 8; j++)
#pragma unroll
                for (int e = 0; e < 2; e++) {
                    float p = exp2f((s[j][2 * h + e] - m) * scale_log2e);
                    s[j][2 * h + e] = p;
                    add += p;
                }
            sum[h] = sum[h] * shrink + add;
#pragma unroll
            for (int j = 0; j < 8; j++) o[j][2 * h] *= shrink, o[j][2 * h + 1] *= shrink;
        }
#pragma unroll
        for (int k = 0; k < 4; k++) {
            uint32_t p[4] = {pack(s[2 * k][0], s[2 * k][1]), pack(s[2 * k][2], s[2 * k][3]),
                             pack(s[2 * k + 1][0], s[2 * k + 1][1]), pack(s[2 * k + 1][2], s[2 * k + 1][3])};
#pragma unroll
            for (int j = 0; j < 4; j++) {
                uint32_t b[4];
                ldmatrix4_trans(b, &vs[swizzle(k * 16 + (lane & 15), 2 * j + (lane >> 4))]);
                mma(o[2 * j], p, b);
                mma(o[2 * j + 1], p, b + 2);
            }
        }
    }
#pragma unroll
    for (int h = 0; h < 2; h++) {
        sum[h] += __shfl_xor_sync(~0u, sum[h], 1);
        sum[h] += __shfl_xor_sync(~0u, sum[h], 2);
        const float r = 1 / sum[h];
        const int row = blockIdx.x * BQ + warp * 16 + (lane >> 2) + 8 * h;
        half *out = O + head + (size_t)row * D + (lane & 3) * 2;
#pragma unroll
        for (int j = 0; j < 8; j++) *(half2 *)(out + j * 8) = __floats2half2_rn(o[j][2 * h] * r, o[j][2 * h + 1] * r);
    }
}
