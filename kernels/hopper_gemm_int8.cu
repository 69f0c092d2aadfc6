// The linear layers' products on Hopper with frozen matrices in 8 bits.
#include "hopper_kernels.cuh"
#include "ring_codes.cuh"

HOPPER_KERNELS(hopper_gemm_int8, 96, ExpandedInt8)
HOPPER_KERNELS(hopper_gemm_int8, 192, ExpandedInt8)
