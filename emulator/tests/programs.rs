//! Independent programs: kernels made by other compilers, whose results are compared with other arithmetic, with every
//! check on and under twenty adversarial warp orders.

#[path = "programs/cuda.rs"]
mod cuda;
#[path = "programs/hopper.rs"]
mod hopper;
mod rig;
#[path = "programs/triton.rs"]
mod triton;
