// x = LN(residual + dropout(x)) and its backward, a warp a row. γ is frozen, so no dγ exists; dβ and the bias
// gradient of the linear layer below fall out of the same pass over the row.
//
// One kernel for each number of 256-column parts, so that a row stays in registers: widths up to 1024.

#include "columns.cuh"
#include "norm.cuh"

// Mirrored by `NormForwardArgs` in src/backend/cuda/args.rs.
struct NormForwardArgs {
    const BatchHeader* batch;
    Half* x;
    const Half* residual;
    const float* gamma;
    const float* beta;
    // Kept for backward, or null.
    Half* x_hat;
    float* rstd;
    DropoutArgs dropout;
    uint32_t width;
    float eps;
    // RowKind of every tensor here.
    uint32_t rows;
    uint32_t padding;
};
static_assert(sizeof(NormForwardArgs) == 88, "mirrored by src/backend/cuda/args.rs");

constexpr int kWarps = 4;

template <int C>
__device__ __forceinline__ void forward(const NormForwardArgs& args) {
    const uint32_t row = blockIdx.x * kWarps + threadIdx.x / kWarp;
    if (row >= row_count(args.batch, args.rows)) return;
    const Dropout dropout(args.dropout, args.batch);
    const int width = int(args.width);
    const size_t base = size_t(row) * width;

    Row<C> r;
#pragma unroll
    for (int c = 0; c < C; ++c) {
        const int column = r.column(c);
        r.part[c] = {};
        if (column < width) {
            r.part[c] = load8(args.x + base + column);
            if (dropout.active()) dropout.apply8(r.part[c].v, row, column);
            const Eight residual = load8(args.residual + base + column);
#pragma unroll
            for (int i = 0; i < 8; ++i) r.part[c].v[i] += residual.v[i];
        }
    }
    const float rstd = r.normalise(width, args.eps);
    if (args.rstd != nullptr && threadIdx.x % kWarp == 0) args.rstd[row] = rstd;
#pragma unroll
    for (int c = 0; c < C; ++c) {
        const int column = r.column(c);
        if (column >= width) continue;
        if (args.x_hat != nullptr) store8(args.x_hat + base + column, r.part[c]);
        const Eight gamma = load8(args.gamma + column), beta = load8(args.beta + column);
#pragma unroll
        for (int i = 0; i < 8; ++i) r.part[c].v[i] = fmaf(r.part[c].v[i], gamma.v[i], beta.v[i]);
        store8(args.x + base + column, r.part[c]);
    }
}

// Mirrored by `NormBackwardArgs` in src/backend/cuda/args.rs.
struct NormBackwardArgs {
    const BatchHeader* batch;
    // In: gradient of the output. Out: gradient of the residual.
    Half* dx;
    const Half* x_hat;
    const float* rstd;
    const float* gamma;
    // Gradient of the branch under dropout, or null.
    Half* d_branch;
    // Column sums of a block's rows, [row tiles, width], or null.
    float* partial_beta;
    float* partial_bias;
    DropoutArgs dropout;
    uint32_t width;
    // RowKind of every tensor here.
    uint32_t rows;
};
static_assert(sizeof(NormBackwardArgs) == 88, "mirrored by src/backend/cuda/args.rs");

// Rows of a block: few enough to fill the device, many enough that the partial sums are a small part of the traffic.
constexpr int kTileRows = 32;

template <int C>
__device__ __forceinline__ void backward(const NormBackwardArgs& args) {
    __shared__ __align__(16) float shared[ColumnSums<C, kWarps>::kFloats];
    const uint32_t rows = row_count(args.batch, args.rows);
    if (blockIdx.x * kTileRows >= rows) return;
    const Dropout dropout(args.dropout, args.batch);
    const int width = int(args.width);
    const int warp = threadIdx.x / kWarp;

    Eight sum_beta[C] = {}, sum_bias[C] = {};
    for (int i = 0; i < kTileRows / kWarps; ++i) {
        const uint32_t row = blockIdx.x * kTileRows + i * kWarps + warp;
        if (row >= rows) break;
        const size_t base = size_t(row) * width;
        Eight dy[C], x_hat[C];
        float mean = 0.0f, mean_x = 0.0f;
#pragma unroll
        for (int c = 0; c < C; ++c) {
            const int column = Row<C>::column(c);
            dy[c] = {};
            x_hat[c] = {};
            if (column < width) {
                dy[c] = load8(args.dx + base + column);
                x_hat[c] = load8(args.x_hat + base + column);
                const Eight gamma = load8(args.gamma + column);
#pragma unroll
                for (int j = 0; j < 8; ++j) {
                    sum_beta[c].v[j] += dy[c].v[j];
                    dy[c].v[j] *= gamma.v[j];
                    mean += dy[c].v[j];
                    mean_x = fmaf(dy[c].v[j], x_hat[c].v[j], mean_x);
                }
            }
        }
        mean = warp_sum(mean) / float(width);
        mean_x = warp_sum(mean_x) / float(width);
        const float rstd = args.rstd[row];
#pragma unroll
        for (int c = 0; c < C; ++c) {
            const int column = Row<C>::column(c);
            if (column >= width) continue;
#pragma unroll
            for (int j = 0; j < 8; ++j) dy[c].v[j] = rstd * (dy[c].v[j] - mean - x_hat[c].v[j] * mean_x);
            store8(args.dx + base + column, dy[c]);
            if (dropout.active()) dropout.apply8(dy[c].v, row, column);
            if (args.d_branch != nullptr) store8(args.d_branch + base + column, dy[c]);
#pragma unroll
            for (int j = 0; j < 8; ++j) sum_bias[c].v[j] += dy[c].v[j];
        }
    }
    const size_t at = size_t(blockIdx.x) * width;
    if (args.partial_beta != nullptr) ColumnSums<C, kWarps>::add(sum_beta, shared, args.partial_beta + at, width);
    if (args.partial_bias != nullptr) ColumnSums<C, kWarps>::add(sum_bias, shared, args.partial_bias + at, width);
}

// Mirrored by `NormRestoreArgs` in src/backend/cuda/args.rs.
struct NormRestoreArgs {
    const BatchHeader* batch;
    const Half* x_hat;
    const float* gamma;
    const float* beta;
    Half* out;
    uint32_t width;
    // RowKind of every tensor here.
    uint32_t rows;
};
static_assert(sizeof(NormRestoreArgs) == 48, "mirrored by src/backend/cuda/args.rs");

// out = γ·x̂ + β, eight elements a thread.
extern "C" __global__ void __launch_bounds__(256) norm_restore(const __grid_constant__ NormRestoreArgs args) {
    const size_t at = (size_t(blockIdx.x) * 256 + threadIdx.x) * 8;
    if (at >= size_t(row_count(args.batch, args.rows)) * args.width) return;
    const uint32_t column = uint32_t(at % args.width);
    Eight e = load8(args.x_hat + at);
    const Eight gamma = load8(args.gamma + column), beta = load8(args.beta + column);
#pragma unroll
    for (int i = 0; i < 8; ++i) e.v[i] = fmaf(e.v[i], gamma.v[i], beta.v[i]);
    store8(args.out + at, e);
}

#define NORM_KERNELS(parts)                                                                                  \
    extern "C" __global__ void __launch_bounds__(kWarps * kWarp)                                             \
        norm_forward_##parts(const __grid_constant__ NormForwardArgs args) {                                 \
        forward<parts>(args);                                                                                \
    }                                                                                                        \
    extern "C" __global__ void __launch_bounds__(kWarps * kWarp)                                             \
        norm_backward_##parts(const __grid_constant__ NormBackwardArgs args) {                               \
        backward<parts>(args);                                                                               \
    }

NORM_KERNELS(1)
NORM_KERNELS(2)
NORM_KERNELS(3)
NORM_KERNELS(4)
