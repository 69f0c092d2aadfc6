// Single trained values of frozen matrices: what they add to products, and their gradients. No floating-point atomics: a lane
// adds only to its own columns, and a warp sums an entry's gradient over the rows in a fixed order.

#include "columns.cuh"
#include "entries.cuh"
#include "varlen.cuh"

__device__ __forceinline__ float wide(Half x) { return unpack(x.bits).x; }

struct SparseAddArgs {
    const BatchHeader* batch;
    // [rows, inputs]
    const Half* x;
    // [rows, outputs]
    Half* y;
    // One line per output.
    EntriesArgs entries;
    uint32_t inputs;
    uint32_t outputs;
    // RowKind of both.
    uint32_t rows;
    uint32_t padding;
};
MIRRORED(SparseAddArgs);

// Grid: row tiles × 256 outputs. One warp per row; a lane takes every 32nd output.
extern "C" __global__ void __launch_bounds__(kTileWarps * kWarp)
    sparse_add(const __grid_constant__ SparseAddArgs args) {
    const uint32_t rows = row_count(args.batch, args.rows);
    const uint32_t first = blockIdx.y * kPart + threadIdx.x % kWarp, last = min((blockIdx.y + 1) * kPart, args.outputs);
    for (int i = 0; i < kTileRows / kTileWarps; ++i) {
        const uint32_t row = blockIdx.x * kTileRows + i * kTileWarps + threadIdx.x / kWarp;
        if (row >= rows) return;
        const Half* x = args.x + size_t(row) * args.inputs;
        for (uint32_t output = first; output < last; output += kWarp) {
            const Line line(args.entries, output);
            if (line.begin == line.end) continue;
            float sum = 0.0f;
            for (uint32_t entry = line.begin; entry < line.end; ++entry) {
                sum = fmaf(line.value(entry), wide(x[line.from[entry]]), sum);
            }
            Half* y = args.y + size_t(row) * args.outputs + output;
            y->bits = uint16_t(pack(wide(*y) + sum, 0.0f));
        }
    }
}

struct SparseGradArgs {
    const BatchHeader* batch;
    const StepState* state;
    // [rows, outputs]
    const Half* dy;
    // [rows, inputs]; null for a table, whose entries get the gradients of the tokens of their rows.
    const Half* x;
    // The row of the table that each token used; null if all use the first.
    const uint32_t* ids;
    // By rows; without values.
    EntriesArgs entries;
    // [count]
    float* grad;
    uint32_t inputs;
    uint32_t outputs;
    // RowKind of both.
    uint32_t rows;
    uint32_t padding;
};
MIRRORED(SparseGradArgs);

// One warp per entry; a lane takes every 32nd row.
extern "C" __global__ void __launch_bounds__(kTileWarps * kWarp)
    sparse_grad(const __grid_constant__ SparseGradArgs args) {
    const uint32_t lane = threadIdx.x % kWarp, count = args.entries.count;
    const uint32_t entry = blockIdx.x * kTileWarps + threadIdx.x / kWarp;
    if (entry >= count) return;
    const uint32_t* places = args.entries.places + args.entries.lines + 1;
    const uint32_t from = places[entry], to = places[size_t(count) + entry], number = places[2 * size_t(count) + entry];
    const uint32_t rows = row_count(args.batch, args.rows);
    float sum = 0.0f;
    for (uint32_t row = lane; row < rows; row += kWarp) {
        if (args.x != nullptr) {
            const float x = wide(args.x[size_t(row) * args.inputs + from]);
            sum = fmaf(wide(args.dy[size_t(row) * args.outputs + to]), x, sum);
        } else if ((args.ids == nullptr ? 0 : args.ids[row]) == to) {
            sum += wide(args.dy[size_t(row) * args.outputs + from]);
        }
    }
    sum = warp_sum(sum);
    if (lane == 0) args.grad[number] += sum * args.state->inverse_scale;
}

// Single values of vectors, which are in the parameter vector themselves.
struct SparseVectorArgs {
    // [count]: places in the whole vector.
    const uint32_t* places;
    // [count]
    const float* values;
    const float* base;
    // The whole vector, or its gradient.
    float* vector;
    // [count]
    float* grad;
    uint32_t count;
    uint32_t padding;
};
MIRRORED(SparseVectorArgs);

extern "C" __global__ void __launch_bounds__(kTileWarps * kWarp)
    sparse_set(const __grid_constant__ SparseVectorArgs args) {
    const uint32_t i = blockIdx.x * kTileWarps * kWarp + threadIdx.x;
    if (i < args.count) args.vector[args.places[i]] = args.base[i] + args.values[i];
}

extern "C" __global__ void __launch_bounds__(kTileWarps * kWarp)
    sparse_take(const __grid_constant__ SparseVectorArgs args) {
    const uint32_t i = blockIdx.x * kTileWarps * kWarp + threadIdx.x;
    if (i >= args.count) return;
    float* from = args.vector + args.places[i];
    args.grad[i] += *from;
    *from = 0.0f;
}
