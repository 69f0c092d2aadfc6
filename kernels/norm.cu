// x = LN(residual + dropout(x)) and its backward, one warp per row. dβ and the bias gradient of the linear layer below come
// from the same pass over the row. dγ, needed only by full fine-tuning, is a separate column sum (bias_grad.cu). Besides the
// blocks for its rows, backward has some that finish sums begun by earlier kernels.
//
// One kernel per number of 256-column parts, so that a row stays in registers: widths up to 1024.

#include "columns.cuh"
#include "finish.cuh"
#include "norm.cuh"
#include "x_hat.cuh"

struct NormForwardArgs {
    const BatchHeader* batch;
    Half* x;
    const Half* residual;
    const float* gamma;
    const float* beta;
    // The input of the LayerNorm, if the residual stream bypasses it, or null.
    Half* sum;
    // Kept for backward, or null.
    void* x_hat;
    float* rstd;
    DropoutArgs dropout;
    uint32_t width;
    float eps;
    // RowKind of every tensor here.
    uint32_t rows;
    // XHatKind
    uint32_t x_hat_kind;
};
MIRRORED(NormForwardArgs);

template <int C>
__device__ __forceinline__ void forward(const NormForwardArgs& args) {
    __shared__ Affine<C> affine;
    const uint32_t rows = row_count(args.batch, args.rows);
    if (blockIdx.x * kBlockRows >= rows) return;
    const Dropout dropout(args.dropout, args.batch, first_row(args.batch, args.rows));
    const int width = int(args.width);
    affine.fill(args.gamma, args.beta, width);
    __syncthreads();
    const uint32_t row = blockIdx.x * kBlockRows + threadIdx.x / kWarp;
    if (row >= rows) return;
    const size_t base = size_t(row) * width;

    Row<C> r = {};
#pragma unroll
    for (int c = 0; c < C; ++c) {
        const int column = r.column(c);
        if (column >= width) continue;
        r.part[c] = load8(args.x + base + column);
        if (dropout.active()) dropout.apply8(r.part[c].v, row, column);
        const Eight residual = load8(args.residual + base + column);
#pragma unroll
        for (int i = 0; i < 8; ++i) r.part[c].v[i] += residual.v[i];
        if (args.sum != nullptr) store8(args.sum + base + column, r.part[c]);
    }
    const float rstd = r.normalise(width, args.eps);
    if (args.rstd != nullptr && threadIdx.x % kWarp == 0) args.rstd[row] = rstd;
#pragma unroll
    for (int c = 0; c < C; ++c) {
        const int column = r.column(c);
        if (column >= width) continue;
        if (args.x_hat != nullptr) store_x_hat(args.x_hat, args.x_hat_kind, width, base + column, r.part[c]);
        store8(args.x + base + column, affine.of(r.part[c], c));
    }
}

struct NormBackwardArgs {
    const BatchHeader* batch;
    // In: gradient of the output. Out: gradient of the residual.
    Half* dx;
    // Gradient of the sum from the stream that bypasses the LayerNorm, or null.
    const Half* beside;
    const void* x_hat;
    const float* rstd;
    const float* gamma;
    // Gradient of the branch under dropout, or null.
    Half* d_branch;
    // Column sums of a block's rows, [blocks, width], or null.
    float* partial_beta;
    float* partial_bias;
    DropoutArgs dropout;
    uint32_t width;
    // RowKind of every tensor here.
    uint32_t rows;
    // XHatKind
    uint32_t x_hat_kind;
    // Blocks for this work. The grid's other blocks finish sums left by earlier kernels.
    uint32_t blocks;
    ColumnFinishArgs finish;
};
MIRRORED(NormBackwardArgs);

template <int C>
__device__ __forceinline__ void backward(const NormBackwardArgs& args) {
    using Sums = ColumnSums<C, kTileWarps>;
    __shared__ __align__(16) float gamma[Planes<C>::kFloats];
    __shared__ __align__(16) float sums_beta[Sums::kFloats], sums_bias[Sums::kFloats];
    if (blockIdx.x >= args.blocks) {
        static_assert(kFinishFloats <= Sums::kFloats, "room to finish in");
        finish_columns<kTileWarps * kWarp>(args.finish, blockIdx.x - args.blocks, sums_beta);
        return;
    }
    const uint32_t rows = row_count(args.batch, args.rows);
    if (blockIdx.x * kTileRows >= rows) return;
    const Dropout dropout(args.dropout, args.batch, first_row(args.batch, args.rows));
    const int width = int(args.width);
    Planes<C>::fill(gamma, args.gamma, width);
    // Not in registers: the row already takes many.
    float *beta = Sums::start(sums_beta), *bias = Sums::start(sums_bias);
    __syncthreads();

    const RowWalk walk(rows, args.blocks);
    for (uint32_t row = walk.first; row < walk.end; row += walk.step) {
        const size_t base = size_t(row) * width;
        Row<C> dy = {}, x_hat = {};
#pragma unroll
        for (int c = 0; c < C; ++c) {
            const int column = Row<C>::column(c);
            if (column >= width) continue;
            dy.part[c] = load8(args.dx + base + column);
            x_hat.part[c] = load_x_hat(args.x_hat, args.x_hat_kind, width, base + column);
            Planes<C>::add(beta, c, dy.part[c]);
        }
        if (row + walk.step < walk.end) {
            const size_t next = base + size_t(walk.step) * width;
            Row<C>::prefetch(args.dx + next, width);
            if (args.x_hat_kind == kXHatFull) Row<C>::prefetch(static_cast<const Half*>(args.x_hat) + next, width);
            if (args.beside != nullptr) Row<C>::prefetch(args.beside + next, width);
        }
        dy.back(x_hat, gamma, args.rstd[row], width);
#pragma unroll
        for (int c = 0; c < C; ++c) {
            const int column = Row<C>::column(c);
            if (column >= width) continue;
            Eight& dz = dy.part[c];
            if (args.beside != nullptr) {
                const Eight beside = load8(args.beside + base + column);
#pragma unroll
                for (int i = 0; i < 8; ++i) dz.v[i] += beside.v[i];
            }
            store8(args.dx + base + column, dz);
            if (dropout.active()) dropout.apply8(dz.v, row, column);
            if (args.d_branch != nullptr) store8(args.d_branch + base + column, dz);
            Planes<C>::add(bias, c, dz);
        }
    }
    const size_t at = size_t(blockIdx.x) * width;
    if (args.partial_beta != nullptr) Sums::finish(sums_beta, args.partial_beta + at, width);
    if (args.partial_bias != nullptr) Sums::finish(sums_bias, args.partial_bias + at, width);
}

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
MIRRORED(NormRestoreArgs);

// out = γ·x̂ + β
template <int C>
__device__ __forceinline__ void restore(const NormRestoreArgs& args) {
    __shared__ Affine<C> affine;
    const uint32_t rows = row_count(args.batch, args.rows);
    if (blockIdx.x * kBlockRows >= rows) return;
    const int width = int(args.width);
    affine.fill(args.gamma, args.beta, width);
    __syncthreads();
    const uint32_t row = blockIdx.x * kBlockRows + threadIdx.x / kWarp;
    if (row >= rows) return;
    const size_t base = size_t(row) * width;
#pragma unroll
    for (int c = 0; c < C; ++c) {
        const int column = Row<C>::column(c);
        if (column < width) store8(args.out + base + column, affine.of(load8(args.x_hat + base + column), c));
    }
}

// The widest rows, in parts, for which five blocks fit a multiprocessor's registers without spilling.
constexpr int kFiveBlocks = 2;

#define NORM_KERNELS(parts)                                                                                  \
    extern "C" __global__ void __launch_bounds__(kBlockRows * kWarp, parts <= kFiveBlocks ? 5 : 4)                \
        norm_forward_##parts(const __grid_constant__ NormForwardArgs args) {                                 \
        forward<parts>(args);                                                                                \
    }                                                                                                        \
    extern "C" __global__ void __launch_bounds__(kTileWarps * kWarp, parts <= 3 ? 4 : 3)                          \
        norm_backward_##parts(const __grid_constant__ NormBackwardArgs args) {                               \
        backward<parts>(args);                                                                               \
    }                                                                                                        \
    extern "C" __global__ void __launch_bounds__(kBlockRows * kWarp)                                              \
        norm_restore_##parts(const __grid_constant__ NormRestoreArgs args) {                                 \
        restore<parts>(args);                                                                                \
    }

NORM_KERNELS(1)
NORM_KERNELS(2)
NORM_KERNELS(3)
NORM_KERNELS(4)
