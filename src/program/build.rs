//! Writes a list: each function adds operations and returns what they make, so that a block's forward and backward read
//! like its mathematics.

use super::{
    Activation, Aside, Dest, Dropout, GainGrad, In, Info, Linear, LinearBack, List, Norm, NormBack,
    Op, Out, Over, ParamRange, ResidualNorm, Rows, Saving, Scale, ScaleBack, Sparse, Storage, Sum,
    Update, Value, WeightGrad, WeightId, What, Zero,
};

/// Collects operations; see the module documentation.
#[derive(Debug)]
pub struct Builder {
    list: List,
    train: Option<Saving>,
    block: Option<u16>,
}

/// A linear layer: `y = x·Wᵀ + bias`.
#[derive(Clone, Debug)]
pub struct LinearLayer {
    /// `[outputs, inputs]`
    pub weight: WeightId,
    /// Where the matrix's gradient goes; `None` if it is frozen.
    pub trains: Option<ParamRange>,
    /// Parts of equal length.
    pub bias: Vec<ParamRange>,
    pub inputs: usize,
    pub outputs: usize,
    /// Single values added to the matrix, which train.
    pub sparse: Option<Sparse>,
}

/// A residual connection and the LayerNorm after it.
#[derive(Clone, Copy, Debug)]
pub struct NormLayer {
    pub norm: Norm,
    /// On the branch that is added to the residual.
    pub dropout: Dropout,
    /// Whether γ trains.
    pub gain_trains: bool,
}

/// What a LayerNorm leaves.
#[derive(Clone, Copy, Debug)]
pub struct Normed {
    pub out: Value,
    /// The LayerNorm's input, if the residual stream continues next to it.
    pub sum: Value,
    x_hat: Value,
    rstd: Value,
    layer: NormLayer,
}

/// What an activation function leaves.
#[derive(Clone, Copy, Debug)]
pub struct Activated {
    pub out: Value,
    pub slope: Value,
}

/// Where the gradient of a layer's input goes.
#[derive(Clone, Copy, Debug)]
pub enum Dx<'a> {
    New,
    /// Added to this.
    Onto(Value),
    /// Through the activation that made the input, whose slope this is; its layer gets its bias gradient.
    Through(Value, &'a LinearLayer),
}

/// The gradients at a LayerNorm: of the residual and of the branch.
#[derive(Clone, Copy, Debug)]
pub struct Branches {
    pub residual: Value,
    pub branch: Value,
}

impl Builder {
    /// A list that trains with this way of saving, or one that only predicts, without dropout.
    pub fn new(train: Option<Saving>) -> Self {
        let mut builder = Self { list: List::default(), train, block: None };
        if train.is_some() {
            builder.push(Zero {});
        }
        builder.list.parts.forward = builder.list.ops.len();
        builder
    }

    /// What follows belongs to this block, or to no block.
    pub fn enter(&mut self, block: Option<usize>) {
        self.block = block.map(|block| block as u16);
    }

    /// Forward, including the loss, is written; what follows is backward.
    pub fn turn(&mut self) {
        self.list.parts.backward = self.list.ops.len();
    }

    /// A value that is read after the list has run; naming it twice makes no difference.
    pub fn output(&mut self, value: Value) {
        if !self.list.outputs.contains(&value) {
            self.list.outputs.push(value);
        }
    }

    /// Ends the list.
    pub fn finish(mut self) -> List {
        self.block = None;
        if self.list.parts.backward < self.list.parts.forward {
            self.turn();
        }
        self.list.parts.end = self.list.ops.len();
        match self.train {
            Some(_) => self.push(Update {}),
            None => self.turn(),
        }
        self.list
    }

    /// A tensor, created before the operation that writes it.
    pub fn value(&mut self, what: What, rows: Rows, width: usize, storage: Storage) -> Value {
        self.list.values.push(Info { what, block: self.block, rows, width, storage });
        Value(self.list.values.len() as u32 - 1)
    }

    /// A tensor with the shape and storage of another.
    pub fn like(&mut self, what: What, value: Value) -> Value {
        let Info { rows, width, storage, .. } = *self.list.info(value);
        self.value(what, rows, width, storage)
    }

    /// The gradient of a value.
    pub fn gradient(&mut self, of: Value) -> Value {
        self.like(What::Gradient, of)
    }

    /// Says what a value also is. A LayerNorm's output that the head reads as it is stays there for backward.
    pub fn rename(&mut self, value: Value, what: What) {
        self.list.values[value.index()].what = what;
    }

    pub fn info(&self, value: Value) -> Info {
        *self.list.info(value)
    }

    pub fn push(&mut self, op: impl Into<Op>) {
        self.list.ops.push(op.into());
        self.list.blocks.push(self.block);
    }

    /// Dropout in training, none in prediction.
    pub fn dropout(&self, dropout: Dropout) -> Dropout {
        match self.train {
            Some(_) => dropout,
            None => Dropout::NONE,
        }
    }

    /// `x·Wᵀ + bias`
    pub fn linear(&mut self, what: What, x: Value, layer: &LinearLayer) -> Value {
        // A LayerNorm overwrites such a product with the stream.
        let storage = if what == What::Product { Storage::Stream } else { Storage::Activation };
        let out = self.value(what, self.info(x).rows, layer.outputs, storage);
        self.product(x, layer, None, out, None);
        layer.sparse.map_or(out, |sparse| self.add_entries(x, out, &sparse))
    }

    /// `act(x·Wᵀ + bias)`, and its derivative for backward.
    pub fn linear_act(&mut self, x: Value, layer: &LinearLayer, act: Activation) -> Activated {
        let rows = self.info(x).rows;
        let storage = self.train.unwrap_or_default().slope;
        let slope = self.value(What::Slope, rows, layer.outputs, storage);
        let out = self.value(What::Inner, rows, layer.outputs, Storage::Activation);
        let activated = Activated { out, slope };
        match layer.sparse {
            None => self.product(x, layer, Some(act), out, Some(slope)),
            Some(sparse) => {
                let before = self.value(What::Before, rows, layer.outputs, Storage::Stream);
                self.product(x, layer, None, before, None);
                let before = self.add_entries(x, before, &sparse);
                self.activate(before, act, activated);
            }
        }
        activated
    }

    fn product(
        &mut self,
        x: Value,
        layer: &LinearLayer,
        act: Option<Activation>,
        out: Value,
        slope: Option<Value>,
    ) {
        self.push(Linear {
            x: In(x),
            weight: layer.weight,
            bias: layer.bias.clone(),
            act,
            out: Aside(Some(out)),
            slope: Aside(slope),
        });
    }

    /// The gradient of a layer's input `x`, from that of its output. The matrix's gradient, if it trains, comes first:
    /// `dx` may overwrite what that reads.
    pub fn linear_back(&mut self, dy: Value, layer: &LinearLayer, x: Value, to: Dx<'_>) -> Value {
        if layer.trains.is_some() {
            self.push(WeightGrad { dy: In(dy), x: In(x), grad: Sum(layer.trains) });
        }
        if let Some(sparse) = &layer.sparse {
            self.entries_grad(dy, x, sparse);
        }
        let now = self.gradient(x);
        let new = Dest::New(Out(now));
        let (slope, dx, dbias) = match to {
            Dx::New => (None, new, None),
            Dx::Onto(was) => (None, Dest::Onto(Over { was, now }), None),
            // Entries are added before the slope multiplies.
            Dx::Through(..) if layer.sparse.is_some() => (None, new, None),
            Dx::Through(slope, below) => (Some(In(slope)), new, below.bias.first().copied()),
        };
        self.push(LinearBack { dy: In(dy), weight: layer.weight, slope, dx, dbias: Sum(dbias) });
        let Some(sparse) = &layer.sparse else {
            return now;
        };
        let now = self.entries_back(dy, now, sparse);
        match to {
            Dx::Through(slope, below) => self.activate_back(now, slope, below),
            Dx::New | Dx::Onto(_) => now,
        }
    }

    /// `x` with its last columns multiplied by factors, if there are any.
    pub fn scale(&mut self, x: Value, factor: Option<ParamRange>) -> Value {
        let Some(factor) = factor else {
            return x;
        };
        let out = self.like(self.info(x).what, x);
        self.push(Scale { x: In(x), factor, out: Out(out) });
        out
    }

    /// From the gradient of the output of [`scale`](Self::scale) to that of its input `x`; given the slope of the
    /// activation that made `x`, to the gradient before the activation.
    pub fn scale_back(
        &mut self,
        dy: Value,
        x: Value,
        factor: Option<ParamRange>,
        slope: Option<Value>,
    ) -> Value {
        let Some(factor) = factor else {
            return dy;
        };
        let now = self.gradient(x);
        self.push(ScaleBack {
            dx: Over { was: dy, now },
            x: In(x),
            factor,
            slope: slope.map(In),
            dfactor: Sum(Some(factor)),
        });
        now
    }

    /// `LN(residual + dropout(branch))`, in the branch's place.
    pub fn norm(&mut self, branch: Value, residual: Value, layer: &NormLayer) -> Normed {
        let Info { rows, width, .. } = self.info(branch);
        let storage = self.train.unwrap_or_default().x_hat;
        let x_hat = self.value(What::XHat, rows, width, storage);
        let rstd = self.value(What::Rstd, rows, 1, Storage::F32);
        let sum = self.like(What::Product, branch);
        let out = self.like(What::Hidden, branch);
        let layer = NormLayer { dropout: self.dropout(layer.dropout), ..*layer };
        self.push(ResidualNorm {
            x: Over { was: branch, now: out },
            residual: In(residual),
            dropout: layer.dropout,
            norm: layer.norm,
            sum: Aside(Some(sum)),
            x_hat: Aside(Some(x_hat)),
            rstd: Aside(Some(rstd)),
        });
        Normed { out, sum, x_hat, rstd, layer }
    }

    /// Back through a LayerNorm; the linear layer that made its branch, `below`, gets its bias gradient. `beside` is
    /// the gradient of the sum from where the stream continued, if it did.
    pub fn norm_back(
        &mut self,
        dy: Value,
        beside: Option<Value>,
        normed: &Normed,
        below: &LinearLayer,
    ) -> Branches {
        let NormLayer { norm, dropout, gain_trains } = normed.layer;
        if gain_trains {
            self.push(GainGrad {
                dy: In(dy),
                x_hat: In(normed.x_hat),
                grad: Sum(Some(norm.gamma)),
            });
        }
        let now = self.gradient(dy);
        let branch = (dropout.p > 0.0).then(|| self.gradient(dy));
        self.push(NormBack {
            x_hat: In(normed.x_hat),
            rstd: In(normed.rstd),
            gamma: norm.gamma,
            dropout,
            dx: Over { was: dy, now },
            beside: beside.map(In),
            branch: branch.map(Out),
            dbeta: Sum(Some(norm.beta)),
            dbias: Sum(below.bias.first().copied()),
        });
        Branches { residual: now, branch: branch.unwrap_or(now) }
    }
}
