//! Attention on a backend and on the oracle.

use crate::cases::{Case, Kind, Outcomes};
use crate::oracle::{self, Attention};
use crate::rig::{Rig, sum, wide};
use bitfit::backend::Backend;
use bitfit::program::{self, Aside, AttentionBack, Dropout, In, Out, Rows};

/// Runs a case of this file's kinds on a fresh rig.
pub fn run<B: Backend>(case: &Case, name: &str, rig: &mut Rig<B>, out: &mut Outcomes) {
    let dropout = Dropout { p: case.p, site: 7 };
    let key = rig.key;
    match case.kind {
        Kind::Attention { heads, dim, lse } => {
            let hidden = heads * dim;
            let qkv = rig.input(Rows::Tokens, 3 * hidden, 1.5);
            let y = rig.output(Rows::Tokens, hidden);
            let sums = lse.then(|| rig.output_f32(Rows::Tokens, heads));
            rig.start(0, 3 * hidden);
            let op =
                program::Attention { qkv: In(qkv), heads, dropout, out: Out(y), lse: Aside(sums) };
            rig.run(name, op);
            let reference = Attention {
                lens: &case.lens,
                heads,
                dim,
                dropout,
                key,
                first_row: 0,
                stored: &oracle::exactly,
            };
            let x = wide(&rig.read(qkv));
            let (want, want_lse) = reference.forward(&x);
            let round = |x| rig.round(x);
            let in_16_bits = Attention { stored: &round, ..reference };
            let straight = in_16_bits.forward(&x).0;
            out.add("out", rig.read(y), want, straight, false);
            if let Some(sums) = sums {
                out.f32("lse", rig.read(sums), want_lse);
            }
        }
        Kind::AttentionBackward { heads, dim, dbias } => {
            let hidden = heads * dim;
            let qkv = rig.input(Rows::Tokens, 3 * hidden, 1.5);
            let y = rig.input(Rows::Tokens, hidden, 0.0);
            let lse = rig.input_f32(Rows::Tokens, heads, 0.0);
            let dout = rig.input(Rows::Tokens, hidden, 1.0);
            let dqkv = rig.output(Rows::Tokens, 3 * hidden);
            let (query, value) = (rig.param(hidden), rig.param(hidden));
            rig.start(2 * hidden + 4, 3 * hidden);
            let reference = Attention {
                lens: &case.lens,
                heads,
                dim,
                dropout,
                key,
                first_row: 0,
                stored: &oracle::exactly,
            };
            let x = wide(&rig.read(qkv));
            let (o, l) = reference.forward(&x);
            let narrow = |v: &[f64]| v.iter().map(|&v| v as f32).collect::<Vec<f32>>();
            rig.backend.write_activations(rig.region(y), &narrow(&o)).unwrap();
            rig.backend.write_f32(rig.region(lse), &narrow(&l)).unwrap();
            let op = AttentionBack {
                qkv: In(qkv),
                out: In(y),
                lse: In(lse),
                dout: In(dout),
                heads,
                dropout,
                dqkv: Out(dqkv),
                dquery: sum(dbias, query),
                dvalue: sum(dbias, value),
            };
            rig.run(name, op);
            let dout = wide(&rig.read(dout));
            let want = reference.backward(&x, &dout);
            let round = |x| rig.round(x);
            let in_16_bits = Attention { stored: &round, ..reference };
            let straight = in_16_bits.backward(&x, &dout);
            if dbias {
                let sums = oracle::column_sums(&want, 3 * hidden);
                let straight = oracle::column_sums(&straight, 3 * hidden);
                for (name, range, part) in [("dbias_query", query, 0), ("dbias_value", value, 2)] {
                    let of = |sums: &[f64]| sums[part * hidden..][..hidden].to_vec();
                    out.gradient_beside(name, rig, range, of(&sums), of(&straight));
                }
            }
            out.add("dqkv", rig.read(dqkv), want, straight, false);
        }
        _ => unreachable!("not one of this file's cases: {case:?}"),
    }
}
