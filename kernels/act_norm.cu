// The activation and the LayerNorm between the two products of a masked-word head, y = LN(act(x)), one warp per row. f32,
// like the rest of the head; backward recomputes what it needs from x. dβ is a separate column sum (dense_backward_bias).

#include "columns.cuh"
#include "math.cuh"
#include "norm.cuh"

struct ActNormArgs {
    const BatchHeader* batch;
    // f32 [rows, width], like y and dx.
    const float* x;
    float* y;
    // In: gradient of y. Out: gradient of x.
    float* dx;
    const float* gamma;
    const float* beta;
    uint32_t width;
    float eps;
    // ActivationKind
    uint32_t activation;
    // RowKind of every tensor here.
    uint32_t rows;
};
MIRRORED(ActNormArgs);

// A row of f32 starting at some column, aligned to 32 bytes.
struct FloatRow {
    const float* at;

    __device__ __forceinline__ FloatRow operator+(int columns) const { return {at + columns}; }
};

__device__ __forceinline__ Eight load8(const FloatRow& from) {
    const float4 low = reinterpret_cast<const float4*>(from.at)[0], high = reinterpret_cast<const float4*>(from.at)[1];
    return {{low.x, low.y, low.z, low.w, high.x, high.y, high.z, high.w}};
}

// act(x) of a row.
template <int C>
__device__ __forceinline__ Row<C> activated_row(const ActNormArgs& args, const float* x) {
    Row<C> r = Row<C>::load(FloatRow{x}, int(args.width));
    with_activation(args.activation, [&](auto kind) {
#pragma unroll
        for (int c = 0; c < C; ++c) {
            if (Row<C>::column(c) >= int(args.width)) continue;
#pragma unroll
            for (int i = 0; i < 8; ++i) {
                float slope;
                r.part[c].v[i] = activate<decltype(kind)::value>(r.part[c].v[i], slope);
            }
        }
    });
    return r;
}

template <int C>
__device__ __forceinline__ void forward(const ActNormArgs& args) {
    __shared__ Affine<C> affine;
    const uint32_t rows = row_count(args.batch, args.rows);
    if (blockIdx.x * kBlockRows >= rows) return;
    const int width = int(args.width);
    affine.fill(args.gamma, args.beta, width);
    __syncthreads();
    const uint32_t row = blockIdx.x * kBlockRows + threadIdx.x / kWarp;
    if (row >= rows) return;
    const size_t base = size_t(row) * width;
    Row<C> r = activated_row<C>(args, args.x + base);
    r.normalise(width, args.eps);
#pragma unroll
    for (int c = 0; c < C; ++c) {
        const int column = Row<C>::column(c);
        if (column < width) store8(args.y + base + column, affine.of(r.part[c], c));
    }
}

template <int C>
__device__ __forceinline__ void backward(const ActNormArgs& args) {
    __shared__ __align__(16) float gamma[Planes<C>::kFloats];
    const uint32_t rows = row_count(args.batch, args.rows);
    if (blockIdx.x * kBlockRows >= rows) return;
    const int width = int(args.width);
    Planes<C>::fill(gamma, args.gamma, width);
    __syncthreads();
    const uint32_t row = blockIdx.x * kBlockRows + threadIdx.x / kWarp;
    if (row >= rows) return;
    const size_t base = size_t(row) * width;
    Row<C> x_hat = activated_row<C>(args, args.x + base);
    const float rstd = x_hat.normalise(width, args.eps);
    Row<C> d = Row<C>::load(FloatRow{args.dx + base}, width);
    d.back(x_hat, gamma, rstd, width);
#pragma unroll
    for (int c = 0; c < C; ++c) {
        const int column = Row<C>::column(c);
        if (column >= width) continue;
        // Read again: x, x̂ and the gradient together do not fit a thread's registers.
        const Eight x = load8(FloatRow{args.x + base + column});
        with_activation(args.activation, [&](auto kind) {
#pragma unroll
            for (int i = 0; i < 8; ++i) {
                float slope;
                activate<decltype(kind)::value>(x.v[i], slope);
                d.part[c].v[i] *= slope;
            }
        });
        store8(args.dx + base + column, d.part[c]);
    }
}

#define ACT_NORM_KERNELS(parts)                                                                              \
    extern "C" __global__ void __launch_bounds__(kBlockRows * kWarp)                                         \
        act_norm_##parts(const __grid_constant__ ActNormArgs args) {                                         \
        forward<parts>(args);                                                                                \
    }                                                                                                        \
    extern "C" __global__ void __launch_bounds__(kBlockRows * kWarp)                                         \
        act_norm_backward_##parts(const __grid_constant__ ActNormArgs args) {                                \
        backward<parts>(args);                                                                               \
    }

ACT_NORM_KERNELS(1)
ACT_NORM_KERNELS(2)
ACT_NORM_KERNELS(3)
ACT_NORM_KERNELS(4)
