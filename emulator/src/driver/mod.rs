//! The CUDA driver API: the exported C functions, one file per area.
//!
//! Semantics in short; the details are in the code.
//! - Handles are numbers that are looked up ([`types::Handle`]), so a wrong one is an error value.
//! - Streams are queues; nothing runs before something waits for it (`queue`).
//! - A failed check of a kernel becomes its context's sticky error: from then on every call in the context returns it,
//!   until the context ends (`objects::Context::sticky`). The report says what happened (`report`).
//! - An error that concerns only one call, such as a launch that asks for too much, is returned with a warning.

mod capture;
mod capture_calls;
mod context;
mod copy;
mod copy_op;
mod device;
mod entry;
mod error;
mod error_text;
mod event;
mod fill_op;
mod function;
mod graph;
mod graph_exec;
mod graph_nodes;
mod host;
mod launch;
mod memory;
mod memset;
mod module;
mod objects;
mod occupancy;
mod op;
mod options;
mod per_thread;
mod pool;
mod procs;
mod queue;
mod refused;
mod report;
mod start;
mod state;
mod stream;
mod tensor_map;
mod types;

pub use capture_calls::*;
pub use context::*;
pub use copy::*;
pub use device::*;
pub use error::*;
pub use error_text::*;
pub use event::*;
pub use function::*;
pub use graph_exec::*;
pub use graph_nodes::*;
pub use launch::*;
pub use memory::*;
pub use memset::*;
pub use module::*;
pub use occupancy::*;
pub use pool::*;
pub use procs::*;
pub use stream::*;
pub use tensor_map::*;
pub use types::*;
