//! mma.sync, by whichever implementation suits the processor.

use super::portable::{float_product, int_product};
use super::shape::{Mma, Reg};
#[cfg(target_arch = "x86_64")]
use super::x86;
use crate::numeric::f64ops;

/// mma.sync.aligned.m16n8k*: D = A·B + C. The slices hold as many registers as [`Mma`] says; `d` is written
/// in its first [`Mma::d_regs`] registers.
pub fn mma(m: Mma, a: &[&Reg], b: &[&Reg], c: &[&Reg], d: &mut [Reg; 4]) {
    #[cfg(target_arch = "x86_64")]
    if !m.a.is_fp8() && x86::available() {
        // SAFETY: the features that the function is compiled for were just found on this processor.
        unsafe { x86::product_any(m, a, b, c, d) };
        return;
    }
    if m.a.is_int() { int_product(m, a, b, c, d) } else { float_product(m, a, b, c, d) }
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
            d[reg][lane] = f64ops::canonical(acc).to_bits();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::numeric::half::{f16_to_f32, f32_to_f16_rn};
    use crate::numeric::mma::shape::MmaType;

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
                        // Row `row` and word w are in lane (row % 8)·4 + w % 4 of register (row / 8) + 2·(w / 4).
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
}
