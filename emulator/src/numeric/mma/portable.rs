//! The products in plain Rust, for every processor.

#![expect(
    clippy::needless_range_loop,
    reason = "rows, columns and k index several arrays, as in the manual"
)]

use super::shape::{Mma, Reg};
use crate::numeric::NAN_F32;
use crate::numeric::half::{f16_to_f32, f32_to_f16_rn};

/// Word `w` of row `row` of A, or of column `row` of B with `regs_down` 1 instead of 2.
#[inline(always)]
fn word(regs: &[&Reg], regs_down: usize, row: usize, w: usize) -> u32 {
    regs[(w / 4) * regs_down + row / 8][(row % 8) * 4 + w % 4]
}

/// Where element (row, column) of C or D lies: (register, lane), in 32-bit elements.
#[inline(always)]
fn c_place(row: usize, col: usize) -> (usize, usize) {
    (row / 8 * 2 + col % 2, row % 8 * 4 + col / 2)
}

pub fn float_product(m: Mma, a: &[&Reg], b: &[&Reg], c: &[&Reg], d: &mut [Reg; 4]) {
    let per = m.a.per_word();
    let words = m.k as usize / per;
    let mut bt = [[0f32; 8]; 32];
    for n in 0..8 {
        for w in 0..words {
            for i in 0..per {
                bt[w * per + i][n] = m.b.float(word(b, 1, n, w), i);
            }
        }
    }
    for row in 0..16 {
        let mut acc = [0f32; 8];
        for (col, x) in acc.iter_mut().enumerate() {
            let (reg, lane) = c_place(row, col);
            *x = if m.c_half {
                f16_to_f32((c[row / 8][lane] >> (16 * (col % 2))) as u16)
            } else {
                f32::from_bits(c[reg][lane])
            };
        }
        for w in 0..words {
            let bits = word(a, 2, row, w);
            for i in 0..per {
                let x = m.a.float(bits, i);
                for col in 0..8 {
                    // The product of two such narrow values is exact: this equals a fused multiply-add.
                    acc[col] += x * bt[w * per + i][col];
                }
            }
        }
        for (col, &x) in acc.iter().enumerate() {
            let (reg, lane) = c_place(row, col);
            if m.d_half {
                let shift = 16 * (col % 2);
                let kept = d[row / 8][lane] & !(0xffff << shift);
                d[row / 8][lane] = kept | u32::from(f32_to_f16_rn(x)) << shift;
            } else {
                d[reg][lane] = if x.is_nan() { NAN_F32 } else { x.to_bits() };
            }
        }
    }
}

pub fn int_product(m: Mma, a: &[&Reg], b: &[&Reg], c: &[&Reg], d: &mut [Reg; 4]) {
    let per = m.a.per_word();
    let words = m.k as usize / per;
    let mut bt = [[0i32; 8]; 64];
    for n in 0..8 {
        for w in 0..words {
            for i in 0..per {
                bt[w * per + i][n] = m.b.int(word(b, 1, n, w), i);
            }
        }
    }
    for row in 0..16 {
        let mut acc = [0i32; 8];
        for w in 0..words {
            let bits = word(a, 2, row, w);
            for i in 0..per {
                let x = m.a.int(bits, i);
                for col in 0..8 {
                    acc[col] += x * bt[w * per + i][col];
                }
            }
        }
        for (col, &x) in acc.iter().enumerate() {
            let (reg, lane) = c_place(row, col);
            let start = c[reg][lane] as i32;
            d[reg][lane] =
                if m.satfinite { start.saturating_add(x) } else { start.wrapping_add(x) } as u32;
        }
    }
}
