// out = dropout(LN(word[id] + position[pos] + token_type[type])), a warp a token. Its backward is a column sum
// (bias_grad.cu): only the LayerNorm's β trains.

#include "norm.cuh"
#include "quantised.cuh"

// Mirrored by `EmbedArgs` in src/backend/cuda/args.rs.
struct EmbedArgs {
    const BatchHeader* batch;
    const uint32_t* ids;
    const uint32_t* positions;
    const uint32_t* type_ids;
    // Tables, whose rows are all in 16 bits or all in 8.
    Matrix word;
    Matrix position;
    Matrix token_type;
    const float* gamma;
    const float* beta;
    Half* out;
    DropoutArgs dropout;
    uint32_t width;
    float eps;
    // Rows of the token type table; where it has one, every token uses that (RoBERTa).
    uint32_t types;
    uint32_t padding;
};
static_assert(sizeof(EmbedArgs) == 208, "mirrored by src/backend/cuda/args.rs");

constexpr int kWarps = 4;

template <int C, class TableRow>
__device__ __forceinline__ void embed(const EmbedArgs& args) {
    const uint32_t token = blockIdx.x * kWarps + threadIdx.x / kWarp;
    if (token >= args.batch->tokens) return;
    const Dropout dropout(args.dropout, args.batch);
    const int width = int(args.width);
    const TableRow word(args.word, args.ids[token], width);
    const TableRow position(args.position, args.positions[token], width);
    const TableRow type(args.token_type, args.types > 1 ? args.type_ids[token] : 0, width);

    Row<C> r;
#pragma unroll
    for (int c = 0; c < C; ++c) {
        const int column = r.column(c);
        r.part[c] = {};
        if (column < width) {
            r.part[c] = word.load(column);
            const Eight p = position.load(column), t = type.load(column);
#pragma unroll
            for (int i = 0; i < 8; ++i) r.part[c].v[i] += p.v[i] + t.v[i];
        }
    }
    r.normalise(width, args.eps);
#pragma unroll
    for (int c = 0; c < C; ++c) {
        const int column = r.column(c);
        if (column >= width) continue;
        const Eight gamma = load8(args.gamma + column), beta = load8(args.beta + column);
#pragma unroll
        for (int i = 0; i < 8; ++i) r.part[c].v[i] = fmaf(r.part[c].v[i], gamma.v[i], beta.v[i]);
        if (dropout.active()) dropout.apply8(r.part[c].v, token, column);
        store8(args.out + size_t(token) * width + column, r.part[c]);
    }
}

#define EMBED_KERNEL(name, row, parts)                                                                       \
    extern "C" __global__ void __launch_bounds__(kWarps * kWarp)                                             \
        name##_##parts(const __grid_constant__ EmbedArgs args) {                                             \
        embed<parts, row>(args);                                                                             \
    }

#define EMBED_KERNELS(name, row)                                                                             \
    EMBED_KERNEL(name, row, 1)                                                                               \
    EMBED_KERNEL(name, row, 2)                                                                               \
    EMBED_KERNEL(name, row, 3)                                                                               \
    EMBED_KERNEL(name, row, 4)

EMBED_KERNELS(embed_forward, HalfRow)
EMBED_KERNELS(embed_forward_int8, Int8Row)
