//! A step run operation by operation: each may touch only what it says it writes, and values nobody reads any more are
//! overwritten at once.

use crate::Training;
use crate::parts::batch;
use bitfit::backend::{Backend, DropoutKey, Slot};
use bitfit::program::{List, Numbers, Op, Parts, Program, Region, Span, Storage, Value};
use std::collections::HashMap;
use std::ops::Range;

/// Not a number in f32 and in 16 bits.
const SPOILT: f32 = f32::from_bits(u32::MAX);

/// How many operations at the front of these belong together: a classifier may be one launch, whose sums have another
/// order than those of three.
fn together(ops: &[Op]) -> usize {
    match ops {
        [Op::Dense(_), Op::Loss(_), Op::DenseBack(_), ..] => 3,
        _ => 1,
    }
}

/// A program of some operations of another, with the same regions.
fn alone(program: &Program, at: Range<usize>) -> Program {
    let list = program.list();
    let one = List {
        ops: list.ops[at.clone()].to_vec(),
        blocks: list.blocks[at.clone()].to_vec(),
        values: list.values.clone(),
        parts: Parts { forward: 0, backward: at.len(), end: at.len() },
        outputs: Vec::new(),
    };
    let values = 0..list.values.len() as u32;
    let regions: Vec<Region> = values.map(|value| program.region(Value(value))).collect();
    Program::laid_by_hand(one, &regions, program.limits())
}

/// The last operation that touches each value.
fn last_touched(list: &List) -> HashMap<Value, usize> {
    let touched = |(i, op): (usize, &Op)| {
        let values = [op.reads(), op.writes()].concat();
        values.into_iter().map(move |value| (value, i))
    };
    let outputs = list.outputs.iter().map(|&value| (value, usize::MAX));
    list.ops.iter().enumerate().flat_map(touched).chain(outputs).collect()
}

/// The gradient of everything that trains.
pub fn gradient<B: Backend>(training: &mut Training<B>) -> Vec<f32> {
    let Training { backend, program, trained } = training;
    let list = program.list();
    backend.set_batch(&batch(), DropoutKey::new(3, 4)).unwrap();
    let arena = Region { offset: 0, len: program.bytes() };
    let spoil = |backend: &mut B, region: Region| {
        backend.write(region, Storage::F32, &vec![SPOILT; region.len / 4]).unwrap();
    };
    spoil(backend, arena);
    let numbers = Numbers { weight: 1.0 / batch().sequences() as f32, update: None };
    let last = last_touched(list);
    let mut there: Vec<Value> = Vec::new();
    let mut next = 0;
    while next < list.parts.end {
        let ops = next..next + together(&list.ops[next..list.parts.end]);
        next = ops.end;
        let i = ops.end - 1;
        let before = backend.read(arena, Storage::F32, arena.len / 4).unwrap();
        backend.run(&alone(program, ops.clone()), Span::WHOLE, numbers).unwrap();
        let after = backend.read(arena, Storage::F32, arena.len / 4).unwrap();
        let writes: Vec<Value> = list.ops[ops].iter().flat_map(Op::writes).collect();
        let said = |word: usize| {
            let word = Region { offset: 4 * word, len: 4 };
            writes.iter().any(|&value| program.region(value).overlaps(word))
        };
        for (word, (a, b)) in before.iter().zip(&after).enumerate() {
            let same = a.to_bits() == b.to_bits();
            assert!(same || said(word), "{} wrote byte {}", list.name_of(i), 4 * word);
        }
        there.extend(writes);
        let dead: Vec<Value> = there.iter().copied().filter(|value| last[value] <= i).collect();
        there.retain(|value| last[value] > i);
        for value in dead {
            let region = program.region(value);
            if there.iter().all(|&other| !program.region(other).overlaps(region)) {
                spoil(backend, Region { len: region.len / 4 * 4, ..region });
            }
        }
    }
    backend.read_params(Slot::Gradient, *trained).unwrap()
}
