//! Independent programs: kernels that others' compilers made, run to results that others' arithmetic gives, with every
//! check on and under twenty adversarial warp orders.

#[path = "programs/cuda.rs"]
mod cuda;
#[path = "programs/hopper.rs"]
mod hopper;
mod rig;
#[path = "programs/triton.rs"]
mod triton;
