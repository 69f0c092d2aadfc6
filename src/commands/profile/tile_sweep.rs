//! `bitfit profile --tiles`: each product of a step in every tile that the device has, so that tiles can be chosen by
//! measurement.

use crate::backend::cuda::tiles::{GemmTile, MeasuredProduct};
use crate::backend::timing::{Piece, TiledProduct};
use crate::results::statistics::median;
use crate::table::TextTable;
use anyhow::Result;
use serde::Serialize;
use std::fmt::Write as _;

/// A product of a step.
#[derive(Debug, Serialize)]
pub struct SweptProduct {
    kernel: String,
    rows: usize,
    n: usize,
    k: usize,
    multiprocessors: usize,
    /// Per step.
    times: usize,
    /// The tile that the device chooses by itself.
    chosen: String,
    /// The median of one, in each available one of [`GemmTile::ALL`]; none if times are meaningless.
    microseconds: [Option<f64>; GemmTile::ALL.len()],
    /// In which of them it ran.
    #[serde(skip)]
    ran: [bool; GemmTile::ALL.len()],
}

/// Runs steps in each tile; `steps` returns the pieces of some, in the given tile. `chosen` are those of a step with
/// the device's own choice. Times are kept if they are meaningful (`timed`).
///
/// # Errors
/// As `steps`.
pub fn sweep(
    chosen: &[Piece],
    timed: bool,
    mut steps: impl FnMut(GemmTile) -> Result<Vec<Vec<Piece>>>,
) -> Result<Vec<SweptProduct>> {
    let mut found: Vec<(TiledProduct, SweptProduct)> = Vec::new();
    for (product, tile, _) in chosen.iter().filter_map(tiled) {
        if let Some((_, swept)) = found.iter_mut().find(|(of, _)| of == product) {
            swept.times += 1;
            continue;
        }
        let TiledProduct { kernel, rows, columns, depth, multiprocessors } = product.clone();
        let swept = SweptProduct {
            kernel,
            rows,
            n: columns,
            k: depth,
            multiprocessors,
            times: 1,
            chosen: tile.to_owned(),
            microseconds: [None; GemmTile::ALL.len()],
            ran: [false; GemmTile::ALL.len()],
        };
        found.push((product.clone(), swept));
    }
    for (at, tile) in GemmTile::ALL.into_iter().enumerate() {
        let family = |(_, swept): &(_, SweptProduct)| GemmTile::of(&swept.kernel).contains(&tile);
        if !found.iter().any(family) {
            continue;
        }
        let pieces: Vec<Piece> = steps(tile)?.into_iter().flatten().collect();
        for (product, swept) in &mut found {
            let seconds: Vec<f64> = pieces
                .iter()
                .filter_map(tiled)
                .filter(|(of, name, _)| **of == *product && *name == tile.name())
                .map(|(.., seconds)| seconds)
                .collect();
            let median = median(&seconds);
            swept.ran[at] = median.is_some();
            swept.microseconds[at] = median.filter(|_| timed).map(|median| median * 1e6);
        }
    }
    Ok(found.into_iter().map(|(_, swept)| swept).collect())
}

/// Product, tile and seconds of a launch, if it is a product.
fn tiled(piece: &Piece) -> Option<(&TiledProduct, &str, f64)> {
    let launch = piece.kernel.as_ref()?;
    let product = launch.tiled.as_ref()?;
    let tile = launch.kernel.strip_prefix(&product.kernel)?.strip_prefix('_')?;
    Some((product, tile, piece.seconds))
}

impl SweptProduct {
    /// As [`MeasuredProduct::line`], without times.
    fn line_of_runs(&self) -> String {
        let Self { kernel, rows, n, k, multiprocessors, ran, .. } = self;
        let ran = ran.map(|ran| if ran { "ran" } else { "-" }).join("\t");
        format!("{kernel}\t{rows}\t{n}\t{k}\t{multiprocessors}\t{ran}")
    }

    fn measured(&self) -> MeasuredProduct {
        let Self { kernel, rows, n, k, multiprocessors, microseconds, .. } = self;
        MeasuredProduct {
            product: TiledProduct {
                kernel: kernel.clone(),
                rows: *rows,
                columns: *n,
                depth: *k,
                multiprocessors: *multiprocessors,
            },
            microseconds: *microseconds,
        }
    }
}

/// The file for `--tiles`. If nothing was timed its lines are comments that say in which tiles a product ran, so that they
/// are not taken for measurements.
pub fn file(products: &[SweptProduct], about: &str, timed: bool) -> String {
    let mut text = format!("# {about}\n{}\n", MeasuredProduct::HEADING);
    for product in products {
        let _ = match timed {
            true => writeln!(text, "{}", product.measured().line()),
            false => writeln!(text, "# not timed: {}", product.line_of_runs()),
        };
    }
    text
}

/// What a reader wants to know: the times, and the share of a step that better tiles would save.
pub fn table(products: &[SweptProduct], timed: bool) -> String {
    if !timed {
        let tiles = products.iter().flat_map(|product| product.ran).filter(|ran| *ran).count();
        return format!("\n{} products ran with {tiles} tile sizes in total\n", products.len());
    }
    let mut heading = vec!["product", "rows", "n", "k", "times", "chosen"];
    heading.extend(GemmTile::NAMES);
    let mut table = TextTable::new(heading);
    let (mut chosen, mut best) = (0.0, 0.0);
    for product in products {
        let SweptProduct { kernel, rows, n, k, times, chosen: tile, microseconds, .. } = product;
        let of = |name: &str| {
            let at = GemmTile::NAMES.iter().position(|tile| *tile == name);
            at.and_then(|at| microseconds[at]).unwrap_or(0.0)
        };
        chosen += of(tile) * *times as f64;
        best += product.measured().best().map_or(0.0, |tile| of(tile.name())) * *times as f64;
        let mut cells = vec![kernel.clone()];
        cells.extend([rows, n, k, times].map(ToString::to_string));
        cells.push(tile.clone());
        cells.extend(microseconds.map(|us| us.map_or(String::new(), |us| format!("{us:.1}"))));
        table.row(cells);
    }
    format!(
        "\nProducts with each tile size, µs:\n\n{table}\nproducts of a step: {:.3} ms with the chosen tiles, {:.3} \
         ms with the \
         fastest\n",
        chosen / 1e3,
        best / 1e3
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::timing::Launch;

    fn piece(tile: &str, rows: usize, seconds: f64) -> Piece {
        let kernel = "gemm_back".to_owned();
        let tiled = TiledProduct { kernel, rows, columns: 768, depth: 768, multiprocessors: 132 };
        let kernel = Launch {
            kernel: format!("gemm_back_{tile}"),
            blocks: 1,
            threads: 128,
            registers: 200,
            shared: 0,
            warps: 8,
            tiled: Some(tiled),
        };
        Piece { op: Some(0), kernel: Some(kernel), seconds }
    }

    #[test]
    fn each_product_has_its_median_in_every_tile_and_its_count_in_a_step() {
        let other = Piece { op: None, kernel: None, seconds: 1.0 };
        let chosen =
            [piece("large", 64, 9.0), other, piece("large", 64, 9.0), piece("small", 8, 9.0)];
        let steps = |tile| {
            // The first product has no small kernel: it stays unchanged.
            let (first, seconds) = match tile {
                GemmTile::Large => ("large", [4e-6, 2e-6, 3e-6]),
                GemmTile::Medium => ("medium", [1e-6; 3]),
                GemmTile::Small => ("large", [7e-6; 3]),
                _ => panic!("no kernel of these products has {tile:?}"),
            };
            let step = |s: f64| vec![piece(first, 64, s), piece(tile.name(), 8, 2.0 * s)];
            Ok(seconds.map(step).to_vec())
        };
        let swept = sweep(&chosen, true, steps).unwrap();
        let [first, second] = &swept[..] else { panic!("{swept:?}") };
        assert_eq!((first.rows, first.times, first.chosen.as_str()), (64, 2, "large"));
        assert_eq!(first.microseconds[..3], [Some(3.0), Some(1.0), None]);
        assert_eq!((second.rows, second.times, second.chosen.as_str()), (8, 1, "small"));
        assert_eq!(second.microseconds[..3], [Some(6.0), Some(2.0), Some(14.0)]);
        let said = table(&swept, true);
        assert!(said.contains("0.020 ms with the chosen tiles, 0.004 ms with the"), "{said}");
        assert!(
            file(&swept, "a device", true)
                .contains("\ngemm_back\t64\t768\t768\t132\t3.0\t1.0\t-\t-\t-\t-\n")
        );
        let untimed = sweep(&chosen, false, steps).unwrap();
        assert_eq!(untimed[1].microseconds, [None; GemmTile::ALL.len()]);
        let lines = file(&untimed, "an emulator", false);
        assert!(lines.lines().all(|line| line.starts_with('#')), "{lines}");
        assert!(lines.contains("gemm_back\t64\t768\t768\t132\tran\tran\t-\t-\t-\t-\n"), "{lines}");
        assert!(table(&untimed, false).contains("2 products ran with 5 tile sizes"), "{untimed:?}");
    }
}
