// The linear layers: every use of the product in gemm.cuh, at the two tile sizes.
//
// `large` keeps the tensor cores fed (a 64 × 64 tile a warp needs one ldmatrix for four products); `small` cuts a
// small batch into enough blocks to fill the device. The host chooses by shape.

#include "gemm.cuh"

using Large = Gemm<128, 128, 64, 64>;
using Small = Gemm<64, 64, 32, 32>;

#define GEMM_KERNEL(name, shape, transposed, epilogue)                                                       \
    extern "C" __global__ void __launch_bounds__(shape::kThreads, 2)                                         \
        name(const __grid_constant__ GemmArgs args) {                                                        \
        shape::run<transposed, Epilogue::epilogue>(args);                                                    \
    }

// out = x · Wᵀ + bias
GEMM_KERNEL(gemm_bias_large, Large, false, kBias)
GEMM_KERNEL(gemm_bias_small, Small, false, kBias)
// out = act(x · Wᵀ + bias), and act' beside it
GEMM_KERNEL(gemm_activation_large, Large, false, kBiasActivation)
GEMM_KERNEL(gemm_activation_small, Small, false, kBiasActivation)
// out = x · W
GEMM_KERNEL(gemm_back_large, Large, true, kStore)
GEMM_KERNEL(gemm_back_small, Small, true, kStore)
// out += x · W
GEMM_KERNEL(gemm_back_add_large, Large, true, kAccumulate)
GEMM_KERNEL(gemm_back_add_small, Small, true, kAccumulate)
// out = (x · W) ⊙ act', and its column sums: the bias gradient of the layer below
GEMM_KERNEL(gemm_back_slope_large, Large, true, kDerivative)
GEMM_KERNEL(gemm_back_slope_small, Small, true, kDerivative)
