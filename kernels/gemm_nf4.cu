// The linear layers with matrices in 4 bits.

#include "gemm_kernels.cuh"
#include "quantised.cuh"

GEMM_KERNELS(gemm_nf4, Quantised<Nf4>)
