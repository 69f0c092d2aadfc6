//! Element-wise work on rows: bias, activation and its derivative, products.

use super::math;
use super::simd::{dispatch, fma};
use crate::program::Activation;

dispatch! {
    /// `row += bias`.
    pub fn add(row: &mut [f32], bias: &[f32]) = add_body;
    /// `row *= factor`, element by element.
    pub fn multiply(row: &mut [f32], factor: &[f32]) = multiply_body;
    /// `sum += a ⊙ b`.
    pub fn add_product(sum: &mut [f32], a: &[f32], b: &[f32]) = add_product_body;
    /// `row *= factor`.
    pub fn scale(row: &mut [f32], factor: f32) = scale_body;
    /// `row = tanh(row)`.
    pub fn tanh(row: &mut [f32]) = tanh_body;
    /// `dy *= 1 - y²`: back through a tanh whose output was `y`.
    pub fn tanh_backward(dy: &mut [f32], y: &[f32]) = tanh_backward_body;
    fn gelu_erf_slope(row: &mut [f32], bias: &[f32]) = gelu_erf_slope_body;
    fn gelu_tanh_slope(row: &mut [f32], bias: &[f32]) = gelu_tanh_slope_body;
    fn relu_slope(row: &mut [f32], bias: &[f32]) = relu_slope_body;
    fn gelu_erf(row: &mut [f32], bias: &[f32]) = gelu_erf_body;
    fn gelu_erf_saved(row: &mut [f32], bias: &[f32], derivative: &mut [f32]) = gelu_erf_saved_body;
    fn gelu_tanh(row: &mut [f32], bias: &[f32]) = gelu_tanh_body;
    fn gelu_tanh_saved(row: &mut [f32], bias: &[f32], derivative: &mut [f32]) = gelu_tanh_saved_body;
    fn relu(row: &mut [f32], bias: &[f32]) = relu_body;
    fn relu_saved(row: &mut [f32], bias: &[f32], derivative: &mut [f32]) = relu_saved_body;
}

/// `row = act(row + bias)`, and `act′(row + bias)` if requested.
pub fn activate(kind: Activation, row: &mut [f32], bias: &[f32], derivative: Option<&mut [f32]>) {
    match (kind, derivative) {
        (Activation::GeluErf, None) => gelu_erf(row, bias),
        (Activation::GeluErf, Some(d)) => gelu_erf_saved(row, bias, d),
        (Activation::GeluTanh, None) => gelu_tanh(row, bias),
        (Activation::GeluTanh, Some(d)) => gelu_tanh_saved(row, bias, d),
        (Activation::Relu, None) => relu(row, bias),
        (Activation::Relu, Some(d)) => relu_saved(row, bias, d),
    }
}

/// `row = act(row)`, and `act′(row)` if requested.
pub fn activated(kind: Activation, row: &mut [f32], derivative: Option<&mut [f32]>) {
    const NONE: [f32; 256] = [0.0; 256];
    match derivative {
        None => row.chunks_mut(NONE.len()).for_each(|row| activate(kind, row, &NONE, None)),
        Some(derivative) => {
            let pieces = row.chunks_mut(NONE.len()).zip(derivative.chunks_mut(NONE.len()));
            pieces.for_each(|(row, derivative)| activate(kind, row, &NONE, Some(derivative)));
        }
    }
}

/// `row = act′(row + bias)`.
pub fn slope(kind: Activation, row: &mut [f32], bias: &[f32]) {
    match kind {
        Activation::GeluErf => gelu_erf_slope(row, bias),
        Activation::GeluTanh => gelu_tanh_slope(row, bias),
        Activation::Relu => relu_slope(row, bias),
    }
}

#[inline(always)]
fn add_body<const FMA: bool>(row: &mut [f32], bias: &[f32]) {
    for (x, b) in row.iter_mut().zip(bias) {
        *x += b;
    }
}

#[inline(always)]
fn add_product_body<const FMA: bool>(sum: &mut [f32], a: &[f32], b: &[f32]) {
    products::<FMA, _>(sum, a, b, |b| b);
}

/// `sum += a ⊙ b`, with b in another storage type.
#[inline(always)]
pub fn products<const FMA: bool, T: Copy>(
    sum: &mut [f32],
    a: &[f32],
    b: &[T],
    wide: impl Fn(T) -> f32,
) {
    for ((sum, a), b) in sum.iter_mut().zip(a).zip(b) {
        *sum = fma::<FMA>(*a, wide(*b), *sum);
    }
}

#[inline(always)]
fn multiply_body<const FMA: bool>(row: &mut [f32], factor: &[f32]) {
    for (x, f) in row.iter_mut().zip(factor) {
        *x *= f;
    }
}

#[inline(always)]
fn scale_body<const FMA: bool>(row: &mut [f32], factor: f32) {
    for x in row {
        *x *= factor;
    }
}

#[inline(always)]
fn tanh_body<const FMA: bool>(row: &mut [f32]) {
    for x in row {
        *x = math::tanh::<FMA>(*x);
    }
}

#[inline(always)]
fn tanh_backward_body<const FMA: bool>(dy: &mut [f32], y: &[f32]) {
    for (d, y) in dy.iter_mut().zip(y) {
        *d *= 1.0 - y * y;
    }
}

/// The loop shared by all activations: the closure returns value and derivative, and the unused one costs nothing after
/// inlining.
#[inline(always)]
fn each(row: &mut [f32], bias: &[f32], f: impl Fn(f32) -> (f32, f32)) {
    for (x, b) in row.iter_mut().zip(bias) {
        *x = f(*x + b).0;
    }
}

#[inline(always)]
fn each_slope(row: &mut [f32], bias: &[f32], f: impl Fn(f32) -> (f32, f32)) {
    for (x, b) in row.iter_mut().zip(bias) {
        *x = f(*x + b).1;
    }
}

#[inline(always)]
fn each_saved(
    row: &mut [f32],
    bias: &[f32],
    derivative: &mut [f32],
    f: impl Fn(f32) -> (f32, f32),
) {
    for ((x, b), d) in row.iter_mut().zip(bias).zip(derivative) {
        (*x, *d) = f(*x + b);
    }
}

#[inline(always)]
fn gelu_erf_slope_body<const FMA: bool>(row: &mut [f32], bias: &[f32]) {
    each_slope(row, bias, math::gelu_erf::<FMA>);
}

#[inline(always)]
fn gelu_tanh_slope_body<const FMA: bool>(row: &mut [f32], bias: &[f32]) {
    each_slope(row, bias, math::gelu_tanh::<FMA>);
}

#[inline(always)]
fn relu_slope_body<const FMA: bool>(row: &mut [f32], bias: &[f32]) {
    each_slope(row, bias, relu_value);
}

#[inline(always)]
fn gelu_erf_body<const FMA: bool>(row: &mut [f32], bias: &[f32]) {
    each(row, bias, math::gelu_erf::<FMA>);
}

#[inline(always)]
fn gelu_erf_saved_body<const FMA: bool>(row: &mut [f32], bias: &[f32], derivative: &mut [f32]) {
    each_saved(row, bias, derivative, math::gelu_erf::<FMA>);
}

#[inline(always)]
fn gelu_tanh_body<const FMA: bool>(row: &mut [f32], bias: &[f32]) {
    each(row, bias, math::gelu_tanh::<FMA>);
}

#[inline(always)]
fn gelu_tanh_saved_body<const FMA: bool>(row: &mut [f32], bias: &[f32], derivative: &mut [f32]) {
    each_saved(row, bias, derivative, math::gelu_tanh::<FMA>);
}

/// NaN passes through: `max` would turn it into 0 and hide a broken run.
#[inline(always)]
fn relu_value(x: f32) -> (f32, f32) {
    if x <= 0.0 { (0.0, 0.0) } else { (x, 1.0) }
}

#[inline(always)]
fn relu_body<const FMA: bool>(row: &mut [f32], bias: &[f32]) {
    each(row, bias, relu_value);
}

#[inline(always)]
fn relu_saved_body<const FMA: bool>(row: &mut [f32], bias: &[f32], derivative: &mut [f32]) {
    each_saved(row, bias, derivative, relu_value);
}
