//! Throughput of every operation at the shapes of MiniLM-L6 and BERT-base.
//!
//! `cargo bench --bench ops` prints elements a second as FLOP/s for products and attention (attention counts its
//! products only), and bytes/s for the rest. A batch is 32 sequences of 25 tokens; `long` is 2 of 400.
//!
//! `BITFIT_BENCH_DEVICE` (`cpu`, `cuda`, `cuda:N`; default `cpu`) chooses the device. With the emulator as the driver and
//! `-- --test` each runs once: that shows that it works, and nothing of speed.

mod device;

use bitfit::backend::any::AnyBackend;
use bitfit::backend::{
    Activation, ActivationOutput, AdamW, AttentionBackward, AttentionForward, Backend, BiasGrad,
    Dense, DenseBackward, Derivative, DerivativeType, Dropout, DropoutKey, EmbedForward,
    HeadWeight, Limits, LinearActivation, LinearBackward, LinearForward, Loss, LossKind,
    MatrixKind, MatrixShape, Memory, Norm, ParamRange, Pool, PoolKind, Region,
    ResidualNormBackward, ResidualNormForward, Rows, SavedNorm, Slot, WeightId, WeightType,
    XHatType,
};
use bitfit::batch::{Batch, Labels};
use bitfit::settings::device::DeviceChoice;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use device::Timed;

/// A model's sizes.
#[derive(Clone, Copy)]
struct Model {
    name: &'static str,
    hidden: usize,
    heads: usize,
}

const MODELS: [Model; 2] = [
    Model {
        name: "minilm",
        hidden: 384,
        heads: 12,
    },
    Model {
        name: "bert-base",
        hidden: 768,
        heads: 12,
    },
];
const SHORT: [usize; 32] = [25; 32];
const LONG: [usize; 2] = [400; 2];

/// A backend with three tensors of the widest shape, three narrow ones and a few small ones.
struct Bench {
    backend: AnyBackend,
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
            let shape = MatrixShape {
                kind: MatrixKind::Linear,
                rows: r,
                cols: c,
                trains: false,
            };
            backend.upload("w", shape, &pseudo(r * c, 0.1)).unwrap()
        });
        let mut at = 0;
        let mut region = |floats: usize| {
            let region = Region {
                offset: at,
                len: floats * 4,
            };
            at = (at + region.len).next_multiple_of(256);
            region
        };
        let wide = [(); 3].map(|()| region(tokens * 4 * hidden));
        let narrow = [(); 3].map(|()| region(tokens * hidden));
        let small = [(); 3].map(|()| region(lens.len() * hidden));
        let rows = [(); 2].map(|()| region(tokens * model.heads));
        let limits = Limits {
            tokens,
            sequences: lens.len(),
            max_len: *lens.iter().max().unwrap(),
        };
        let params = 32 * hidden + hidden * hidden;
        backend
            .allocate(Memory {
                arena: at,
                params,
                trainable: params,
                limits,
                widest: 4 * hidden,
                head_dim: hidden / model.heads,
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
        let mut bench = Self {
            backend,
            tokens,
            wide,
            narrow,
            small,
            rows,
            weights,
        };
        bench.fill();
        bench
    }

    fn fill(&mut self) {
        for region in self.wide.into_iter().chain(self.narrow) {
            self.backend
                .write_activations(region, &pseudo(region.len / 4, 2.0))
                .unwrap();
        }
        for region in self.small.into_iter().chain(self.rows) {
            self.backend
                .write_f32(region, &pseudo(region.len / 4, 2.0))
                .unwrap();
        }
    }
}

fn param(at: usize, len: usize) -> ParamRange {
    ParamRange { offset: at, len }
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
                group.throughput(Throughput::Elements(
                    (2 * b.tokens * outputs * inputs) as u64,
                ));
                let (x, out) = (b.wide[0], b.wide[1]);
                let activation = (name == "up").then_some(LinearActivation {
                    kind: Activation::GeluErf,
                    output: ActivationOutput::Both(Derivative {
                        region: b.wide[2],
                        stored: DerivativeType::Full,
                    }),
                });
                let bias = [param(0, outputs)];
                let op = LinearForward {
                    x,
                    weight: b.weights[weight],
                    bias: &bias,
                    out,
                    rows: Rows::Tokens,
                    activation,
                };
                group.timed(format!("linear/{name}"), &mut b.backend, |b| {
                    b.linear_forward(op)
                });
                let down = name == "down";
                let op = LinearBackward {
                    dy: b.wide[0],
                    weight: b.weights[weight],
                    dx: b.wide[1],
                    accumulate: name == "qkv",
                    rows: Rows::Tokens,
                    derivative: down.then_some(Derivative {
                        region: b.wide[2],
                        stored: DerivativeType::Full,
                    }),
                    dbias: down.then_some(param(0, inputs)),
                };
                group.timed(format!("linear_backward/{name}"), &mut b.backend, |b| {
                    b.linear_backward(op)
                });
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
                let (heads, head_dim) = (model.heads, model.hidden / model.heads);
                let dropout = Dropout { p, site: 1 };
                let (qkv, out, lse) = (b.wide[0], b.narrow[0], b.rows[0]);
                group.throughput(Throughput::Elements((4 * pairs * model.hidden) as u64));
                let op = AttentionForward {
                    qkv,
                    out,
                    lse: Some(lse),
                    heads,
                    head_dim,
                    dropout,
                };
                group.timed("forward", &mut b.backend, |b| b.attention_forward(op));
                group.throughput(Throughput::Elements((10 * pairs * model.hidden) as u64));
                let op = AttentionBackward {
                    qkv,
                    out,
                    lse,
                    dout: b.narrow[1],
                    dqkv: b.wide[1],
                    heads,
                    head_dim,
                    dropout,
                    dbias_query: Some(param(0, model.hidden)),
                    dbias_value: Some(param(model.hidden, model.hidden)),
                };
                group.timed("backward", &mut b.backend, |b| b.attention_backward(op));
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
            let norm = Norm {
                gamma: param(0, h),
                beta: param(h, h),
                eps: 1e-12,
            };
            b.backend
                .write_params(Slot::Value, norm.gamma, &vec![1.0; h])
                .unwrap();
            let saved = SavedNorm {
                x_hat: b.narrow[1],
                stored: XHatType::Full,
                rstd: b.rows[0],
            };
            group.throughput(Throughput::Bytes(tensor));
            let (word, out) = (b.weights[TABLE], b.narrow[0]);
            let op = EmbedForward {
                word,
                position: word,
                token_type: word,
                norm,
                dropout,
                out,
            };
            group.timed("embed", &mut b.backend, |b| b.embed_forward(op));
            group.throughput(Throughput::Bytes(4 * tensor));
            let op = ResidualNormForward {
                x: b.narrow[0],
                residual: b.narrow[2],
                dropout,
                norm,
                saved: Some(saved),
                rows: Rows::Tokens,
            };
            group.timed("residual_norm", &mut b.backend, |b| {
                b.residual_norm_forward(op)
            });
            let op = ResidualNormBackward {
                dx: b.narrow[0],
                saved,
                gamma: norm.gamma,
                dropout,
                d_branch: (p > 0.0).then_some(b.wide[0]),
                dbeta: Some(param(2 * h, h)),
                dbias: Some(param(3 * h, h)),
                rows: Rows::Tokens,
            };
            group.throughput(Throughput::Bytes(3 * tensor));
            group.timed("residual_norm_backward", &mut b.backend, |b| {
                b.residual_norm_backward(op)
            });
            group.throughput(Throughput::Bytes(tensor));
            let op = BiasGrad {
                dy: b.narrow[2],
                dropout,
                grad: param(0, h),
                rows: Rows::Tokens,
            };
            group.timed("bias_grad", &mut b.backend, |b| b.bias_grad(op));
        }
    }
}

fn head(c: &mut Criterion) {
    for model in MODELS {
        let h = model.hidden;
        let mut b = Bench::new(model, &SHORT, WeightType::F16);
        let mut group = c.benchmark_group(format!("{}/head", model.name));
        let op = Pool {
            kind: PoolKind::Mean,
            hidden: h,
            x: b.narrow[0],
            pooled: b.small[0],
            rows: Rows::Tokens,
        };
        group.throughput(Throughput::Bytes((b.tokens * h * 4) as u64));
        group.timed("pool", &mut b.backend, |b| b.pool_forward(op));
        group.timed("pool_backward", &mut b.backend, |b| b.pool_backward(op));
        let layer = Dense {
            x: b.small[0],
            weight: HeadWeight::Param(param(0, h * h)),
            bias: param(h * h, h),
            y: b.small[1],
            inputs: h,
            outputs: h,
            dropout: Dropout::NONE,
            tanh: true,
        };
        let flop = (2 * SHORT.len() * h * h) as u64;
        group.throughput(Throughput::Elements(flop));
        group.timed("dense", &mut b.backend, |b| b.dense_forward(layer));
        group.throughput(Throughput::Elements(2 * flop));
        let op = DenseBackward {
            layer,
            dy: b.small[2],
            dx: Some(b.narrow[0]),
        };
        group.timed("dense_backward", &mut b.backend, |b| b.dense_backward(op));
        let op = Loss {
            kind: LossKind::CrossEntropy,
            logits: b.small[0],
            outputs: 2,
            weight: 1.0,
            dlogits: Some(b.small[1]),
        };
        group.throughput(Throughput::Elements(SHORT.len() as u64));
        group.timed("loss", &mut b.backend, |b| b.loss(op));
        let step = AdamW {
            lr: 1e-3,
            beta1: 0.9,
            beta2: 0.999,
            eps: 1e-6,
            weight_decay: 0.0,
            clip_norm: 1.0,
            step: 1,
        };
        b.backend.zero_gradients().unwrap();
        group.throughput(Throughput::Bytes(((32 * h + h * h) * 4 * 4) as u64));
        group.timed("adamw", &mut b.backend, |b| b.adamw(step));
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
