//! Small kernels, one per feature of the executor. Instructions have their own table in `tests/`.

mod barriers;
mod device;
mod memory;
mod paths;
mod whole;
