// The linear layers with matrices in 8 bits.

#include "gemm_kernels.cuh"
#include "quantised.cuh"

GEMM_KERNELS(gemm_int8, Quantised<Int8>)
