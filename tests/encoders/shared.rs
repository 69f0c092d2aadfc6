//! An encoder that applies one block repeatedly, like ALBERT: its gradients add up over the applications, and each has
//! its own dropout sites.

use crate::parts::{BLOCKS, Parts};
use bitfit::model::bert::Block;
use bitfit::program::{Builder, List, Saving};

/// The same weights at other sites.
fn applied_again(block: &Block, parts: &mut Parts<'_>) -> Block {
    let mut block = block.clone();
    block.dropout = parts.dropout();
    block.attention_norm.dropout = parts.dropout();
    block.output_norm.dropout = parts.dropout();
    block
}

pub fn encoder(parts: &mut Parts<'_>) -> Box<dyn Fn(Saving) -> List> {
    let embeddings = parts.embeddings();
    let mut blocks = vec![parts.block()];
    while blocks.len() < BLOCKS {
        let next = applied_again(&blocks[0], parts);
        blocks.push(next);
    }
    let head = parts.head();
    Box::new(move |saving| {
        let mut b = Builder::new(Some(saving));
        let mut x = embeddings.forward(&mut b);
        let mut passes = Vec::new();
        for (i, block) in blocks.iter().enumerate() {
            b.enter(Some(i));
            let pass = block.forward(&mut b, x, true);
            x = pass.y.out;
            passes.push(pass);
        }
        b.enter(None);
        let on_top = head.forward(&mut b, x);
        b.output(on_top.logits());
        let dlogits = head.loss(&mut b, &on_top);
        b.turn();
        let mut dx = head.backward(&mut b, &on_top, dlogits);
        for (i, block) in blocks.iter().enumerate().rev() {
            b.enter(Some(i));
            dx = block.backward(&mut b, &passes[i], dx);
        }
        b.enter(None);
        embeddings.backward(&mut b, dx);
        b.finish()
    })
}
