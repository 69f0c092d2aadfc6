//! Writes low-rank products next to a linear layer: two small layers, and columns added to the output.

use super::{
    AddColumns, Builder, Dropout, Dx, In, LinearLayer, Out, Over, Storage, TakeColumns, Times,
    Value, What,
};

/// `times · dropout(x)·Aᵀ·Bᵀ` next to a layer.
#[derive(Clone, Debug)]
pub struct LowRank {
    /// `[rank, inputs]`
    pub a: LinearLayer,
    /// `[outputs, rank]`
    pub b: LinearLayer,
    pub times: f32,
    pub dropout: Dropout,
    /// The first column of the layer's output that it is added to.
    pub from: usize,
}

/// What a low-rank product leaves for its backward.
#[derive(Clone, Copy, Debug)]
pub struct LowRankPass {
    taken: Value,
    between: Value,
}

impl Builder {
    /// Adds the products to the layer's output on `x`.
    pub fn add_low_rank(
        &mut self,
        x: Value,
        y: Value,
        all: &[LowRank],
    ) -> (Value, Vec<LowRankPass>) {
        let mut now = y;
        let passes = all.iter().map(|low| {
            let dropout = self.dropout(low.dropout);
            let taken = match dropout.p > 0.0 {
                true => self.take_columns(x, (0, low.a.inputs), 1.0, dropout),
                false => x,
            };
            let between = self.linear(What::LowRank, taken, &low.a);
            let product = self.linear(What::LowRank, between, &low.b);
            now = self.add_columns(product, now, (low.from, low.times), Dropout::NONE);
            LowRankPass { taken, between }
        });
        let passes = passes.collect();
        (now, passes)
    }

    /// Adds the products' share to `dx`, the gradient of the layer's input; given the slope of the activation that made
    /// that input (of the layer `through.1`), it is the gradient before the activation.
    pub fn low_rank_back(
        &mut self,
        dy: Value,
        passes: &[LowRankPass],
        all: &[LowRank],
        dx: Value,
        through: Option<(Value, &LinearLayer)>,
    ) -> Value {
        let mut dx = dx;
        for (pass, low) in passes.iter().zip(all) {
            let of_product =
                self.take_columns(dy, (low.from, low.b.outputs), low.times, Dropout::NONE);
            let between = self.linear_back(of_product, &low.b, pass.between, Dx::New);
            let to = through.map_or(Dx::New, |(slope, layer)| Dx::Through(slope, layer));
            let of_taken = self.linear_back(between, &low.a, pass.taken, to);
            dx = self.add_columns(of_taken, dx, (0, 1.0), self.dropout(low.dropout));
        }
        dx
    }

    fn take_columns(
        &mut self,
        x: Value,
        (from, count): (usize, usize),
        times: f32,
        dropout: Dropout,
    ) -> Value {
        let rows = self.info(x).rows;
        let out = self.value(What::LowRank, rows, count, Storage::Activation);
        self.push(TakeColumns { x: In(x), from, times: Times(times), dropout, out: Out(out) });
        out
    }

    fn add_columns(
        &mut self,
        x: Value,
        y: Value,
        (from, times): (usize, f32),
        dropout: Dropout,
    ) -> Value {
        let now = self.like(self.info(y).what, y);
        let y = Over { was: y, now };
        self.push(AddColumns { x: In(x), from, times: Times(times), dropout, y });
        now
    }
}
