//! Operations on only the first token of each sequence, on a backend and on the oracle.

use crate::cases::{Case, EPS, Kind, Outcomes};
use crate::oracle::{self, Attention};
use crate::rig::{Rig, sum, wide};
use bitfit::backend::Backend;
use bitfit::program::{
    self, AddFirst, Aside, ColumnSum, Dropout, FirstAttentionBack, In, Norm, NormBack, Out,
    ResidualNorm, Restore, Rows, Storage, Sum,
};

/// Attention of each sequence's first token, from the oracle for all tokens.
struct FirstAttention<'a> {
    lens: &'a [usize],
    all: Attention<'a>,
}

impl FirstAttention<'_> {
    /// Calls `work` with each sequence's attention, number, and its rows of `[tokens, 3·hidden]`: of q only the first.
    fn each(
        &self,
        query: &[f64],
        key_value: &[f64],
        mut work: impl FnMut(Attention<'_>, usize, Vec<f64>),
    ) {
        let hidden = self.all.heads * self.all.dim;
        let mut rows = key_value.chunks(2 * hidden);
        for (s, len) in self.lens.iter().enumerate() {
            let mut qkv = Vec::new();
            for token in 0..*len {
                let q = &query[s * hidden..(s + 1) * hidden];
                qkv.extend(q.iter().map(|q| if token == 0 { *q } else { 0.0 }));
                qkv.extend(rows.next().unwrap());
            }
            let one = Attention { lens: &self.lens[s..=s], first_row: s, ..self.all };
            work(one, s, qkv);
        }
    }

    /// Output and log-sum-exp.
    fn forward(&self, query: &[f64], key_value: &[f64]) -> (Vec<f64>, Vec<f64>) {
        let (mut out, mut lse) = (Vec::new(), Vec::new());
        self.each(query, key_value, |one, _, qkv| {
            let (o, l) = one.forward(&qkv);
            out.extend_from_slice(&o[..one.heads * one.dim]);
            // `[heads, tokens]` of this sequence: the first token's.
            lse.extend(l.chunks(one.lens[0]).map(|head| head[0]));
        });
        (out, lse)
    }

    /// dq, and dk and dv side by side.
    fn backward(&self, query: &[f64], key_value: &[f64], dout: &[f64]) -> (Vec<f64>, Vec<f64>) {
        let (mut dq, mut dkv) = (Vec::new(), Vec::new());
        self.each(query, key_value, |one, s, qkv| {
            let hidden = one.heads * one.dim;
            let mut all = vec![0.0; one.lens[0] * hidden];
            all[..hidden].copy_from_slice(&dout[s * hidden..(s + 1) * hidden]);
            let d = one.backward(&qkv, &all);
            dq.extend_from_slice(&d[..hidden]);
            d.chunks(3 * hidden).for_each(|row| dkv.extend_from_slice(&row[hidden..]));
        });
        (dq, dkv)
    }
}

/// Runs a case of this file's kinds on a fresh rig.
pub fn run<B: Backend>(case: &Case, name: &str, rig: &mut Rig<B>, out: &mut Outcomes) {
    let (tokens, sequences) = (Rows::Tokens, Rows::Sequences);
    let dropout = Dropout { p: case.p, site: 7 };
    let key = rig.key;
    let exact = |heads, dim| FirstAttention {
        lens: &case.lens,
        all: Attention {
            lens: &case.lens,
            heads,
            dim,
            dropout,
            key,
            first_row: 0,
            stored: &oracle::exactly,
        },
    };
    match case.kind {
        Kind::FirstAttention { heads, dim, lse } => {
            let hidden = heads * dim;
            let query = rig.input(sequences, hidden, 1.5);
            let key_value = rig.input(tokens, 2 * hidden, 1.5);
            let y = rig.output(sequences, hidden);
            let sums = lse.then(|| rig.output_f32(sequences, heads));
            rig.start(0, 2 * hidden);
            let op = program::FirstAttention {
                query: In(query),
                key_value: In(key_value),
                heads,
                dropout,
                out: Out(y),
                lse: Aside(sums),
            };
            rig.run(name, op);
            let (q, kv) = (wide(&rig.read(query)), wide(&rig.read(key_value)));
            let reference = exact(heads, dim);
            let (want, want_lse) = reference.forward(&q, &kv);
            out.activation("out", rig, y, want);
            if let Some(sums) = sums {
                out.f32("lse", rig.read(sums), want_lse);
            }
        }
        Kind::FirstAttentionBackward { heads, dim, dbias } => {
            let hidden = heads * dim;
            let query = rig.input(sequences, hidden, 1.5);
            let key_value = rig.input(tokens, 2 * hidden, 1.5);
            let lse = rig.input_f32(sequences, heads, 0.0);
            let dout = rig.input(sequences, hidden, 1.0);
            let d_query = rig.output(sequences, hidden);
            let d_key_value = rig.output(tokens, 2 * hidden);
            let (dq, dv) = (rig.param(hidden), rig.param(hidden));
            rig.start(2 * hidden + 4, 2 * hidden);
            let (q, kv) = (wide(&rig.read(query)), wide(&rig.read(key_value)));
            let reference = exact(heads, dim);
            let sums = reference.forward(&q, &kv).1;
            let narrow: Vec<f32> = sums.iter().map(|&l| l as f32).collect();
            rig.backend.write(rig.region(lse), Storage::F32, &narrow).unwrap();
            let op = FirstAttentionBack {
                query: In(query),
                key_value: In(key_value),
                lse: In(lse),
                dout: In(dout),
                heads,
                dropout,
                d_query: Out(d_query),
                d_key_value: Out(d_key_value),
                dquery: sum(dbias, dq),
                dvalue: sum(dbias, dv),
            };
            rig.run(name, op);
            let dout = wide(&rig.read(dout));
            let (want_q, want_kv) = reference.backward(&q, &kv, &dout);
            if dbias {
                let sums = oracle::column_sums(&want_q, hidden);
                out.gradient("dbias_query", rig, dq, sums);
                let sums = oracle::column_sums(&want_kv, 2 * hidden);
                out.gradient("dbias_value", rig, dv, sums[hidden..].to_vec());
            }
            out.activation("d_query", rig, d_query, want_q);
            out.activation("d_key_value", rig, d_key_value, want_kv);
        }
        Kind::FirstTokens { hidden } => {
            let all = rig.stream(tokens, hidden, 1.0);
            let first = rig.output_stream(sequences, hidden);
            rig.start(0, hidden);
            let before = wide(&rig.read(all));
            let op = program::First { tokens: In(all), out: Out(first) };
            rig.run(name, op);
            let rows = oracle::pool(false, &case.lens, hidden, &before);
            out.activation("first", rig, first, rows.clone());
            let op = AddFirst { first: In(first), tokens: rig.over(all) };
            rig.run(name, op);
            let twice = oracle::pool_backward(false, &case.lens, hidden, &rows);
            let want = before.iter().zip(&twice).map(|(a, b)| a + b).collect();
            out.activation("tokens", rig, all, want);
        }
        Kind::SequenceNorm { hidden } => {
            let x = rig.stream(sequences, hidden, 1.0);
            let residual = rig.stream(sequences, hidden, 1.0);
            let (x_hat, rstd) = (rig.output(sequences, hidden), rig.output_f32(sequences, 1));
            let restored = rig.output_stream(sequences, hidden);
            let dx = rig.stream(sequences, hidden, 1.0);
            let d_branch = rig.output_stream(sequences, hidden);
            let grads = [(); 3].map(|()| rig.param(hidden));
            let norm = Norm { gamma: rig.param(hidden), beta: rig.param(hidden), eps: EPS };
            rig.start(3 * (hidden + 2), hidden);
            let (branch, dy) = (wide(&rig.read(x)), wide(&rig.read(dx)));
            let op = ResidualNorm {
                x: rig.over(x),
                residual: In(residual),
                dropout,
                norm,
                sum: Aside(None),
                x_hat: Aside(Some(x_hat)),
                rstd: Aside(Some(rstd)),
            };
            rig.run(name, op);
            let mut sum = oracle::masked(&branch, hidden, dropout, key);
            sum.iter_mut().zip(wide(&rig.read(residual))).for_each(|(s, r)| *s += r);
            let (want_x, want_rstd) = oracle::normalise(&sum, hidden, f64::from(EPS));
            let (gamma, beta) = (rig.values(norm.gamma), rig.values(norm.beta));
            let want = oracle::affine(&want_x, &gamma, &beta);
            out.activation("out", rig, x, want);
            out.activation("x_hat", rig, x_hat, want_x);
            out.f32("rstd", rig.read(rstd), want_rstd);

            let op = Restore { x_hat: In(x_hat), norm, out: Out(restored) };
            rig.run(name, op);
            let kept = wide(&rig.read(x_hat));
            out.activation("restored", rig, restored, oracle::affine(&kept, &gamma, &beta));

            let op = ColumnSum { dy: In(dx), dropout, grad: Sum(Some(grads[0])) };
            rig.run(name, op);
            let masked = oracle::masked(&dy, hidden, dropout, key);
            let sums = oracle::column_sums(&masked, hidden);
            out.gradient("bias_grad", rig, grads[0], sums);

            let op = NormBack {
                x_hat: In(x_hat),
                rstd: In(rstd),
                gamma: norm.gamma,
                dropout,
                dx: rig.over(dx),
                beside: None,
                branch: Some(Out(d_branch)),
                dbeta: Sum(Some(grads[1])),
                dbias: Sum(Some(grads[2])),
            };
            rig.run(name, op);
            let dz = oracle::norm_backward(&dy, &kept, &wide(&rig.read(rstd)), &gamma);
            let d_masked = oracle::masked(&dz, hidden, dropout, key);
            out.gradient("dbeta", rig, grads[1], oracle::column_sums(&dy, hidden));
            let straight = oracle::column_sums(&rig.rounded(&d_masked), hidden);
            let sums = oracle::column_sums(&d_masked, hidden);
            out.gradient_beside("dbias", rig, grads[2], sums, straight);
            out.activation("dx", rig, dx, dz);
            out.activation("d_branch", rig, d_branch, d_masked);
        }
        _ => unreachable!("not a kind of this file"),
    }
}
