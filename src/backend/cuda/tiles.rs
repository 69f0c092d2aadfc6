//! Tiles of products: which exist, and which one a product gets.
//!
//! A product's blocks go to a device's multiprocessors in waves, and the last wave may leave most of them idle. The
//! fastest tile was measured for some shapes (`tiles.tsv`; `docs/gpu.md` says how its lines are made); for all others a
//! model counts the waves. Both depend only on the shape and the device, so a run is repeatable.

use super::args::{
    LARGE_TILE, MEDIUM_COLUMNS, MEDIUM_ROWS, RING_DEPTH, RING_ROWS, RING_STAGES_96,
    RING_STAGES_192, RING_STAGES_256, SMALL_TILE, TILE_DEPTH, TILE_STAGES,
};
use crate::backend::timing::TiledProduct;
use anyhow::{Context, Result, ensure};

/// Tile of `out` that one block computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GemmTile {
    /// 128 × 128: fastest if it fills the device.
    Large,
    /// 96 × 128: a quarter less work per block, for when large ones just begin another wave.
    Medium,
    /// 64 × 64: four times as many blocks as large ones.
    Small,
    /// On Hopper 128 × 96.
    Ring96,
    /// On Hopper 128 × 192.
    Ring192,
    /// On Hopper 128 × 256: reads least per product.
    Ring256,
}

impl GemmTile {
    pub const ALL: [Self; 6] =
        [Self::Large, Self::Medium, Self::Small, Self::Ring96, Self::Ring192, Self::Ring256];
    /// The suffixes of their kernels' names, after `_`.
    pub const NAMES: [&str; Self::ALL.len()] = ["large", "medium", "small", "96", "192", "256"];
    /// Those of a product with a frozen matrix on any device.
    pub const PORTABLE: [Self; 3] = [Self::Large, Self::Medium, Self::Small];
    /// Those of the gradient of a matrix.
    pub const SQUARE: [Self; 2] = [Self::Large, Self::Small];
    /// Those of a product with a frozen matrix on Hopper, in 16 bits and in fewer.
    pub const RING: [Self; 3] = [Self::Ring96, Self::Ring192, Self::Ring256];
    pub const RING_OF_CODES: [Self; 2] = [Self::Ring96, Self::Ring192];

    pub fn name(self) -> &'static str {
        Self::NAMES[self as usize]
    }

    /// # Errors
    /// An unknown name.
    pub fn named(name: &str) -> Result<Self> {
        let tile = Self::ALL.into_iter().find(|tile| tile.name() == name);
        tile.with_context(|| format!("unknown tile {name}"))
    }

    /// The tiles that kernels of this name have.
    pub fn of(kernel: &str) -> &'static [Self] {
        match kernel.starts_with("hopper_") {
            true => &Self::RING,
            false => &Self::PORTABLE,
        }
    }

    pub fn rows(self) -> usize {
        match self {
            Self::Large => LARGE_TILE,
            Self::Medium => MEDIUM_ROWS,
            Self::Small => SMALL_TILE,
            Self::Ring96 | Self::Ring192 | Self::Ring256 => RING_ROWS,
        }
    }

    pub fn columns(self) -> usize {
        match self {
            Self::Large => LARGE_TILE,
            Self::Medium => MEDIUM_COLUMNS,
            Self::Small => SMALL_TILE,
            Self::Ring96 => 96,
            Self::Ring192 => 192,
            Self::Ring256 => 256,
        }
    }

    /// How many stages of the operands' tiles fit its shared memory.
    pub fn stages(self) -> usize {
        match self {
            Self::Large | Self::Medium | Self::Small => TILE_STAGES,
            Self::Ring96 => RING_STAGES_96,
            Self::Ring192 => RING_STAGES_192,
            Self::Ring256 => RING_STAGES_256,
        }
    }

    /// Bytes of shared memory per block: the stages of both operands' tiles in 16 bits; on Hopper also each multiplying
    /// warp's column sums, and two barriers per stage.
    pub fn shared(self) -> usize {
        let stage = |depth| (self.rows() + self.columns()) * depth * size_of::<u16>();
        match self {
            Self::Large | Self::Medium | Self::Small => self.stages() * stage(TILE_DEPTH),
            Self::Ring96 | Self::Ring192 | Self::Ring256 => {
                let sums = RING_ROWS / 16 * self.columns() * size_of::<f32>();
                self.stages() * (stage(RING_DEPTH) + 2 * size_of::<u64>()) + sums
            }
        }
    }

    /// The most blocks that any one multiprocessor runs, one after another.
    fn waves(self, product: &TiledProduct) -> usize {
        let blocks = product.rows.div_ceil(self.rows()) * product.columns.div_ceil(self.columns());
        blocks.div_ceil(product.multiprocessors.max(1))
    }

    /// The time of a block, in thousandths of a large one's, and on Hopper of one with 256 columns. A small one is a
    /// quarter of the work at about two thirds of the speed. A medium one, three quarters of the work, loads seven
    /// fragments for 24 tensor-core products, compared with eight for 32 in a large one, and has the same fixed cost.
    /// On Hopper the cache's rate limits tiles of 96, 192 and 256 columns to 45, 64 and 71 % of the tensor cores'
    /// (docs/gpu.md).
    fn cost(self) -> usize {
        match self {
            Self::Large | Self::Ring256 => 1000,
            Self::Medium => 820,
            Self::Small => 375,
            Self::Ring192 => 832,
            Self::Ring96 => 592,
        }
    }
}

/// The time of a product in each tile of [`GemmTile::ALL`] that it has a kernel for.
#[derive(Clone, Debug, PartialEq)]
pub struct MeasuredProduct {
    pub product: TiledProduct,
    pub microseconds: [Option<f64>; GemmTile::ALL.len()],
}

impl MeasuredProduct {
    /// The heading of a file of these.
    pub const HEADING: &str = "# kernel\trows\tn\tk\tmultiprocessors\tµs large\tµs medium\tµs small\tµs 96\tµs 192\tµs 256";

    /// Its time with a tile.
    pub fn time(&self, tile: GemmTile) -> Option<f64> {
        self.microseconds[tile as usize]
    }

    /// The fastest tile.
    pub fn best(&self) -> Option<GemmTile> {
        let timed = GemmTile::ALL.into_iter().filter_map(|tile| Some((tile, self.time(tile)?)));
        timed.min_by(|a, b| a.1.total_cmp(&b.1)).map(|(tile, _)| tile)
    }

    /// As a line of `tiles.tsv`.
    pub fn line(&self) -> String {
        let TiledProduct { kernel, rows, columns, depth, multiprocessors } = &self.product;
        let times = self.microseconds.map(|time| time.map_or("-".into(), |us| format!("{us:.1}")));
        format!("{kernel}\t{rows}\t{columns}\t{depth}\t{multiprocessors}\t{}", times.join("\t"))
    }

    fn of(line: &str) -> Result<Self> {
        let fields: Vec<&str> = line.split('\t').collect();
        ensure!(
            fields.len() == 5 + GemmTile::ALL.len(),
            "a line has {} fields",
            5 + GemmTile::ALL.len()
        );
        let size = |text: &str| text.parse().with_context(|| format!("{text:?} is not a size"));
        let [rows, columns] = [size(fields[1])?, size(fields[2])?];
        let [depth, multiprocessors] = [size(fields[3])?, size(fields[4])?];
        let kernel = fields[0].to_owned();
        let product = TiledProduct { kernel, rows, columns, depth, multiprocessors };
        let time = |text: &str| -> Result<Option<f64>> {
            if text == "-" {
                return Ok(None);
            }
            let time: f64 = text.parse().with_context(|| format!("{text:?} is not a time"))?;
            ensure!(time.is_finite() && time > 0.0, "{text:?} is not a time");
            Ok(Some(time))
        };
        let mut microseconds = [None; GemmTile::ALL.len()];
        for (microseconds, text) in microseconds.iter_mut().zip(&fields[5..]) {
            *microseconds = time(text)?;
        }
        let measured = Self { product, microseconds };
        ensure!(measured.best().is_some(), "no tile has a time");
        Ok(measured)
    }
}

/// The choice for one device.
#[derive(Clone, Debug)]
pub struct TileChoice {
    multiprocessors: usize,
    /// On devices with as many multiprocessors.
    measured: Vec<MeasuredProduct>,
}

impl TileChoice {
    /// With what was measured before the program was built.
    ///
    /// # Errors
    /// A malformed line; a test ensures there is none.
    pub fn built_in(multiprocessors: usize) -> Result<Self> {
        Self::of(include_str!("tiles.tsv"), multiprocessors)
    }

    fn of(table: &str, multiprocessors: usize) -> Result<Self> {
        let lines = table.lines().enumerate();
        let lines = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
        let measured = lines
            .map(|(at, line)| {
                MeasuredProduct::of(line)
                    .with_context(|| format!("src/backend/cuda/tiles.tsv, line {}", at + 1))
            })
            .filter(|measured| {
                let other = |m: &MeasuredProduct| m.product.multiprocessors != multiprocessors;
                !measured.as_ref().is_ok_and(other)
            })
            .collect::<Result<_>>()?;
        Ok(Self { multiprocessors, measured })
    }

    /// `rows` × `columns` sums over `depth`.
    pub fn product(&self, kernel: String, [rows, columns, depth]: [usize; 3]) -> TiledProduct {
        TiledProduct { kernel, rows, columns, depth, multiprocessors: self.multiprocessors }
    }

    /// The tile, among the given ones, to use for the product.
    pub fn choose(&self, product: &TiledProduct, among: &[GemmTile]) -> GemmTile {
        // A measurement holds for all numbers of rows that take as many waves with every tile.
        let waves = |of: &TiledProduct| among.iter().map(|tile| tile.waves(of)).collect::<Vec<_>>();
        let alike = |measured: &&MeasuredProduct| {
            let TiledProduct { kernel, columns, depth, .. } = &measured.product;
            (kernel, columns, depth) == (&product.kernel, &product.columns, &product.depth)
                && waves(&measured.product) == waves(product)
        };
        let measured = self.measured.iter().find(alike).and_then(MeasuredProduct::best);
        measured.filter(|tile| among.contains(tile)).unwrap_or_else(|| modelled(product, among))
    }
}

/// By waves only; on a tie the larger tile, which reads less.
fn modelled(product: &TiledProduct, among: &[GemmTile]) -> GemmTile {
    let time = |tile: &GemmTile| tile.waves(product) * tile.cost();
    among.iter().copied().min_by_key(time).unwrap_or(GemmTile::Large)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn product(rows: usize, columns: usize, multiprocessors: usize) -> TiledProduct {
        let kernel = "gemm_bias".into();
        TiledProduct { kernel, rows, columns, depth: 768, multiprocessors }
    }

    #[test]
    fn the_model_takes_the_tile_that_wastes_least_of_the_last_wave() {
        for (rows, columns, multiprocessors, tile) in [
            // BERT-base, 32 × 128 tokens, on an A100.
            (4096, 3072, 108, GemmTile::Large),
            (4096, 2304, 108, GemmTile::Large),
            (4096, 768, 108, GemmTile::Large),
            // On an H100, 192 large tiles would leave 72 of 264 places empty, 258 medium ones 6.
            (4096, 768, 132, GemmTile::Medium),
            (4096, 2304, 132, GemmTile::Medium),
            (4096, 3072, 132, GemmTile::Large),
            // One short sequence.
            (16, 384, 108, GemmTile::Small),
        ] {
            let product = product(rows, columns, multiprocessors);
            assert_eq!(modelled(&product, &GemmTile::PORTABLE), tile, "{product:?}");
            assert_ne!(modelled(&product, &GemmTile::SQUARE), GemmTile::Medium);
        }
    }

    /// The shapes of MiniLM, BERT-base and BERT-large at 32 × 128 tokens, forward and backward.
    #[test]
    fn on_a_hopper_of_132_multiprocessors_the_tiles_of_every_usual_width_fill_their_waves() {
        for (columns, tile) in [
            (384, GemmTile::Ring96),
            (768, GemmTile::Ring192),
            (1024, GemmTile::Ring256),
            (1152, GemmTile::Ring192),
            (1536, GemmTile::Ring192),
            (2304, GemmTile::Ring192),
            (3072, GemmTile::Ring256),
            (4096, GemmTile::Ring256),
        ] {
            let product = product(4096, columns, 132);
            let chosen = modelled(&product, &GemmTile::RING);
            let tiles = 4096usize.div_ceil(chosen.rows()) * columns.div_ceil(chosen.columns());
            let filled = tiles as f64 / (chosen.waves(&product) * 132) as f64;
            println!("{columns}: {chosen:?}, {tiles} tiles, {:.1} % of the waves", 100.0 * filled);
            assert_eq!(chosen, tile, "{columns}");
            if [384, 768, 1024].contains(&columns) {
                assert!(filled >= 0.95, "{columns}: {filled}");
            }
        }
    }

    #[test]
    fn a_block_of_every_tile_fits_the_shared_memory_of_the_devices_that_have_it() {
        assert!(GemmTile::PORTABLE.iter().all(|tile| tile.shared() <= 48 * 1024));
        assert!(GemmTile::RING.iter().all(|tile| tile.shared() <= 227 * 1024));
    }

    #[test]
    fn what_is_built_in_is_a_table_of_measured_products() {
        TileChoice::built_in(132).unwrap();
    }

    #[test]
    fn a_measured_shape_decides_for_rows_that_take_as_many_waves_and_for_nothing_else() {
        let measured = MeasuredProduct {
            product: product(4096, 768, 132),
            microseconds: [Some(30.0), Some(40.0), Some(20.5), None, None, None],
        };
        let table = format!("{}\n\n{}\n", MeasuredProduct::HEADING, measured.line());
        let choice = TileChoice::of(&table, 132).unwrap();
        assert_eq!(choice.measured, [measured]);
        let choose =
            |rows, columns| choice.choose(&product(rows, columns, 132), &GemmTile::PORTABLE);
        assert_eq!(choose(4096, 768), GemmTile::Small);
        assert_eq!(choose(4000, 768), GemmTile::Small);
        // Another number of waves, another width, another device: the model decides.
        assert_eq!(choose(3400, 768), modelled(&product(3400, 768, 132), &GemmTile::PORTABLE));
        assert_eq!(choose(4096, 2304), GemmTile::Medium);
        assert!(TileChoice::of(&table, 108).unwrap().measured.is_empty());
        let mut back = product(4096, 768, 132);
        back.kernel = "gemm_back".into();
        assert_eq!(choice.choose(&back, &GemmTile::PORTABLE), GemmTile::Medium);
        // The fastest tile is not chosen if it is not available.
        let large = [GemmTile::Large];
        assert_eq!(choice.choose(&product(4096, 768, 132), &large), GemmTile::Large);
    }

    #[test]
    fn a_damaged_table_is_refused_by_line() {
        for (line, said) in [
            ("gemm_bias\t1\t2", "11 fields"),
            ("gemm_bias\t1\t2\t3\t132\t1.0\t2.0", "11 fields"),
            ("gemm_bias\t1\t2\tx\t132\t1.0\t2.0\t3.0\t-\t-\t-", "\"x\" is not a size"),
            ("gemm_bias\t1\t2\t3\t132\t1.0\t-1\t3.0\t-\t-\t-", "\"-1\" is not a time"),
            ("gemm_bias\t1\t2\t3\t132\t-\t-\t-\t-\t-\t-", "no tile has a time"),
        ] {
            let refused = TileChoice::of(&format!("# a comment\n{line}\n"), 132).unwrap_err();
            let refused = format!("{refused:#}");
            assert!(refused.contains("line 2") && refused.contains(said), "{refused}");
        }
    }

    #[test]
    fn tiles_of_the_gradient_of_a_matrix_are_square() {
        assert!(GemmTile::SQUARE.iter().all(|tile| tile.rows() == tile.columns()));
    }
}
