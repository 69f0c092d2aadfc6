//! A device's limits, measured with this program's own kernels: a large product and a copy.

use crate::backend::{Backend, DropoutKey, MatrixKind, MatrixShape, Memory, Slot};
use crate::batch::{Batch, Labels};
use crate::program::{
    ALIGN, Builder, Dropout, In, Limits, LinearLayer, Numbers, Out, ParamRange, Program, Region,
    Rows, Span, Storage, TakeColumns, Times, Value, What,
};
use anyhow::{Context, Result};

/// See the module documentation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ceilings {
    /// Multiplications and additions per second in a product.
    pub flops: f64,
    /// Bytes read and written per second in a copy.
    pub bytes: f64,
}

/// Repetitions of each; the fastest counts.
const TIMES: usize = 5;
/// Long enough for a clock, and for a device to reach its full speed.
const ENOUGH_SECONDS: f64 = 0.02;

impl Ceilings {
    /// Measures them on a device without allocated memory, with `least` to `most` rows of `width`, and a multiple of
    /// that for the copy.
    ///
    /// # Errors
    /// If the device has no room, or fails.
    pub fn measure(
        open: &dyn Fn() -> Result<Box<dyn Backend>>,
        ([least, most], width): ([usize; 2], usize),
        copied: usize,
    ) -> Result<Self> {
        let (rows, seconds) =
            large_enough(least, most, |rows| product(&mut *open()?, rows, width))?;
        let flops = 2.0 * rows as f64 * (width * width) as f64 / seconds;
        // More than any cache holds, if the device is fast.
        let (rows, seconds) =
            large_enough(copied * least, copied * most, |rows| copy(&mut *open()?, rows, width))?;
        let element = open()?.kind().element_bytes().activation;
        Ok(Self { flops, bytes: 2.0 * (rows * width * element) as f64 / seconds })
    }
}

/// The first of ever larger numbers of rows that takes long enough, or `most`, and its time in seconds.
fn large_enough(
    first: usize,
    most: usize,
    seconds: impl Fn(usize) -> Result<f64>,
) -> Result<(usize, f64)> {
    let mut rows = first;
    loop {
        let took = seconds(rows)?;
        if took >= ENOUGH_SECONDS || 2 * rows > most {
            return Ok((rows, took));
        }
        rows *= 2;
    }
}

fn product(backend: &mut dyn Backend, tokens: usize, width: usize) -> Result<f64> {
    let shape = MatrixShape { kind: MatrixKind::Linear, rows: width, cols: width, trains: false };
    let values: Vec<f32> = (0..width * width).map(sample).collect();
    let weight = backend.upload("a product's matrix", shape, &values)?;
    let bias = ParamRange { offset: 0, len: width };
    let layer = LinearLayer {
        weight,
        trains: None,
        bias: vec![bias],
        inputs: width,
        outputs: width,
        sparse: None,
    };
    fastest(backend, (tokens, width), width, |b, x| b.linear(What::Qkv, x, &layer))
}

fn copy(backend: &mut dyn Backend, tokens: usize, width: usize) -> Result<f64> {
    fastest(backend, (tokens, width), 0, |b, x| {
        let out = b.like(What::Qkv, x);
        let (times, dropout) = (Times(1.0), Dropout::NONE);
        b.push(TakeColumns { x: In(x), from: 0, times, dropout, out: Out(out) });
        out
    })
}

/// The minimum time in seconds of one operation on `[tokens, width]`, with this many parameters.
fn fastest(
    backend: &mut dyn Backend,
    (tokens, width): (usize, usize),
    params: usize,
    write: impl FnOnce(&mut Builder, Value) -> Value,
) -> Result<f64> {
    let mut b = Builder::new(None);
    let x = b.value(What::Hidden, Rows::Tokens, width, Storage::Activation);
    let y = write(&mut b, x);
    b.output(y);
    let limits = Limits { tokens, sequences: 1, max_len: tokens };
    // The first input is not made by any operation, which the planner does not allow.
    let list = b.finish();
    let element = backend.kind().element_bytes();
    let bytes =
        |value| list.info(value).storage.bytes(tokens, width, element).next_multiple_of(ALIGN);
    let (input, output) = (bytes(x), bytes(y));
    let regions = [Region { offset: 0, len: input }, Region { offset: input, len: output }];
    let program = Program::laid_by_hand(list, &regions, limits);
    backend.allocate(Memory::of(&[&program], (params, 0)))?;
    backend.write_params(Slot::Value, ParamRange { offset: 0, len: params }, &vec![0.1; params])?;
    let values: Vec<f32> = (0..tokens * width).map(sample).collect();
    backend.write(program.region(x), Storage::Activation, &values)?;
    let batch = Batch {
        ids: vec![0; tokens],
        type_ids: vec![0; tokens],
        positions: vec![0; tokens],
        cu_seqlens: vec![0, tokens as u32],
        labels: Labels::None,
    };
    let mut least: Option<f64> = None;
    for _ in 0..TIMES {
        backend.set_batch(&batch, DropoutKey::default())?;
        let pieces = backend.run_timed(&program, Span::WHOLE, Numbers::NONE, None)?;
        let seconds: f64 = pieces.iter().map(|piece| piece.seconds).sum();
        least = Some(least.map_or(seconds, |least| least.min(seconds)));
    }
    least.context("nothing was timed")
}

/// A value of the usual size, different from its neighbours.
fn sample(i: usize) -> f32 {
    0.07 * ((i * 7919 % 1009) as f32 / 1009.0 - 0.5)
}
