//! BERT and RoBERTa: what the encoder adds to a step, forward and backward side by side.
//!
//! A block is post-LayerNorm:
//!
//! ```text
//! h  = LN₁(x + drop(W_o · attention(W_qkv·x + b) + b))
//! x' = LN₂(h + drop(W_2 · act(W_1·h + b) + b))
//! ```
//!
//! Every bias gradient is named here, whether or not the bias trains, and every tensor that backward reads; what is
//! needed and kept follows from the list ([`crate::program`]). The key's bias has no gradient: softmax ignores a shift
//! that all keys share.

use crate::program::{
    Activated, Activation, AddFirst, AddedRows, Aside, Attention, AttentionBack, Builder,
    ColumnSum, Dropout, Dx, Embed, EmbedBack, First, FirstAttention, FirstAttentionBack, In,
    LinearLayer, LowRank, LowRankPass, Norm, NormLayer, Normed, Out, Over, ParamRange, Rows,
    SparseSet, SparseTake, Storage, Sum, TableIds, Value, What,
};

/// Embeddings and blocks.
#[derive(Clone, Debug)]
pub struct Encoder {
    /// Single values of its vectors that train.
    pub vectors: Option<VectorEntries>,
    pub embeddings: Embeddings,
    pub blocks: Vec<Block>,
}

/// Single values of vectors, with the checkpoint's values and where those are stored: see [`SparseSet`].
#[derive(Clone, Copy, Debug)]
pub struct VectorEntries {
    pub values: ParamRange,
    pub base: ParamRange,
    pub places: ParamRange,
}

/// See [`Block::first`].
#[derive(Clone, Debug)]
pub struct FirstLayers {
    /// `attention.self.query`
    pub query: LinearLayer,
    /// `attention.self.{key,value}` stacked: `[2·hidden, hidden]`.
    pub key_value: LinearLayer,
}

/// What an encoder's forward produces.
#[derive(Clone, Debug)]
pub struct EncoderPass {
    pub embedded: Value,
    blocks: Vec<BlockPass>,
}

impl EncoderPass {
    /// The output of the embeddings and of each block.
    pub fn hidden_states(&self) -> Vec<Value> {
        let blocks = self.blocks.iter().map(|pass| pass.y.out);
        std::iter::once(self.embedded).chain(blocks).collect()
    }

    pub fn last(&self) -> Value {
        self.blocks.last().map_or(self.embedded, |pass| pass.y.out)
    }
}

impl Encoder {
    /// `every_token` computes the last hidden states of all tokens even if the head reads only the first.
    pub fn forward(&self, b: &mut Builder, every_token: bool) -> EncoderPass {
        if let Some(VectorEntries { values, base, places }) = self.vectors {
            b.push(SparseSet { values, base, places });
        }
        let embedded = self.embeddings.forward(b);
        let mut pass = EncoderPass { embedded, blocks: Vec::with_capacity(self.blocks.len()) };
        for (i, block) in self.blocks.iter().enumerate() {
            b.enter(Some(i));
            let y = block.forward(b, pass.last(), every_token);
            pass.blocks.push(y);
        }
        b.enter(None);
        pass
    }

    /// From the gradient of the last hidden states down to the embeddings.
    pub fn backward(&self, b: &mut Builder, pass: &EncoderPass, mut dx: Value) {
        for (i, (block, pass)) in self.blocks.iter().zip(&pass.blocks).enumerate().rev() {
            b.enter(Some(i));
            dx = block.backward(b, pass, dx);
        }
        b.enter(None);
        self.embeddings.backward(b, dx);
        if let Some(VectorEntries { values, places, .. }) = self.vectors {
            b.push(SparseTake { places, grad: Sum(Some(values)) });
        }
    }
}

/// One block (`encoder.layer.N`).
#[derive(Clone, Debug)]
pub struct Block {
    /// `attention.self.{query,key,value}` stacked: `[3·hidden, hidden]`, three parts of bias.
    pub qkv: LinearLayer,
    /// `attention.output.dense`
    pub attention_output: LinearLayer,
    /// `attention.output.LayerNorm`
    pub attention_norm: NormLayer,
    /// `intermediate.dense`
    pub intermediate: LinearLayer,
    pub activation: Activation,
    /// `output.dense`
    pub output: LinearLayer,
    /// `output.LayerNorm`
    pub output_norm: NormLayer,
    /// Factors that a method adds.
    pub factors: Option<BlockFactors>,
    /// Low-rank products that a method adds.
    pub low_rank: BlockLowRank,
    pub heads: usize,
    /// On the attention probabilities.
    pub dropout: Dropout,
    /// In the last block, its query, and its key and value, as separate layers, if the head reads only the first token
    /// of each sequence. After attention the block then continues with those rows only, so it needs k and v of all
    /// tokens but q of only the first.
    pub first: Option<FirstLayers>,
}

/// Factors on columns of what a block computes ([`crate::methods::ia3`]).
#[derive(Clone, Copy, Debug)]
pub struct BlockFactors {
    pub key_value: ParamRange,
    /// On the input of `attention.output.dense`.
    pub attended: ParamRange,
    /// On the input of `output.dense`.
    pub inner: ParamRange,
}

/// Low-rank products next to a block's layers ([`crate::methods::lora`]).
#[derive(Clone, Debug, Default)]
pub struct BlockLowRank {
    pub qkv: Vec<LowRank>,
    pub attention_output: Vec<LowRank>,
    pub output: Vec<LowRank>,
}

/// What a block's forward produces for its backward.
#[derive(Clone, Debug)]
pub struct BlockPass {
    attended: Attended,
    /// What its output layer read of it.
    attended_taken: Value,
    of_attention_output: Vec<LowRankPass>,
    h: Normed,
    inner: Activated,
    /// What the output layer read of it.
    inner_taken: Value,
    of_output: Vec<LowRankPass>,
    /// Its output is the block's output.
    pub y: Normed,
}

/// What attention produces.
#[derive(Clone, Debug)]
pub struct Attended {
    x: Value,
    /// The input rows that bypass attention.
    residual: Value,
    /// Of the first tokens, if only they continue; `qkv` is then k and v of all tokens.
    query: Option<Value>,
    /// Before any factors.
    made: Value,
    low_rank: Vec<LowRankPass>,
    qkv: Value,
    lse: Value,
    pub out: Value,
}

impl Block {
    pub fn forward(&self, b: &mut Builder, x: Value, every_token: bool) -> BlockPass {
        let attended = match &self.first {
            Some(first) if !every_token => self.attend_first(b, x, first),
            _ => self.attend(b, x),
        };
        let attended_taken = b.scale(attended.out, self.factors.map(|factors| factors.attended));
        let o = b.linear(What::Product, attended_taken, &self.attention_output);
        let low = &self.low_rank;
        let (o, of_attention_output) = b.add_low_rank(attended_taken, o, &low.attention_output);
        let h = b.norm(o, attended.residual, &self.attention_norm);
        let inner = b.linear_act(h.out, &self.intermediate, self.activation);
        let inner_taken = b.scale(inner.out, self.factors.map(|factors| factors.inner));
        let o = b.linear(What::Product, inner_taken, &self.output);
        let (o, of_output) = b.add_low_rank(inner_taken, o, &low.output);
        let y = b.norm(o, h.out, &self.output_norm);
        BlockPass {
            attended,
            attended_taken,
            of_attention_output,
            h,
            inner,
            inner_taken,
            of_output,
            y,
        }
    }

    /// From the gradient of the block's output to that of its input.
    pub fn backward(&self, b: &mut Builder, pass: &BlockPass, dy: Value) -> Value {
        let BlockPass { attended, attended_taken, h, inner, inner_taken, y, .. } = pass;
        let d = b.norm_back(dy, None, y, &self.output);
        let d_inner = match self.factors {
            None => {
                let through = (inner.slope, &self.intermediate);
                let to = Dx::Through(through.0, through.1);
                let d_inner = b.linear_back(d.branch, &self.output, inner.out, to);
                let low = &self.low_rank.output;
                b.low_rank_back(d.branch, &pass.of_output, low, d_inner, Some(through))
            }
            Some(factors) => {
                let d = b.linear_back(d.branch, &self.output, *inner_taken, Dx::New);
                b.scale_back(d, inner.out, Some(factors.inner), Some(inner.slope))
            }
        };
        let dh = b.linear_back(d_inner, &self.intermediate, h.out, Dx::Onto(d.residual));
        let d = b.norm_back(dh, None, h, &self.attention_output);
        let d_out = b.linear_back(d.branch, &self.attention_output, *attended_taken, Dx::New);
        let low = &self.low_rank.attention_output;
        let d_out = b.low_rank_back(d.branch, &pass.of_attention_output, low, d_out, None);
        let of_attended = self.factors.map(|factors| factors.attended);
        let d_out = b.scale_back(d_out, attended.out, of_attended, None);
        match (&self.first, attended.query) {
            (Some(first), Some(query)) => {
                self.attend_first_back(b, attended, first, query, d_out, d.residual)
            }
            _ => {
                let dqkv = self.attend_back(b, attended, d_out);
                let dx = b.linear_back(dqkv, &self.qkv, attended.x, Dx::Onto(d.residual));
                b.low_rank_back(dqkv, &attended.low_rank, &self.low_rank.qkv, dx, None)
            }
        }
    }

    pub fn attend(&self, b: &mut Builder, x: Value) -> Attended {
        let hidden = self.qkv.inputs;
        let made = b.linear(What::Qkv, x, &self.qkv);
        let (made, low_rank) = b.add_low_rank(x, made, &self.low_rank.qkv);
        let qkv = b.scale(made, self.factors.map(|factors| factors.key_value));
        let lse = b.value(What::Lse, Rows::Tokens, self.heads, Storage::F32);
        let out = b.value(What::Attended, Rows::Tokens, hidden, Storage::Activation);
        b.push(Attention {
            qkv: In(qkv),
            heads: self.heads,
            dropout: b.dropout(self.dropout),
            out: Out(out),
            lse: Aside(Some(lse)),
        });
        Attended { x, residual: x, query: None, made, low_rank, qkv, lse, out }
    }

    /// From the gradient of attention's output to that of q, k and v.
    pub fn attend_back(&self, b: &mut Builder, a: &Attended, dout: Value) -> Value {
        let dqkv = b.gradient(a.qkv);
        b.push(AttentionBack {
            qkv: In(a.qkv),
            out: In(a.out),
            lse: In(a.lse),
            dout: In(dout),
            heads: self.heads,
            dropout: b.dropout(self.dropout),
            dqkv: Out(dqkv),
            dquery: Sum(self.qkv.bias.first().copied()),
            dvalue: Sum(self.value_bias()),
        });
        b.scale_back(dqkv, a.made, self.factors.map(|factors| factors.key_value), None)
    }

    /// Where the column sums of the value's gradient go: with factors they are not the bias's gradient.
    fn value_bias(&self) -> Option<ParamRange> {
        self.qkv.bias.get(2).copied().filter(|_| self.factors.is_none())
    }

    fn attend_first(&self, b: &mut Builder, x: Value, first: &FirstLayers) -> Attended {
        let hidden = self.qkv.inputs;
        let made = b.linear(What::Qkv, x, &first.key_value);
        let qkv = b.scale(made, self.factors.map(|factors| factors.key_value));
        let residual = b.value(What::Hidden, Rows::Sequences, hidden, Storage::Stream);
        b.push(First { tokens: In(x), out: Out(residual) });
        let query = b.linear(What::FirstQuery, residual, &first.query);
        let lse = b.value(What::FirstLse, Rows::Sequences, self.heads, Storage::F32);
        let out = b.like(What::FirstAttended, query);
        b.push(FirstAttention {
            query: In(query),
            key_value: In(qkv),
            heads: self.heads,
            dropout: b.dropout(self.dropout),
            out: Out(out),
            lse: Aside(Some(lse)),
        });
        let low_rank = Vec::new();
        Attended { x, residual, query: Some(query), made, low_rank, qkv, lse, out }
    }

    fn attend_first_back(
        &self,
        b: &mut Builder,
        a: &Attended,
        first: &FirstLayers,
        query: Value,
        dout: Value,
        residual: Value,
    ) -> Value {
        let d_query = b.gradient(query);
        let d_key_value = b.gradient(a.qkv);
        b.push(FirstAttentionBack {
            query: In(query),
            key_value: In(a.qkv),
            lse: In(a.lse),
            dout: In(dout),
            heads: self.heads,
            dropout: b.dropout(self.dropout),
            d_query: Out(d_query),
            d_key_value: Out(d_key_value),
            dquery: Sum(self.qkv.bias.first().copied()),
            dvalue: Sum(self.value_bias()),
        });
        let of_key_value = self.factors.map(|factors| factors.key_value);
        let d_key_value = b.scale_back(d_key_value, a.made, of_key_value, None);
        let of_first = b.linear_back(d_query, &first.query, a.residual, Dx::Onto(residual));
        let of_tokens = b.linear_back(d_key_value, &first.key_value, a.x, Dx::New);
        let now = b.gradient(of_tokens);
        b.push(AddFirst { first: In(of_first), tokens: Over { was: of_tokens, now } });
        now
    }
}

/// The embeddings (`embeddings`).
#[derive(Clone, Debug)]
pub struct Embeddings {
    /// Single values added to the tables, which train.
    pub added: Option<AddedRows>,
    pub tables: TableIds,
    pub norm: Norm,
    pub dropout: Dropout,
    /// Where the gradients of word, position and token type go, if the tables train.
    pub trains: Option<[ParamRange; 3]>,
    /// Whether the LayerNorm's γ trains.
    pub gain_trains: bool,
}

impl Embeddings {
    pub fn forward(&self, b: &mut Builder) -> Value {
        let hidden = self.norm.gamma.len;
        let out = b.value(What::Embeddings, Rows::Tokens, hidden, Storage::Stream);
        b.push(Embed {
            tables: self.tables,
            added: self.added,
            norm: self.norm,
            dropout: b.dropout(self.dropout),
            out: Out(out),
        });
        out
    }

    pub fn backward(&self, b: &mut Builder, dy: Value) {
        let dropout = b.dropout(self.dropout);
        if !self.gain_trains {
            b.push(ColumnSum { dy: In(dy), dropout, grad: Sum(Some(self.norm.beta)) });
            return;
        }
        let [dword, dposition, dtype] = match self.trains {
            Some(tables) => tables.map(|table| Sum(Some(table))),
            None => [Sum(None); 3],
        };
        let now = b.gradient(dy);
        b.push(EmbedBack {
            tables: self.tables,
            added: self.added,
            norm: self.norm,
            dropout,
            dx: Over { was: dy, now },
            dword,
            dposition,
            dtype,
            dadded: Sum(self.added.map(|added| added.values)),
            dgamma: Sum(Some(self.norm.gamma)),
            dbeta: Sum(Some(self.norm.beta)),
        });
    }
}
