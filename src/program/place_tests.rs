//! Where values are placed.

use super::{pack, padded};
use crate::program::toy::{LIMITS, list};
use crate::program::{ALIGN, ElementBytes, Saving, What};
use std::cmp::Reverse;
use std::sync::Arc;

#[test]
fn values_alive_together_never_overlap() {
    // A small deterministic mix of nested and staggered lifetimes.
    let bytes: Vec<usize> = (0..200).map(|i| 1 + (i * 7919) % 5000).collect();
    let span: Vec<_> = (0..200).map(|i| Some((i, i + (i * 31) % 40))).collect();
    let (offsets, total) = pack(&bytes, &span);
    for a in 0..200 {
        assert!(offsets[a] + bytes[a] <= total);
        assert_eq!(offsets[a] % ALIGN, 0);
        for b in 0..a {
            let ((a0, a1), (b0, b1)) = (span[a].unwrap(), span[b].unwrap());
            if a0 <= b1 && b0 <= a1 {
                let apart =
                    offsets[a] >= offsets[b] + bytes[b] || offsets[b] >= offsets[a] + bytes[a];
                assert!(apart, "{a} and {b}");
            }
        }
    }
}

/// The rule taken literally, quadratic in the tensors.
fn by_the_rule(bytes: &[usize], span: &[Option<(usize, usize)>]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..bytes.len()).filter(|&value| span[value].is_some()).collect();
    order.sort_by_key(|&value| (Reverse(bytes[value]), span[value].map(|(first, _)| first), value));
    let mut offsets = vec![0; bytes.len()];
    for (n, &value) in order.iter().enumerate() {
        let (first, last) = span[value].unwrap();
        let beside = |other: &&usize| span[**other].is_some_and(|(a, b)| first <= b && a <= last);
        let beside: Vec<usize> = order[..n].iter().filter(beside).copied().collect();
        let end = |other: usize| offsets[other] + padded(bytes[other]);
        let need = padded(bytes[value]);
        let clash = |at: usize| beside.iter().any(|&o| at < end(o) && offsets[o] < at + need);
        let starts = beside.iter().map(|&other| end(other)).chain([0]);
        let lowest = starts.filter(|&at| !clash(at)).min().unwrap();
        offsets[value] = lowest;
    }
    offsets
}

#[test]
fn every_value_lies_at_the_lowest_offset_that_is_free_for_its_life() {
    // Few sizes and many; lifetimes that nest around a turning point, as in a step, and ones that do not.
    let mut state = 7u64;
    let mut below = |limit: usize| {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % limit
    };
    for round in 0..60 {
        let (count, ops) = (1 + below(150), 1 + below(300));
        let sizes = [1, 4, 5000][round % 3];
        let bytes: Vec<usize> = (0..count).map(|_| 1 + below(sizes) * 301).collect();
        let span: Vec<_> = (0..count)
            .map(|value| match (value + round) % 4 {
                0 => None,
                1 => Some((below(ops), ops + below(ops))),
                _ => {
                    let first = below(2 * ops);
                    Some((first, first + below(6)))
                }
            })
            .collect();
        assert_eq!(pack(&bytes, &span).0, by_the_rule(&bytes, &span), "round {round}");
    }
}

#[test]
fn memory_is_used_again_and_what_nothing_touches_takes_none() {
    let mut bytes = vec![1000];
    let mut span = vec![Some((0, 20))];
    for i in 0..10 {
        bytes.push(4096);
        span.push(Some((2 * i, 2 * i + 1)));
    }
    bytes.push(1 << 20);
    span.push(None);
    let (_, total) = pack(&bytes, &span);
    assert_eq!(total, padded(1000) + 4096);
}

#[test]
fn a_slope_gives_its_place_to_the_gradient_where_it_is_stored_whole() {
    let mut list = list(Some(Saving::KEEP));
    list.again(Saving::KEEP);
    list.prune();
    let program = Arc::new(list).place(LIMITS, ElementBytes::all(2));
    let shared = program.list().ops.iter().filter_map(crate::program::Op::may_share);
    let shared: Vec<_> = shared.collect();
    assert_eq!(shared.len(), 2);
    for (slope, dx) in shared {
        assert_eq!(program.region(slope), program.region(dx));
    }
}

#[test]
fn outputs_live_to_the_end_and_equal_programs_have_equal_ids() {
    let list = Arc::new(list(None));
    let program = list.place(LIMITS, ElementBytes::all(4));
    assert!(program.output(What::Logits).is_some());
    assert!(program.output(What::Slope).is_none());
    assert_eq!(program.id(), list.place(LIMITS, ElementBytes::all(4)).id());
    assert_ne!(program.id(), list.place(LIMITS, ElementBytes::all(2)).id());
}
