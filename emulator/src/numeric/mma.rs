//! Warp-wide matrix products: mma.sync. A fragment register is an array of 32 words, one per lane.
//!
//! All the m16n8 shapes share one layout. With g = lane / 4 and t = lane % 4, register a0 holds word t of row g (a word
//! being as many consecutive k as fit 32 bits), a1 the same of row g + 8, a2 and a3 word t + 4 of those rows; b0 holds
//! word t of column g, b1 word t + 4; c0 and c1 are columns 2t and 2t + 1 of row g, c2 and c3 of row g + 8. So each
//! register of A and B is an 8 × 4 block of words in row-major order.
//!
//! Products are exact in f32 and summed in f32 in ascending k, starting from C. Tensor cores align and truncate
//! instead, and the manual leaves the order open, so results agree up to rounding, not bit for bit; [`truncated()`] is
//! a product that truncates.

mod moves;
mod portable;
mod product;
mod shape;
mod truncated;
#[cfg(target_arch = "x86_64")]
mod x86;

pub use moves::{ldmatrix, ldmatrix_trans, movmatrix_trans, stmatrix, stmatrix_trans};
pub use product::{mma, mma_m8n8k4_f64};
pub use shape::{Mma, MmaType, Reg};
pub use truncated::truncated;
