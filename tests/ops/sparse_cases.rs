//! Single trained values of matrices, tables and vectors, on a backend and on the oracle.

use crate::cases::{Case, EPS, Kind, Outcomes};
use crate::oracle;
use crate::rig::{Rig, wide};
use bitfit::backend::{Backend, Slot};
use bitfit::program::{
    AddedRows, Dropout, Embed, EmbedBack, Entries, In, Norm, Numbers, Out, ParamRange, Rows,
    SparseAdd, SparseGrad, SparseSet, SparseTake, Sum, TableIds,
};

/// Entries of `lines` lines, each `[line, column that is read, number of the value]`: some lines have none, some many.
struct Drawn {
    entries: Vec<[usize; 3]>,
    lines: usize,
}

impl Drawn {
    /// `count` of them or fewer, numbered in a different order from the lines.
    fn new<B: Backend>(rig: &mut Rig<B>, lines: usize, columns: usize, count: usize) -> Self {
        let mut places: Vec<[usize; 2]> = (0..count)
            .map(|i| match i % 4 {
                // The last line has a large part of all, and the first column.
                0 => [lines - 1, rig.numbers.below(columns)],
                1 => [rig.numbers.below(lines), 0],
                _ => [rig.numbers.below(lines), rig.numbers.below(columns)],
            })
            .collect();
        places.sort_unstable();
        places.dedup();
        let count = places.len();
        let turned =
            places.iter().enumerate().map(|(i, place)| [place[0], place[1], (i + 1) % count]);
        Self { entries: turned.collect(), lines }
    }

    fn param<B: Backend>(&self, rig: &mut Rig<B>) -> Entries {
        let (lines, count) = (self.lines, self.entries.len());
        Entries { places: rig.param(Entries::words(lines, count)), lines, count }
    }

    fn write<B: Backend>(&self, rig: &mut Rig<B>, entries: Entries) {
        let mut words: Vec<usize> = (0..=self.lines)
            .map(|line| self.entries.partition_point(|entry| entry[0] < line))
            .collect();
        for part in [1, 0, 2] {
            words.extend(self.entries.iter().map(|entry| entry[part]));
        }
        write_words(rig, entries.places, &words);
    }
}

/// Whole numbers as bits.
fn write_words<B: Backend>(rig: &mut Rig<B>, range: ParamRange, words: &[usize]) {
    let words: Vec<f32> = words.iter().map(|&word| f32::from_bits(word as u32)).collect();
    rig.backend.write_params(Slot::Value, range, &words).unwrap();
}

/// Runs a case of this file's kinds on a fresh rig.
pub fn run<B: Backend>(case: &Case, name: &str, rig: &mut Rig<B>, out: &mut Outcomes) {
    match case.kind {
        Kind::SparseAdd { rows, inputs, outputs, count, stream } => {
            let drawn = Drawn::new(rig, outputs, inputs, count);
            let x = rig.input(rows, inputs, 1.0);
            let y = match stream {
                true => rig.stream(rows, outputs, 1.0),
                false => rig.input(rows, outputs, 1.0),
            };
            let entries = drawn.param(rig);
            let values = rig.param(entries.count);
            rig.start(0, inputs.max(outputs));
            drawn.write(rig, entries);
            let mut want = wide(&rig.read(y));
            let op = SparseAdd { x: In(x), entries, values, y: rig.over(y) };
            rig.run(name, op);
            let (x, values) = (wide(&rig.read(x)), rig.values(values));
            for (y, x) in want.chunks_mut(outputs).zip(x.chunks(inputs)) {
                drawn
                    .entries
                    .iter()
                    .for_each(|&[to, from, number]| y[to] += values[number] * x[from]);
            }
            out.activation("y", rig, y, want);
        }
        Kind::SparseGrad { rows, inputs, outputs, count } => {
            let drawn = Drawn::new(rig, outputs, inputs, count);
            let dy = rig.stream(rows, outputs, 1.0);
            let x = rig.input(rows, inputs, 1.0);
            // What trains comes first.
            let grad = rig.param(drawn.entries.len());
            let entries = drawn.param(rig);
            rig.start(grad.end() + 1, inputs.max(outputs));
            drawn.write(rig, entries);
            let op = SparseGrad { dy: In(dy), x: In(x), entries, grad: Sum(Some(grad)) };
            rig.run(name, op);
            let (dy, x) = (wide(&rig.read(dy)), wide(&rig.read(x)));
            let mut sums = vec![0.0; grad.len];
            for (dy, x) in dy.chunks(outputs).zip(x.chunks(inputs)) {
                drawn
                    .entries
                    .iter()
                    .for_each(|&[to, from, number]| sums[number] += dy[to] * x[from]);
            }
            out.gradient("dvalues", rig, grad, sums);
        }
        Kind::SparseVectors { count } => {
            let values = rig.param(count);
            let [base, places, vector] = [count, count, 3 * count + 5].map(|len| rig.param(len));
            let trained = values.end() + 1;
            rig.start(trained, 8);
            let chosen: Vec<usize> = (0..count).map(|i| vector.offset + 3 * i + i % 3).collect();
            write_words(rig, places, &chosen);
            rig.changes = chosen.clone();
            let before = rig.values(vector);
            rig.run(name, SparseSet { values, base, places });
            let mut want = before;
            for ((&place, base), value) in
                chosen.iter().zip(rig.values(base)).zip(rig.values(values))
            {
                want[place - vector.offset] = base + value;
            }
            let got = rig.values(vector).iter().map(|&value| value as f32).collect();
            out.f32("vector", got, want);
        }
        Kind::SparseVectorGrads { count } => {
            let values = rig.param(count);
            let [vector, places] = [3 * count + 5, count].map(|len| rig.param(len));
            rig.start(vector.end() + 1, 8);
            let chosen: Vec<usize> = (0..count).map(|i| vector.offset + 3 * i + i % 3).collect();
            write_words(rig, places, &chosen);
            rig.changes = chosen.clone();
            let before = rig.gradient_before(vector);
            rig.run(name, SparseTake { places, grad: Sum(Some(values)) });
            let at = |&place: &usize| before[place - vector.offset];
            out.gradient("dvalues", rig, values, chosen.iter().map(at).collect());
            let mut left = before.clone();
            chosen.iter().for_each(|place| left[place - vector.offset] = 0.0);
            out.f32("left", rig.gradient(vector), left);
        }
        Kind::EmbedBeside { hidden, vocab, types, back } => {
            embed(case, name, rig, out, [hidden, vocab, types], back);
        }
        _ => unreachable!("not one of this file's cases: {case:?}"),
    }
}

/// The embeddings with entries next to the tables, and their backward.
fn embed<B: Backend>(
    case: &Case,
    name: &str,
    rig: &mut Rig<B>,
    out: &mut Outcomes,
    [hidden, vocab, types]: [usize; 3],
    back: bool,
) {
    let dropout = Dropout { p: case.p, site: 7 };
    let tokens = rig.batch.tokens();
    for token in 0..tokens {
        rig.batch.ids[token] = match token {
            0 => vocab as u32 - 1,
            1 => 0,
            _ => rig.numbers.below(vocab) as u32,
        };
        rig.batch.type_ids[token] = (token % 2) as u32;
    }
    let longest = *case.lens.iter().max().unwrap();
    let rows = [vocab, longest, types];
    let tables =
        [(vocab, 1.0), (longest, 0.5), (types, 0.3)].map(|(rows, s)| rig.table(rows, hidden, s));
    let drawn = rows.map(|rows| Drawn::new(rig, rows, hidden, rows * hidden / 16));
    let x = rig.stream(Rows::Tokens, hidden, 1.0);
    let counts = drawn.each_ref().map(|drawn| drawn.entries.len());
    let values = rig.param(counts.iter().sum());
    let norm = Norm { gamma: rig.param(hidden), beta: rig.param(hidden), eps: EPS };
    let trained = norm.beta.end() + 1;
    let entries = drawn.each_ref().map(|drawn| drawn.param(rig));
    rig.start(trained, hidden);
    drawn.iter().zip(entries).for_each(|(drawn, entries)| drawn.write(rig, entries));
    let [word, position, token_type] = tables.each_ref().map(|(id, _)| *id);
    let ids = TableIds { word, position, token_type };
    let added = AddedRows { tables: entries, values };
    let dy = wide(&rig.read(x));
    if back {
        let op = EmbedBack {
            tables: ids,
            added: Some(added),
            norm,
            dropout,
            dx: rig.over(x),
            dword: Sum(None),
            dposition: Sum(None),
            dtype: Sum(None),
            dadded: Sum(Some(values)),
            dgamma: Sum(Some(norm.gamma)),
            dbeta: Sum(Some(norm.beta)),
        };
        rig.run_all(name, vec![op.into()], Numbers::NONE);
    } else {
        rig.run(name, Embed { tables: ids, added: Some(added), norm, dropout, out: Out(x) });
    }
    let all = rig.values(values);
    let parts = added.parts(ParamRange { offset: 0, len: values.len });
    let row_of = |token: usize| {
        let batch = &rig.batch;
        [batch.ids[token], batch.positions[token], batch.type_ids[token] % types as u32]
            .map(|row| row as usize)
    };
    let mut sum = vec![0.0; tokens * hidden];
    for (token, to) in sum.chunks_mut(hidden).enumerate() {
        for (i, row) in row_of(token).into_iter().enumerate() {
            let from = &tables[i].1[row * hidden..][..hidden];
            to.iter_mut().zip(from).for_each(|(to, from)| *to += from);
            for &[_, column, number] in drawn[i].entries.iter().filter(|entry| entry[0] == row) {
                to[column] += all[parts[i].offset + number];
            }
        }
    }
    let (x_hat, rstd) = oracle::normalise(&sum, hidden, f64::from(EPS));
    if !back {
        let y = oracle::affine(&x_hat, &rig.values(norm.gamma), &rig.values(norm.beta));
        out.activation("out", rig, x, oracle::masked(&y, hidden, dropout, rig.key));
        return;
    }
    let dy = oracle::masked(&dy, hidden, dropout, rig.key);
    let dz = oracle::norm_backward(&dy, &x_hat, &rstd, &rig.values(norm.gamma));
    let sums_of = |dz: &[f64]| {
        let mut sums = vec![0.0; values.len];
        for (token, dz) in dz.chunks(hidden).enumerate() {
            for (i, row) in row_of(token).into_iter().enumerate() {
                for &[_, column, number] in drawn[i].entries.iter().filter(|entry| entry[0] == row)
                {
                    sums[parts[i].offset + number] += dz[column];
                }
            }
        }
        sums
    };
    let straight = sums_of(&rig.rounded(&dz));
    out.gradient_beside("dadded", rig, values, sums_of(&dz), straight);
    out.activation("dx", rig, x, dz);
}

pub fn table(add: &mut impl FnMut(Kind)) {
    for rows in [Rows::Tokens, Rows::Sequences] {
        for (inputs, outputs, count, stream) in
            [(7, 3, 5, true), (33, 33, 100, false), (64, 200, 150, true), (384, 96, 900, false)]
        {
            add(Kind::SparseAdd { rows, inputs, outputs, count, stream });
            add(Kind::SparseGrad { rows, inputs, outputs, count });
        }
    }
    for count in [1, 77, 300] {
        add(Kind::SparseVectors { count });
        add(Kind::SparseVectorGrads { count });
    }
}

/// Those under dropout, too.
pub fn embeddings(add: &mut impl FnMut(Kind)) {
    for back in [false, true] {
        for (hidden, types) in [(33, 2), (96, 1), (384, 2)] {
            add(Kind::EmbedBeside { hidden, vocab: 50, types, back });
        }
    }
}

/// For orders of warps.
pub fn oddest(add: &mut impl FnMut(f32, Kind)) {
    let (rows, inputs, outputs, count, stream) = (Rows::Tokens, 136, 72, 400, false);
    add(0.0, Kind::SparseAdd { rows, inputs, outputs, count, stream });
    add(0.0, Kind::SparseGrad { rows, inputs, outputs, count });
    add(0.0, Kind::SparseVectors { count });
    add(0.0, Kind::SparseVectorGrads { count });
    for back in [false, true] {
        add(0.1, Kind::EmbedBeside { hidden: 312, vocab: 17, types: 2, back });
    }
}
