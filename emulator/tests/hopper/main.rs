//! What `sm_90a` adds: products of warpgroups (wgmma), bulk copies and tensor maps, mbarriers that count bytes, and the
//! checks that go with them. Expected values come from plain loops over layouts as the PTX manual draws them, never
//! from the emulator's own formulas.

#[allow(
    dead_code,
    unused_imports,
    unused_macros,
    reason = "what tests of the driver share, of which this needs a part"
)]
#[path = "../driver/child.rs"]
mod child;
mod copies;
mod defects;
mod device;
mod gemm;
mod hardware;
mod layouts;
mod mbarriers;
mod others;
mod persistent;
mod pipeline;
mod planted;
mod products;
mod refused;
mod types;
