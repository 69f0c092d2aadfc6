//! Plants faults one by one; the verifier must find each of them.

use crate::program::toy::{FROZEN, LIMITS, WIDTH, bias, list};
use crate::program::*;
use std::sync::Arc;

fn passed(saving: Saving) -> List {
    let mut list = list(Some(saving));
    list.again(saving);
    list.prune();
    list
}

fn sound() -> Program {
    Arc::new(passed(Saving::KEEP)).place(LIMITS, ElementBytes::all(4))
}

/// The same program with another list.
fn with_list(change: impl FnOnce(&mut List)) -> Program {
    let program = sound();
    let mut list = program.list().clone();
    let regions: Vec<Region> = regions(&program);
    change(&mut list);
    Program::laid_by_hand(list, &regions, LIMITS)
}

/// The same program with other places.
fn with_places(change: impl FnOnce(&List, &mut Vec<Region>)) -> Program {
    let program = sound();
    let list = program.list().clone();
    let mut regions = regions(&program);
    change(&list, &mut regions);
    Program::laid_by_hand(list, &regions, LIMITS)
}

fn regions(program: &Program) -> Vec<Region> {
    let values = 0..program.list().values.len() as u32;
    values.map(|value| program.region(Value(value))).collect()
}

fn find<T>(list: &mut List, wanted: impl Fn(&mut Op) -> Option<T>) -> T {
    list.ops.iter_mut().find_map(wanted).unwrap()
}

fn fault(program: &Program) -> String {
    match program.verify() {
        Err(fault) => format!("{fault:#}"),
        Ok(()) => panic!("nothing was found"),
    }
}

#[track_caller]
fn found(program: &Program, said: &str) {
    let fault = fault(program);
    assert!(fault.contains(said), "{fault}");
}

#[test]
fn sound_programs_pass() {
    for saving in Saving::EXACT {
        let list = Arc::new(passed(saving));
        for stream in [2, 4] {
            list.place(LIMITS, ElementBytes { activation: 2, stream }).verify().unwrap();
        }
    }
}

/// Every lifetime that crosses from forward to backward, cut short by one operation: detected, or harmless because no
/// other tensor took the place in that time.
#[test]
fn a_lifetime_that_is_one_operation_short() {
    let list = Arc::new(passed(Saving::KEEP));
    let alive = list.lifetimes();
    let mut caught = 0;
    for value in 0..list.values.len() {
        let mut short = alive.clone();
        let Some((first, last)) = alive[value] else {
            continue;
        };
        if last > first {
            short[value] = Some((first, last - 1));
            if let Err(fault) = list.placed(LIMITS, ElementBytes::all(4), &short).verify() {
                let said = format!("{fault:#}");
                assert!(said.contains("not there") || said.contains("over"), "{said}");
                caught += 1;
            }
        }
    }
    assert!(caught >= 3, "{caught} of the short lifetimes mattered");
}

#[test]
fn a_gradient_that_was_dropped() {
    let mut list = passed(Saving::KEEP);
    let all: Vec<ParamRange> =
        (0..2).flat_map(|block| (0..3).map(move |which| bias(block, which))).collect();
    list.verify_gradients(&all, FROZEN).unwrap();
    find(&mut list, |op| match op {
        Op::LinearBack(op) if op.dbias.0.is_some() => {
            op.dbias = Sum(None);
            Some(())
        }
        _ => None,
    });
    let fault = list.verify_gradients(&all, FROZEN).unwrap_err().to_string();
    assert!(fault.contains("nothing adds"), "{fault}");
}

#[test]
fn the_gradient_of_a_frozen_parameter() {
    let list = passed(Saving::KEEP);
    let fault = list.verify_gradients(&[], 50).unwrap_err().to_string();
    assert!(fault.contains("frozen"), "{fault}");
}

#[test]
fn an_output_over_an_input_of_its_operation() {
    found(
        &with_places(|list, regions| {
            let mut list = list.clone();
            let (x, out) = find(&mut list, |op| match op {
                Op::Linear(op) => Some((op.x.0, op.out.0.unwrap())),
                _ => None,
            });
            regions[out.index()].offset = regions[x.index()].offset;
        }),
        "which it reads",
    );
}

#[test]
fn two_outputs_in_one_place() {
    found(
        &with_places(|list, regions| {
            let mut list = list.clone();
            let (out, slope) = find(&mut list, |op| match op {
                Op::Linear(op) => Some((op.out.0.unwrap(), op.slope.0?)),
                _ => None,
            });
            regions[slope.index()].offset = regions[out.index()].offset;
        }),
        "which it writes",
    );
}

#[test]
fn a_value_that_is_written_twice() {
    found(
        &with_list(|list| {
            let embed = list.ops[1].clone();
            list.ops.insert(2, embed);
        }),
        "for the second time",
    );
}

#[test]
fn an_operation_before_the_one_that_it_reads_from() {
    found(&with_list(|list| list.ops.swap(2, 3)), "is not there");
}

#[test]
fn a_value_that_does_not_lie_over_the_one_before() {
    found(
        &with_places(|list, regions| {
            let mut list = list.clone();
            let now = find(&mut list, |op| match op {
                Op::ResidualNorm(op) => Some(op.x.now),
                _ => None,
            });
            let end = regions.iter().map(|r| r.offset + r.len).max().unwrap();
            regions[now.index()].offset = end;
        }),
        "does not lie over",
    );
}

#[test]
fn an_output_that_is_gone_at_the_end() {
    let program = sound();
    let (mut list, mut regions) = (program.list().clone(), regions(&program));
    // The embeddings again as the last operation, where the logits lie.
    let mut embed = list.ops[1].clone();
    let late = Value(list.values.len() as u32);
    embed.visit(&mut |used| {
        if let Use::Write(value) = used {
            list.values.push(list.values[value.index()]);
            regions.push(Region {
                offset: regions[list.outputs[0].index()].offset,
                len: regions[value.index()].len,
            });
            *value = late;
        }
    });
    list.ops.push(embed);
    let bytes = regions.iter().map(|region| region.offset + region.len);
    assert!(bytes.max().unwrap() >= program.bytes());
    found(&Program::laid_by_hand(list, &regions, LIMITS), "is not there at the end");
}

#[test]
fn a_value_that_is_read_beside_being_written_over() {
    found(
        &with_list(|list| {
            find(list, |op| match op {
                Op::ResidualNorm(op) => {
                    op.residual = In(op.x.was);
                    Some(())
                }
                _ => None,
            });
        }),
        "also reads beside it",
    );
}

#[test]
fn a_gradient_that_lies_partly_over_its_slope() {
    found(
        &with_places(|list, regions| {
            let (_, dx) = list.ops.iter().find_map(Op::may_share).unwrap();
            regions[dx.index()].offset += ALIGN;
        }),
        "which it reads",
    );
}

#[test]
fn a_gradient_over_a_slope_in_codes() {
    let mut saving = Saving::KEEP;
    saving.slope = Storage::Slope8;
    let program = Arc::new(passed(saving)).place(LIMITS, ElementBytes::all(4));
    let mut regions = regions(&program);
    let mut list = program.list().clone();
    let (slope, dx) = find(&mut list, |op| op.may_share());
    regions[dx.index()].offset = regions[slope.index()].offset;
    found(&Program::laid_by_hand(list, &regions, LIMITS), "which it reads");
}

#[test]
fn an_x_hat_without_its_rstd() {
    found(
        &with_list(|list| {
            find(list, |op| match op {
                Op::ResidualNorm(op) => {
                    op.rstd = Aside(None);
                    Some(())
                }
                _ => None,
            });
        }),
        "kept together",
    );
}

#[test]
fn a_bias_of_another_width() {
    found(
        &with_list(|list| {
            find(list, |op| match op {
                Op::Linear(op) => {
                    op.bias[0].len = WIDTH + 1;
                    Some(())
                }
                _ => None,
            });
        }),
        "where [rows,outputs] either belongs; inputs = 4, outputs = 5",
    );
}

#[test]
fn a_product_that_both_adds_and_multiplies() {
    found(
        &with_list(|list| {
            let slope = find(list, |op| match op {
                Op::LinearBack(op) => op.slope,
                _ => None,
            });
            find(list, |op| match op {
                Op::LinearBack(op) if op.slope.is_none() => {
                    op.slope = Some(slope);
                    Some(())
                }
                _ => None,
            });
        }),
        "both adds and multiplies",
    );
}

#[test]
fn the_mean_of_tokens_of_which_the_first_alone_are_there() {
    let mut b = Builder::new(None);
    let tokens = b.value(What::Hidden, Rows::Tokens, WIDTH, Storage::Stream);
    let first = b.value(What::Hidden, Rows::Sequences, WIDTH, Storage::Stream);
    let pooled = b.value(What::Pooled, Rows::Sequences, WIDTH, Storage::F32);
    let embed = list(None).ops[0].clone();
    let Op::Embed(embed) = embed else { panic!("{embed:?}") };
    b.push(Embed { out: Out(tokens), ..embed });
    b.push(First { tokens: In(tokens), out: Out(first) });
    b.push(Pool { kind: PoolKind::Mean, x: In(first), out: Out(pooled) });
    let regions = [0, 1024, 2048].map(|offset| Region { offset, len: 1024 });
    found(&Program::laid_by_hand(b.finish(), &regions, LIMITS), "[tokens,width] stream belongs");
}
