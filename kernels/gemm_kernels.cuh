// The kernels of the linear layers for one type of storage: every use of the product in gemm.cuh, at the three tile sizes.
//
// `large` keeps the tensor cores fed (a 64 × 64 tile per warp needs one ldmatrix for four products); `medium` is for shapes
// that large tiles cut into slightly more than whole waves; `small` cuts a small batch into enough blocks to fill the device.
// The host chooses by shape. In all three an element of the product is the same sum in the same order; the column sums are
// not, as a block sums its own rows first.
#pragma once

#include "gemm.cuh"

#define GEMM_KERNEL(name, shape, transposed, epilogue)                                                       \
    extern "C" __global__ void __launch_bounds__(shape::kThreads, 2)                                         \
        name(const __grid_constant__ GemmArgs args) {                                                        \
        shape::run<transposed, Epilogue::epilogue>(args);                                                    \
    }

#define GEMM_TILES(name, transposed, epilogue)                                                               \
    GEMM_KERNEL(name##_large, Large, transposed, epilogue)                                                   \
    GEMM_KERNEL(name##_medium, Medium, transposed, epilogue)                                                 \
    GEMM_KERNEL(name##_small, Small, transposed, epilogue)

// In this order:
//   out = x · Wᵀ + bias
//   out = act(x · Wᵀ + bias), and act' as well
//   out = x · W
//   out += x · W
//   out = (x · W) ⊙ act', and its column sums: the bias gradient of the layer below
#define GEMM_KERNELS(prefix, weights)                                                                        \
    using Large = Gemm<weights, kLargeTile, kLargeTile, 64, 64>;                                             \
    using Medium = Gemm<weights, kMediumRows, kMediumColumns, 48, 64>;                                       \
    using Small = Gemm<weights, kSmallTile, kSmallTile, 32, 32>;                                             \
    GEMM_TILES(prefix##_bias, false, kBias)                                                                  \
    GEMM_TILES(prefix##_activation, false, kBiasActivation)                                                  \
    GEMM_TILES(prefix##_back, true, kStore)                                                                  \
    GEMM_TILES(prefix##_back_add, true, kAccumulate)                                                         \
    GEMM_TILES(prefix##_back_slope, true, kDerivative)
