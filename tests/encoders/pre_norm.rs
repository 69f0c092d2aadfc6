//! An encoder whose LayerNorms come before its layers, next to a residual stream that none of them touches:
//!
//! ```text
//! s' = s + attention(LN(s)),  s" = s' + FFN(LN(s'))
//! ```
//!
//! Each LayerNorm is written with the sum that it follows, so the first one is the embeddings' and the last the head's.

use crate::parts::{BLOCKS, Parts};
use bitfit::model::bert::{Attended, Block};
use bitfit::program::{Activated, Builder, Dx, List, Normed, Saving, Value, What};

/// What a block's forward leaves for its backward.
struct Pass {
    x: Value,
    attended: Attended,
    h: Normed,
    inner: Activated,
    y: Normed,
}

/// The normalised stream, and the stream; or their gradients.
type Stream = (Value, Value);

fn forward(block: &Block, b: &mut Builder, (x, stream): Stream) -> Pass {
    let attended = block.attend(b, x);
    let o = b.linear(What::Product, attended.out, &block.attention_output);
    let h = b.norm(o, stream, &block.attention_norm);
    let inner = b.linear_act(h.out, &block.intermediate, block.activation);
    let o = b.linear(What::Product, inner.out, &block.output);
    let y = b.norm(o, h.sum, &block.output_norm);
    Pass { x, attended, h, inner, y }
}

/// The top block's stream goes only to its LayerNorm, so it has no gradient.
fn backward(block: &Block, b: &mut Builder, p: &Pass, dy: Value, beside: Option<Value>) -> Stream {
    let d = b.norm_back(dy, beside, &p.y, &block.output);
    let through = Dx::Through(p.inner.slope, &block.intermediate);
    let d_inner = b.linear_back(d.branch, &block.output, p.inner.out, through);
    let dh = b.linear_back(d_inner, &block.intermediate, p.h.out, Dx::New);
    let d = b.norm_back(dh, Some(d.residual), &p.h, &block.attention_output);
    let d_out = b.linear_back(d.branch, &block.attention_output, p.attended.out, Dx::New);
    let dqkv = block.attend_back(b, &p.attended, d_out);
    (b.linear_back(dqkv, &block.qkv, p.x, Dx::New), d.residual)
}

pub fn encoder(parts: &mut Parts<'_>) -> Box<dyn Fn(Saving) -> List> {
    let embeddings = parts.embeddings();
    let blocks: Vec<Block> = (0..BLOCKS).map(|_| parts.block()).collect();
    let head = parts.head();
    Box::new(move |saving| {
        let mut b = Builder::new(Some(saving));
        let embedded = embeddings.forward(&mut b);
        let mut stream = (embedded, embedded);
        let mut passes = Vec::new();
        for (i, block) in blocks.iter().enumerate() {
            b.enter(Some(i));
            let pass = forward(block, &mut b, stream);
            stream = (pass.y.out, pass.y.sum);
            passes.push(pass);
        }
        b.enter(None);
        let on_top = head.forward(&mut b, stream.0);
        b.output(on_top.logits());
        let dlogits = head.loss(&mut b, &on_top);
        b.turn();
        let mut dx = head.backward(&mut b, &on_top, dlogits);
        let mut beside = None;
        for (i, block) in blocks.iter().enumerate().rev() {
            b.enter(Some(i));
            let (below, stream) = backward(block, &mut b, &passes[i], dx, beside);
            (dx, beside) = (below, Some(stream));
        }
        b.enter(None);
        // The embeddings went both ways.
        embeddings.backward(&mut b, dx);
        if let Some(stream) = beside {
            embeddings.backward(&mut b, stream);
        }
        b.finish()
    })
}
