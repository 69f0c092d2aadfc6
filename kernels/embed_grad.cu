// Gradients of the embedding layer when its LayerNorm's gain trains. First back through dropout and LayerNorm, whose x̂ is
// recomputed from the tables. Then, if the tables train, each token's gradient goes to its rows of the word and position
// tables (token types are column sums). No floating-point atomics: the first token of an id collects the gradients of all
// tokens of that id, in order.

#include "columns.cuh"
#include "entries.cuh"
#include "norm.cuh"
#include "quantised.cuh"

struct EmbedBackwardArgs {
    const BatchHeader* batch;
    const uint32_t* ids;
    const uint32_t* positions;
    const uint32_t* type_ids;
    // Tables, with all rows in 16 bits or all in 8.
    MatrixArgs word;
    MatrixArgs position;
    MatrixArgs token_type;
    // Single trained values of those tables.
    EntriesArgs beside_word;
    EntriesArgs beside_position;
    EntriesArgs beside_type;
    const float* gamma;
    // In: gradient of the output. Out: gradient of the tables' sum.
    Half* dx;
    // Column sums of a block's rows, [blocks, width].
    float* partial_gamma;
    float* partial_beta;
    DropoutArgs dropout;
    uint32_t width;
    float eps;
    // Rows of the token type table; if it has one, every token uses it (RoBERTa).
    uint32_t types;
    uint32_t padding;
};
MIRRORED(EmbedBackwardArgs);

template <int C, class TableRow>
__device__ __forceinline__ void embed_backward(const EmbedBackwardArgs& args) {
    using Sums = ColumnSums<C, kTileWarps>;
    __shared__ __align__(16) float gamma[Planes<C>::kFloats];
    __shared__ __align__(16) float sums_gamma[Sums::kFloats], sums_beta[Sums::kFloats];
    const uint32_t tokens = args.batch->tokens;
    if (blockIdx.x * kTileRows >= tokens) return;
    const Dropout dropout(args.dropout, args.batch, args.batch->first_token);
    const int width = int(args.width);
    Planes<C>::fill(gamma, args.gamma, width);
    float *of_gamma = Sums::start(sums_gamma), *of_beta = Sums::start(sums_beta);
    __syncthreads();

    const RowWalk walk(tokens, gridDim.x);
    for (uint32_t token = walk.first; token < walk.end; token += walk.step) {
        const auto word = table_row<TableRow>(args.word, args.ids[token], width);
        const auto position = table_row<TableRow>(args.position, args.positions[token], width);
        const uint32_t type_id = args.types > 1 ? args.type_ids[token] : 0;
        const auto type = table_row<TableRow>(args.token_type, type_id, width);
        Half* dx = args.dx + size_t(token) * width;
        Row<C> x_hat = Row<C>::sum(word, position, type, width);
        add_entries(x_hat, args.beside_word, args.ids[token]);
        add_entries(x_hat, args.beside_position, args.positions[token]);
        add_entries(x_hat, args.beside_type, type_id);
        const float rstd = x_hat.normalise(width, args.eps);
        Row<C> dy = {};
#pragma unroll
        for (int c = 0; c < C; ++c) {
            const int column = dy.column(c);
            if (column >= width) continue;
            dy.part[c] = load8(dx + column);
            if (dropout.active()) dropout.apply8(dy.part[c].v, token, column);
            Planes<C>::add_product(of_gamma, c, dy.part[c], x_hat.part[c]);
            Planes<C>::add(of_beta, c, dy.part[c]);
        }
        dy.back(x_hat, gamma, rstd, width);
#pragma unroll
        for (int c = 0; c < C; ++c) {
            if (dy.column(c) < width) store8(dx + dy.column(c), dy.part[c]);
        }
    }
    const size_t at = size_t(blockIdx.x) * width;
    Sums::finish(sums_gamma, args.partial_gamma + at, width);
    Sums::finish(sums_beta, args.partial_beta + at, width);
}

// By default the compiler fits one part into the registers of eight blocks per multiprocessor, and spills on sm_90.
constexpr int kSevenBlocks = 7;

#define EMBED_BACKWARD(name, row, parts)                                                                     \
    extern "C" __global__ void __launch_bounds__(kTileWarps * kWarp, parts == 1 ? kSevenBlocks : 0)          \
        name##_##parts(const __grid_constant__ EmbedBackwardArgs args) {                                     \
        embed_backward<parts, row>(args);                                                                    \
    }

#define EMBED_BACKWARDS(name, row)                                                                           \
    EMBED_BACKWARD(name, row, 1)                                                                             \
    EMBED_BACKWARD(name, row, 2)                                                                             \
    EMBED_BACKWARD(name, row, 3)                                                                             \
    EMBED_BACKWARD(name, row, 4)

EMBED_BACKWARDS(embed_backward, const Half*)
EMBED_BACKWARDS(embed_backward_int8, Int8Row)

struct TableGradArgs {
    const BatchHeader* batch;
    const StepState* state;
    // The row of the table that each token used.
    const uint32_t* ids;
    // [tokens, width]
    const Half* dx;
    // [rows of the table, width]
    float* grad;
    uint32_t width;
    uint32_t padding;
};
MIRRORED(TableGradArgs);

// A warp per token and 256-column part of the width: the warp of an id's first token adds up all of them.
extern "C" __global__ void __launch_bounds__(kTileWarps * kWarp)
    table_grad(const __grid_constant__ TableGradArgs args) {
    const uint32_t tokens = args.batch->tokens, lane = threadIdx.x % kWarp;
    const uint32_t token = blockIdx.x * kTileWarps + threadIdx.x / kWarp;
    if (token >= tokens) return;
    const uint32_t* ids = args.ids;
    const uint32_t id = ids[token];
    bool earlier = false;
    for (uint32_t t = lane; t < token; t += kWarp) earlier |= ids[t] == id;
    if (__any_sync(kFullWarp, earlier)) return;
    const uint32_t column = blockIdx.y * kPart + lane * 8;
    const bool inside = column < args.width;
    Eight sum = {};
    for (uint32_t first = token; first < tokens; first += kWarp) {
        const uint32_t mine = first + lane;
        const bool same = mine < tokens && ids[mine] == id;
        uint32_t found = __ballot_sync(kFullWarp, same);
        for (; found != 0; found &= found - 1) {
            if (!inside) continue;
            const uint32_t t = first + __ffs(int(found)) - 1;
            const Eight row = load8(args.dx + size_t(t) * args.width + column);
#pragma unroll
            for (int i = 0; i < 8; ++i) sum.v[i] += row.v[i];
        }
    }
    if (!inside) return;
    const float unscale = args.state->inverse_scale;
    float* to = args.grad + size_t(id) * args.width + column;
#pragma unroll
    for (int i = 0; i < 8; ++i) to[i] += sum.v[i] * unscale;
}
