//! From a list to a program: finds each value's lifetime and from the lifetimes a place for each in one arena. So the
//! peak is known before the first step, nothing is allocated during a step, and addresses never change.

use super::first_fit::FirstFit;
use super::{ElementBytes, Info, Limits, List, Op, Region, Span, Value, What};
use std::cmp::Reverse;
use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

/// Alignment of every tensor: enough for a cache line and for the kernels' 16-byte accesses.
pub const ALIGN: usize = 256;

/// A list whose values have places, for batches of up to certain limits.
#[derive(Clone, Debug)]
pub struct Program {
    list: Arc<List>,
    places: Vec<Place>,
    bytes: usize,
    limits: Limits,
    id: u64,
}

/// Where a value lies and when it is alive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Place {
    pub region: Region,
    /// The first and the last operation that touch it; `None` if none does.
    pub alive: Option<(usize, usize)>,
    /// The first of the values that share its place.
    pub home: usize,
}

/// A value of a program, as a backend sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placed {
    pub region: Region,
    pub info: Info,
}

impl Program {
    fn new(list: Arc<List>, places: Vec<Place>, bytes: usize, limits: Limits) -> Self {
        let mut id = DefaultHasher::new();
        (&*list, &places).hash(&mut id);
        Self { list, places, bytes, limits, id: id.finish() }
    }

    /// A list whose values lie where the caller puts them, for operations on values that no other operation makes:
    /// `regions` has one per value.
    pub fn laid_by_hand(list: List, regions: &[Region], limits: Limits) -> Self {
        let last = list.ops.len();
        let places = regions.iter().enumerate();
        let places = places.map(|(home, &region)| Place { region, alive: Some((0, last)), home });
        let bytes = regions.iter().map(|region| region.offset + region.len);
        let bytes = bytes.max().unwrap_or(0);
        Self::new(Arc::new(list), places.collect(), bytes, limits)
    }

    pub fn list(&self) -> &List {
        &self.list
    }

    /// Bytes of the arena.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The largest batches that fit.
    pub fn limits(&self) -> Limits {
        self.limits
    }

    /// Equal for identical programs, so a recording can be stored under it.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// The operations of a span.
    pub fn ops(&self, span: Span) -> &[Op] {
        &self.list.ops[self.list.range(span)]
    }

    pub fn tensor(&self, value: Value) -> Placed {
        Placed { region: self.region(value), info: *self.list.info(value) }
    }

    pub fn region(&self, value: Value) -> Region {
        self.places[value.index()].region
    }

    /// The first output of this kind.
    pub fn output(&self, what: What) -> Option<Placed> {
        let mut outputs = self.list.outputs.iter();
        let output = outputs.find(|&&value| self.list.info(value).what == what);
        output.map(|&value| self.tensor(value))
    }

    /// The tensors kept from forward to backward, each place once.
    pub fn saved(&self) -> impl Iterator<Item = (&Info, Region)> {
        let mut homes = HashMap::new();
        let values = (0..self.places.len()).filter(|&value| self.is_kept(value));
        for value in values {
            homes.entry(self.places[value].home).or_insert(value);
        }
        let mut kept: Vec<usize> = homes.into_values().collect();
        kept.sort_unstable();
        kept.into_iter().map(|value| (&self.list.values[value], self.places[value].region))
    }

    /// Whether a value is alive from forward to backward.
    pub fn is_kept(&self, value: usize) -> bool {
        let turn = self.list.parts.backward;
        self.list.trains()
            && self.places[value]
                .alive
                .is_some_and(|(first, last)| first < turn && turn <= last && first != last)
    }
}

impl List {
    /// Places the values for batches of up to `limits` on a backend with this element size.
    pub fn place(self: &Arc<Self>, limits: Limits, element: ElementBytes) -> Program {
        let program = self.placed(limits, element, &self.lifetimes());
        if cfg!(debug_assertions)
            && let Err(fault) = program.verify()
        {
            panic!("{fault:#}\n{:#?}", program.list);
        }
        program
    }

    pub(super) fn placed(
        self: &Arc<Self>,
        limits: Limits,
        element: ElementBytes,
        alive: &[Option<(usize, usize)>],
    ) -> Program {
        let bytes: Vec<usize> = self
            .values
            .iter()
            .map(|v| v.storage.bytes(limits.rows(v.rows), v.width, element))
            .collect();
        let home = self.homes(&bytes, alive);
        let mut span: Vec<Option<(usize, usize)>> = vec![None; bytes.len()];
        for (value, alive) in alive.iter().enumerate() {
            let Some((first, last)) = *alive else {
                continue;
            };
            let span = &mut span[home[value]];
            let (a, b) = span.unwrap_or((first, last));
            *span = Some((a.min(first), b.max(last)));
        }
        let (offsets, total) = pack(&bytes, &span);
        let places: Vec<Place> = (0..bytes.len())
            .map(|value| Place {
                region: Region { offset: offsets[home[value]], len: bytes[value] },
                alive: alive[value],
                home: home[value],
            })
            .collect();
        Program::new(Arc::clone(self), places, total, limits)
    }

    /// The first and the last operation that touch each value; outputs live to the end.
    pub(super) fn lifetimes(&self) -> Vec<Option<(usize, usize)>> {
        let mut alive: Vec<Option<(usize, usize)>> = vec![None; self.values.len()];
        for (i, op) in self.ops.iter().enumerate() {
            for value in op.reads().into_iter().chain(op.writes()) {
                let alive = &mut alive[value.index()];
                *alive = Some((alive.map_or(i, |(first, _)| first), i));
            }
        }
        for output in &self.outputs {
            if let Some((_, last)) = &mut alive[output.index()] {
                *last = self.ops.len();
            }
        }
        alive
    }

    /// The values that share a place, by the first of them: those that must, and those that may if the first dies as
    /// one of its size is born.
    fn homes(&self, bytes: &[usize], alive: &[Option<(usize, usize)>]) -> Vec<usize> {
        let mut home: Vec<usize> = (0..bytes.len()).collect();
        for (i, op) in self.ops.iter().enumerate() {
            for (was, now) in op.overs() {
                home[now.index()] = home[was.index()];
            }
            if let Some((from, to)) = op.may_share() {
                let same = self.info(from).storage == self.info(to).storage
                    && bytes[from.index()] == bytes[to.index()];
                if same && alive[from.index()].is_some_and(|(_, last)| last == i) {
                    home[to.index()] = home[from.index()];
                }
            }
        }
        home
    }
}

/// The offset of each value that has a span, and the total bytes: largest first, each at the lowest offset that nothing
/// alive at the same time occupies.
fn pack(bytes: &[usize], span: &[Option<(usize, usize)>]) -> (Vec<usize>, usize) {
    let mut order: Vec<(usize, (usize, usize))> =
        span.iter().enumerate().filter_map(|(value, span)| Some((value, (*span)?))).collect();
    order.sort_by_key(|&(value, (first, _))| (Reverse(bytes[value]), first, value));
    let last = order.iter().map(|&(_, (_, last))| last).max().unwrap_or(0);
    let mut arena = FirstFit::new(last);
    let mut offsets = vec![0; bytes.len()];
    let mut total = 0;
    for (value, alive) in order {
        let need = padded(bytes[value]);
        offsets[value] = arena.take(need, alive);
        total = total.max(offsets[value] + need);
    }
    (offsets, total)
}

fn padded(bytes: usize) -> usize {
    bytes.next_multiple_of(ALIGN)
}

#[cfg(test)]
#[path = "place_tests.rs"]
mod tests;
