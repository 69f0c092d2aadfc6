//! The rows of a profile: the timed pieces of a step, grouped by operation, shape and kernel.

use super::ceilings::Ceilings;
use crate::backend::timing::{Launch, Piece};
use crate::commands::cost::{Cost, Line};
use crate::program::Program;
use crate::results::statistics::median;
use serde::Serialize;
use std::cmp::Ordering;
use std::collections::HashMap;

/// All operations of one kind, shape and kernel.
#[derive(Debug, Serialize)]
pub struct OperationRow {
    pub operation: &'static str,
    pub backward: bool,
    /// Rows and columns of input and output.
    pub shape: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kernel: Option<LaunchedKernel>,
    /// Per step.
    pub times: usize,
    /// The median of one; `None` if times are meaningless.
    pub seconds: Option<f64>,
    /// The total per step.
    pub seconds_per_step: Option<f64>,
    /// The total per step; the kernels of an operation share it.
    pub flops: f64,
    pub bytes: f64,
}

/// See [`Launch`].
#[derive(Debug, Serialize)]
pub struct LaunchedKernel {
    pub name: String,
    pub blocks: usize,
    pub threads: usize,
    pub registers: usize,
    pub shared_bytes: usize,
    pub warps_per_multiprocessor: usize,
}

impl From<&Launch> for LaunchedKernel {
    fn from(launch: &Launch) -> Self {
        Self {
            name: launch.kernel.clone(),
            blocks: launch.blocks,
            threads: launch.threads,
            registers: launch.registers,
            shared_bytes: launch.shared,
            warps_per_multiprocessor: launch.warps,
        }
    }
}

/// Groups equal pieces. Those with the longest times come first; if times are meaningless, those with the most work.
pub fn group(
    lines: &[Line],
    program: &Program,
    steps: &[Vec<Piece>],
    matrix_bits: f64,
    timed: bool,
) -> Vec<OperationRow> {
    let Some(first) = steps.first() else { return Vec::new() };
    // Only the longest of an operation's kernels gets its cost: a second one would count it twice.
    let mut longest: HashMap<usize, usize> = HashMap::new();
    for (place, piece) in first.iter().enumerate() {
        let Some(op) = piece.op else { continue };
        let held = longest.entry(op).or_insert(place);
        if timed && first[*held].seconds < piece.seconds {
            *held = place;
        }
    }
    let mut places: HashMap<(&str, bool, String, Option<&Launch>), usize> = HashMap::new();
    let mut rows: Vec<OperationRow> = Vec::new();
    for (place, piece) in first.iter().enumerate() {
        let line = piece.op.map(|op| &lines[op]);
        let shape = piece.op.map_or(String::new(), |op| shape(program, op));
        let name = line.map_or("finish sums", |line| line.op);
        let backward = line.is_none_or(|line| line.backward);
        let seconds: Vec<f64> = steps.iter().map(|step| step[place].seconds).collect();
        let seconds = median(&seconds).filter(|_| timed);
        let has_cost = piece.op.is_some_and(|op| longest[&op] == place);
        let cost = line.filter(|_| has_cost).map_or(Cost::default(), |line| line.cost);
        let key = (name, backward, shape.clone(), piece.kernel.as_ref());
        let at = *places.entry(key).or_insert_with(|| {
            rows.push(OperationRow {
                operation: name,
                backward,
                shape,
                kernel: piece.kernel.as_ref().map(LaunchedKernel::from),
                times: 0,
                seconds: None,
                seconds_per_step: None,
                flops: 0.0,
                bytes: 0.0,
            });
            rows.len() - 1
        });
        let row = &mut rows[at];
        row.times += 1;
        if let Some(seconds) = seconds {
            *row.seconds_per_step.get_or_insert(0.0) += seconds;
        }
        row.flops += cost.flops as f64;
        row.bytes += cost.bytes(matrix_bits);
    }
    for row in &mut rows {
        row.seconds = row.seconds_per_step.map(|seconds| seconds / row.times as f64);
    }
    let weight = |row: &OperationRow| [row.seconds_per_step.unwrap_or(0.0), row.flops, row.bytes];
    rows.sort_by(|a, b| {
        let pairs = weight(b).into_iter().zip(weight(a));
        pairs.map(|(b, a)| b.total_cmp(&a)).fold(Ordering::Equal, Ordering::then)
    });
    rows
}

/// `4096 × 768 → 3072`: rows, and the width of an operation's first input and first output. One that picks some rows of
/// its input has only those.
fn shape(program: &Program, op: usize) -> String {
    let (list, limits) = (program.list(), program.limits());
    let (reads, writes) = (list.ops[op].reads(), list.ops[op].writes());
    let [read, written] = [reads.first(), writes.first()].map(|value| value.map(|&v| list.info(v)));
    match (read, written) {
        (Some(read), Some(written)) => {
            let rows = limits.rows(read.rows).min(limits.rows(written.rows));
            format!("{rows} × {} → {}", read.width, written.width)
        }
        (Some(one), None) | (None, Some(one)) => {
            format!("{} × {}", limits.rows(one.rows), one.width)
        }
        (None, None) => String::new(),
    }
}

impl OperationRow {
    /// Its time, and the share of the device's limits that it reaches.
    pub fn timed(&self, ceilings: Ceilings, together: f64) -> [String; 6] {
        let seconds = self.seconds_per_step.unwrap_or(0.0);
        let rate = |of: f64| match of > 0.0 && seconds > 0.0 {
            true => format!("{:.1}", of / seconds / 1e9),
            false => String::new(),
        };
        let least = (self.flops / ceilings.flops).max(self.bytes / ceilings.bytes);
        let roof = match least > 0.0 && seconds > 0.0 {
            true => format!("{:.0} %", 1e2 * least / seconds),
            false => String::new(),
        };
        [
            format!("{:.1}", self.seconds.unwrap_or(0.0) * 1e6),
            format!("{:.3}", seconds * 1e3),
            format!("{:.1} %", 1e2 * seconds / together),
            rate(self.flops),
            rate(self.bytes),
            roof,
        ]
    }
}
