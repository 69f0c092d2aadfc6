//! Some of a tensor's columns, taken and added to, on a backend and on the oracle.

use crate::cases::{Case, Kind, Outcomes};
use crate::oracle;
use crate::rig::{Rig, wide};
use bitfit::backend::Backend;
use bitfit::program::{AddColumns, Dropout, In, Out, Rows, TakeColumns, Times};

const TIMES: f32 = 0.75;

/// Runs a case of this file's kinds on a fresh rig.
pub fn run<B: Backend>(case: &Case, name: &str, rig: &mut Rig<B>, out: &mut Outcomes) {
    let (dropout, times) = (Dropout { p: case.p, site: 7 }, Times(TIMES));
    let key = rig.key;
    match case.kind {
        Kind::TakeColumns { rows, width, from, taken } => {
            let x = rig.stream(rows, width, 1.0);
            let y = rig.output(rows, taken);
            rig.start(0, width);
            rig.run(name, TakeColumns { x: In(x), from, times, dropout, out: Out(y) });
            let x = wide(&rig.read(x));
            let some: Vec<f64> =
                x.chunks(width).flat_map(|row| row[from..from + taken].to_vec()).collect();
            let mut want = oracle::masked(&some, taken, dropout, key);
            want.iter_mut().for_each(|x| *x *= f64::from(TIMES));
            out.activation("out", rig, y, want);
        }
        Kind::AddColumns { rows, width, from, taken } => {
            let x = rig.input(rows, taken, 1.0);
            let y = rig.stream(rows, width, 1.0);
            rig.start(0, width);
            let mut want = wide(&rig.read(y));
            let op = AddColumns { x: In(x), from, times, dropout, y: rig.over(y) };
            rig.run(name, op);
            let x = oracle::masked(&wide(&rig.read(x)), taken, dropout, key);
            for (row, x) in want.chunks_mut(width).zip(x.chunks(taken)) {
                row[from..].iter_mut().zip(x).for_each(|(y, x)| *y += f64::from(TIMES) * x);
            }
            out.activation("y", rig, y, want);
        }
        _ => unreachable!("not one of this file's cases: {case:?}"),
    }
}

pub fn table(add: &mut impl FnMut(Kind)) {
    for rows in [Rows::Tokens, Rows::Sequences] {
        for (width, from, taken) in
            [(7, 3, 2), (33, 0, 33), (96, 32, 64), (384, 0, 384), (1152, 768, 384)]
        {
            add(Kind::TakeColumns { rows, width, from, taken });
            add(Kind::AddColumns { rows, width, from, taken });
        }
    }
}
