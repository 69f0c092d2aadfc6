// The dense layers of labelled tokens, one of them as wide as a vocabulary: products in f32, with tiles of both operands in
// shared memory, since one output at a time (head.cu) would read x once for every few of 30,000 words. f32 as everywhere in
// the head: tensor cores would gain nothing that rounding logits and gradients to 16 bits would not lose.
//
//   forward    y (rows, outputs) = x (rows, inputs) · Wᵀ + bias
//   backward   dx (rows, inputs) = dy (rows, outputs) · W
//
// A block computes a 64 × 64 tile, a thread 4 × 4 numbers of it. Each sum is taken in order.

#include "head.cuh"
#include "quantised.cuh"

constexpr int kWideTile = 64, kWideThreads = 256;
MIRRORED(WideBlocks);
constexpr int kWideDepth = 16;

// 64 numbers for each of 16 steps of a sum. Four neighbours stay together, and those of neighbouring steps are in other
// banks: a warp that stores eight rows of 16 steps hits each bank once.
struct Panel {
    float v[kWideDepth][kWideTile];

    __device__ __forceinline__ float* at(int step, int i) { return &v[step][i ^ (step / 4 * 8)]; }

    // Four neighbouring steps of one number.
    __device__ __forceinline__ void put_steps(int step, int i, const float4& x) {
        *at(step, i) = x.x;
        *at(step + 1, i) = x.y;
        *at(step + 2, i) = x.z;
        *at(step + 3, i) = x.w;
    }

    // One step of four neighbouring numbers.
    __device__ __forceinline__ float4& four(int step, int i) { return *reinterpret_cast<float4*>(at(step, i)); }
};

// Four neighbouring columns of a row of W, starting at a multiple of 4. `Quantised`: in 8 or 4 bits.
template <bool Quantised>
__device__ __forceinline__ float4 weights_at(const DenseArgs& args, uint32_t output, uint32_t column) {
    const int width = int(args.inputs);
    if constexpr (!Quantised) {
        const Half* from = static_cast<const Half*>(args.frozen.codes) + size_t(output) * width + column;
        const uint2 words = *reinterpret_cast<const uint2*>(from);
        const float2 low = unpack(words.x), high = unpack(words.y);
        return make_float4(low.x, low.y, high.x, high.y);
    }
    if (args.table != 0) {
        const Int8Row row = table_row<Int8Row>(args.frozen, output, width) + int(column);
        const char4 codes = *reinterpret_cast<const char4*>(row.codes);
        return make_float4(codes.x * row.scale, codes.y * row.scale, codes.z * row.scale, codes.w * row.scale);
    }
    float4 w;
    w.x = element(args.frozen, width, int(output), int(column));
    w.y = element(args.frozen, width, int(output), int(column) + 1);
    w.z = element(args.frozen, width, int(output), int(column) + 2);
    w.w = element(args.frozen, width, int(output), int(column) + 3);
    return w;
}

// Four neighbouring numbers of a row of x or dy, zeros beyond its `width`.
__device__ __forceinline__ float4 numbers_at(const float* row, uint32_t column, uint32_t width) {
    // All rows of such a width begin at a multiple of 16 bytes.
    if (width % 4 == 0) {
        return column < width ? *reinterpret_cast<const float4*>(row + column) : float4{};
    }
    float4 x = {};
    if (column < width) x.x = row[column];
    if (column + 1 < width) x.y = row[column + 1];
    if (column + 2 < width) x.z = row[column + 2];
    if (column + 3 < width) x.w = row[column + 3];
    return x;
}

// Grid: row tiles × column tiles.
template <bool Backward, bool Quantised>
__device__ __forceinline__ void product(const DenseArgs& args) {
    __shared__ __align__(16) Panel left, right;
    const uint32_t rows = row_count(args.batch, args.rows), first_row = blockIdx.x * kWideTile;
    if (first_row >= rows) return;
    const uint32_t depth = Backward ? args.outputs : args.inputs, columns = Backward ? args.inputs : args.outputs;
    const uint32_t first_column = blockIdx.y * kWideTile;
    const float* x = Backward ? args.dy : static_cast<const float*>(args.x);

    // This thread's share of each tile: four steps of one row, and of W the same or, backward, four columns of a step.
    const int by_steps = int(threadIdx.x) / 4, step = int(threadIdx.x) % 4 * 4;
    const int w_step = int(threadIdx.x) / 16, w_column = int(threadIdx.x) % 16 * 4;
    const uint32_t row = first_row + by_steps;
    const auto load_left = [&](uint32_t from) {
        return row < rows ? numbers_at(x + size_t(row) * depth, from + step, depth) : float4{};
    };
    const auto load_right = [&](uint32_t from) {
        const uint32_t output = Backward ? from + w_step : first_column + by_steps;
        const uint32_t input = Backward ? first_column + w_column : from + step;
        return output < args.outputs && input < args.inputs ? weights_at<Quantised>(args, output, input) : float4{};
    };

    // This thread's outputs.
    const int my_row = int(threadIdx.x) / 16 * 4, my_column = int(threadIdx.x) % 16 * 4;
    float sums[4][4] = {};
    float4 next_left = load_left(0), next_right = load_right(0);
    for (uint32_t from = 0; from < depth; from += kWideDepth) {
        left.put_steps(step, by_steps, next_left);
        if constexpr (Backward) {
            right.four(w_step, w_column) = next_right;
        } else {
            right.put_steps(step, by_steps, next_right);
        }
        __syncthreads();
        // In flight while this tile is multiplied.
        if (from + kWideDepth < depth) {
            next_left = load_left(from + kWideDepth);
            next_right = load_right(from + kWideDepth);
        }
#pragma unroll
        for (int k = 0; k < kWideDepth; ++k) {
            const float4 a = left.four(k, my_row), b = right.four(k, my_column);
            const float rows_of[4] = {a.x, a.y, a.z, a.w}, columns_of[4] = {b.x, b.y, b.z, b.w};
#pragma unroll
            for (int i = 0; i < 4; ++i) {
#pragma unroll
                for (int j = 0; j < 4; ++j) sums[i][j] = fmaf(rows_of[i], columns_of[j], sums[i][j]);
            }
        }
        __syncthreads();
    }

    float* out = Backward ? static_cast<float*>(args.dx) : args.y;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
        const uint32_t to_row = first_row + my_row + i;
#pragma unroll
        for (int j = 0; j < 4; ++j) {
            const uint32_t to = first_column + my_column + j;
            if (to_row >= rows || to >= columns) continue;
            const float bias = Backward ? 0.0f : __ldg(args.bias + to);
            out[size_t(to_row) * columns + to] = sums[i][j] + bias;
        }
    }
}

#define WIDE_KERNEL(name, backward, quantised)                                                               \
    extern "C" __global__ void __launch_bounds__(kWideThreads) name(const __grid_constant__ DenseArgs args) { \
        product<backward, quantised>(args);                                                                  \
    }

WIDE_KERNEL(wide_forward, false, false)
WIDE_KERNEL(wide_forward_quantised, false, true)
WIDE_KERNEL(wide_backward, true, false)
WIDE_KERNEL(wide_backward_quantised, true, true)
