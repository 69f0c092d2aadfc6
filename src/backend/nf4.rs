//! Matrices in 4 bits: NF4 with double-quantised scales, after QLoRA (Dettmers et al., 2023, arXiv 2305.14314, §3).
//!
//! Each row is cut into blocks of 64 (the last may be shorter). Each element of a block is one of sixteen levels, the
//! quantiles of a normal distribution, times the block's scale. The scales, one per block, take one byte each: their
//! distance from the matrix's mean scale, in 127ths of the largest such distance in their group of 256. (The paper
//! stores that second level as 8-bit floats; bytes are as small and need no table.) The total is 4.13 bits per weight.
//! All backends use these codes and scales; each has its own layout and its own product.

/// Elements per scale.
pub const BLOCK: usize = 64;
/// Scales per group scale.
pub const GROUP: usize = 256;

/// The levels: paper, appendix E. The GPU's copy is in `kernels/quantised.cuh`.
pub const LEVELS: [f32; 16] = [
    -1.0,
    -0.696_192_8,
    -0.525_073_05,
    -0.394_917_5,
    -0.284_441_38,
    -0.184_773_43,
    -0.091_050_036,
    0.0,
    0.079_580_3,
    0.160_930_2,
    0.246_112_3,
    0.337_915_24,
    0.440_709_83,
    0.562_617,
    0.722_956_84,
    1.0,
];

/// A row-major matrix.
#[derive(Debug)]
pub struct Nf4 {
    pub cols: usize,
    /// Two per byte, the even column in the low half; rows padded to whole bytes.
    pub codes: Vec<u8>,
    /// One per block, row by row.
    pub scales: Vec<i8>,
    /// One per group of `scales`.
    pub group_scales: Vec<f32>,
    pub mean_scale: f32,
}

impl Nf4 {
    /// Rounds each of `values`, `cols` per row, to the nearest level of its block.
    pub fn new(values: &[f32], cols: usize) -> Self {
        let rows = values.len() / cols.max(1);
        let blocks = || values.chunks_exact(cols.max(1)).flat_map(|row| row.chunks(BLOCK));
        let exact: Vec<f32> =
            blocks().map(|block| block.iter().fold(0.0, |most, x| x.abs().max(most))).collect();
        let mean_scale = exact.iter().sum::<f32>() / exact.len().max(1) as f32;
        let mut scales = Vec::with_capacity(exact.len());
        let mut group_scales = Vec::with_capacity(exact.len().div_ceil(GROUP));
        for group in exact.chunks(GROUP) {
            let most = group.iter().fold(0.0, |most: f32, s| (s - mean_scale).abs().max(most));
            let step = most / 127.0;
            group_scales.push(step);
            scales.extend(group.iter().map(|s| match step > 0.0 {
                true => ((s - mean_scale) / step).round() as i8,
                false => 0,
            }));
        }
        let mut matrix = Self {
            cols,
            codes: vec![0; rows * cols.div_ceil(2)],
            scales,
            group_scales,
            mean_scale,
        };
        let row_bytes = cols.div_ceil(2);
        for (i, block) in blocks().enumerate() {
            let scale = matrix.scale(i);
            let inverse = if scale > 0.0 { 1.0 / scale } else { 0.0 };
            let (row, from) = (i / cols.div_ceil(BLOCK), i % cols.div_ceil(BLOCK) * BLOCK);
            let start = row * row_bytes + from / 2;
            for (pair, code) in block.chunks(2).zip(&mut matrix.codes[start..]) {
                *code = nearest(pair[0] * inverse)
                    | pair.get(1).map_or(0, |x| nearest(x * inverse)) << 4;
            }
        }
        matrix
    }

    /// A block's scale.
    pub fn scale(&self, block: usize) -> f32 {
        self.mean_scale + f32::from(self.scales[block]) * self.group_scales[block / GROUP]
    }
}

/// The code of the level nearest to `x`: the number of midpoints between levels below it.
fn nearest(x: f32) -> u8 {
    let below = LEVELS.windows(2).filter(|pair| x > 0.5 * (pair[0] + pair[1]));
    below.count() as u8
}
