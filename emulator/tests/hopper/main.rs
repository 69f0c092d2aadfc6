//! What `sm_90a` adds: products of warpgroups (wgmma), bulk copies and tensor maps, mbarriers that count bytes, and the
//! checks that go with them. Expected values come from plain loops over layouts as the PTX manual draws them, never from the
//! emulator's own formulas.

mod copies;
mod defects;
mod device;
mod gemm;
mod hardware;
mod layouts;
mod mbarriers;
mod persistent;
mod pipeline;
mod planted;
mod products;
mod refused;
mod types;
