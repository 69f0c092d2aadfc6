//! Throughput of every operation at the shapes of MiniLM-L6 and BERT-base.
//!
//! `cargo bench --bench ops` prints elements per second as FLOP/s for products and attention (attention counts only its
//! products), and bytes/s for the rest. A batch is 32 sequences of 25 tokens; `long` is 2 of 400.
//!
//! `BITFIT_BENCH_DEVICE` (`cpu`, `cuda`, `cuda:N`; default `cpu`) chooses the device. With the emulator as the driver
//! and `-- --test` each runs once: that shows that it works, and says nothing about speed.

mod device;

use bitfit::backend::{Backend, DropoutKey, MatrixKind, MatrixShape, Memory, Slot, WeightType};
use bitfit::batch::{Batch, Labels};
use bitfit::program::{
    Activation, AdamW, Aside, Attention, AttentionBack, ColumnSum, Dense, DenseBack, Dest, Dropout,
    Embed, HeadWeight, In, Info, Limits, Linear, LinearBack, List, Loss, LossKind, Norm, NormBack,
    Numbers, Op, Out, Over, ParamRange, Parts, Pool, PoolBack, PoolKind, Program, Region,
    ResidualNorm, Rows, Span, Storage, Sum, TableIds, Update, Value, WeightId, What, Zero,
};
use bitfit::settings::device::DeviceChoice;
use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main};
use device::Timed;

/// A model's sizes.
#[derive(Clone, Copy)]
struct Model {
    name: &'static str,
    hidden: usize,
    heads: usize,
}

const MODELS: [Model; 2] = [
    Model { name: "minilm", hidden: 384, heads: 12 },
    Model { name: "bert-base", hidden: 768, heads: 12 },
];
const SHORT: [usize; 32] = [25; 32];
const LONG: [usize; 2] = [400; 2];

/// A backend with three tensors of the widest shape, three narrow ones and a few small ones.
struct Bench {
    backend: Box<dyn Backend>,
    limits: Limits,
    tokens: usize,
    wide: [Region; 3],
    narrow: [Region; 3],
    small: [Region; 3],
    rows: [Region; 2],
    weights: [WeightId; 5],
}

const QKV: usize = 0;
const SQUARE: usize = 1;
const UP: usize = 2;
const DOWN: usize = 3;
const TABLE: usize = 4;

fn pseudo(count: usize, scale: f32) -> Vec<f32> {
    let mut x = 0x2545_F491u32;
    let mut next = || {
        x ^= x << 13;
        x ^= x >> 17;
        x ^= x << 5;
        (x as f32 / u32::MAX as f32 - 0.5) * scale
    };
    (0..count).map(|_| next()).collect()
}

impl Bench {
    fn new(model: Model, lens: &[usize], weight_type: WeightType) -> Self {
        let hidden = model.hidden;
        let tokens: usize = lens.iter().sum();
        let mut backend = device::open(weight_type);
        let shapes = [
            (3 * hidden, hidden),
            (hidden, hidden),
            (4 * hidden, hidden),
            (hidden, 4 * hidden),
            (1000, hidden),
        ];
        let weights = shapes.map(|(r, c)| {
            let shape = MatrixShape { kind: MatrixKind::Linear, rows: r, cols: c, trains: false };
            backend.upload("w", shape, &pseudo(r * c, 0.1)).unwrap()
        });
        let mut at = 0;
        let mut region = |floats: usize| {
            let region = Region { offset: at, len: floats * 4 };
            at = (at + region.len).next_multiple_of(256);
            region
        };
        let wide = [(); 3].map(|()| region(tokens * 4 * hidden));
        let narrow = [(); 3].map(|()| region(tokens * hidden));
        let small = [(); 3].map(|()| region(lens.len() * hidden));
        let rows = [(); 2].map(|()| region(tokens * model.heads));
        let limits = Limits { tokens, sequences: lens.len(), max_len: *lens.iter().max().unwrap() };
        let params = 32 * hidden + hidden * hidden;
        backend
            .allocate(Memory {
                arena: at,
                params,
                trainable: params,
                with_gradient: params,
                limits,
                labels: limits.sequences,
                head_rows: limits.sequences,
                widest: 4 * hidden,
                labelled: [0; 2],
                head_dim: hidden / model.heads,
                exchanged: 0,
            })
            .unwrap();
        let mut cu_seqlens = vec![0];
        for len in lens {
            cu_seqlens.push(cu_seqlens.last().unwrap() + *len as u32);
        }
        let batch = Batch {
            ids: (0..tokens as u32).map(|i| i * 7 % 1000).collect(),
            type_ids: vec![0; tokens],
            positions: lens.iter().flat_map(|&len| 0..len as u32).collect(),
            cu_seqlens,
            labels: Labels::Classes(vec![1; lens.len()]),
        };
        backend.set_batch(&batch, DropoutKey::default()).unwrap();
        let mut bench = Self { backend, limits, tokens, wide, narrow, small, rows, weights };
        bench.fill();
        bench
    }

    fn fill(&mut self) {
        for region in self.wide.into_iter().chain(self.narrow) {
            self.backend.write(region, Storage::Activation, &pseudo(region.len / 4, 2.0)).unwrap();
        }
        for region in self.small.into_iter().chain(self.rows) {
            self.backend.write(region, Storage::F32, &pseudo(region.len / 4, 2.0)).unwrap();
        }
    }
    /// Times one operation on these tensors.
    fn time(
        &mut self,
        group: &mut BenchmarkGroup<'_, WallTime>,
        name: impl Into<String>,
        tensors: Tensors,
        op: impl Into<Op>,
        numbers: Numbers,
    ) {
        let program = tensors.program(op, self.limits);
        group
            .timed(name, &mut *self.backend, |backend| backend.run(&program, Span::WHOLE, numbers));
    }
}

/// The tensors of an operation and their regions.
#[derive(Default)]
struct Tensors {
    values: Vec<Info>,
    regions: Vec<Region>,
}

impl Tensors {
    fn add(&mut self, region: Region, rows: Rows, width: usize, storage: Storage) -> Value {
        self.values.push(Info { what: What::Hidden, block: None, rows, width, storage });
        self.regions.push(region);
        Value(self.values.len() as u32 - 1)
    }

    /// An activation per token.
    fn tokens(&mut self, region: Region, width: usize) -> Value {
        self.add(region, Rows::Tokens, width, Storage::Activation)
    }

    /// Numbers per token.
    fn tokens_f32(&mut self, region: Region, width: usize) -> Value {
        self.add(region, Rows::Tokens, width, Storage::F32)
    }

    /// Numbers per sequence.
    fn sequences(&mut self, region: Region, width: usize) -> Value {
        self.add(region, Rows::Sequences, width, Storage::F32)
    }

    /// Another value in place of an existing one.
    fn over(&mut self, was: Value) -> Over {
        let Info { rows, width, storage, .. } = self.values[was.index()];
        let now = self.add(self.regions[was.index()], rows, width, storage);
        Over { was, now }
    }

    fn program(self, op: impl Into<Op>, limits: Limits) -> Program {
        let list = List {
            ops: vec![op.into()],
            blocks: vec![None],
            values: self.values,
            parts: Parts { forward: 0, backward: 1, end: 1 },
            outputs: Vec::new(),
        };
        Program::laid_by_hand(list, &self.regions, limits)
    }
}

fn param(at: usize, len: usize) -> ParamRange {
    ParamRange { offset: at, len }
}

fn sum(at: usize, len: usize) -> Sum {
    Sum(Some(param(at, len)))
}

fn products(c: &mut Criterion) {
    for model in MODELS {
        let types: &[WeightType] = match device::choice() {
            DeviceChoice::Cuda(_) => &[WeightType::F16],
            _ => &[WeightType::F16, WeightType::F32],
        };
        for &weight_type in types {
            let h = model.hidden;
            let mut b = Bench::new(model, &SHORT, weight_type);
            let mut group =
                c.benchmark_group(format!("{}/{weight_type:?}", model.name).to_lowercase());
            let shapes = [
                ("qkv", QKV, 3 * h, h),
                ("square", SQUARE, h, h),
                ("up", UP, 4 * h, h),
                ("down", DOWN, h, 4 * h),
            ];
            for (name, weight, outputs, inputs) in shapes {
                group.throughput(Throughput::Elements((2 * b.tokens * outputs * inputs) as u64));
                let mut t = Tensors::default();
                let up = name == "up";
                let op = Linear {
                    x: In(t.tokens(b.wide[0], inputs)),
                    weight: b.weights[weight],
                    bias: vec![param(0, outputs)],
                    act: up.then_some(Activation::GeluErf),
                    out: Aside(Some(t.tokens(b.wide[1], outputs))),
                    slope: Aside(up.then(|| t.tokens(b.wide[2], outputs))),
                };
                b.time(&mut group, format!("linear/{name}"), t, op, Numbers::NONE);
                let mut t = Tensors::default();
                let down = name == "down";
                let dx = t.tokens(b.wide[1], inputs);
                let op = LinearBack {
                    dy: In(t.tokens(b.wide[0], outputs)),
                    weight: b.weights[weight],
                    slope: down.then(|| In(t.tokens(b.wide[2], inputs))),
                    dx: if name == "qkv" { Dest::Onto(t.over(dx)) } else { Dest::New(Out(dx)) },
                    dbias: if down { sum(0, inputs) } else { Sum(None) },
                };
                let name = format!("linear_backward/{name}");
                b.time(&mut group, name, t, op, Numbers::NONE);
                b.fill();
            }
        }
    }
}

fn attention(c: &mut Criterion) {
    for model in MODELS {
        for (kind, lens) in [("short", &SHORT[..]), ("long", &LONG[..])] {
            for (suffix, p) in [("", 0.0), ("/dropout", 0.1)] {
                let mut b = Bench::new(model, lens, WeightType::F16);
                let mut group =
                    c.benchmark_group(format!("{}/attention/{kind}{suffix}", model.name));
                let pairs: usize = lens.iter().map(|n| n * n).sum();
                let (h, heads) = (model.hidden, model.heads);
                let dropout = Dropout { p, site: 1 };
                group.throughput(Throughput::Elements((4 * pairs * h) as u64));
                let mut t = Tensors::default();
                let op = Attention {
                    qkv: In(t.tokens(b.wide[0], 3 * h)),
                    heads,
                    dropout,
                    out: Out(t.tokens(b.narrow[0], h)),
                    lse: Aside(Some(t.tokens_f32(b.rows[0], heads))),
                };
                b.time(&mut group, "forward", t, op, Numbers::NONE);
                group.throughput(Throughput::Elements((10 * pairs * h) as u64));
                let mut t = Tensors::default();
                let op = AttentionBack {
                    qkv: In(t.tokens(b.wide[0], 3 * h)),
                    out: In(t.tokens(b.narrow[0], h)),
                    lse: In(t.tokens_f32(b.rows[0], heads)),
                    dout: In(t.tokens(b.narrow[1], h)),
                    heads,
                    dropout,
                    dqkv: Out(t.tokens(b.wide[1], 3 * h)),
                    dquery: sum(0, h),
                    dvalue: sum(h, h),
                };
                b.time(&mut group, "backward", t, op, Numbers::NONE);
            }
        }
    }
}

fn rows(c: &mut Criterion) {
    for model in MODELS {
        for (suffix, p) in [("", 0.0), ("/dropout", 0.1)] {
            let h = model.hidden;
            let mut b = Bench::new(model, &SHORT, WeightType::F16);
            let mut group = c.benchmark_group(format!("{}{suffix}", model.name));
            let tensor = (b.tokens * h * 4) as u64;
            let dropout = Dropout { p, site: 1 };
            let norm = Norm { gamma: param(0, h), beta: param(h, h), eps: 1e-12 };
            b.backend.write_params(Slot::Value, norm.gamma, &vec![1.0; h]).unwrap();
            group.throughput(Throughput::Bytes(tensor));
            let word = b.weights[TABLE];
            let mut t = Tensors::default();
            let op = Embed {
                tables: TableIds { word, position: word, token_type: word },
                added: None,
                norm,
                dropout,
                out: Out(t.tokens(b.narrow[0], h)),
            };
            b.time(&mut group, "embed", t, op, Numbers::NONE);
            group.throughput(Throughput::Bytes(4 * tensor));
            let mut t = Tensors::default();
            let x = t.tokens(b.narrow[0], h);
            let op = ResidualNorm {
                x: t.over(x),
                residual: In(t.tokens(b.narrow[2], h)),
                dropout,
                norm,
                sum: Aside(None),
                x_hat: Aside(Some(t.tokens(b.narrow[1], h))),
                rstd: Aside(Some(t.tokens_f32(b.rows[0], 1))),
            };
            b.time(&mut group, "residual_norm", t, op, Numbers::NONE);
            let mut t = Tensors::default();
            let dx = t.tokens(b.narrow[0], h);
            let op = NormBack {
                x_hat: In(t.tokens(b.narrow[1], h)),
                rstd: In(t.tokens_f32(b.rows[0], 1)),
                gamma: norm.gamma,
                dropout,
                dx: t.over(dx),
                beside: None,
                branch: (p > 0.0).then(|| Out(t.tokens(b.wide[0], h))),
                dbeta: sum(2 * h, h),
                dbias: sum(3 * h, h),
            };
            group.throughput(Throughput::Bytes(3 * tensor));
            b.time(&mut group, "residual_norm_backward", t, op, Numbers::NONE);
            group.throughput(Throughput::Bytes(tensor));
            let mut t = Tensors::default();
            let op = ColumnSum { dy: In(t.tokens(b.narrow[2], h)), dropout, grad: sum(0, h) };
            b.time(&mut group, "bias_grad", t, op, Numbers::NONE);
        }
    }
}

fn head(c: &mut Criterion) {
    for model in MODELS {
        let h = model.hidden;
        let mut b = Bench::new(model, &SHORT, WeightType::F16);
        let mut group = c.benchmark_group(format!("{}/head", model.name));
        let kind = PoolKind::Mean;
        group.throughput(Throughput::Bytes((b.tokens * h * 4) as u64));
        let mut t = Tensors::default();
        let op =
            Pool { kind, x: In(t.tokens(b.narrow[0], h)), out: Out(t.sequences(b.small[0], h)) };
        b.time(&mut group, "pool", t, op, Numbers::NONE);
        let mut t = Tensors::default();
        let op = PoolBack {
            kind,
            dy: In(t.sequences(b.small[0], h)),
            dx: Out(t.tokens(b.narrow[0], h)),
        };
        b.time(&mut group, "pool_backward", t, op, Numbers::NONE);
        let weight = HeadWeight::Param(param(0, h * h));
        let flop = (2 * SHORT.len() * h * h) as u64;
        group.throughput(Throughput::Elements(flop));
        let mut t = Tensors::default();
        let op = Dense {
            x: In(t.sequences(b.small[0], h)),
            weight,
            bias: param(h * h, h),
            dropout: Dropout::NONE,
            tanh: true,
            y: Out(t.sequences(b.small[1], h)),
        };
        b.time(&mut group, "dense", t, op, Numbers::NONE);
        group.throughput(Throughput::Elements(2 * flop));
        let mut t = Tensors::default();
        let dy = t.sequences(b.small[2], h);
        let op = DenseBack {
            x: In(t.sequences(b.small[0], h)),
            weight,
            dropout: Dropout::NONE,
            tanh: true,
            dy: In(dy),
            dx: Aside(Some(t.sequences(b.narrow[0], h))),
            dweight: sum(0, h * h),
            dbias: sum(h * h, h),
        };
        b.time(&mut group, "dense_backward", t, op, Numbers::NONE);
        let mut t = Tensors::default();
        let op = Loss {
            kind: LossKind::CrossEntropy,
            class_weights: None,
            logits: In(t.sequences(b.small[0], 2)),
            dlogits: Aside(Some(t.sequences(b.small[1], 2))),
        };
        group.throughput(Throughput::Elements(SHORT.len() as u64));
        let numbers = Numbers { weight: 1.0, update: None };
        b.time(&mut group, "loss", t, op, numbers);
        let step = AdamW {
            lr: 1e-3,
            beta1: 0.9,
            beta2: 0.999,
            eps: 1e-6,
            weight_decay: 0.0,
            clip_norm: 1.0,
            step: 1,
        };
        let zero = Tensors::default().program(Zero {}, b.limits);
        b.backend.run(&zero, Span::WHOLE, Numbers::NONE).unwrap();
        group.throughput(Throughput::Bytes(((32 * h + h * h) * 4 * 4) as u64));
        let numbers = Numbers { weight: 1.0, update: Some(step) };
        b.time(&mut group, "adamw", Tensors::default(), Update {}, numbers);
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(20)
        .warm_up_time(std::time::Duration::from_millis(300))
        .measurement_time(std::time::Duration::from_secs(1));
    targets = products, attention, rows, head
}
criterion_main!(benches);
