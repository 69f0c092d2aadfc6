//! Tensor lifetimes to arena offsets, before anything runs.
//!
//! The model rehearses a step: it [`acquire`](Planner::acquire)s each tensor where the step first writes it
//! and [`release`](Planner::release)s it after its last use. From those lifetimes [`Planner::finish`] packs
//! all tensors into one arena, so the peak is known before the first step, nothing is allocated during one,
//! and addresses never change.

use super::Region;

/// Alignment of every tensor: a cache line, and the 16-byte accesses of the kernels.
pub const ALIGN: usize = 256;

/// A tensor under planning; becomes a [`Region`] through [`Plan::region`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TensorId(usize);

/// One line of the size table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tensor {
    pub name: String,
    pub region: Region,
    /// First and last tick at which the tensor is alive, inclusive.
    pub alive: (usize, usize),
}

impl Tensor {
    /// Whether it is alive at a moment and at the one after.
    pub fn spans(&self, moment: usize) -> bool {
        self.alive.0 <= moment && moment < self.alive.1
    }
}

/// Collects lifetimes; see the module's head.
#[derive(Default)]
pub struct Planner {
    clock: usize,
    tensors: Vec<Lifetime>,
}

struct Lifetime {
    name: String,
    bytes: usize,
    first: usize,
    last: Option<usize>,
}

impl Planner {
    pub fn new() -> Self {
        Self::default()
    }

    /// Starts a tensor's life. It never shares memory with a tensor that is alive now, nor with one acquired
    /// before it is released.
    pub fn acquire(&mut self, name: impl Into<String>, bytes: usize) -> TensorId {
        self.clock += 1;
        self.tensors.push(Lifetime {
            name: name.into(),
            bytes,
            first: self.clock,
            last: None,
        });
        TensorId(self.tensors.len() - 1)
    }

    /// Ends a tensor's life. Tensors that are never released live to the end of the plan.
    pub fn release(&mut self, id: TensorId) {
        let last = &mut self.tensors[id.0].last;
        debug_assert!(last.is_none(), "tensor released twice");
        self.clock += 1;
        *last = Some(self.clock);
    }

    /// The moment that it is now: [`Tensor::alive`] counts in these.
    pub fn now(&self) -> usize {
        self.clock
    }

    /// Packs the tensors: largest first, each at the lowest offset that no tensor alive at the same time
    /// occupies.
    pub fn finish(self) -> Plan {
        let end = self.clock;
        let alive: Vec<_> = self
            .tensors
            .iter()
            .map(|t| (t.first, t.last.unwrap_or(end)))
            .collect();
        let mut order: Vec<usize> = (0..self.tensors.len()).collect();
        order.sort_by_key(|&i| (std::cmp::Reverse(self.tensors[i].bytes), i));

        let mut offsets = vec![0; self.tensors.len()];
        let mut placed: Vec<usize> = Vec::new();
        let mut total = 0;
        for &i in &order {
            let mut occupied: Vec<(usize, usize)> = placed
                .iter()
                .filter(|&&j| alive[i].0 <= alive[j].1 && alive[j].0 <= alive[i].1)
                .map(|&j| (offsets[j], offsets[j] + padded(self.tensors[j].bytes)))
                .collect();
            occupied.sort_unstable();
            let need = padded(self.tensors[i].bytes);
            let mut at = 0;
            for (start, stop) in occupied {
                if at + need <= start {
                    break;
                }
                at = at.max(stop);
            }
            offsets[i] = at;
            total = total.max(at + need);
            placed.push(i);
        }

        Plan {
            bytes: total,
            tensors: self
                .tensors
                .into_iter()
                .zip(offsets)
                .zip(alive)
                .map(|((t, offset), alive)| Tensor {
                    name: t.name,
                    region: Region {
                        offset,
                        len: t.bytes,
                    },
                    alive,
                })
                .collect(),
        }
    }
}

fn padded(bytes: usize) -> usize {
    bytes.next_multiple_of(ALIGN)
}

/// A finished plan: where each tensor lies, and how large the arena must be.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Bytes of the arena.
    pub bytes: usize,
    pub tensors: Vec<Tensor>,
}

impl Plan {
    pub fn region(&self, id: TensorId) -> Region {
        self.tensors[id.0].region
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn overlap(a: Region, b: Region) -> bool {
        a.offset < b.offset + b.len && b.offset < a.offset + a.len
    }

    #[test]
    fn tensors_alive_together_never_overlap() {
        // A small deterministic mix of nested and staggered lifetimes.
        let mut p = Planner::new();
        let mut live = Vec::new();
        for i in 0..200usize {
            live.push(p.acquire(format!("t{i}"), 1 + (i * 7919) % 5000));
            if i % 3 == 2 {
                p.release(live.remove((i * 31) % live.len()));
            }
        }
        let plan = p.finish();
        for (i, a) in plan.tensors.iter().enumerate() {
            assert!(a.region.offset + a.region.len <= plan.bytes);
            assert_eq!(a.region.offset % ALIGN, 0);
            for b in &plan.tensors[i + 1..] {
                if a.alive.0 <= b.alive.1 && b.alive.0 <= a.alive.1 {
                    assert!(!overlap(a.region, b.region), "{a:?} {b:?}");
                }
            }
        }
    }

    #[test]
    fn memory_is_reused_after_release() {
        let mut p = Planner::new();
        let kept = p.acquire("kept", 1000);
        for _ in 0..10 {
            let t = p.acquire("transient", 4096);
            p.release(t);
        }
        let plan = p.finish();
        assert_eq!(plan.bytes, 1024 + 4096);
        assert_eq!(plan.region(kept).len, 1000);
    }

    #[test]
    fn a_plan_of_nothing_is_empty() {
        assert_eq!(Planner::new().finish().bytes, 0);
    }
}
