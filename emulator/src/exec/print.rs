//! printf in a kernel: the host's C library formats each lane's values, one conversion at a time.

use super::block::{Block, Checked};
use super::regs::lanes;
use super::warp::Warp;
use crate::decode::ir::*;
use crate::ptx::types::Space;
use std::ffi::{c_char, c_int};
use std::io::Write;

/// The longest text that is read from memory, and the longest result of one conversion.
const LONGEST: usize = 1 << 12;

unsafe extern "C" {
    fn snprintf(to: *mut c_char, size: usize, format: *const c_char, ...) -> c_int;
}

/// What a conversion takes.
enum Value {
    Int(c_int),
    Long(i64),
    Double(f64),
    Text(Vec<u8>),
}

/// One conversion; `specification` has no `*`.
fn convert(specification: &[u8], value: &Value) -> Vec<u8> {
    let format = [specification, &[0]].concat();
    let mut out = vec![0u8; LONGEST];
    let (to, size, format) = (out.as_mut_ptr().cast(), out.len(), format.as_ptr().cast());
    // SAFETY: the format ends in 0 and has one conversion, which takes this type; `out` has `size` bytes, and texts end in 0.
    let written = unsafe {
        match value {
            Value::Int(x) => snprintf(to, size, format, *x),
            Value::Long(x) => snprintf(to, size, format, *x),
            Value::Double(x) => snprintf(to, size, format, *x),
            Value::Text(x) => snprintf(to, size, format, x.as_ptr()),
        }
    };
    out.truncate(usize::try_from(written).unwrap_or(0).min(LONGEST - 1));
    out
}

impl Block<'_> {
    /// vprintf
    pub(super) fn print(&mut self, w: &mut Warp, i: &Instr, m: u32) -> Checked<()> {
        let (formats, arguments) = (*w.regs.r64(i.a), *w.regs.r64(i.b));
        let mut count = [0; 32];
        for l in lanes(m) {
            let format = self.c_text(w, i, l, formats[l])?;
            let (text, conversions) = self.formatted(w, i, l, &format, arguments[l])?;
            count[l] = conversions;
            // Nothing can be done about a closed output.
            let _ = std::io::stdout().lock().write_all(&text);
        }
        let _ = std::io::stdout().flush();
        w.regs.put(i.d, &count, m);
        Ok(())
    }

    fn formatted(
        &mut self,
        w: &mut Warp,
        i: &Instr,
        lane: usize,
        format: &[u8],
        mut at: u64,
    ) -> Checked<(Vec<u8>, u32)> {
        let (mut text, mut conversions) = (Vec::new(), 0);
        let mut rest = format.iter().copied();
        while let Some(c) = rest.next() {
            if c != b'%' {
                text.push(c);
                continue;
            }
            let (mut specification, mut long) = (vec![b'%'], false);
            for c in rest.by_ref() {
                if c == b'*' {
                    let width = self.c_value(w, i, lane, &mut at, 4)? as c_int;
                    specification.extend(width.to_string().bytes());
                    continue;
                }
                specification.push(c);
                let value = match c {
                    b'l' | b'j' | b'z' | b't' => {
                        long = true;
                        continue;
                    }
                    b'd' | b'i' | b'u' | b'o' | b'x' | b'X' | b'c' if !long => {
                        Value::Int(self.c_value(w, i, lane, &mut at, 4)? as c_int)
                    }
                    b'd' | b'i' | b'u' | b'o' | b'x' | b'X' | b'p' => {
                        Value::Long(self.c_value(w, i, lane, &mut at, 8)? as i64)
                    }
                    b'e' | b'E' | b'f' | b'F' | b'g' | b'G' | b'a' | b'A' => {
                        Value::Double(f64::from_bits(self.c_value(w, i, lane, &mut at, 8)?))
                    }
                    b's' => {
                        let from = self.c_value(w, i, lane, &mut at, 8)?;
                        let mut text = self.c_text(w, i, lane, from)?;
                        text.push(0);
                        Value::Text(text)
                    }
                    b'0'..=b'9' | b'-' | b'+' | b' ' | b'#' | b'.' | b'h' => continue,
                    // `%%`, and what printf does not know.
                    _ => {
                        let known = c == b'%';
                        text.extend_from_slice(if known { b"%" } else { &specification });
                        break;
                    }
                };
                conversions += 1;
                text.extend(convert(&specification, &value));
                break;
            }
        }
        Ok((text, conversions))
    }

    /// A value of `bytes` bytes at or after `at`, which moves behind it.
    fn c_value(
        &mut self,
        w: &mut Warp,
        i: &Instr,
        lane: usize,
        at: &mut u64,
        bytes: u64,
    ) -> Checked<u64> {
        let here = at.next_multiple_of(bytes);
        *at = here + bytes;
        let t = self.resolve(w, i, Space::Generic, [here; 32], bytes, 1 << lane)?;
        let mut value = [0; 8];
        // SAFETY: `resolve` found this many live bytes there.
        let from = unsafe { std::slice::from_raw_parts(t.pointers[lane], bytes as usize) };
        value[..bytes as usize].copy_from_slice(from);
        Ok(u64::from_le_bytes(value))
    }

    fn c_text(&mut self, w: &mut Warp, i: &Instr, lane: usize, mut at: u64) -> Checked<Vec<u8>> {
        let mut text = Vec::new();
        while text.len() < LONGEST {
            match self.c_value(w, i, lane, &mut at, 1)? as u8 {
                0 => break,
                byte => text.push(byte),
            }
        }
        Ok(text)
    }
}
