//! Small dense products for attention: operands of a few dozen rows that are already in the first-level cache, for
//! which a general product would spend its time packing.

use super::simd::{LANES, dispatch, fma};

/// `elements[row·rows + col·cols]`: a small matrix, possibly transposed.
#[derive(Clone, Copy)]
pub struct Strided<'a> {
    pub elements: &'a [f32],
    pub rows: usize,
    pub cols: usize,
}

dispatch! {
    /// `c = a·b` or `c += a·b`: c `[m, n]` with row stride `ldc`, a `[m, k]`, b `[k, n]` with row stride `ldb`. Rows of
    /// b and c are accessed in whole vectors: both need `n` rounded up to [`LANES`] elements per row, and the reader of
    /// c must not depend on what b holds beyond `n`.
    pub fn product(
        c: &mut [f32], ldc: usize,
        a: Strided<'_>,
        b: &[f32], ldb: usize,
        shape: (usize, usize, usize),
        accumulate: bool,
    ) = product_body;
}

#[inline(always)]
fn product_body<const FMA: bool>(
    c: &mut [f32],
    ldc: usize,
    a: Strided<'_>,
    b: &[f32],
    ldb: usize,
    (m, n, k): (usize, usize, usize),
    accumulate: bool,
) {
    for j in (0..n).step_by(LANES) {
        let mut i = 0;
        // Six rows of one vector keep six independent sums in flight and fit AVX2's sixteen registers.
        while i + 6 <= m {
            tile::<FMA, 6>(c, ldc, a, b, ldb, (i, j, k), accumulate);
            i += 6;
        }
        match m - i {
            5 => tile::<FMA, 5>(c, ldc, a, b, ldb, (i, j, k), accumulate),
            4 => tile::<FMA, 4>(c, ldc, a, b, ldb, (i, j, k), accumulate),
            3 => tile::<FMA, 3>(c, ldc, a, b, ldb, (i, j, k), accumulate),
            2 => tile::<FMA, 2>(c, ldc, a, b, ldb, (i, j, k), accumulate),
            1 => tile::<FMA, 1>(c, ldc, a, b, ldb, (i, j, k), accumulate),
            _ => {}
        }
    }
}

#[inline(always)]
fn tile<const FMA: bool, const R: usize>(
    c: &mut [f32],
    ldc: usize,
    a: Strided<'_>,
    b: &[f32],
    ldb: usize,
    (i, j, k): (usize, usize, usize),
    accumulate: bool,
) {
    let mut sums = [[0.0f32; LANES]; R];
    if accumulate {
        for (r, sum) in sums.iter_mut().enumerate() {
            sum.copy_from_slice(&c[(i + r) * ldc + j..][..LANES]);
        }
    }
    let rows: [&[f32]; R] = std::array::from_fn(|r| &a.elements[(i + r) * a.rows..]);
    for p in 0..k {
        let b = &b[p * ldb + j..][..LANES];
        for r in 0..R {
            let a = rows[r][p * a.cols];
            for l in 0..LANES {
                sums[r][l] = fma::<FMA>(a, b[l], sums[r][l]);
            }
        }
    }
    for (r, sum) in sums.iter().enumerate() {
        c[(i + r) * ldc + j..][..LANES].copy_from_slice(sum);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_match_plain_sums_for_every_remainder_and_both_orientations() {
        for m in 1..14 {
            for (n, k) in [(1usize, 3usize), (16, 1), (17, 5), (40, 33)] {
                let wide = n.next_multiple_of(LANES);
                let value = |i: usize| ((i * 37) % 19) as f32 - 9.0;
                let a: Vec<f32> = (0..m * k).map(value).collect();
                let b: Vec<f32> = (0..k * wide).map(|i| value(i + 5)).collect();
                for transposed in [false, true] {
                    let a = if transposed {
                        Strided { elements: &a, rows: 1, cols: m }
                    } else {
                        Strided { elements: &a, rows: k, cols: 1 }
                    };
                    let mut c = vec![1.0; m * wide];
                    product(&mut c, wide, a, &b, wide, (m, n, k), transposed);
                    for i in 0..m {
                        for j in 0..n {
                            let sum: f32 = (0..k)
                                .map(|p| a.elements[i * a.rows + p * a.cols] * b[p * wide + j])
                                .sum();
                            let start = if transposed { 1.0 } else { 0.0 };
                            assert_eq!(
                                c[i * wide + j],
                                start + sum,
                                "{m} {n} {k} {transposed} at {i} {j}"
                            );
                        }
                    }
                }
            }
        }
    }
}
