// out = dropout(LN(word[id] + position[pos] + token_type[type])), one warp per token. Its backward is a column sum
// (bias_grad.cu): only the LayerNorm's β trains.

#include "entries.cuh"
#include "norm.cuh"
#include "quantised.cuh"

struct EmbedArgs {
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
    const float* beta;
    Half* out;
    DropoutArgs dropout;
    uint32_t width;
    float eps;
    // Rows of the token type table; if it has one, every token uses it (RoBERTa).
    uint32_t types;
    uint32_t padding;
};
MIRRORED(EmbedArgs);

template <int C, class TableRow>
__device__ __forceinline__ void embed(const EmbedArgs& args) {
    __shared__ Affine<C> affine;
    const uint32_t tokens = args.batch->tokens;
    if (blockIdx.x * kBlockRows >= tokens) return;
    const Dropout dropout(args.dropout, args.batch, args.batch->first_token);
    const int width = int(args.width);
    affine.fill(args.gamma, args.beta, width);
    __syncthreads();
    const uint32_t token = blockIdx.x * kBlockRows + threadIdx.x / kWarp;
    if (token >= tokens) return;
    const auto word = table_row<TableRow>(args.word, args.ids[token], width);
    const auto position = table_row<TableRow>(args.position, args.positions[token], width);
    const uint32_t type_id = args.types > 1 ? args.type_ids[token] : 0;
    const auto type = table_row<TableRow>(args.token_type, type_id, width);

    Row<C> r = Row<C>::sum(word, position, type, width);
    add_entries(r, args.beside_word, args.ids[token]);
    add_entries(r, args.beside_position, args.positions[token]);
    add_entries(r, args.beside_type, type_id);
    r.normalise(width, args.eps);
#pragma unroll
    for (int c = 0; c < C; ++c) {
        const int column = r.column(c);
        if (column >= width) continue;
        Eight y = affine.of(r.part[c], c);
        if (dropout.active()) dropout.apply8(y.v, token, column);
        store8(args.out + size_t(token) * width + column, y);
    }
}

#define EMBED_KERNEL(name, row, parts)                                                                       \
    extern "C" __global__ void __launch_bounds__(kBlockRows * kWarp, parts < 2 ? 5 : parts < 4 ? 3 : 2)      \
        name##_##parts(const __grid_constant__ EmbedArgs args) {                                             \
        embed<parts, row>(args);                                                                             \
    }

#define EMBED_KERNELS(name, row)                                                                             \
    EMBED_KERNEL(name, row, 1)                                                                               \
    EMBED_KERNEL(name, row, 2)                                                                               \
    EMBED_KERNEL(name, row, 3)                                                                               \
    EMBED_KERNEL(name, row, 4)

EMBED_KERNELS(embed_forward, const Half*)
EMBED_KERNELS(embed_forward_int8, Int8Row)
