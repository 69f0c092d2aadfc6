//! Where parameters and variables are in the kernel's own memories.

use super::decoder::Decoder;
use super::scope::Sym;
use crate::ptx::ast::{Param, Variable};
use crate::ptx::error::LoadResult;

/// Offset and end of a parameter that follows `offset` bytes of others.
pub fn place(v: &Variable, offset: u32) -> Option<(u32, u32)> {
    let at = offset.checked_next_multiple_of(v.align.max(1))?;
    let size = u32::try_from(v.size?).ok().filter(|&n| n <= 1 << 16)?;
    Some((at, at.checked_add(size)?))
}

/// The offset of each parameter and then each result in a subroutine's frame, and their end.
pub(super) fn layout(params: &[Param], returns: &[Param]) -> Option<(Vec<u32>, u32)> {
    let (mut offsets, mut end) = (Vec::new(), 0);
    for p in params.iter().chain(returns) {
        let Param::Memory(v) = p else { return None };
        let (at, next) = place(v, end)?;
        offsets.push(at);
        end = next;
    }
    Some((offsets, end))
}

impl<'a> Decoder<'_, 'a> {
    /// Room in the thread's local memory.
    pub(super) fn local(&mut self, v: &Variable) -> LoadResult<u32> {
        let at = self.p.local_bytes.checked_next_multiple_of(v.align.max(1));
        let size = v.size.and_then(|n| u32::try_from(n).ok());
        let end = at.zip(size).and_then(|(at, n)| at.checked_add(n));
        match (at, end) {
            (Some(at), Some(end)) if end <= 512 << 10 => {
                self.p.local_bytes = end;
                Ok(at)
            }
            _ => self.fail("more than 512 KiB of local memory a thread"),
        }
    }

    pub(super) fn place_shared(&mut self, v: &Variable<'a>) -> LoadResult<Sym<'a>> {
        let Some(size) = v.size.filter(|&n| n > 0 || !v.external) else {
            self.p.uses_dynamic = true;
            self.dynamic_align = self.dynamic_align.max(v.align);
            return Ok(Sym::Dynamic);
        };
        let at = self.shared_bytes.checked_next_multiple_of(v.align.max(1));
        match at.and_then(|at| at.checked_add(u32::try_from(size).ok()?)) {
            Some(end) if end <= 1 << 24 => {
                self.shared_bytes = end;
                Ok(Sym::Shared(end - size as u32))
            }
            _ => self.fail("too much shared memory"),
        }
    }
}
