//! What a backend refuses to run, and its message.

use crate::cases::EXACT;
use crate::rig::{Rig, program};
use bitfit::backend::cpu::CpuBackend;
use bitfit::backend::{Backend, WeightType};
use bitfit::program::{
    Aside, In, Info, Limits, Linear, Numbers, Op, Rows, Span, Storage, Update, Value, What,
};

fn rig() -> Rig<CpuBackend> {
    Rig::new(CpuBackend::new(WeightType::F32), EXACT, "refused", &[3, 4])
}

/// The message of `run` for operations on tensors of these widths.
fn refusal(rig: &mut Rig<CpuBackend>, op: impl Into<Op>, widths: &[usize]) -> String {
    let values: Vec<Value> = widths.iter().map(|&width| rig.output(Rows::Tokens, width)).collect();
    rig.start(0, 64);
    let info = |value: Value| Info {
        what: What::Inner,
        block: Some(3),
        rows: Rows::Tokens,
        width: widths[value.index()],
        storage: Storage::Activation,
    };
    let tensors: Vec<_> = values.iter().map(|&v| (info(v), rig.region(v))).collect();
    let limits = Limits { tokens: 7, sequences: 2, max_len: 4 };
    let program = program(vec![op.into()], &tensors, limits);
    let error = rig.backend.run(&program, Span::WHOLE, Numbers::NONE);
    format!("{:#}", error.expect_err("it was run"))
}

#[test]
fn cpu_names_the_operation_and_its_block() {
    let mut rig = rig();
    let (weight, _) = rig.weight(8, 16, 1.0);
    let bias = vec![rig.param(8)];
    let op = Linear {
        x: In(Value(0)),
        weight,
        bias,
        act: None,
        out: Aside(Some(Value(1))),
        slope: Aside(None),
    };
    let said = refusal(&mut rig, op, &[24, 8]);
    assert!(said.starts_with("Linear of block 3: ") && said.contains("24 inputs"), "{said}");
}

#[test]
fn cpu_does_not_end_a_step_without_the_numbers_of_its_update() {
    let said = refusal(&mut rig(), Update {}, &[]);
    assert!(said.starts_with("Update: "), "{said}");
}

#[test]
fn cpu_does_not_run_a_batch_that_a_program_has_no_room_for() {
    let mut rig = rig();
    rig.start(0, 64);
    let limits = Limits { tokens: 6, sequences: 2, max_len: 4 };
    let program = program(Vec::new(), &[], limits);
    let error = rig.backend.run(&program, Span::WHOLE, Numbers::NONE);
    let said = format!("{:#}", error.expect_err("it was run"));
    assert!(said.contains("7 tokens exceeds the 6"), "{said}");
}
