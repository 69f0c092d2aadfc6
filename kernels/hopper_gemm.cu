// The linear layers' products on Hopper with frozen matrices in 16 bits.
#include "hopper_kernels.cuh"

HOPPER_KERNELS(hopper_gemm, 96, Mapped)
HOPPER_KERNELS(hopper_gemm, 192, Mapped)
HOPPER_KERNELS(hopper_gemm, 256, Mapped)
