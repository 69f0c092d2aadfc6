//! One-instruction tests in the order of the PTX manual. Each row names the manual's section and one instruction; each
//! of its cases runs in its own lane. Expected values are worked out by hand or computed by the test itself, never by
//! the emulator's arithmetic.

mod atomics;
mod barriers;
mod compare;
mod control;
mod convert;
mod float;
mod half;
mod harness;
mod integer;
mod logic;
mod memory;
mod refused;
mod special;
mod tensor;
mod warp;
