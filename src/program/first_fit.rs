//! First fit over time: each stretch of the arena gets the lowest offset that nothing alive at the same time occupies.
//!
//! In a deep model everything kept is alive together, so searching all of it for each tensor would be quadratic in the
//! layers. Here a tree over the operations knows which offsets are in use, in stretches that merge when tensors are
//! adjacent; a query costs about the tree's depth.

use std::ops::Range;

/// Which offsets are in use at which operations.
#[derive(Debug)]
pub(super) struct FirstFit {
    /// A power of two; node `n` has the children `2n` and `2n + 1`, and the leaves, one per operation, come last.
    leaves: usize,
    nodes: Vec<Node>,
}

#[derive(Clone, Debug, Default)]
struct Node {
    /// In use at any of its operations.
    any: Stretches,
    /// In use at all of them.
    all: Stretches,
}

impl FirstFit {
    /// Empty, for lifetimes that end no later than operation `last`.
    pub(super) fn new(last: usize) -> Self {
        let leaves = (last + 1).next_power_of_two();
        Self { leaves, nodes: vec![Node::default(); 2 * leaves] }
    }

    /// Occupies the lowest `len` bytes that are free from operation `first` to `last` and returns their offset.
    pub(super) fn take(&mut self, len: usize, (first, last): (usize, usize)) -> usize {
        let inside = self.inside(first, last);
        let around = [self.around(first), self.around(last)].concat();
        let any = inside.iter().map(|&node| &self.nodes[node].any);
        let all = around.iter().map(|&node| &self.nodes[node].all);
        let offset = lowest(len, &any.chain(all).collect::<Vec<_>>());
        let taken = offset..offset + len;
        for &node in &inside {
            self.nodes[node].all.add(taken.clone());
        }
        for &node in inside.iter().chain(&around) {
            self.nodes[node].any.add(taken.clone());
        }
        offset
    }

    /// The fewest nodes that cover the operations from `first` to `last`.
    fn inside(&self, first: usize, last: usize) -> Vec<usize> {
        let (mut from, mut to) = (first + self.leaves, last + 1 + self.leaves);
        let mut nodes = Vec::new();
        while from < to {
            if from % 2 == 1 {
                nodes.push(from);
                from += 1;
            }
            if to % 2 == 1 {
                to -= 1;
                nodes.push(to);
            }
            (from, to) = (from / 2, to / 2);
        }
        nodes
    }

    /// The nodes that contain this operation, root last.
    fn around(&self, op: usize) -> Vec<usize> {
        let up = |&node: &usize| (node > 1).then_some(node / 2);
        std::iter::successors(Some(op + self.leaves), up).collect()
    }
}

/// The lowest offset at which `len` bytes are in none of the `sets`.
fn lowest(len: usize, sets: &[&Stretches]) -> usize {
    let mut offset = 0;
    loop {
        let beyond = |set: &&Stretches| set.end_of_hit(&(offset..offset + len));
        match sets.iter().filter_map(beyond).max() {
            Some(end) => offset = end,
            None => return offset,
        }
    }
}

/// Ranges of offsets in order, none of which touch.
#[derive(Clone, Debug, Default)]
struct Stretches(Vec<Range<usize>>);

impl Stretches {
    /// Where the first stretch that overlaps `wanted` ends.
    fn end_of_hit(&self, wanted: &Range<usize>) -> Option<usize> {
        let at = self.0.partition_point(|stretch| stretch.end <= wanted.start);
        self.0.get(at).filter(|stretch| stretch.start < wanted.end).map(|stretch| stretch.end)
    }

    /// Merges with what it touches.
    fn add(&mut self, new: Range<usize>) {
        let from = self.0.partition_point(|stretch| stretch.end < new.start);
        let to = self.0.partition_point(|stretch| stretch.start <= new.end);
        let touched = &self.0[from..to];
        let start = touched.first().map_or(new.start, |first| first.start.min(new.start));
        let end = touched.last().map_or(new.end, |last| last.end.max(new.end));
        self.0.splice(from..to, std::iter::once(start..end));
    }
}
