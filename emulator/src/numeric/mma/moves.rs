//! 8 × 8 matrices between rows in memory and registers: ldmatrix, stmatrix, movmatrix.

use super::shape::Reg;
#[cfg(target_arch = "x86_64")]
use super::x86;

/// ldmatrix: for each 8 × 8 matrix of 16-bit elements, lane `8·matrix + row` gives the address of a row of
/// 16 bytes; without `.trans`, register `matrix` of lane l takes word l % 4 of row l / 4. `rows` are the eight rows.
#[inline(always)]
pub fn ldmatrix(rows: &[[u32; 4]; 8]) -> Reg {
    let mut out = [0; 32];
    for (lane, x) in out.iter_mut().enumerate() {
        *x = rows[lane / 4][lane % 4];
    }
    out
}

/// ldmatrix.trans: lane l takes the element (row 2·(l % 4), column l / 4) and the one in the next row: the transposed
/// matrix, row by row.
#[inline(always)]
pub fn ldmatrix_trans(rows: &[[u32; 4]; 8]) -> Reg {
    #[cfg(target_arch = "x86_64")]
    {
        x86::transpose16(rows)
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        let element = |row: usize, col: usize| rows[row][col / 2] >> (16 * (col % 2)) & 0xffff;
        std::array::from_fn(|lane| {
            let (col, row) = (lane / 4, 2 * (lane % 4));
            element(row, col) | element(row + 1, col) << 16
        })
    }
}

/// stmatrix: the rows that a register holds; the inverse of [`ldmatrix`].
#[inline(always)]
pub fn stmatrix(reg: &Reg) -> [[u32; 4]; 8] {
    let mut rows = [[0; 4]; 8];
    for (lane, &x) in reg.iter().enumerate() {
        rows[lane / 4][lane % 4] = x;
    }
    rows
}

/// stmatrix.trans: the inverse of [`ldmatrix_trans`].
#[inline(always)]
pub fn stmatrix_trans(reg: &Reg) -> [[u32; 4]; 8] {
    let mut rows = [[0; 4]; 8];
    for (lane, &x) in reg.iter().enumerate() {
        let (col, row) = (lane / 4, 2 * (lane % 4));
        let shift = 16 * (col % 2);
        rows[row][col / 2] |= (x & 0xffff) << shift;
        rows[row + 1][col / 2] |= (x >> 16) << shift;
    }
    rows
}

/// movmatrix.trans: an 8 × 8 matrix held by the warp, transposed
#[inline(always)]
pub fn movmatrix_trans(reg: &Reg) -> Reg {
    ldmatrix_trans(&stmatrix(reg))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matrix_moves_are_inverse() {
        let mut rows = [[0u32; 4]; 8];
        for (r, row) in rows.iter_mut().enumerate() {
            for (w, x) in row.iter_mut().enumerate() {
                // Element value = 16·row + column.
                *x = (16 * r + 2 * w) as u32 | ((16 * r + 2 * w + 1) as u32) << 16;
            }
        }
        let plain = ldmatrix(&rows);
        assert_eq!(plain[5], 0x0013_0012);
        let trans = ldmatrix_trans(&rows);
        // Lane 5: column 1, rows 2 and 3.
        assert_eq!(trans[5], 0x0031_0021);
        for (lane, &x) in trans.iter().enumerate() {
            let (col, row) = (lane / 4, 2 * (lane % 4));
            assert_eq!(x, (16 * row + col) as u32 | ((16 * (row + 1) + col) as u32) << 16);
        }
        assert_eq!(stmatrix(&plain), rows);
        assert_eq!(stmatrix_trans(&trans), rows);
        assert_eq!(movmatrix_trans(&plain), trans);
    }
}
