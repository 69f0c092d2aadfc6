//! The embedding layer: three table rows, their sum, LayerNorm and dropout.

use super::colsum::CHUNK;
use super::dropout::Mask;
use super::norm::{Affine, affine, normalise};
use super::weights::Matrix;
use crate::batch::Batch;
use anyhow::{Result, ensure};
use rayon::prelude::*;

/// The tables, each `[rows, hidden]`.
#[derive(Clone, Copy)]
pub struct Tables<'a> {
    pub word: &'a Matrix,
    pub position: &'a Matrix,
    pub token_type: &'a Matrix,
}

/// `out = dropout(LN(word[id] + position[pos] + token_type[type]))`, `[tokens, hidden]`.
///
/// # Errors
/// When an id has no row.
pub fn forward(
    tables: Tables<'_>,
    batch: &Batch,
    norm: Affine<'_>,
    mask: Option<Mask>,
    out: &mut [f32],
) -> Result<()> {
    let hidden = norm.gamma.len();
    for (what, ids, table) in [
        ("token", &batch.ids, tables.word),
        ("position", &batch.positions, tables.position),
    ] {
        let most = ids.iter().max().map_or(0, |&id| id as usize);
        ensure!(
            most < table.rows,
            "{what} id {most} is outside its embedding table of {} rows",
            table.rows
        );
    }
    // A table of one row (RoBERTa) serves every token.
    let one_type = tables.token_type.rows == 1;
    let most = batch.type_ids.iter().max().map_or(0, |&id| id as usize);
    ensure!(
        one_type || most < tables.token_type.rows,
        "token type {most} is outside its embedding table of {} rows",
        tables.token_type.rows
    );
    out.par_chunks_mut(CHUNK * hidden)
        .enumerate()
        .for_each(|(chunk, out)| {
            for (token, row) in (chunk * CHUNK..).zip(out.chunks_exact_mut(hidden)) {
                let kind = if one_type { 0 } else { batch.type_ids[token] };
                tables.word.copy_row(batch.ids[token] as usize, row);
                tables
                    .position
                    .add_row(batch.positions[token] as usize, row);
                tables.token_type.add_row(kind as usize, row);
                normalise(row, norm.eps);
                affine(row, norm.gamma, norm.beta);
                if let Some(mask) = mask {
                    mask.apply(token as u32, row);
                }
            }
        });
    Ok(())
}
