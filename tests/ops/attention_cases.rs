//! Attention on a backend and on the oracle.

use crate::cases::{Case, Kind, Outcomes};
use crate::oracle::{self, Attention};
use crate::rig::{Rig, wide};
use bitfit::backend::{AttentionBackward, AttentionForward, Backend, Dropout, ParamRange};

/// Runs a case of this file's kinds on a fresh rig.
pub fn run<B: Backend>(case: &Case, name: &str, rig: &mut Rig<B>, out: &mut Outcomes) {
    let tokens = rig.batch.tokens();
    let dropout = Dropout { p: case.p, site: 7 };
    let key = rig.key;
    match case.kind {
        Kind::Attention { heads, dim, lse } => {
            let hidden = heads * dim;
            let qkv = rig.input(tokens, 3 * hidden, 1.5);
            let y = rig.output(tokens, hidden);
            let sums = lse.then(|| rig.output_f32(tokens, heads));
            rig.start(0, 3 * hidden);
            let op = AttentionForward {
                qkv: rig.region(qkv),
                out: rig.region(y),
                lse: sums.map(|s| rig.region(s)),
                heads,
                head_dim: dim,
                dropout,
            };
            let written: Vec<_> = [y].into_iter().chain(sums).collect();
            rig.run(name, &written, &[], |b| b.attention_forward(op));
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
            let in_16_bits = Attention {
                stored: &round,
                ..reference
            };
            let straight = in_16_bits.forward(&x).0;
            out.add("out", rig.read(y), want, straight, false);
            if let Some(sums) = sums {
                out.f32("lse", rig.read(sums), want_lse);
            }
        }
        Kind::AttentionBackward { heads, dim, dbias } => {
            let hidden = heads * dim;
            let qkv = rig.input(tokens, 3 * hidden, 1.5);
            let y = rig.input(tokens, hidden, 0.0);
            let lse = rig.input_f32(tokens, heads, 0.0);
            let dout = rig.input(tokens, hidden, 1.0);
            let dqkv = rig.output(tokens, 3 * hidden);
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
            rig.backend
                .write_activations(rig.region(y), &narrow(&o))
                .unwrap();
            rig.backend.write_f32(rig.region(lse), &narrow(&l)).unwrap();
            let op = AttentionBackward {
                qkv: rig.region(qkv),
                out: rig.region(y),
                lse: rig.region(lse),
                dout: rig.region(dout),
                dqkv: rig.region(dqkv),
                heads,
                head_dim: dim,
                dropout,
                dbias_query: dbias.then_some(query),
                dbias_value: dbias.then_some(value),
            };
            let grads: &[ParamRange] = if dbias { &[query, value] } else { &[] };
            rig.run(name, &[dqkv], grads, |b| b.attention_backward(op));
            let dout = wide(&rig.read(dout));
            let want = reference.backward(&x, &dout);
            let round = |x| rig.round(x);
            let in_16_bits = Attention {
                stored: &round,
                ..reference
            };
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
