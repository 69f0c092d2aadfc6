// The kernels of the linear layers on Hopper for one type of storage of W: the same five as gemm_kernels.cuh, at tiles of 96,
// 192 and, if W has 16 bits, 256 columns.
//
// The wider a tile, the less is read from the cache per product; narrower tiles waste less of the last wave. The host chooses
// by shape. At any width an element of the product is the same sum in the same order, and so are its column sums: a tile has
// 128 rows.
#pragma once

#include "ring_epilogue.cuh"

#define HOPPER_KERNEL(name, width, transposed, epilogue, source)                                             \
    extern "C" __global__ void __launch_bounds__(kRingThreads, 1)                                            \
        name##_##width(const __grid_constant__ RingArgs args) {                                              \
        using Loop = Ring<width, transposed, source<width, transposed>>;                                     \
        RingEpilogue<Loop, width, Epilogue::epilogue>::run(args);                                            \
    }

#define HOPPER_KERNELS(prefix, width, source)                                                                \
    HOPPER_KERNEL(prefix##_bias, width, false, kBias, source)                                                \
    HOPPER_KERNEL(prefix##_activation, width, false, kBiasActivation, source)                                \
    HOPPER_KERNEL(prefix##_back, width, true, kStore, source)                                                \
    HOPPER_KERNEL(prefix##_back_add, width, true, kAccumulate, source)                                       \
    HOPPER_KERNEL(prefix##_back_slope, width, true, kDerivative, source)
