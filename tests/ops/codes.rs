//! Activation derivatives and x̂ in codes of fewer bits, written from their definition.

use bitfit::program::{ElementBytes, Storage};

/// Steps between 0 and 1 of a stored derivative, and the code of 0.
pub fn codes(stored: Storage) -> (f64, f64) {
    match stored {
        Storage::Slope8 => (200.0, 26.0),
        Storage::Slope4 => (11.0, 2.0),
        _ => unreachable!("not a slope in codes"),
    }
}

/// Bytes in 32-bit words.
pub fn words_of(bytes: &[u8]) -> Vec<f32> {
    bytes
        .chunks(4)
        .map(|chunk| {
            let mut word = [0; 4];
            word[..chunk.len()].copy_from_slice(chunk);
            f32::from_le_bytes(word)
        })
        .collect()
}

/// The derivatives whose codes fill `words`.
pub fn decoded(words: &[f32], stored: Storage, rows: usize, width: usize) -> Vec<f64> {
    let bytes: Vec<u8> = words.iter().flat_map(|w| w.to_le_bytes()).collect();
    let (steps, zero) = codes(stored);
    let row_bytes = stored.row_bytes(width, ElementBytes::all(1));
    (0..rows * width)
        .map(|i| {
            let (row, col) = (i / width, i % width);
            let code = match stored {
                Storage::Slope4 => bytes[row * row_bytes + col / 2] >> (4 * (col % 2)) & 15,
                _ => bytes[row * row_bytes + col],
            };
            (f64::from(code) - zero) / steps
        })
        .collect()
}

/// The root of a row's largest x̂ is 127 of these steps.
pub fn root_step(hidden: usize) -> f64 {
    (hidden as f64).powf(0.25) / 127.0
}

/// The x̂ whose codes fill `words`.
pub fn decoded_x_hat(words: &[f32], count: usize, hidden: usize) -> Vec<f64> {
    let bytes = words.iter().flat_map(|w| w.to_le_bytes());
    let value = |byte: u8| {
        let root = f64::from(byte as i8) * root_step(hidden);
        root * root.abs()
    };
    bytes.take(count).map(value).collect()
}
