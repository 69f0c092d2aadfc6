//! `bitfit plan --list`: a program as a table, one line per operation, and its minimum cost.

use super::cost::{Cost, Line, lines};
use crate::backend::{DeviceKind, WeightType};
use crate::model::Model;
use crate::model::params::ParamKind;
use crate::program::{ParamRange, Program};
use crate::table::{TextTable, grouped};
use std::collections::BTreeMap;
use std::fmt;

/// A device's maximum rates per second, as far as known.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rates {
    /// Operations of matrix products.
    pub flops: Option<f64>,
    /// Bytes read from and written to its memory.
    pub bytes: Option<f64>,
}

/// Bits per matrix element on a device.
pub fn matrix_bits(device: DeviceKind) -> f64 {
    let (weights, cuda) = match device {
        DeviceKind::Cpu { weights, .. } => (weights, false),
        DeviceKind::Cuda { weights } => (weights, true),
    };
    match weights {
        WeightType::F32 if !cuda => 32.0,
        WeightType::F32 | WeightType::F16 => 16.0,
        WeightType::Int8 => 8.0,
        WeightType::Nf4 => 4.0,
    }
}

/// A program to display.
pub struct Listing<'a> {
    pub model: &'a Model,
    pub program: &'a Program,
    pub device: DeviceKind,
    pub rates: Rates,
}

impl Listing<'_> {
    /// `output@3` for a bias of the encoder, otherwise the parameter's name.
    fn name(&self, range: ParamRange) -> String {
        let params = self.model.params.list().iter();
        let param = params.clone().find(|param| param.range == range);
        match param.map(|param| (param, param.kind, param.layer)) {
            Some((_, ParamKind::Bias(component), Some(layer))) => {
                format!("{}@{layer}", component.name())
            }
            Some((_, ParamKind::Bias(component), None)) => component.name().to_owned(),
            Some((param, ..)) => param.name.clone(),
            // A matrix of several stacked parameters.
            None => params
                .filter(|param| {
                    range.offset <= param.range.offset
                        && param.range.offset + param.range.len <= range.offset + range.len
                })
                .map(|param| param.name.clone())
                .collect::<Vec<_>>()
                .join(" + "),
        }
    }

    fn moved(&self, cost: Cost) -> usize {
        cost.bytes(matrix_bits(self.device)) as usize
    }

    fn operations(&self, lines: &[Line]) -> TextTable {
        let mut table = TextTable::new([
            "",
            "operation",
            "block",
            "reads",
            "writes",
            "kept",
            "MFLOP",
            "bytes",
            "gradient of",
        ]);
        let mut backward = false;
        for (i, line) in lines.iter().enumerate() {
            if line.backward && !backward {
                table.rule();
                backward = true;
            }
            let number = |count: u128| match count {
                0 => String::new(),
                _ => grouped(count),
            };
            let gradients = line.gradients.iter().map(|&range| self.name(range));
            table.row([
                i.to_string(),
                line.op.to_owned(),
                line.block.map_or(String::new(), |block| block.to_string()),
                line.reads.join(", "),
                line.writes.join(", "),
                number(line.kept as u128),
                number(line.cost.flops / 1_000_000),
                number(self.moved(line.cost) as u128),
                gradients.collect::<Vec<_>>().join(", "),
            ]);
        }
        table
    }

    /// By kind of operation, the most expensive first.
    fn kinds(&self, lines: &[Line]) -> TextTable {
        let mut kinds: BTreeMap<&str, (usize, Cost)> = BTreeMap::new();
        let mut all = Cost::default();
        for line in lines {
            let (count, cost) = kinds.entry(line.op).or_default();
            *count += 1;
            *cost = cost.plus(line.cost);
            all = all.plus(line.cost);
        }
        let mut kinds: Vec<_> = kinds.into_iter().collect();
        kinds.sort_by_key(|(_, (_, cost))| std::cmp::Reverse((cost.flops, cost.tensor_bytes)));
        let mut table = TextTable::new(["operation", "times", "GFLOP", "bytes"]);
        let mut row = |name: &str, count: usize, cost: Cost| {
            let flops = format!("{:.3}", cost.flops as f64 / 1e9);
            table.row([name.to_owned(), count.to_string(), flops, grouped(self.moved(cost))]);
        };
        for (name, (count, cost)) in kinds {
            row(name, count, cost);
        }
        row("together", lines.len(), all);
        table
    }

    /// Each operation waits for the slower of the device's two limits.
    fn least_seconds(&self, lines: &[Line]) -> Option<f64> {
        let Rates { flops: Some(flops), bytes: Some(bytes) } = self.rates else {
            return None;
        };
        let bits = matrix_bits(self.device);
        let of = |line: &Line| line.cost.least_seconds(flops, bytes, bits);
        Some(lines.iter().map(of).sum())
    }
}

impl fmt::Display for Listing<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines = lines(self.program, &self.model.matrices);
        write!(f, "{}\n{}", self.operations(&lines), self.kinds(&lines))?;
        if let Some(seconds) = self.least_seconds(&lines) {
            let tokens = self.program.limits().tokens as f64;
            writeln!(
                f,
                "\nat least {:.3} ms per step, {:.0} tokens/s: a lower bound, from the operations' products and bytes",
                seconds * 1e3,
                tokens / seconds
            )?;
        }
        Ok(())
    }
}
