//! What backward recomputes.

use crate::program::toy::{LIMITS, list, names};
use crate::program::{ElementBytes, Op, Saving, Storage, What};
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
    let program = Arc::new(list).place(LIMITS, ElementBytes::all(4));
    program.saved().map(|(info, _)| info.what).collect()
}

#[test]
fn nothing_is_made_again_where_everything_is_kept() {
    let of = backward(Saving::KEEP);
    assert!(!of.contains(&"Linear") && !of.contains(&"Restore"), "{of:?}");
}

#[test]
fn a_slope_is_made_again_from_the_x_hat_below_and_stands_before_its_reader() {
    let saving = Saving { slope_again: true, ..Saving::KEEP };
    let of = backward(saving);
    let first = of.iter().position(|&name| name == "Restore").unwrap();
    assert_eq!(&of[first..first + 3], ["Restore", "Linear", "LinearBack"]);
    // The lowest block's input is the embeddings, which are looked up again.
    assert!(of.contains(&"Embed"), "{of:?}");
    assert!(!kept(saving).contains(&What::Slope));
    assert!(!kept(saving).contains(&What::Embeddings));
}

#[test]
fn a_slope_that_is_made_again_is_alone_and_whole() {
    let saving = Saving { slope_again: true, slope: Storage::Slope8, ..Saving::KEEP };
    let mut list = list(Some(saving));
    list.again(saving);
    list.prune();
    let again = list.ops[list.parts.backward..].iter().find_map(|op| match op {
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
    // One block of two: its two products and its LayerNorm occur once in backward.
    let count = |name: &str| of.iter().filter(|&&n| n == name).count();
    assert_eq!((count("Linear"), count("ResidualNorm")), (2, 1), "{of:?}");
    assert!(kept(Saving::CHECKPOINT).contains(&What::Embeddings));
}

#[test]
fn a_layernorm_whose_x_hat_has_fewer_bits_keeps_its_output_where_that_is_read() {
    let saving = Saving { slope_again: true, x_hat: Storage::XHat8, ..Saving::KEEP };
    assert!(!backward(saving).contains(&"Restore"));
    assert!(kept(saving).contains(&What::Hidden));
}

/// A product of one block that a LayerNorm of the next overwrites: it cannot be kept for that block's second run.
#[test]
fn what_another_value_took_the_place_of_is_made_again_and_not_read() {
    use crate::program::{
        Activation, Builder, Dropout, Dx, Embed, LinearLayer, Norm, NormLayer, Out, ParamRange,
        Rows, TableIds, WeightId,
    };
    let [word, position, token_type] = [50, 51, 52].map(WeightId);
    let tables = TableIds { word, position, token_type };
    const WIDTH: usize = 4;
    let range = |offset: usize| ParamRange { offset, len: WIDTH };
    let linear = |weight: usize| LinearLayer {
        weight: WeightId(weight),
        trains: None,
        bias: vec![range(20 * weight)],
        inputs: WIDTH,
        outputs: WIDTH,
        sparse: None,
    };
    let norm = |i: usize| NormLayer {
        norm: Norm { gamma: range(1000 + 10 * i), beta: range(20 * i + 10), eps: 1e-5 },
        dropout: Dropout::NONE,
        gain_trains: false,
    };
    for saving in [Saving::CHECKPOINT, Saving::RECOMPUTE, Saving::KEEP] {
        let mut b = Builder::new(Some(saving));
        let x = b.value(What::Pooled, Rows::Tokens, WIDTH, Storage::Stream);
        b.push(Embed {
            tables,
            added: None,
            norm: norm(9).norm,
            dropout: Dropout::NONE,
            out: Out(x),
        });
        let mut product = b.linear(What::Product, x, &linear(0));
        let mut passes = Vec::new();
        for i in 0..3 {
            b.enter(Some(i));
            let y = b.norm(product, x, &norm(i));
            let inner = b.linear_act(y.out, &linear(i + 1), Activation::Relu);
            let inner_again = b.linear_act(inner.out, &linear(i + 5), Activation::Relu);
            product = b.linear(What::Product, inner_again.out, &linear(i + 9));
            passes.push((y, inner, inner_again));
        }
        b.enter(None);
        b.output(product);
        b.turn();
        let mut dy = b.gradient(product);
        b.push(Embed {
            tables,
            added: None,
            norm: norm(9).norm,
            dropout: Dropout::NONE,
            out: Out(dy),
        });
        for (i, (y, inner, inner_again)) in passes.iter().enumerate().rev() {
            b.enter(Some(i));
            let (below, again) = (linear(i + 5), inner_again);
            let d = b.linear_back(dy, &linear(i + 9), again.out, Dx::Through(again.slope, &below));
            let through = Dx::Through(inner.slope, &linear(i + 1));
            let d = b.linear_back(d, &below, inner.out, through);
            let d = b.linear_back(d, &linear(i + 1), y.out, Dx::New);
            dy = b.norm_back(d, None, y, &linear(i)).branch;
        }
        let mut list = b.finish();
        list.again(saving);
        list.prune();
        // Placing verifies that everything read is there.
        Arc::new(list).place(LIMITS, ElementBytes::all(4));
    }
}
