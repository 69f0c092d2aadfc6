//! Where values lie.

use super::{pack, padded};
use crate::program::toy::{LIMITS, list};
use crate::program::{ALIGN, ElementBytes, Saving, What};
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
