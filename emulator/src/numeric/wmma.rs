//! The tiles of wmma: load, store and product of whole matrices held by a warp.
//!
//! The manual does not say how a fragment's elements are distributed over the lanes. Here lane l holds the elements l·n
//! to l·n + n − 1 of the matrix in row-major order, n being the matrix's size over 32, and a fragment with room for
//! more repeats them. It is the same for every type and layout, so whatever a program does to all elements of a
//! fragment, or carries over to another fragment of the same shape, means the same as on any device.

use super::NAN_F32;
use super::half::{bf16_to_f32, f16_to_f32, f32_to_f16_rn};

/// Element types of fragments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Element {
    F16,
    Bf16,
    Tf32,
    F32,
    F64,
    S8,
    U8,
    S32,
}

impl Element {
    pub fn bytes(self) -> usize {
        match self {
            Element::S8 | Element::U8 => 1,
            Element::F16 | Element::Bf16 => 2,
            Element::Tf32 | Element::F32 | Element::S32 => 4,
            Element::F64 => 8,
        }
    }

    /// Elements in one register of a fragment.
    pub fn per_register(self) -> usize {
        (4 / self.bytes()).max(1)
    }

    fn value(self, bits: u64) -> f64 {
        match self {
            Element::F16 => f16_to_f32(bits as u16).into(),
            Element::Bf16 => bf16_to_f32(bits as u16).into(),
            // The lower 13 bits are ignored.
            Element::Tf32 => f32::from_bits(bits as u32 & 0xffff_e000).into(),
            Element::F32 => f32::from_bits(bits as u32).into(),
            Element::F64 => f64::from_bits(bits),
            Element::S8 => (bits as i8).into(),
            Element::U8 => (bits as u8).into(),
            Element::S32 => (bits as i32).into(),
        }
    }
}

/// Which operand of the product a fragment is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    A,
    B,
    /// C or D.
    Sum,
}

/// The shape of a product: A is m × k, B is k × n.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    pub m: u8,
    pub n: u8,
    pub k: u8,
}

/// A fragment: what it holds, and in how many registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tile {
    pub rows: u8,
    pub columns: u8,
    pub element: Element,
    pub registers: u8,
}

impl Tile {
    /// The fragment that the manual lists for this shape and type, if there is one.
    pub fn new(shape: Shape, part: Part, element: Element) -> Option<Tile> {
        use Element::*;
        let (rows, columns) = match part {
            Part::A => (shape.m, shape.k),
            Part::B => (shape.k, shape.n),
            Part::Sum => (shape.m, shape.n),
        };
        let shape = (shape.m, shape.n, shape.k);
        let wide = matches!(shape, (16, 16, 16) | (8, 32, 16) | (32, 8, 16));
        let fits = match element {
            F64 => shape == (8, 8, 4),
            Tf32 => shape == (16, 16, 8) && part != Part::Sum,
            F32 => part == Part::Sum && (wide || shape == (16, 16, 8)),
            F16 => wide,
            S32 => part == Part::Sum && wide,
            Bf16 | S8 | U8 => part != Part::Sum && wide,
        };
        let size = usize::from(rows) * usize::from(columns) / 32;
        let registers = match (element, part) {
            // Each element of A and B is held twice or more.
            (F16, Part::A | Part::B) => 8,
            _ => size / element.per_register(),
        };
        fits.then_some(Tile { rows, columns, element, registers: registers as u8 })
    }

    /// Elements of the matrix per lane, not counting repetitions.
    pub fn share(self) -> usize {
        usize::from(self.rows) * usize::from(self.columns) / 32
    }

    /// Row and column of a lane's n-th element.
    pub fn place(self, lane: usize, n: usize) -> (usize, usize) {
        let at = lane * self.share() + n;
        (at / usize::from(self.columns), at % usize::from(self.columns))
    }

    /// The matrix that a fragment holds, by rows.
    fn gather(self, registers: &[[u64; 32]]) -> Vec<f64> {
        let bits = 8 * self.element.bytes().min(8) as u32;
        (0..32 * self.share())
            .map(|at| {
                let (lane, slot) = (at / self.share(), at % self.share());
                let per = self.element.per_register();
                let word = registers[slot / per][lane];
                self.element.value(word >> ((slot % per) as u32 * bits % 64))
            })
            .collect()
    }

    /// One lane's registers from the bits of its elements.
    pub fn pack(self, elements: &[u64]) -> Vec<u64> {
        let per = self.element.per_register();
        let bits = 8 * self.element.bytes() as u32;
        (0..usize::from(self.registers))
            .map(|r| {
                (0..per).fold(0, |word, e| {
                    let element = elements[(r * per + e) % self.share()];
                    word | element << (e as u32 * bits % 64)
                })
            })
            .collect()
    }

    /// The bits of one lane's elements.
    pub fn unpack(self, registers: &[[u64; 32]], lane: usize) -> Vec<u64> {
        let per = self.element.per_register();
        let bits = 8 * self.element.bytes() as u32;
        (0..self.share())
            .map(|n| registers[n / per][lane] >> ((n % per) as u32 * bits % 64))
            .collect()
    }
}

/// A product of tiles, D = A·B + C.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wmma {
    pub a: Tile,
    pub b: Tile,
    pub c: Tile,
    pub d: Tile,
    /// Integers only: the sum clamps instead of wrapping.
    pub satfinite: bool,
}

/// D from the registers of A, B and C, in ascending k, starting from C; registers of 32 bits in the low half.
pub fn wmma(w: Wmma, a: &[[u64; 32]], b: &[[u64; 32]], c: &[[u64; 32]]) -> Vec<[u64; 32]> {
    let (columns, depth) = (usize::from(w.b.columns), usize::from(w.b.rows));
    let (a, b, c) = (w.a.gather(a), w.b.gather(b), w.c.gather(c));
    let mut out = vec![[0; 32]; usize::from(w.d.registers)];
    let element = |row: usize, column: usize| -> u64 {
        let start = c[row * columns + column];
        let terms = (0..depth).map(|k| (a[row * depth + k], b[k * columns + column]));
        match w.d.element {
            Element::F64 => {
                super::f64ops::canonical(terms.fold(start, |sum, (x, y)| x.mul_add(y, sum)))
                    .to_bits()
            }
            Element::S32 => {
                // Exact: the products and their sum are small.
                let sum = start as i64 + terms.map(|(x, y)| (x * y) as i64).sum::<i64>();
                let clamped = sum.clamp(i32::MIN.into(), i32::MAX.into());
                (if w.satfinite { clamped } else { sum }) as u32 as u64
            }
            element => {
                let sum = terms.fold(start as f32, |sum, (x, y)| (x as f32).mul_add(y as f32, sum));
                match element {
                    Element::F16 => f32_to_f16_rn(sum).into(),
                    _ if sum.is_nan() => NAN_F32.into(),
                    _ => sum.to_bits().into(),
                }
            }
        }
    };
    for lane in 0..32 {
        let elements: Vec<u64> = (0..w.d.share())
            .map(|n| {
                let (row, column) = w.d.place(lane, n);
                element(row, column)
            })
            .collect();
        for (register, word) in out.iter_mut().zip(w.d.pack(&elements)) {
            register[lane] = word;
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fragments_have_the_registers_of_the_manual() {
        use Element::*;
        use Part::*;
        let shape = |m, n, k| Shape { m, n, k };
        let square = shape(16, 16, 16);
        for (at, part, element, registers) in [
            (square, A, F16, 8),
            (square, B, F16, 8),
            (square, Sum, F16, 4),
            (square, Sum, F32, 8),
            (square, A, Bf16, 4),
            (shape(8, 32, 16), A, Bf16, 2),
            (shape(8, 32, 16), B, Bf16, 8),
            (shape(32, 8, 16), A, S8, 4),
            (shape(32, 8, 16), B, U8, 1),
            (square, Sum, S32, 8),
            (shape(16, 16, 8), A, Tf32, 4),
            (shape(16, 16, 8), Sum, F32, 8),
            (shape(8, 8, 4), A, F64, 1),
            (shape(8, 8, 4), Sum, F64, 2),
        ] {
            let tile = Tile::new(at, part, element).expect("a fragment");
            assert_eq!(tile.registers, registers, "{at:?} {part:?} {element:?}");
        }
        assert_eq!(Tile::new(shape(8, 8, 4), A, F16), None);
    }
}
