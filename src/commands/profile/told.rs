//! The result of `profile`, as a table, a picture and JSON.

use super::ceilings::Ceilings;
use super::rows::{LaunchedKernel, OperationRow};
use super::tile_sweep::SweptProduct;
use crate::results::pictures::Picture;
use crate::results::pictures::roofline::{self, Roofs, Spot};
use crate::table::{TextTable, grouped};
use serde::Serialize;

/// The cost of a step.
#[derive(Debug, Serialize)]
pub struct Profile {
    pub model: String,
    pub method: &'static str,
    pub device: String,
    pub saving: String,
    pub sequences: usize,
    pub tokens: usize,
    pub repeated: usize,
    /// As in training; `None` if times are meaningless.
    pub seconds_per_step: Option<f64>,
    pub product_flops_per_second: Option<f64>,
    pub copy_bytes_per_second: Option<f64>,
    pub operations: Vec<OperationRow>,
    /// If requested.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tiles: Vec<SweptProduct>,
}

impl Profile {
    /// The operations below the device's limits; `None` if none can be drawn.
    pub fn picture(&self, ceilings: Ceilings) -> Option<Picture> {
        let spots: Vec<Spot> = self
            .operations
            .iter()
            .map(|row| Spot {
                name: format!("{} {}", row.operation, row.shape),
                flops: row.flops,
                bytes: row.bytes,
                seconds: row.seconds_per_step.unwrap_or(0.0),
            })
            .collect();
        let title = format!("{} and the roofs of the device", self.model);
        let Ceilings { flops, bytes } = ceilings;
        roofline::draw(&title, Roofs { flops, bytes }, &spots)
    }

    /// What a reader sees.
    pub fn table(&self, ceilings: Option<Ceilings>) -> String {
        let launched = self.operations.iter().any(|row| row.kernel.is_some());
        let mut heading = vec!["operation", "", "rows × in → out", "times"];
        if ceilings.is_some() {
            heading.extend(["µs each", "ms", "share", "GFLOP/s", "GB/s", "of the roof"]);
        } else {
            heading.extend(["MFLOP", "bytes"]);
        }
        if launched {
            heading.extend(["kernel", "blocks", "registers", "shared", "warps"]);
        }
        let mut table = TextTable::new(heading);
        let together: f64 = self.operations.iter().filter_map(|row| row.seconds_per_step).sum();
        for row in &self.operations {
            let way = if row.backward { "back" } else { "" };
            let name = row.operation.to_owned();
            let mut cells = vec![name, way.to_owned(), row.shape.clone(), row.times.to_string()];
            match ceilings {
                Some(ceilings) => cells.extend(row.timed(ceilings, together)),
                None => cells.extend([
                    grouped((row.flops / 1e6).round() as usize),
                    grouped(row.bytes.round() as usize),
                ]),
            }
            if launched {
                cells.extend(row.kernel.as_ref().map_or([const { String::new() }; 5], |kernel| {
                    let LaunchedKernel { name, blocks, registers, shared_bytes, .. } = kernel;
                    [
                        name.clone(),
                        grouped(*blocks),
                        registers.to_string(),
                        grouped(*shared_bytes),
                        kernel.warps_per_multiprocessor.to_string(),
                    ]
                }));
            }
            table.row(cells);
        }
        let Self { model, method, device, saving, sequences, tokens, repeated, .. } = self;
        let mut text = format!(
            "{model}: {method}, {sequences} texts and {} tokens per batch, saving {saving}; {device}\n\n{table}",
            grouped(*tokens)
        );
        match (self.seconds_per_step, ceilings) {
            (Some(seconds), Some(ceilings)) => {
                text += &format!(
                    "\na step as training does it: {:.3} ms, {:.0} tokens/s; its pieces, each alone: {:.3} ms (medians of \
                     {repeated})\nroofs, measured with a large product and a large copy: {:.0} GFLOP/s, {:.1} GB/s\n",
                    seconds * 1e3,
                    *tokens as f64 / seconds,
                    together * 1e3,
                    ceilings.flops / 1e9,
                    ceilings.bytes / 1e9,
                );
            }
            _ => {
                let launches: usize = self.operations.iter().map(|row| row.times).sum();
                text += &format!("\n{launches} launches; on the emulator times mean nothing\n");
            }
        }
        text
    }
}
