//! A small list for tests of the passes: a feed-forward block between LayerNorms, twice, without attention.

use super::*;

pub const WIDTH: usize = 4;
const INNER: usize = 8;
/// The parameters that can train come first.
pub const FROZEN: usize = 1000;

pub const LIMITS: Limits = Limits { tokens: 64, sequences: 4, max_len: 16 };

/// The range of a bias or β of a block: 0 for `output`, 1 for `intermediate`, 2 for the LayerNorm after them.
pub fn bias(block: usize, which: usize) -> ParamRange {
    let len = [WIDTH, INNER, WIDTH][which];
    ParamRange { offset: 100 * block + 20 * which, len }
}

fn linear(weight: usize, bias: ParamRange, inputs: usize, outputs: usize) -> LinearLayer {
    LinearLayer {
        weight: WeightId(weight),
        trains: None,
        bias: vec![bias],
        inputs,
        outputs,
        sparse: None,
    }
}

struct Block {
    intermediate: LinearLayer,
    output: LinearLayer,
    norm: NormLayer,
}

fn block(i: usize) -> Block {
    let gamma = ParamRange { offset: FROZEN + 10 * i, len: WIDTH };
    Block {
        intermediate: linear(2 * i, bias(i, 1), WIDTH, INNER),
        output: linear(2 * i + 1, bias(i, 0), INNER, WIDTH),
        norm: NormLayer {
            norm: Norm { gamma, beta: bias(i, 2), eps: 1e-5 },
            dropout: Dropout { p: 0.1, site: 1 },
            gain_trains: false,
        },
    }
}

/// The list before any pass; every bias has a gradient.
pub fn list(train: Option<Saving>) -> List {
    let mut b = Builder::new(train);
    let embedded = b.value(What::Embeddings, Rows::Tokens, WIDTH, Storage::Stream);
    let [word, position, token_type] = [90, 91, 92].map(WeightId);
    let norm = Norm {
        gamma: ParamRange { offset: FROZEN + 500, len: WIDTH },
        beta: ParamRange { offset: 900, len: WIDTH },
        eps: 1e-5,
    };
    b.push(Embed {
        tables: TableIds { word, position, token_type },
        added: None,
        norm,
        dropout: Dropout::NONE,
        out: Out(embedded),
    });
    let blocks: Vec<Block> = (0..2).map(block).collect();
    let (mut x, mut passes) = (embedded, Vec::new());
    for (i, block) in blocks.iter().enumerate() {
        b.enter(Some(i));
        let inner = b.linear_act(x, &block.intermediate, Activation::GeluErf);
        let o = b.linear(What::Product, inner.out, &block.output);
        let y = b.norm(o, x, &block.norm);
        passes.push((x, inner, y));
        x = y.out;
    }
    b.enter(None);
    let logits = b.value(What::Logits, Rows::Sequences, WIDTH, Storage::F32);
    b.push(Pool { kind: PoolKind::Mean, x: In(x), out: Out(logits) });
    b.output(logits);
    if train.is_none() {
        return b.finish();
    }
    let dlogits = b.like(What::Head, logits);
    b.push(Loss {
        kind: LossKind::CrossEntropy,
        class_weights: None,
        logits: In(logits),
        dlogits: Aside(Some(dlogits)),
    });
    b.turn();
    let mut dx = b.gradient(x);
    b.push(PoolBack { kind: PoolKind::Mean, dy: In(dlogits), dx: Out(dx) });
    for (i, block) in blocks.iter().enumerate().rev() {
        b.enter(Some(i));
        let (x, inner, y) = &passes[i];
        let d = b.norm_back(dx, None, y, &block.output);
        let through = Dx::Through(inner.slope, &block.intermediate);
        let d_inner = b.linear_back(d.branch, &block.output, inner.out, through);
        dx = b.linear_back(d_inner, &block.intermediate, *x, Dx::Onto(d.residual));
    }
    b.enter(None);
    b.push(ColumnSum { dy: In(dx), dropout: Dropout::NONE, grad: Sum(Some(norm.beta)) });
    b.finish()
}

/// The names of the operations.
pub fn names(list: &List) -> Vec<&'static str> {
    list.ops.iter().map(Op::name).collect()
}

/// The list with only these gradients, pruned.
pub fn only(train: Saving, gradients: &[ParamRange]) -> List {
    let mut list = list(Some(train));
    for op in &mut list.ops {
        op.visit(&mut |used| {
            if let Use::Sum(range) = used
                && range.is_some_and(|range| !gradients.contains(&range))
            {
                *range = None;
            }
        });
    }
    list.again(train);
    list.prune();
    list
}
