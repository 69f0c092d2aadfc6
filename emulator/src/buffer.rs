//! Memory in slots of 32 lanes: a warp's registers, and the constants that a module fills in before any warp runs.

/// Zeroed memory aligned for vector loads.
#[derive(Debug, Default)]
pub struct Buffer {
    lines: Vec<Line>,
}

#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
struct Line([u8; 64]);

impl Buffer {
    pub fn new(bytes: usize) -> Self {
        Self { lines: vec![Line([0; 64]); bytes.div_ceil(64)] }
    }

    pub fn pointer(&self) -> *mut u8 {
        self.lines.as_ptr() as *mut u8
    }

    /// Writes a value to all lanes of the slot at `at`.
    pub fn broadcast(&mut self, at: usize, value: u64, wide: bool) {
        let bytes = if wide { 8 } else { 4 };
        for lane in 0..32 {
            let from = at + lane * bytes;
            self.lines[from / 64].0[from % 64..from % 64 + bytes]
                .copy_from_slice(&value.to_le_bytes()[..bytes]);
        }
    }
}
