// The current batch as the kernels see it. The only reader of the packed layout: sequence s owns tokens
// cu_seqlens[s]..cu_seqlens[s + 1].
//
// Sizes are in device memory, not in launch arguments, so that a captured launch serves every batch that fits its grid: a
// block without work returns.
#pragma once

#include "mirrored.cuh"

#include <stdint.h>

struct BatchHeader {
    uint32_t tokens;
    uint32_t sequences;
    uint32_t max_len;
    // Low word of the micro-batch counter, for dropout.
    uint32_t step;
    uint32_t seed_low;
    uint32_t seed_high;
    // Tokens and sequences of the whole batch that come before this part of it, for dropout.
    uint32_t first_token;
    uint32_t first_sequence;
    // Labelled tokens, if a program continues with only those; otherwise 0.
    uint32_t labelled;
};
MIRRORED(BatchHeader);

// How many rows an operation has.
enum RowKind : uint32_t { kRowsTokens = 0, kRowsSequences = 1, kRowsLabelled = 2 };
MIRRORED(RowKind);

__device__ __forceinline__ uint32_t row_count(const BatchHeader* batch, uint32_t kind) {
    if (kind == kRowsTokens) return batch->tokens;
    return kind == kRowsSequences ? batch->sequences : batch->labelled;
}

// The row of the whole batch that is row 0 here. Rows of labelled tokens have no dropout.
__device__ __forceinline__ uint32_t first_row(const BatchHeader* batch, uint32_t kind) {
    return kind == kRowsTokens ? batch->first_token : batch->first_sequence;
}

struct Span {
    uint32_t start;
    uint32_t len;
};

__device__ __forceinline__ Span span_of(const uint32_t* cu_seqlens, uint32_t sequence) {
    const uint32_t start = __ldg(cu_seqlens + sequence);
    return {start, __ldg(cu_seqlens + sequence + 1) - start};
}

// Row of the partial sums for a sequence whose tokens are cut into tiles: unique for every (sequence, tile), and below tokens
// / tile + sequences + 1.
__device__ __forceinline__ uint32_t tile_slot(Span span, uint32_t sequence, uint32_t tile, uint32_t tile_rows) {
    return span.start / tile_rows + sequence + tile;
}

// Bisection: the index of the last of `count` ascending tokens that is not after `token`; 0 if all are. Given the sequences'
// first tokens, that is the sequence that owns it.
__device__ __forceinline__ uint32_t last_not_after(const uint32_t* tokens, uint32_t count, uint32_t token) {
    uint32_t low = 0, high = count;
    while (high - low > 1) {
        const uint32_t middle = (low + high) / 2;
        if (__ldg(tokens + middle) <= token) {
            low = middle;
        } else {
            high = middle;
        }
    }
    return low;
}
