//! Random numbers that are the same on every machine, thread count and device.
//!
//! Philox4x32-10 (Salmon et al., "Parallel Random Numbers: As Easy as 1, 2, 3", SC 2011) is a pure function from a
//! 128-bit counter and a 64-bit key to four words. So a resumed run, another thread or a CUDA kernel gets the same
//! number by computing its position instead of replaying a state.
//!
//! Every use has its own [`Purpose`], so that drawing more numbers for one never shifts the numbers of another.

/// Multipliers of the two S-boxes (paper, table 2).
const M0: u32 = 0xD251_1F53;
const M1: u32 = 0xCD9E_8D57;
/// Weyl constants that advance the key each round: golden ratio and sqrt(3) - 1.
const W0: u32 = 0x9E37_79B9;
const W1: u32 = 0xBB67_AE85;

/// The Philox4x32-10 bijection under one key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Philox {
    /// The key, low word first.
    pub key: [u32; 2],
}

impl Philox {
    /// The key is the seed: low 32 bits first.
    pub fn from_seed(seed: u64) -> Self {
        Self { key: [seed as u32, (seed >> 32) as u32] }
    }

    /// Four random words for one 128-bit counter (low word first).
    #[inline]
    pub fn block(&self, counter: [u32; 4]) -> [u32; 4] {
        let [mut c0, mut c1, mut c2, mut c3] = counter;
        let [mut k0, mut k1] = self.key;
        for _ in 0..10 {
            let p0 = u64::from(M0) * u64::from(c0);
            let p1 = u64::from(M1) * u64::from(c2);
            (c0, c1, c2, c3) =
                ((p1 >> 32) as u32 ^ c1 ^ k0, p1 as u32, (p0 >> 32) as u32 ^ c3 ^ k1, p0 as u32);
            k0 = k0.wrapping_add(W0);
            k1 = k1.wrapping_add(W1);
        }
        [c0, c1, c2, c3]
    }
}

/// What a stream is for. The number is part of the counter, hence of every saved run: never renumber.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Purpose {
    /// Order of the training rows; index = epoch.
    Shuffle = 1,
    /// Which rows form the dev set; index 0.
    Split = 2,
    /// Initial values of the task head; index = number of the tensor.
    HeadInit = 3,
    /// Initial values of a re-initialised pooler; index = number of the tensor.
    PoolerInit = 4,
    /// Dropout masks; index = chosen by the model from step and site.
    Dropout = 5,
    /// Hidden words of training rows; index = epoch, its halves swapped, xor row.
    TrainMask = 6,
    /// Of evaluation rows; index = row.
    DevMask = 7,
    /// Initial values of low-rank matrices; index = number of the matrix.
    LowRank = 8,
    /// Single parameters that train; index 0.
    Entries = 9,
    /// Rows and columns that train; index 0.
    EntryLines = 10,
    /// Which rows are trained on, if not all; index 0.
    TrainRows = 11,
    /// Resamples of seeds and rows; index = resample. Not used by runs, which have the lower numbers.
    Resample = 64,
}

/// One reproducible sequence of numbers, named by seed, purpose and index.
///
/// Block `n` of the stream has the counter
/// `[n low, purpose << 24 | n high (24 bits), index low, index high]`.
#[derive(Clone, Debug)]
pub struct Stream {
    philox: Philox,
    purpose: Purpose,
    index: u64,
    /// Next block to compute.
    next: u64,
    buffer: [u32; 4],
    /// Words of `buffer` already used; 4 means empty.
    used: usize,
    /// Second value of the last Box-Muller pair.
    spare: Option<f32>,
}

impl Stream {
    pub fn new(seed: u64, purpose: Purpose, index: u64) -> Self {
        let philox = Philox::from_seed(seed);
        Self { philox, purpose, index, next: 0, buffer: [0; 4], used: 4, spare: None }
    }

    /// The counter of block `block` (below 2^56): what a kernel computes to get the same words.
    pub fn counter(&self, block: u64) -> [u32; 4] {
        debug_assert!(block < 1 << 56);
        let high = (block >> 32) as u32 & 0x00FF_FFFF;
        let tag = u32::from(self.purpose as u8) << 24;
        [block as u32, tag | high, self.index as u32, (self.index >> 32) as u32]
    }

    /// The words of block `block`; does not move the stream.
    pub fn block_at(&self, block: u64) -> [u32; 4] {
        self.philox.block(self.counter(block))
    }

    /// Uniform over all 32-bit words.
    pub fn next_u32(&mut self) -> u32 {
        if self.used == 4 {
            self.buffer = self.block_at(self.next);
            self.next += 1;
            self.used = 0;
        }
        self.used += 1;
        self.buffer[self.used - 1]
    }

    /// Uniform over all 64-bit words (first word drawn is the low half).
    pub fn next_u64(&mut self) -> u64 {
        let low = u64::from(self.next_u32());
        low | u64::from(self.next_u32()) << 32
    }

    /// Uniform over the multiples of 2^-24 in [0, 1).
    pub fn uniform(&mut self) -> f32 {
        unit_f32(self.next_u32())
    }

    /// Standard normal by Box & Muller (1958).
    ///
    /// Logarithm, sine and cosine are computed here using only IEEE additions, products and quotients, because the C
    /// library's differ in the last bit between platforms.
    pub fn normal(&mut self) -> f32 {
        if let Some(value) = self.spare.take() {
            return value;
        }
        // (0, 1]: avoids the logarithm of zero.
        let u = (f64::from(self.next_u32()) + 1.0) / 4_294_967_296.0;
        let radius = (-2.0 * ln_unit(u)).sqrt();
        let (sin, cos) = sin_cos_turn(self.next_u32());
        self.spare = Some((radius * sin) as f32);
        (radius * cos) as f32
    }

    /// Uniform over `0..bound` without bias (Lemire, "Fast Random Integer Generation in an Interval", 2019).
    ///
    /// # Panics
    /// If `bound` is zero: there is nothing to draw from.
    pub fn below(&mut self, bound: u64) -> u64 {
        assert!(bound > 0, "Stream::below needs a bound above zero");
        // A low half of the product below this threshold would favour some values.
        if let Ok(bound) = u32::try_from(bound) {
            let threshold = bound.wrapping_neg() % bound;
            loop {
                let product = u64::from(self.next_u32()) * u64::from(bound);
                if product as u32 >= threshold {
                    return product >> 32;
                }
            }
        }
        let threshold = bound.wrapping_neg() % bound;
        loop {
            let product = u128::from(self.next_u64()) * u128::from(bound);
            if product as u64 >= threshold {
                return (product >> 64) as u64;
            }
        }
    }

    /// Every permutation equally likely (Fisher-Yates from the end).
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            let other = self.below(last as u64 + 1) as usize;
            items.swap(last, other);
        }
    }
}

/// Maps a random word to the multiples of 2^-24 in [0, 1).
#[inline]
fn unit_f32(word: u32) -> f32 {
    (word >> 8) as f32 * (1.0 / 16_777_216.0)
}

/// Natural logarithm for `0 < x <= 1`, normal numbers only, relative error near 1e-16.
fn ln_unit(x: f64) -> f64 {
    let bits = x.to_bits();
    let mut exponent = (bits >> 52) as i64 - 1023;
    let mut mantissa = f64::from_bits(bits & 0x000F_FFFF_FFFF_FFFF | 1023 << 52);
    if mantissa > std::f64::consts::SQRT_2 {
        mantissa *= 0.5;
        exponent += 1;
    }
    // ln m = 2 atanh((m-1)/(m+1)); |s| < 0.1716, so s^23/23 is below 1e-18.
    let s = (mantissa - 1.0) / (mantissa + 1.0);
    let s2 = s * s;
    let mut sum = 0.0;
    for k in (0..11).rev() {
        sum = sum * s2 + 1.0 / f64::from(2 * k + 1);
    }
    exponent as f64 * std::f64::consts::LN_2 + 2.0 * s * sum
}

/// Sine and cosine of `word / 2^32` of a full turn, absolute error near 1e-16.
fn sin_cos_turn(word: u32) -> (f64, f64) {
    // Nearest quarter turn, then the remainder in -1/8..1/8 of a turn: exact in integers.
    let quarter = word.wrapping_add(1 << 29) >> 30;
    let rest = word.wrapping_sub(quarter << 30) as i32;
    let x = f64::from(rest) / 4_294_967_296.0 * std::f64::consts::TAU;
    let x2 = x * x;
    // Taylor to x^17 and x^18: |x| <= pi/4 leaves less than 1e-18.
    let (mut sin, mut cos) = (1.0, 1.0);
    for k in (1..=8).rev() {
        let n = f64::from(2 * k);
        sin = 1.0 - x2 / (n * (n + 1.0)) * sin;
    }
    for k in (1..=9).rev() {
        let n = f64::from(2 * k);
        cos = 1.0 - x2 / (n * (n - 1.0)) * cos;
    }
    sin *= x;
    match quarter {
        0 => (sin, cos),
        1 => (cos, -sin),
        2 => (-sin, -cos),
        _ => (-cos, sin),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn philox_gives_the_published_known_answers() {
        // The three philox4x32-10 lines of kat_vectors, distributed with Random123.
        let cases: [([u32; 4], [u32; 2], [u32; 4]); 3] = [
            ([0; 4], [0; 2], [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]),
            ([u32::MAX; 4], [u32::MAX; 2], [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]),
            (
                [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344],
                [0xa409_3822, 0x299f_31d0],
                [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1],
            ),
        ];
        for (counter, key, expected) in cases {
            assert_eq!(Philox { key }.block(counter), expected);
        }
    }

    #[test]
    fn stream_words_are_its_blocks_in_order() {
        let mut stream = Stream::new(7, Purpose::HeadInit, 3);
        let by_block: Vec<u32> = (0..5).flat_map(|n| stream.block_at(n)).collect();
        let in_turn: Vec<u32> = (0..20).map(|_| stream.next_u32()).collect();
        assert_eq!(in_turn, by_block);
    }

    #[test]
    fn seed_purpose_index_and_block_each_change_the_counter_or_key() {
        let first = |seed, purpose, index| Stream::new(seed, purpose, index).next_u64();
        let base = first(1, Purpose::Shuffle, 0);
        assert_eq!(base, first(1, Purpose::Shuffle, 0));
        assert_ne!(base, first(1 << 32 | 1, Purpose::Shuffle, 0));
        assert_ne!(base, first(1, Purpose::Split, 0));
        assert_ne!(base, first(1, Purpose::Shuffle, 1));
        assert_ne!(base, first(1, Purpose::Shuffle, 1 << 32));
        let stream = Stream::new(1, Purpose::Shuffle, 0);
        assert_ne!(stream.counter(1), stream.counter(1 << 32 | 1));
    }

    #[test]
    fn uniform_stays_in_the_half_open_unit_interval_with_the_right_moments() {
        assert_eq!(unit_f32(0), 0.0);
        assert!(unit_f32(u32::MAX) < 1.0);
        let mut stream = Stream::new(11, Purpose::Dropout, 0);
        let n = 100_000;
        let draws: Vec<f64> = (0..n).map(|_| f64::from(stream.uniform())).collect();
        let mean = draws.iter().sum::<f64>() / f64::from(n);
        let var = draws.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / f64::from(n);
        assert!((mean - 0.5).abs() < 0.005, "mean {mean}");
        assert!((var - 1.0 / 12.0).abs() < 0.002, "variance {var}");
    }

    #[test]
    fn own_elementary_functions_agree_with_the_library() {
        let mut stream = Stream::new(5, Purpose::HeadInit, 0);
        for _ in 0..20_000 {
            let word = stream.next_u32();
            let x = (f64::from(word) + 1.0) / 4_294_967_296.0;
            assert!((ln_unit(x) - x.ln()).abs() <= 4e-15 * x.ln().abs() + 1e-18, "ln {x}");
            let angle = f64::from(word) / 4_294_967_296.0 * std::f64::consts::TAU;
            let (sin, cos) = sin_cos_turn(word);
            assert!((sin - angle.sin()).abs() < 2e-15, "sin {angle}");
            assert!((cos - angle.cos()).abs() < 2e-15, "cos {angle}");
        }
        assert_eq!(ln_unit(1.0), 0.0);
        assert_eq!(sin_cos_turn(0), (0.0, 1.0));
    }

    #[test]
    fn normal_has_the_moments_and_tails_of_a_standard_normal() {
        let mut stream = Stream::new(13, Purpose::HeadInit, 0);
        let n = 200_000;
        let draws: Vec<f64> = (0..n).map(|_| f64::from(stream.normal())).collect();
        let moment = |k: i32| draws.iter().map(|x| x.powi(k)).sum::<f64>() / f64::from(n);
        assert!(moment(1).abs() < 0.01);
        assert!((moment(2) - 1.0).abs() < 0.02);
        assert!(moment(3).abs() < 0.05);
        assert!((moment(4) - 3.0).abs() < 0.1);
        let within = draws.iter().filter(|x| x.abs() < 1.0).count() as f64 / f64::from(n);
        assert!((within - 0.6827).abs() < 0.005, "{within}");
    }

    #[test]
    fn below_covers_every_value_evenly_and_never_reaches_the_bound() {
        let mut stream = Stream::new(17, Purpose::Shuffle, 0);
        let mut counts = [0u32; 7];
        for _ in 0..70_000 {
            counts[stream.below(7) as usize] += 1;
        }
        assert!(counts.iter().all(|&c| (9_600..10_400).contains(&c)), "{counts:?}");
        assert_eq!(stream.below(1), 0);
        let wide = 3u64 << 40;
        let draws: Vec<u64> = (0..3_000).map(|_| stream.below(wide)).collect();
        assert!(draws.iter().all(|&d| d < wide));
        let upper = draws.iter().filter(|&&d| d >= 1 << 41).count();
        assert!((850..1150).contains(&upper), "upper third drawn {upper} times of 3000");
    }

    #[test]
    fn shuffle_gives_every_permutation_of_three_equally_often() {
        let mut counts = std::collections::HashMap::new();
        let mut stream = Stream::new(19, Purpose::Shuffle, 0);
        for _ in 0..12_000 {
            let mut items = [0, 1, 2];
            stream.shuffle(&mut items);
            *counts.entry(items).or_insert(0) += 1;
        }
        assert_eq!(counts.len(), 6);
        assert!(counts.values().all(|&c| (1_800..2_200).contains(&c)), "{counts:?}");
    }
}
