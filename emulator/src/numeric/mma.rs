//! Warp-wide matrix products: mma.sync. A fragment register is an array of 32 words, one a lane.
//!
//! All the m16n8 shapes share one layout. With g = lane / 4 and t = lane % 4, register a0 holds word t of row g (a word
//! being as many consecutive k as fit 32 bits), a1 the same of row g + 8, a2 and a3 word t + 4 of those rows; b0 holds
//! word t of column g, b1 word t + 4; c0 and c1 are columns 2t and 2t + 1 of row g, c2 and c3 of row g + 8. So each
//! register of A and B is an 8 × 4 block of words in row-major order.
//!
//! Products are exact in f32 and summed in f32 in ascending k, starting from C. Tensor cores align and truncate
//! instead, and the manual leaves the order open, so results agree to rounding, not bit for bit.

#![expect(
    clippy::needless_range_loop,
    reason = "rows, columns and k index several arrays, as in the manual"
)]

#[cfg(target_arch = "x86_64")]
mod x86;

use super::NAN_F32;
use super::fp8::Fp8;
use super::half::{bf16_to_f32, f16_to_f32, f32_to_f16_rn};

/// One 32-bit register of a warp.
pub type Reg = [u32; 32];

/// Element types of A and B.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MmaType {
    F16,
    Bf16,
    Tf32,
    S8,
    U8,
    S4,
    U4,
    E4m3,
    E5m2,
}

impl MmaType {
    /// Elements in a 32-bit word.
    pub fn per_word(self) -> usize {
        match self {
            MmaType::Tf32 => 1,
            MmaType::F16 | MmaType::Bf16 => 2,
            MmaType::S8 | MmaType::U8 | MmaType::E4m3 | MmaType::E5m2 => 4,
            MmaType::S4 | MmaType::U4 => 8,
        }
    }
    pub fn is_int(self) -> bool {
        matches!(self, MmaType::S8 | MmaType::U8 | MmaType::S4 | MmaType::U4)
    }
    /// Element `i` of a word, for the integer types.
    #[inline(always)]
    fn int(self, word: u32, i: usize) -> i32 {
        match self {
            MmaType::S8 => i32::from((word >> (8 * i)) as i8),
            MmaType::U8 => i32::from((word >> (8 * i)) as u8),
            MmaType::S4 => ((word << (28 - 4 * i)) as i32) >> 28,
            _ => (word >> (4 * i) & 15) as i32,
        }
    }
    /// Element `i` of a word, for the float types.
    #[inline(always)]
    fn float(self, word: u32, i: usize) -> f32 {
        match self {
            MmaType::F16 => f16_to_f32((word >> (16 * i)) as u16),
            MmaType::Bf16 => bf16_to_f32((word >> (16 * i)) as u16),
            // The lower 13 bits are not looked at.
            MmaType::Tf32 => f32::from_bits(word & 0xffff_e000),
            MmaType::E4m3 => Fp8::E4m3.to_f32((word >> (8 * i)) as u8),
            _ => Fp8::E5m2.to_f32((word >> (8 * i)) as u8),
        }
    }
}

/// An m16n8k* product.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Mma {
    pub k: u8,
    pub a: MmaType,
    pub b: MmaType,
    /// C is f16 in two registers rather than f32 (or s32) in four.
    pub c_half: bool,
    /// D likewise.
    pub d_half: bool,
    /// Integers only: the sum clamps instead of wrapping.
    pub satfinite: bool,
    /// m8n8 of integers: the upper eight rows of m16n8.
    pub m8: bool,
}

impl Mma {
    pub fn rows(self) -> usize {
        if self.m8 { 8 } else { 16 }
    }
    /// Registers of A (B has half as many).
    pub fn a_regs(self) -> usize {
        self.k as usize / self.a.per_word() / 2
    }
    pub fn b_regs(self) -> usize {
        self.a_regs() / 2
    }
    pub fn c_regs(self) -> usize {
        if self.c_half { 2 } else { 4 }
    }
    pub fn d_regs(self) -> usize {
        if self.d_half { 2 } else { 4 }
    }
    /// The shapes of the manual's table for mma.sync with these types.
    pub fn is_valid(self) -> bool {
        let fits = match self.a {
            MmaType::Tf32 => matches!(self.k, 4 | 8),
            MmaType::F16 | MmaType::Bf16 => matches!(self.k, 8 | 16),
            MmaType::E4m3 | MmaType::E5m2 => matches!(self.k, 16 | 32),
            MmaType::S8 | MmaType::U8 => matches!(self.k, 16 | 32),
            MmaType::S4 | MmaType::U4 => matches!(self.k, 32 | 64),
        };
        let pair = self.a == self.b
            || self.a.is_int() && self.b.is_int() && self.a.per_word() == self.b.per_word()
            || matches!(
                (self.a, self.b),
                (MmaType::E4m3, MmaType::E5m2) | (MmaType::E5m2, MmaType::E4m3)
            );
        let half_ok = matches!(self.a, MmaType::F16 | MmaType::E4m3 | MmaType::E5m2);
        fits && pair
            && (half_ok || !(self.c_half || self.d_half))
            && (self.a.is_int() || !self.satfinite)
            && (!self.m8 || self.a.is_int() && self.a_regs() == 2)
    }
}

/// mma.sync.aligned.m16n8k*: D = A·B + C. The slices hold as many registers as [`Mma`] says; `d` is written
/// in its first [`Mma::d_regs`] registers.
pub fn mma(m: Mma, a: &[&Reg], b: &[&Reg], c: &[&Reg], d: &mut [Reg; 4]) {
    #[cfg(target_arch = "x86_64")]
    if !matches!(m.a, MmaType::E4m3 | MmaType::E5m2) && x86::available() {
        // SAFETY: the features that the function is compiled for were just found on this processor.
        unsafe { x86::product_any(m, a, b, c, d) };
        return;
    }
    if m.a.is_int() { int_product(m, a, b, c, d) } else { float_product(m, a, b, c, d) }
}

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

fn float_product(m: Mma, a: &[&Reg], b: &[&Reg], c: &[&Reg], d: &mut [Reg; 4]) {
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

fn int_product(m: Mma, a: &[&Reg], b: &[&Reg], c: &[&Reg], d: &mut [Reg; 4]) {
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

/// mma.sync.aligned.m8n8k4 .f64: a is row g, column t; b row t, column g; c0, c1 as in m16n8.
pub fn mma_m8n8k4_f64(a: &[u64; 32], b: &[u64; 32], c: [&[u64; 32]; 2], d: &mut [[u64; 32]; 2]) {
    for row in 0..8 {
        for col in 0..8 {
            let (reg, lane) = (col % 2, row * 4 + col / 2);
            let mut acc = f64::from_bits(c[reg][lane]);
            for k in 0..4 {
                acc = f64::from_bits(a[row * 4 + k]).mul_add(f64::from_bits(b[col * 4 + k]), acc);
            }
            d[reg][lane] = super::f64ops::canonical(acc).to_bits();
        }
    }
}

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
/// ldmatrix.trans: lane l takes elements (row 2·(l % 4), column l / 4) and the one of the next row: the transposed
/// matrix, row after row.
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

    struct Random(u64);
    impl Random {
        fn next(&mut self) -> u32 {
            self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (self.0 >> 33) as u32
        }
        /// Halves (or bf16) with exponents near zero, so that sums stay finite.
        fn word(&mut self, kind: MmaType) -> u32 {
            let small = (self.next() % 2001) as f32 / 1000.0 - 1.0;
            let other = (self.next() % 2001) as f32 / 1000.0 - 1.0;
            match kind {
                MmaType::F16 => {
                    u32::from(f32_to_f16_rn(small)) | u32::from(f32_to_f16_rn(other)) << 16
                }
                MmaType::Bf16 => (small.to_bits() >> 16) | (other.to_bits() & 0xffff_0000),
                MmaType::Tf32 => small.to_bits(),
                _ => self.next() << 16 ^ self.next(),
            }
        }
    }

    fn shapes() -> Vec<Mma> {
        use MmaType::*;
        let mut all = vec![];
        for (a, b, ks) in [
            (F16, F16, [8, 16]),
            (Bf16, Bf16, [8, 16]),
            (Tf32, Tf32, [4, 8]),
            (S8, S8, [16, 32]),
            (U8, S8, [16, 32]),
            (S4, U4, [32, 64]),
        ] {
            for k in ks {
                all.push(Mma {
                    k,
                    a,
                    b,
                    c_half: false,
                    d_half: false,
                    satfinite: false,
                    m8: false,
                });
            }
        }
        all.push(Mma {
            k: 16,
            a: F16,
            b: F16,
            c_half: true,
            d_half: true,
            satfinite: false,
            m8: false,
        });
        all.push(Mma {
            k: 8,
            a: F16,
            b: F16,
            c_half: true,
            d_half: false,
            satfinite: false,
            m8: false,
        });
        all
    }

    /// Every shape against a product written from the manual's element formulas, in f64.
    #[test]
    fn products_match_the_plain_formula() {
        let mut random = Random(7);
        for m in shapes() {
            assert!(m.is_valid());
            let per = m.a.per_word();
            let mut regs = |n: usize, kind| -> Vec<Reg> {
                (0..n).map(|_| std::array::from_fn(|_| random.word(kind))).collect()
            };
            let (a, b) = (regs(m.a_regs(), m.a), regs(m.b_regs(), m.b));
            let c_kind = if m.c_half { MmaType::F16 } else { MmaType::Tf32 };
            let c = regs(m.c_regs(), c_kind);
            let refs = |v: &[Reg]| -> Vec<Reg> { v.to_vec() };
            let (ac, bc, cc) = (refs(&a), refs(&b), refs(&c));
            let mut d = [[0; 32]; 4];
            let mut portable = [[0; 32]; 4];
            let (ar, br): (Vec<&Reg>, Vec<&Reg>) = (ac.iter().collect(), bc.iter().collect());
            let cr: Vec<&Reg> = cc.iter().collect();
            mma(m, &ar, &br, &cr, &mut d);
            if m.a.is_int() {
                int_product(m, &ar, &br, &cr, &mut portable);
            } else {
                float_product(m, &ar, &br, &cr, &mut portable);
            }
            assert_eq!(d, portable, "{m:?}");
            for lane in 0..32 {
                let (g, t) = (lane / 4, lane % 4);
                for i in 0..4 {
                    let (row, col) = (g + 8 * (i / 2), 2 * t + i % 2);
                    let mut sum = 0f64;
                    for k in 0..m.k as usize {
                        let (w, e) = (k / per, k % per);
                        // Row `row` and word w live in lane (row % 8)·4 + w % 4 of register (row / 8) + 2·(w / 4).
                        let aw = a[row / 8 + 2 * (w / 4)][row % 8 * 4 + w % 4];
                        let bw = b[w / 4][col * 4 + w % 4];
                        sum += if m.a.is_int() {
                            f64::from(m.a.int(aw, e)) * f64::from(m.b.int(bw, e))
                        } else {
                            f64::from(m.a.float(aw, e)) * f64::from(m.b.float(bw, e))
                        };
                    }
                    if m.a.is_int() {
                        let want = (c[i][lane] as i32).wrapping_add(sum as i32);
                        assert_eq!(d[i][lane] as i32, want, "{m:?}");
                        continue;
                    }
                    let start = if m.c_half {
                        f16_to_f32((c[i / 2][lane] >> (16 * (i % 2))) as u16)
                    } else {
                        f32::from_bits(c[i][lane])
                    };
                    let want = f64::from(start) + sum;
                    let (got, bound) = if m.d_half {
                        (f16_to_f32((d[i / 2][lane] >> (16 * (i % 2))) as u16), 4e-3)
                    } else {
                        (f32::from_bits(d[i][lane]), 4e-6)
                    };
                    assert!((f64::from(got) - want).abs() <= bound, "{m:?} {got} {want}");
                }
            }
        }
    }

    #[test]
    fn saturating_integers() {
        let m = Mma {
            k: 16,
            a: MmaType::S8,
            b: MmaType::S8,
            c_half: false,
            d_half: false,
            satfinite: true,
            m8: false,
        };
        let (ones, top) = ([0x0101_0101; 32], [i32::MAX as u32; 32]);
        let mut d = [[0; 32]; 4];
        mma(m, &[&ones, &ones], &[&ones], &[&top; 4], &mut d);
        assert_eq!(d, [[i32::MAX as u32; 32]; 4]);
        mma(
            Mma { satfinite: false, m8: false, ..m },
            &[&ones, &ones],
            &[&ones],
            &[&top; 4],
            &mut d,
        );
        assert_eq!(d, [[(i32::MIN + 15) as u32; 32]; 4]);
    }

    #[test]
    fn double_precision() {
        // A = row index, B = column index: each sum is 4·row·col.
        let a = std::array::from_fn(|lane| ((lane / 4) as f64).to_bits());
        let c = [0f64.to_bits(); 32];
        let mut d = [[0; 32]; 2];
        mma_m8n8k4_f64(&a, &a, [&c, &c], &mut d);
        for (lane, (&even, &odd)) in d[0].iter().zip(&d[1]).enumerate() {
            let (row, col) = (lane / 4, 2 * (lane % 4));
            assert_eq!(f64::from_bits(even), (4 * row * col) as f64);
            assert_eq!(f64::from_bits(odd), (4 * row * (col + 1)) as f64);
        }
    }

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
