//! What backward makes again.

use crate::program::toy::{LIMITS, list, names};
use crate::program::{Op, Saving, Storage, What};
use std::sync::Arc;

fn backward(saving: Saving) -> Vec<&'static str> {
    let mut list = list(Some(saving));
    list.again(saving);
    list.prune();
    names(&list)[list.parts.backward..].to_vec()
}

fn kept(saving: Saving) -> Vec<What> {
    let mut list = list(Some(saving));
    list.again(saving);
    list.prune();
    let program = Arc::new(list).place(LIMITS, 4);
    program.saved().map(|(info, _)| info.what).collect()
}

#[test]
fn nothing_is_made_again_where_everything_is_kept() {
    let of = backward(Saving::KEEP);
    assert!(
        !of.contains(&"Linear") && !of.contains(&"Restore"),
        "{of:?}"
    );
}

#[test]
fn a_slope_is_made_again_from_the_x_hat_below_and_stands_before_its_reader() {
    let saving = Saving {
        slope_again: true,
        ..Saving::KEEP
    };
    let of = backward(saving);
    let first = of.iter().position(|&name| name == "Restore").unwrap();
    assert_eq!(&of[first..first + 3], ["Restore", "Linear", "LinearBack"]);
    // The lowest block's input is the embeddings: looked up once more.
    assert!(of.contains(&"Embed"), "{of:?}");
    assert!(!kept(saving).contains(&What::Slope));
    assert!(!kept(saving).contains(&What::Embeddings));
}

#[test]
fn a_slope_that_is_made_again_is_alone_and_whole() {
    let saving = Saving {
        slope_again: true,
        slope: Storage::Slope8,
        ..Saving::KEEP
    };
    let mut list = list(Some(saving));
    list.again(saving);
    list.prune();
    let again = list.ops[list.parts.backward..]
        .iter()
        .find_map(|op| match op {
            Op::Linear(op) => Some((op.out.0, op.slope.0)),
            _ => None,
        });
    let (out, slope) = again.unwrap();
    assert_eq!(out, None);
    assert_eq!(list.info(slope.unwrap()).storage, Storage::Activation);
}

#[test]
fn a_block_runs_again_from_its_input_and_the_last_one_does_not() {
    let of = backward(Saving::CHECKPOINT);
    // One block of two: its two products and its LayerNorm stand once in backward.
    let count = |name: &str| of.iter().filter(|&&n| n == name).count();
    assert_eq!((count("Linear"), count("ResidualNorm")), (2, 1), "{of:?}");
    assert!(kept(Saving::CHECKPOINT).contains(&What::Embeddings));
}

#[test]
fn a_layernorm_whose_x_hat_has_fewer_bits_keeps_its_output_where_that_is_read() {
    let saving = Saving {
        slope_again: true,
        x_hat: Storage::XHat8,
        ..Saving::KEEP
    };
    assert!(!backward(saving).contains(&"Restore"));
    assert!(kept(saving).contains(&What::Hidden));
}
