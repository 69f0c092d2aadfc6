//! The driver API as programs use it. Every test runs in a process of its own (this binary again, with the
//! environment that the test wants), because a driver is one to a process and reads its settings once.

#[path = "driver/child.rs"]
mod child;
#[path = "driver/cudarc.rs"]
mod cudarc_programs;
#[path = "driver/everyday.rs"]
mod everyday;
#[path = "driver/faults.rs"]
mod faults;
#[path = "driver/graphs.rs"]
mod graphs;
#[path = "driver/launches.rs"]
mod launches;
#[path = "driver/maps.rs"]
mod maps;
#[path = "driver/python.rs"]
mod python;
#[path = "driver/streams.rs"]
mod streams;
