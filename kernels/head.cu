// The task head: pooling of packed sequences, dense layers on the vectors of sequences or tokens, losses. All f32 except the
// hidden states and a frozen pooler matrix; a few thousand numbers per row, so plain loops suffice. A masked-word head has
// other dense layers: wide_dense.cu.

#include "columns.cuh"
#include "head.cuh"
#include "loss.cuh"
#include "math.cuh"
#include "philox.cuh"
#include "quantised.cuh"

// --- pooling ---------------------------------------------------------------------------------------------

struct PoolArgs {
    const BatchHeader* batch;
    const uint32_t* cu_seqlens;
    // The labelled tokens, in order: one meaning of pooled_rows.
    const uint32_t* labelled;
    const StepState* state;
    // [tokens, width]: hidden states, or their gradient.
    Half* x;
    // f32 [sequences or labelled tokens, width]
    float* pooled;
    uint32_t width;
    // 1: the mean of a sequence's tokens; 0: its first token.
    uint32_t mean;
    // RowKind of pooled.
    uint32_t pooled_rows;
    uint32_t padding;
};
MIRRORED(PoolArgs);

constexpr int kPoolWarps = 8;

// The rows of x that are pooled into one.
__device__ __forceinline__ Span pooled_span(const PoolArgs& args, uint32_t pooled) {
    if (args.pooled_rows == kRowsLabelled) return {__ldg(args.labelled + pooled), 1};
    return span_of(args.cu_seqlens, pooled);
}

// The pooled row that a row of x may have gone into.
__device__ __forceinline__ uint32_t pooled_row(const PoolArgs& args, uint32_t row) {
    if (args.pooled_rows == kRowsLabelled) return last_not_after(args.labelled, args.batch->labelled, row);
    return last_not_after(args.cu_seqlens, args.batch->sequences, row);
}

// Grid: pooled rows × 256-column parts.
extern "C" __global__ void __launch_bounds__(kPoolWarps * kWarp) pool_forward(const __grid_constant__ PoolArgs args) {
    __shared__ __align__(16) float shared[ColumnSums<1, kPoolWarps>::kFloats];
    const uint32_t pooled = blockIdx.x;
    if (pooled >= row_count(args.batch, args.pooled_rows)) return;
    const Span span = pooled_span(args, pooled);
    const int width = int(args.width), first = blockIdx.y * kPart;
    const int column = first + int(threadIdx.x) % kWarp * 8;
    const uint32_t rows = args.mean ? span.len : 1;
    const float share = 1.0f / float(rows);

    Eight sums[1] = {};
    if (column < width) {
        for (uint32_t row = threadIdx.x / kWarp; row < rows; row += kPoolWarps) {
            const Eight x = load8(args.x + size_t(span.start + row) * width + column);
#pragma unroll
            for (int i = 0; i < 8; ++i) sums[0].v[i] += x.v[i];
        }
    }
#pragma unroll
    for (int i = 0; i < 8; ++i) sums[0].v[i] *= share;
    float* out = args.pooled + size_t(pooled) * width + first;
    ColumnSums<1, kPoolWarps>::add(sums, shared, out, min(width - first, kPart));
}

// Spreads the gradient of the pooled vectors over every row of x. From here down gradients are 16 bits wide, so the loss
// scale is applied here; column_finish removes it again. Grid: 8 rows × 256-column parts.
extern "C" __global__ void __launch_bounds__(kPoolWarps * kWarp) pool_backward(const __grid_constant__ PoolArgs args) {
    const uint32_t row = blockIdx.x * kPoolWarps + threadIdx.x / kWarp;
    if (row >= args.batch->tokens) return;
    // Without labelled tokens, no row was pooled.
    const bool any = row_count(args.batch, args.pooled_rows) > 0;
    const uint32_t pooled = any ? pooled_row(args, row) : 0;
    const Span span = any ? pooled_span(args, pooled) : Span{row + 1, 1};
    const float* from = args.pooled + size_t(pooled) * args.width;
    Half* to = args.x + size_t(row) * args.width;
    const float factor = args.state->scale / (args.mean ? float(span.len) : 1.0f);
    // Four columns per lane, twice: eight would leave gaps between the lanes' f32.
#pragma unroll
    for (int part = 0; part < 2; ++part) {
        const int column = (int(blockIdx.y) * 2 + part) * 4 * kWarp + int(threadIdx.x) % kWarp * 4;
        if (column >= int(args.width)) return;
        uint2 d = {};
        if (args.mean || row == span.start) {
            const float4 dy = *reinterpret_cast<const float4*>(from + column);
            d = make_uint2(pack(dy.x * factor, dy.y * factor), pack(dy.z * factor, dy.w * factor));
        }
        *reinterpret_cast<uint2*>(to + column) = d;
    }
}

// --- dense layers ----------------------------------------------------------------------------------------

// `Quantised`: the matrix is frozen in 8 or 4 bits.
template <bool Quantised>
__device__ __forceinline__ float weight_at(const DenseArgs& args, uint32_t output, uint32_t column) {
    if constexpr (Quantised) return element(args.frozen, args.inputs, output, column);
    const size_t at = size_t(output) * args.inputs + column;
    return args.weight != nullptr ? args.weight[at] : unpack(static_cast<const Half*>(args.frozen.codes)[at].bits).x;
}

__device__ __forceinline__ float input_at(const DenseArgs& args, size_t at) {
    if (args.stream != 0) return unpack(static_cast<const Half*>(args.x)[at].bits).x;
    return static_cast<const float*>(args.x)[at];
}

// A number of the inputs, or of their gradient, under the dropout mask. Lanes take neighbouring columns, eight of which share
// a block of words: each lane recomputes it, which costs little here.
__device__ __forceinline__ float masked(const Dropout& dropout, uint32_t row, uint32_t column, float x) {
    if (!dropout.active()) return x;
    const Words w = dropout.words(row, column / 8);
    const uint32_t low = column & 2 ? w.w[1] : w.w[0], high = column & 2 ? w.w[3] : w.w[2];
    const uint32_t word = column & 4 ? high : low;
    return x * (column & 1 ? dropout.odd(word) : dropout.even(word));
}

constexpr int kDenseThreads = 128, kDenseWarps = kDenseThreads / kWarp, kDenseRows = 8;

// A warp computes one output of eight rows, so that a weight is read once for all eight. Grid: rows / 8 × outputs / 4.
template <bool Quantised>
__device__ __forceinline__ void forward(const DenseArgs& args) {
    const uint32_t rows = row_count(args.batch, args.rows);
    const uint32_t output = blockIdx.y * kDenseWarps + threadIdx.x / kWarp;
    const uint32_t first = blockIdx.x * kDenseRows, lane = threadIdx.x % kWarp;
    if (output >= args.outputs || first >= rows) return;
    const Dropout dropout(args.dropout, args.batch, first_row(args.batch, args.rows));

    float sums[kDenseRows] = {};
    for (uint32_t column = lane; column < args.inputs; column += kWarp) {
        const float w = weight_at<Quantised>(args, output, column);
#pragma unroll
        for (int s = 0; s < kDenseRows; ++s) {
            if (first + s >= rows) break;
            const float x = input_at(args, size_t(first + s) * args.inputs + column);
            sums[s] = fmaf(w, masked(dropout, first + s, column, x), sums[s]);
        }
    }
#pragma unroll
    for (int s = 0; s < kDenseRows; ++s) {
        const float sum = warp_sum(sums[s]);
        if (lane == 0 && first + s < rows) {
            const float y = sum + args.bias[output];
            args.y[size_t(first + s) * args.outputs + output] = args.tanh ? tanhf(y) : y;
        }
    }
}

// The bias gradient of an output; one thread per output.
__device__ __forceinline__ void backward_bias(const DenseArgs& args, uint32_t output) {
    if (output >= args.outputs) return;
    const uint32_t rows = row_count(args.batch, args.rows);
    float sum = 0.0f;
    for (uint32_t s = 0; s < rows; ++s) sum += args.dy[size_t(s) * args.outputs + output];
    args.dbias[output] += sum;
}

extern "C" __global__ void __launch_bounds__(kDenseThreads)
    dense_backward_bias(const __grid_constant__ DenseArgs args) {
    backward_bias(args, blockIdx.x * kDenseThreads + threadIdx.x);
}

constexpr int kDenseBackWarps = 8, kDenseBackThreads = kDenseBackWarps * kWarp, kDenseBackWeights = 4;
// Without a number of blocks per multiprocessor, the assembler wants more than registers allow on some architectures, and spills.
constexpr int kDenseBackBlocks = 3;

// dW += dyᵀ · dropout(x). A thread owns four weights of one output, a block's thread count apart.
__device__ __forceinline__ void backward_weight(const DenseArgs& args, uint32_t block) {
    constexpr uint32_t kColumns = kDenseBackThreads * kDenseBackWeights;
    const uint32_t parts = (args.inputs + kColumns - 1) / kColumns, output = block / parts;
    const uint32_t first = block % parts * kColumns + threadIdx.x;
    const Dropout dropout(args.dropout, args.batch, first_row(args.batch, args.rows));
    const uint32_t rows = row_count(args.batch, args.rows);
    float sums[kDenseBackWeights] = {};
    for (uint32_t s = 0; s < rows; ++s) {
        const float d = args.dy[size_t(s) * args.outputs + output];
#pragma unroll
        for (int i = 0; i < kDenseBackWeights; ++i) {
            const uint32_t column = first + i * kDenseBackThreads;
            if (column >= args.inputs) break;
            const float x = input_at(args, size_t(s) * args.inputs + column);
            sums[i] = fmaf(d, masked(dropout, s, column, x), sums[i]);
        }
    }
#pragma unroll
    for (int i = 0; i < kDenseBackWeights; ++i) {
        const uint32_t column = first + i * kDenseBackThreads;
        if (column < args.inputs) args.dweight[size_t(output) * args.inputs + column] += sums[i];
    }
}

// dx = dropout'(dy · W), and back through the tanh below; with the loss scale if it goes on in 16 bits, as in pool_backward. A
// lane has one column of eight rows, so that a weight is read once for all eight; the warps share the outputs, and their sums
// are added in order.
template <bool Quantised>
__device__ __forceinline__ void backward_input(const DenseArgs& args, uint32_t block) {
    __shared__ float shared[kDenseBackWarps][kDenseRows][kWarp];
    const uint32_t parts = (args.inputs + kWarp - 1) / kWarp;
    const uint32_t rows = row_count(args.batch, args.rows), first = block / parts * kDenseRows;
    if (first >= rows) return;
    const uint32_t lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp, column = block % parts * kWarp + lane;
    const bool inside = column < args.inputs;
    const Dropout dropout(args.dropout, args.batch, first_row(args.batch, args.rows));
    float sums[kDenseRows] = {};
    if (inside) {
#pragma unroll (Quantised ? 1 : 4)
        for (uint32_t o = warp; o < args.outputs; o += kDenseBackWarps) {
            const float w = weight_at<Quantised>(args, o, column);
#pragma unroll
            for (int s = 0; s < kDenseRows; ++s) {
                if (first + s < rows) sums[s] = fmaf(args.dy[size_t(first + s) * args.outputs + o], w, sums[s]);
            }
        }
    }
#pragma unroll
    for (int s = 0; s < kDenseRows; ++s) shared[warp][s][lane] = sums[s];
    __syncthreads();
    for (uint32_t s = warp; s < kDenseRows; s += kDenseBackWarps) {
        const uint32_t row = first + s;
        if (!inside || row >= rows) continue;
        float sum = shared[0][s][lane];
#pragma unroll
        for (int w = 1; w < kDenseBackWarps; ++w) sum += shared[w][s][lane];
        const size_t at = size_t(row) * args.inputs + column;
        float d = masked(dropout, row, column, sum);
        if (args.tanh) {
            const float x = input_at(args, at);
            d *= 1.0f - x * x;
        }
        if (args.stream != 0) {
            static_cast<Half*>(args.dx)[at].bits = uint16_t(pack(d * args.state->scale, 0.0f));
        } else {
            static_cast<float*>(args.dx)[at] = d;
        }
    }
}

// A layer's backward does three things with dy, side by side. Grid: blocks of the input (8 rows × 32 columns), then of the
// weight (an output × 1024 inputs), then of the bias (256 outputs).
template <bool Quantised>
__device__ __forceinline__ void backward(const DenseArgs& args) {
    uint32_t block = blockIdx.x;
    if (block < args.input_blocks) return backward_input<Quantised>(args, block);
    block -= args.input_blocks;
    if (block < args.weight_blocks) return backward_weight(args, block);
    block -= args.weight_blocks;
    backward_bias(args, block * kDenseBackThreads + threadIdx.x);
}

#define DENSE_KERNELS(ending, quantised)                                                                     \
    extern "C" __global__ void __launch_bounds__(kDenseThreads)                                              \
        dense_forward##ending(const __grid_constant__ DenseArgs args) {                                      \
        forward<quantised>(args);                                                                            \
    }                                                                                                        \
    extern "C" __global__ void __launch_bounds__(kDenseBackThreads, kDenseBackBlocks)                        \
        dense_backward##ending(const __grid_constant__ DenseArgs args) {                                     \
        backward<quantised>(args);                                                                           \
    }

DENSE_KERNELS(, false)
DENSE_KERNELS(_quantised, true)

// --- losses ----------------------------------------------------------------------------------------------

constexpr int kLossWarps = 8, kTokenLossWarps = 32, kWordLossWarps = 8;
MIRRORED(HeadBlocks);

// The label of a token that does not count.
constexpr uint32_t kIgnored = 0xffffffffu;

// Adds the warps' sums to the step's loss, in order.
template <int Warps>
__device__ __forceinline__ void add_loss(const LossArgs& args, float of_warp) {
    __shared__ float shared[Warps];
    if (threadIdx.x % kWarp == 0) shared[threadIdx.x / kWarp] = of_warp;
    __syncthreads();
    if (threadIdx.x != 0) return;
    float total = shared[0];
    for (int w = 1; w < Warps; ++w) total += shared[w];
    args.state->now.loss += args.numbers->weight * total;
}

// For sequences. One block: a warp takes every eighth, and a lane every 32nd output.
extern "C" __global__ void __launch_bounds__(kLossWarps * kWarp) loss(const __grid_constant__ LossArgs args) {
    float of_rows = 0.0f, of_elements = 0.0f;
    for (uint32_t s = threadIdx.x / kWarp; s < args.batch->sequences; s += kLossWarps) {
        of_sequence(args, s, of_rows, of_elements);
    }
    add_loss<kLossWarps>(args, of_rows + warp_sum(of_elements));
}

// Cross-entropy of tokens: many of them, few classes. One block: a thread takes every 1,024th.
extern "C" __global__ void __launch_bounds__(kTokenLossWarps * kWarp)
    loss_tokens(const __grid_constant__ LossArgs args) {
    const float weight = args.numbers->weight;
    float total = 0.0f;
    for (uint32_t t = threadIdx.x; t < args.batch->tokens; t += kTokenLossWarps * kWarp) {
        const float* logits = args.logits + size_t(t) * args.outputs;
        float* d = args.dlogits == nullptr ? nullptr : args.dlogits + size_t(t) * args.outputs;
        const uint32_t label = args.labels[t];
        if (label == kIgnored) {
            for (uint32_t c = 0; d != nullptr && c < args.outputs; ++c) d[c] = 0.0f;
            continue;
        }
        const float of_class = args.class_weights == nullptr ? 1.0f : args.class_weights[label];
        total = fmaf(of_class, softmax_loss<1>(logits, d, args.outputs, 1, label, weight * of_class), total);
    }
    add_loss<kTokenLossWarps>(args, warp_sum(total));
}

// For spans: cross-entropy over the tokens of a sequence, for the start and for the end. One block: a warp takes every 32nd
// sequence.
extern "C" __global__ void __launch_bounds__(kTokenLossWarps * kWarp)
    loss_spans(const __grid_constant__ LossArgs args) {
    const float weight = args.numbers->weight;
    float total = 0.0f;
    for (uint32_t s = threadIdx.x / kWarp; s < args.batch->sequences; s += kTokenLossWarps) {
        const Span span = span_of(args.cu_seqlens, s);
        for (uint32_t end = 0; end < 2; ++end) {
            const size_t at = size_t(span.start) * 2 + end;
            float* d = args.dlogits == nullptr ? nullptr : args.dlogits + at;
            total += softmax_loss<kWarp>(args.logits + at, d, span.len, 2, args.labels[2 * s + end], weight);
        }
    }
    add_loss<kTokenLossWarps>(args, total);
}

// A reduction over the warps of a block, in every thread: `combine` joins two values; `shared` has one place per warp.
template <class Combine>
__device__ __forceinline__ float of_block(float of_warp, float* shared, Combine combine) {
    if (threadIdx.x % kWarp == 0) shared[threadIdx.x / kWarp] = of_warp;
    __syncthreads();
    float all = shared[0];
#pragma unroll
    for (int w = 1; w < kWordLossWarps; ++w) all = combine(all, shared[w]);
    return all;
}

// For labelled tokens, over a vocabulary: one block per row; the next kernel adds up the losses.
extern "C" __global__ void __launch_bounds__(kWordLossWarps * kWarp)
    loss_labelled(const __grid_constant__ LossArgs args) {
    __shared__ float mosts[kWordLossWarps], sums[kWordLossWarps];
    constexpr uint32_t kThreads = kWordLossWarps * kWarp;
    const uint32_t row = blockIdx.x;
    if (row >= args.batch->labelled) return;
    const uint32_t label = args.labels[args.labelled[row]];
    const float* x = args.logits + size_t(row) * args.outputs;
    float most = -INFINITY, sum = 0.0f;
    for (uint32_t c = threadIdx.x; c < args.outputs; c += kThreads) most = fmaxf(most, x[c]);
    most = of_block(warp_max(most), mosts, [](float a, float b) { return fmaxf(a, b); });
    for (uint32_t c = threadIdx.x; c < args.outputs; c += kThreads) sum += expf(x[c] - most);
    sum = of_block(warp_sum(sum), sums, [](float a, float b) { return a + b; });
    if (threadIdx.x == 0) args.losses[row] = logf(sum) - (x[label] - most);
    if (args.dlogits == nullptr) return;
    float* d = args.dlogits + size_t(row) * args.outputs;
    const float weight = args.numbers->weight;
    for (uint32_t c = threadIdx.x; c < args.outputs; c += kThreads) {
        d[c] = weight * (expf(x[c] - most) / sum - (c == label ? 1.0f : 0.0f));
    }
}

// One block: a thread takes every 1,024th loss.
extern "C" __global__ void __launch_bounds__(kTokenLossWarps * kWarp)
    loss_labelled_sum(const __grid_constant__ LossArgs args) {
    float total = 0.0f;
    for (uint32_t row = threadIdx.x; row < args.batch->labelled; row += kTokenLossWarps * kWarp) {
        total += args.losses[row];
    }
    add_loss<kTokenLossWarps>(args, warp_sum(total));
}
