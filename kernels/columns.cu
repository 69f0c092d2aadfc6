// Takes some of a tensor's columns, or adds to them. One warp per row, eight columns per lane. Grid: row tiles × 256-column
// parts of those columns.

#include "columns.cuh"
#include "philox.cuh"

struct ColumnsArgs {
    const BatchHeader* batch;
    // [rows, width] when columns are taken, [rows, taken] when they are added.
    const Half* x;
    // The other of the two.
    Half* y;
    // On the columns, counted from the first one taken.
    DropoutArgs dropout;
    uint32_t width;
    uint32_t taken;
    uint32_t from;
    // RowKind of both.
    uint32_t rows;
    float times;
    uint32_t padding;
};
MIRRORED(ColumnsArgs);

template <bool Add>
__device__ __forceinline__ void columns(const ColumnsArgs& args) {
    const uint32_t rows = row_count(args.batch, args.rows);
    const Dropout dropout(args.dropout, args.batch, first_row(args.batch, args.rows));
    const uint32_t column = blockIdx.y * kPart + threadIdx.x % kWarp * 8;
    if (column >= args.taken) return;
    for (int i = 0; i < kTileRows / kTileWarps; ++i) {
        const uint32_t row = blockIdx.x * kTileRows + i * kTileWarps + threadIdx.x / kWarp;
        if (row >= rows) return;
        const size_t wide = size_t(row) * args.width + args.from + column;
        const size_t narrow = size_t(row) * args.taken + column;
        Eight e = load8(args.x + (Add ? narrow : wide));
        if (dropout.active()) dropout.apply8(e.v, row, int(column));
        Half* to = args.y + (Add ? wide : narrow);
        Eight sum = {};
        if (Add) sum = load8(to);
#pragma unroll
        for (int j = 0; j < 8; ++j) sum.v[j] = fmaf(args.times, e.v[j], sum.v[j]);
        store8(to, sum);
    }
}

// y = times · dropout(columns of x)
extern "C" __global__ void __launch_bounds__(kTileWarps * kWarp)
    take_columns(const __grid_constant__ ColumnsArgs args) {
    columns<false>(args);
}

// columns of y += times · dropout(x)
extern "C" __global__ void __launch_bounds__(kTileWarps * kWarp)
    add_columns(const __grid_constant__ ColumnsArgs args) {
    columns<true>(args);
}
