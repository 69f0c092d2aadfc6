// The linear layers with matrices in 16 bits.

#include "gemm_kernels.cuh"

GEMM_KERNELS(gemm, Half16)
