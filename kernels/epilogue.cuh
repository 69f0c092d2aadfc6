// What happens to the finished sums of a linear layer's product, whichever tensor cores made them.
#pragma once

#include "common.cuh"
#include "derivative.cuh"
#include "math.cuh"
#include "varlen.cuh"
#include "weights.cuh"

struct GemmArgs {
    const BatchHeader* batch;
    const Half* x;
    MatrixArgs w;
    Half* out;
    // Forward: equally long parts that make up the bias.
    const float* bias[3];
    // Forward: act', written if not null; then `out` may be null. Backward: what the product is multiplied by, element by
    // element; may be `out` itself.
    void* derivative;
    // Column sums of this block's rows, [row tiles, n]; null if not wanted.
    float* partial;
    uint32_t n;
    uint32_t k;
    uint32_t bias_part;
    uint32_t rows;
    uint32_t activation;
    // DerivativeKind of `derivative`.
    uint32_t derivative_kind;
};
MIRRORED(GemmArgs);

enum class Epilogue { kBias, kBiasActivation, kStore, kAccumulate, kDerivative };

// Turns eight finished sums of one row into stored elements, and leaves their values before rounding in `e`.
template <Epilogue E, uint32_t Activation, uint32_t Derivative>
__device__ __forceinline__ void finish8(
    const GemmArgs& args, Eight& e, const Eight& bias, size_t at) {
    if constexpr (E == Epilogue::kBias || E == Epilogue::kBiasActivation) {
#pragma unroll
        for (int i = 0; i < 8; ++i) e.v[i] += bias.v[i];
    }
    if constexpr (E == Epilogue::kBiasActivation) {
        Eight slope;
#pragma unroll
        for (int i = 0; i < 8; ++i) e.v[i] = activate<Activation>(e.v[i], slope.v[i]);
        if constexpr (Derivative != kDerivativeNone) store_derivative<Derivative>(args.derivative, at, slope);
        // Backward recomputes the derivative and has no use for the value.
        if (args.out == nullptr) return;
    }
    if constexpr (E == Epilogue::kAccumulate) {
        const Eight old = load8(args.out + at);
#pragma unroll
        for (int i = 0; i < 8; ++i) e.v[i] += old.v[i];
    }
    if constexpr (E == Epilogue::kDerivative) {
        const Eight slope = load_derivative<Derivative>(args.derivative, at);
#pragma unroll
        for (int i = 0; i < 8; ++i) e.v[i] *= slope.v[i];
    }
    store8(args.out + at, e);
}

// The bias of the eight columns from `column`.
__device__ __forceinline__ Eight bias_of(const GemmArgs& args, uint32_t column) {
    const uint32_t part = column / args.bias_part;
    const float* from = part == 0 ? args.bias[0] : part == 1 ? args.bias[1] : args.bias[2];
    return load8(from + (column - part * args.bias_part));
}

// Calls `with` with the types of the activation and the derivative of this launch.
template <Epilogue E, class With>
__device__ __forceinline__ void with_kinds(const GemmArgs& args, With with) {
    const Kind<kDerivativeFull> any;
    if constexpr (E == Epilogue::kBiasActivation) {
        with_activation(args.activation, [&](auto activation) {
            if (args.derivative == nullptr) return with(activation, Kind<kDerivativeNone>());
            with_derivative(args.derivative_kind, [&](auto derivative) { with(activation, derivative); });
        });
    } else if constexpr (E == Epilogue::kDerivative) {
        with_derivative(args.derivative_kind, [&](auto derivative) { with(any, derivative); });
    } else {
        with(any, any);
    }
}
