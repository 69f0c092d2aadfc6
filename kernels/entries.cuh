// Single trained values of a frozen matrix: where they are and what they are.
#pragma once

#include "norm.cuh"

struct EntriesArgs {
    // Where each line begins and the last one ends; then the columns that are read, those that are added to, and the numbers
    // of the values, `count` each. Null if there are no entries.
    const uint32_t* places;
    const float* values;
    uint32_t lines;
    uint32_t count;
};
MIRRORED(EntriesArgs);

// The entries of a line, all added to one column.
struct Line {
    uint32_t begin, end;
    const uint32_t *from, *number;
    const float* values;

    __device__ __forceinline__ Line(const EntriesArgs& args, uint32_t line)
        : begin(args.places[line]), end(args.places[line + 1]), from(args.places + args.lines + 1),
          number(from + 2 * size_t(args.count)), values(args.values) {}

    __device__ __forceinline__ float value(uint32_t entry) const { return values[number[entry]]; }
};

// Adds the entries of a table's row to a row that a warp holds.
template <int C>
__device__ __forceinline__ void add_entries(Row<C>& row, const EntriesArgs& args, uint32_t id) {
    if (args.places == nullptr) return;
    const Line line(args, id);
    for (uint32_t entry = line.begin; entry < line.end; ++entry) {
        const int column = int(line.from[entry]);
        const float value = line.value(entry);
#pragma unroll
        for (int c = 0; c < C; ++c) {
#pragma unroll
            for (int i = 0; i < 8; ++i) row.part[c].v[i] += Row<C>::column(c) + i == column ? value : 0.0f;
        }
    }
}
