// out = dropout(LN(word[id] + position[pos] + token_type[type])), a warp a token. Its backward is a column sum
// (bias_grad.cu): only the LayerNorm's β trains.

#include "norm.cuh"

// Mirrored by `EmbedArgs` in src/backend/cuda/args.rs.
struct EmbedArgs {
    const BatchHeader* batch;
    const uint32_t* ids;
    const uint32_t* positions;
    const uint32_t* type_ids;
    const Half* word;
    const Half* position;
    const Half* token_type;
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
static_assert(sizeof(EmbedArgs) == 112, "mirrored by src/backend/cuda/args.rs");

constexpr int kWarps = 4;

template <int C>
__device__ __forceinline__ void embed(const EmbedArgs& args) {
    const uint32_t token = blockIdx.x * kWarps + threadIdx.x / kWarp;
    if (token >= args.batch->tokens) return;
    const Dropout dropout(args.dropout, args.batch);
    const int width = int(args.width);
    const Half* word = args.word + size_t(args.ids[token]) * width;
    const Half* position = args.position + size_t(args.positions[token]) * width;
    const Half* type = args.token_type + (args.types > 1 ? size_t(args.type_ids[token]) * width : 0);

    Row<C> r;
#pragma unroll
    for (int c = 0; c < C; ++c) {
        const int column = r.column(c);
        r.part[c] = {};
        if (column < width) {
            r.part[c] = load8(word + column);
            const Eight p = load8(position + column), t = load8(type + column);
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

#define EMBED_KERNEL(parts)                                                                                  \
    extern "C" __global__ void __launch_bounds__(kWarps * kWarp)                                             \
        embed_forward_##parts(const __grid_constant__ EmbedArgs args) {                                      \
        embed<parts>(args);                                                                                  \
    }

EMBED_KERNEL(1)
EMBED_KERNEL(2)
EMBED_KERNEL(3)
EMBED_KERNEL(4)
