// The arguments of a dense layer of the head, for the plain kernels of head.cu and the tiled ones of wide_dense.cu.
#pragma once

#include "columns.cuh"
#include "philox.cuh"
#include "weights.cuh"

struct DenseArgs {
    const BatchHeader* batch;
    const StepState* state;
    // [rows, inputs]: see `stream`.
    const void* x;
    // [outputs, inputs]. It trains; null if the matrix is frozen.
    const float* weight;
    MatrixArgs frozen;
    const float* bias;
    // f32 [rows, outputs]
    float* y;
    // Backward, starting from the gradient before this layer's tanh; the others may be null.
    const float* dy;
    // [rows, inputs]
    void* dx;
    float* dweight;
    float* dbias;
    DropoutArgs dropout;
    uint32_t inputs;
    uint32_t outputs;
    // Forward: y is the output of a tanh. Backward: so was x, and dx is the gradient before it.
    uint32_t tanh;
    // RowKind of all of them.
    uint32_t rows;
    // 1: `frozen` is an embedding table, so 8-bit codes are laid out as in a table.
    uint32_t table;
    // Which blocks of dense_backward's grid do what.
    uint32_t input_blocks;
    uint32_t weight_blocks;
    // 1: x and dx are hidden states and their gradient, in 16 bits. 0: f32.
    uint32_t stream;
};
MIRRORED(DenseArgs);
