//! Where the elements of a wgmma operand are in shared memory, drawn like in the manual: patterns of eight rows whose
//! sixteen-byte chunks are permuted.

/// Swizzles by their span in bytes; 16 means none.
pub const SPANS: [usize; 4] = [16, 32, 64, 128];

/// A matrix of 16-bit elements in shared memory.
#[derive(Clone, Copy, Debug)]
pub struct Operand {
    pub span: usize,
    /// Neighbours in m or n are contiguous.
    pub mn_major: bool,
    /// Rows of A or columns of B.
    pub count: usize,
    pub start: usize,
}

impl Operand {
    /// Bytes per k16.
    pub fn bytes(self) -> usize {
        let (_, _, bytes) = self.strides();
        bytes
    }

    /// Leading and stride byte offsets, and the total bytes.
    pub fn strides(self) -> (usize, usize, usize) {
        let Operand { span, count, mn_major, .. } = self;
        match (mn_major, span) {
            // Core matrices of 8 × 16 bytes: contiguous in k, then a gap, one below the other in mn.
            (false, 16) => (128, 512, count / 8 * 512),
            // Rows of `span` bytes of k; only the first 32 of them are used.
            (false, _) => (0, 8 * span, count / 8 * 8 * span),
            (true, 16) => (count / 8 * 256, 256, 2 * count / 8 * 256),
            // Panels of span/2 columns by eight k; two of these per k16.
            (true, _) => (16 * span, 8 * span, count.div_ceil(span / 2) * 16 * span),
        }
    }

    /// The descriptor of the part that begins `skip` bytes in.
    pub fn descriptor(self, skip: usize) -> u64 {
        let (lbo, sbo, _) = self.strides();
        let mode = match self.span {
            16 => 0u64,
            128 => 1,
            64 => 2,
            _ => 3,
        };
        ((self.start + skip) as u64 >> 4 & 0x3fff)
            | (lbo as u64 >> 4) << 16
            | (sbo as u64 >> 4) << 32
            | mode << 62
    }

    /// Writes element (mn, k).
    pub fn put(self, image: &mut [u8], mn: usize, k: usize, bits: u16) {
        let (lbo, sbo, _) = self.strides();
        let Operand { span, start, .. } = self;
        // Which chunks of a row are permuted: 128 bytes by row, 64 by pairs of rows, 32 by groups of four.
        let exchanged = |chunk: usize, row: usize| chunk ^ (row * span / 128);
        let at = match (self.mn_major, span) {
            (false, 16) => mn / 8 * sbo + k / 8 * lbo + mn % 8 * 16 + k % 8 * 2,
            (false, _) => mn / 8 * sbo + mn % 8 * span + exchanged(k / 8, mn % 8) * 16 + k % 8 * 2,
            (true, 16) => k / 8 * lbo + mn / 8 * sbo + k % 8 * 16 + mn % 8 * 2,
            (true, _) => {
                let (panel, within) = (mn / (span / 2), mn % (span / 2));
                panel * lbo
                    + k / 8 * sbo
                    + k % 8 * span
                    + exchanged(within / 8, k % 8) * 16
                    + within % 8 * 2
            }
        };
        image[start + at..start + at + 2].copy_from_slice(&bits.to_le_bytes());
    }
}
