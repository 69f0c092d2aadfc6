//! Matrices in 8 bits: symmetric, with one scale per row, which is an output of the layer or a word of the table. All
//! backends use these codes and scales; each has its own layout and its own product.

/// A row-major matrix; an element is its code times its row's scale.
#[derive(Debug)]
pub struct Int8 {
    pub cols: usize,
    pub codes: Vec<i8>,
    pub scales: Vec<f32>,
}

impl Int8 {
    /// Rounds each of `values`, `cols` per row, to the nearest 127th of its row's largest.
    pub fn new(values: &[f32], cols: usize) -> Self {
        let rows = || values.chunks_exact(cols.max(1));
        let most = |row: &[f32]| row.iter().fold(0.0, |most: f32, x| x.abs().max(most));
        let scales: Vec<f32> = rows().map(|row| most(row) / 127.0).collect();
        let codes = rows().zip(&scales).flat_map(|(row, &scale)| {
            let inverse = if scale > 0.0 { 1.0 / scale } else { 0.0 };
            row.iter().map(move |x| (x * inverse).round() as i8)
        });
        let mut all = Vec::with_capacity(values.len());
        all.extend(codes);
        Self { cols, codes: all, scales }
    }
}
