//! Lines on standard error. Several ranks of a job, and `mpirun` itself, write to the same place, so each line is a
//! single write: written in pieces it could have another line in its middle.

use std::fmt::Display;
use std::io::{Write, stderr};

/// Writes one line. If standard error is closed or full, nobody wants it.
pub fn line(text: impl Display) {
    let _ = stderr().write_all(format!("{text}\n").as_bytes());
}
