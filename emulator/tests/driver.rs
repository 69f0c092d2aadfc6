//! The driver API as programs use it. Every test runs in a separate process (this binary again, with the environment
//! that the test wants), because there is one driver per process, which reads its settings once.

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
