// The linear layers' products on Hopper with frozen matrices in 4 bits.
#include "hopper_kernels.cuh"
#include "ring_codes.cuh"

HOPPER_KERNELS(hopper_gemm_nf4, 96, ExpandedNf4)
HOPPER_KERNELS(hopper_gemm_nf4, 192, ExpandedNf4)
