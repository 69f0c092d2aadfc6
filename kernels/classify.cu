// The last layer of a head on sequences, its loss and its backward, for few classes: forward, loss and the gradient of the
// input are matters of one row, so one warp does all of them and nothing waits for other rows. The gradients of the layer's
// matrix and bias, and the loss of the step, are sums over rows: a block leaves those of its rows, and finish.cuh adds them up.

#include "head.cuh"
#include "loss.cuh"
#include "philox.cuh"

struct ClassifyArgs {
    DenseArgs dense;
    LossArgs loss;
    // A row for every eight sequences. [outputs · inputs] and [outputs], or null; one number.
    float* partial_weight;
    float* partial_bias;
    float* partial_loss;
};
MIRRORED(ClassifyArgs);

constexpr int kClassifyRows = 8;
MIRRORED(ClassifyBlock);

// Eight inputs.
__device__ __forceinline__ Eight input8(const DenseArgs& args, size_t at) {
    if (args.stream != 0) return load8(static_cast<const Half*>(args.x) + at);
    return load8(static_cast<const float*>(args.x) + at);
}

// Grid: eight sequences per block.
template <int Parts>
__device__ __forceinline__ void classify(const ClassifyArgs& args) {
    using Sums = ColumnSums<1, kClassifyRows>;
    __shared__ __align__(16) float shared[Sums::kFloats];
    __shared__ float losses[kClassifyRows];
    const DenseArgs& dense = args.dense;
    const uint32_t rows = dense.batch->sequences, first = blockIdx.x * kClassifyRows;
    if (first >= rows) return;
    const uint32_t lane = threadIdx.x % kWarp, row = first + threadIdx.x / kWarp;
    const int width = int(dense.inputs);
    const uint32_t outputs = dense.outputs;
    const bool there = row < rows;
    const size_t start = size_t(row) * width;
    const Dropout dropout(dense.dropout, dense.batch, first_row(dense.batch, dense.rows));
    // The partial sums are scaled like those of the encoder.
    const float scale = dense.state->scale;

    Eight x[Parts] = {};
#pragma unroll
    for (int p = 0; p < Parts; ++p) {
        const int column = p * kPart + int(lane) * 8;
        if (!there || column >= width) continue;
        x[p] = input8(dense, start + column);
        if (dropout.active()) dropout.apply8(x[p].v, row, column);
    }
    for (uint32_t o = 0; o < outputs; ++o) {
        float sum = 0.0f;
#pragma unroll
        for (int p = 0; p < Parts; ++p) {
            const int column = p * kPart + int(lane) * 8;
            if (column >= width) continue;
            const Eight w = load8(dense.weight + size_t(o) * width + column);
#pragma unroll
            for (int i = 0; i < 8; ++i) sum = fmaf(x[p].v[i], w.v[i], sum);
        }
        sum = warp_sum(sum);
        if (there && lane == 0) dense.y[size_t(row) * outputs + o] = sum + dense.bias[o];
    }
    __syncwarp();

    float of_row = 0.0f, of_elements = 0.0f;
    if (there) of_sequence(args.loss, row, of_row, of_elements);
    of_row += warp_sum(of_elements);
    if (lane == 0) losses[threadIdx.x / kWarp] = of_row;
    // Also for the other lanes' gradients of the logits.
    __syncthreads();

    const float* d = args.loss.dlogits + size_t(row) * outputs;
    if (there && dense.dx != nullptr) {
#pragma unroll
        for (int p = 0; p < Parts; ++p) {
            const int column = p * kPart + int(lane) * 8;
            if (column >= width) continue;
            Eight dx = {};
            for (uint32_t o = 0; o < outputs; ++o) {
                const Eight w = load8(dense.weight + size_t(o) * width + column);
#pragma unroll
                for (int i = 0; i < 8; ++i) dx.v[i] = fmaf(d[o], w.v[i], dx.v[i]);
            }
            if (dropout.active()) dropout.apply8(dx.v, row, column);
            if (dense.tanh != 0) {
                const Eight y = input8(dense, start + column);
#pragma unroll
                for (int i = 0; i < 8; ++i) dx.v[i] *= 1.0f - y.v[i] * y.v[i];
            }
            if (dense.stream != 0) {
#pragma unroll
                for (int i = 0; i < 8; ++i) dx.v[i] *= scale;
                store8(static_cast<Half*>(dense.dx) + start + column, dx);
            } else {
                store8(static_cast<float*>(dense.dx) + start + column, dx);
            }
        }
    }

    for (uint32_t o = 0; args.partial_weight != nullptr && o < outputs; ++o) {
        const float factor = there ? d[o] * scale : 0.0f;
        float* to = args.partial_weight + (size_t(blockIdx.x) * outputs + o) * width;
#pragma unroll
        for (int p = 0; p < Parts; ++p) {
            Eight sums[1];
#pragma unroll
            for (int i = 0; i < 8; ++i) sums[0].v[i] = factor * x[p].v[i];
            Sums::add(sums, shared, to + p * kPart, min(width - p * kPart, kPart));
            __syncthreads();
        }
    }
    const uint32_t end = min(rows, first + kClassifyRows);
    if (args.partial_bias != nullptr && threadIdx.x < outputs) {
        float sum = 0.0f;
        for (uint32_t r = first; r < end; ++r) sum += args.loss.dlogits[size_t(r) * outputs + threadIdx.x];
        args.partial_bias[blockIdx.x * outputs + threadIdx.x] = sum * scale;
    }
    if (threadIdx.x == 0) {
        float sum = losses[0];
        for (int w = 1; w < kClassifyRows; ++w) sum += losses[w];
        args.partial_loss[blockIdx.x] = args.loss.numbers->weight * sum * scale;
    }
}

// Without a number of blocks, the assembler wants more of them on some architectures than registers allow, and spills.
#define CLASSIFY_KERNEL(parts)                                                     \
    extern "C" __global__ void __launch_bounds__(kClassifyRows * kWarp, 2)         \
        classify_##parts(const __grid_constant__ ClassifyArgs args) {              \
        classify<parts>(args);                                                     \
    }

CLASSIFY_KERNEL(1)
CLASSIFY_KERNEL(2)
CLASSIFY_KERNEL(3)
CLASSIFY_KERNEL(4)
