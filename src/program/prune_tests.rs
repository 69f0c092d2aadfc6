//! What is left of a list.

use crate::program::toy::{LIMITS, bias, list, names, only};
use crate::program::{ElementBytes, Op, Saving, What};
use std::sync::Arc;

#[test]
fn a_list_that_predicts_keeps_nothing_for_backward() {
    let mut list = list(None);
    list.prune();
    assert_eq!(list.parts.backward, list.ops.len());
    let written = list.ops.iter().flat_map(Op::writes);
    for value in written {
        let what = list.info(value).what;
        assert!(!matches!(what, What::XHat | What::Rstd | What::Slope), "{what:?}");
    }
}

#[test]
fn frozen_parameters_have_no_gradient() {
    let mut list = list(Some(Saving::KEEP));
    // Block 0 trains; what follows it in the vector does not.
    list.freeze(100);
    let sums: Vec<_> = list.ops.iter().flat_map(Op::sums).collect();
    assert_eq!(sums.len(), 3);
    assert!(sums.iter().all(|range| range.offset < 100));
}

#[test]
fn backward_ends_where_nothing_below_trains() {
    let list = only(Saving::KEEP, &[bias(1, 1)]);
    let backward = &names(&list)[list.parts.backward..];
    assert_eq!(
        backward,
        ["PoolBack", "NormBack", "LinearBack", "Update"],
        "down to the intermediate bias of the upper block"
    );
    // The lower block keeps nothing.
    let place = Arc::new(list).place(LIMITS, ElementBytes::all(4));
    assert!(place.saved().all(|(info, _)| info.block != Some(0)));
}

#[test]
fn where_only_a_beta_trains_its_gradient_is_a_column_sum_and_no_x_hat_is_kept() {
    let list = only(Saving::KEEP, &[bias(1, 2)]);
    let backward = &names(&list)[list.parts.backward..];
    assert_eq!(backward, ["PoolBack", "ColumnSum", "Update"]);
    let kept = Arc::new(list).place(LIMITS, ElementBytes::all(4));
    assert!(kept.saved().all(|(info, _)| info.what.of_head()), "no x_hat");
}

#[test]
fn a_step_of_which_nothing_trains_is_forward_and_its_loss() {
    let list = only(Saving::KEEP, &[]);
    let last = &names(&list)[list.ops.len() - 2..];
    assert_eq!(last, ["Loss", "Update"]);
    assert_eq!(list.parts.backward, list.parts.end);
}
