//! Lines on standard error. Several ranks of a job, and `mpirun` itself, write to the same place, so a line is one write:
//! written in pieces it could have another's line in its middle.

use std::fmt::Display;
use std::io::{Write, stderr};

/// Writes one line. Where standard error is closed or full, nobody wants it.
pub fn line(text: impl Display) {
    let _ = stderr().write_all(format!("{text}\n").as_bytes());
}
