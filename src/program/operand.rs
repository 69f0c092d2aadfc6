//! Operands of operations. A field's type says what the operation does with it; for most operations passes know nothing
//! else.
//!
//! Three rules of aliasing. [`Over`] is required by a kernel: both values share one place, and nobody reads the first
//! one later. [`Op::may_share`](super::Op::may_share) is an option for the planner: an output takes the place of an
//! input that dies there. All other operands of an operation are disjoint.

use super::{
    Activation, AddedRows, Dropout, Entries, HeadWeight, LossKind, Norm, ParamRange, PoolKind,
    TableIds, Times, WeightId,
};

/// A tensor. It is written once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Value(pub u32);

impl Value {
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// Read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct In(pub Value);

/// Written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Out(pub Value);

/// Read, and overwritten by `now`; nobody reads `was` later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Over {
    pub was: Value,
    pub now: Value,
}

/// Written if something reads it, left out otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Aside(pub Option<Value>);

/// A parameter's gradient, accumulated with `+=`; left out if the parameter is frozen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Sum(pub Option<ParamRange>);

/// A new tensor, or `+=` to an existing one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dest {
    New(Out),
    Onto(Over),
}

impl Dest {
    /// The value afterwards.
    pub fn now(self) -> Value {
        match self {
            Self::New(Out(value)) => value,
            Self::Onto(over) => over.now,
        }
    }
}

/// One use of a value or a gradient by an operation.
#[derive(Debug)]
pub enum Use<'a> {
    Read(&'a mut Value),
    Write(&'a mut Value),
    /// `was`, `now`
    Over(&'a mut Value, &'a mut Value),
    Aside(&'a mut Option<Value>),
    Sum(&'a mut Option<ParamRange>),
}

/// A field of an operation.
pub trait Operand {
    /// Calls `f` with what the operation does with this field.
    fn visit(&mut self, f: &mut dyn FnMut(Use<'_>));

    /// The lengths of the parameters it names, or a number if it is a size.
    fn lengths(&self) -> Vec<usize> {
        Vec::new()
    }
}

/// An operand with a single use.
macro_rules! used {
    ($($kind:ident as $name:ident($($field:tt),*);)*) => {$(
        impl Operand for $kind {
            fn visit(&mut self, f: &mut dyn FnMut(Use<'_>)) {
                f(Use::$name($(&mut self.$field),*));
            }
        }
    )*};
}

used! {
    In as Read(0);
    Out as Write(0);
    Over as Over(was, now);
    Aside as Aside(0);
    Sum as Sum(0);
}

impl Operand for Dest {
    fn visit(&mut self, f: &mut dyn FnMut(Use<'_>)) {
        match self {
            Self::New(out) => out.visit(f),
            Self::Onto(over) => over.visit(f),
        }
    }
}

impl<T: Operand> Operand for Option<T> {
    fn visit(&mut self, f: &mut dyn FnMut(Use<'_>)) {
        if let Some(operand) = self {
            operand.visit(f);
        }
    }
}

/// Settings of an operation, which are not tensors; some have known lengths.
macro_rules! settings {
    ($($kind:ty $(: |$it:ident| $lengths:expr)?;)*) => {$(
        impl Operand for $kind {
            fn visit(&mut self, _: &mut dyn FnMut(Use<'_>)) {}
            $(fn lengths(&self) -> Vec<usize> {
                let $it = self;
                $lengths
            })?
        }
    )*};
}

settings! {
    Activation;
    AddedRows;
    Dropout;
    Entries;
    HeadWeight: |weight| match weight {
        HeadWeight::Param(range) => vec![range.len],
        HeadWeight::Frozen(_) => Vec::new(),
    };
    LossKind;
    Norm: |norm| vec![norm.gamma.len, norm.beta.len];
    ParamRange: |range| vec![range.len];
    PoolKind;
    TableIds;
    Times;
    Vec<ParamRange>: |parts| vec![parts.iter().map(|part| part.len).sum()];
    WeightId;
    bool;
    usize: |size| vec![*size];
}
