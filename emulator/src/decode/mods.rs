//! The modifiers of an opcode, taken one by one.

use crate::numeric::Round;
use crate::numeric::cmp::BoolOp;
use crate::ptx::types::{Space, Type};

pub struct Mods<'a> {
    parts: Vec<&'a str>,
}

impl<'a> Mods<'a> {
    pub fn new(parts: Vec<&'a str>) -> Self {
        Self { parts }
    }

    /// The first modifier that has not been taken.
    pub fn left(&self) -> Option<&'a str> {
        self.parts.first().copied()
    }

    pub fn flag(&mut self, name: &str) -> bool {
        match self.parts.iter().position(|p| *p == name) {
            Some(at) => {
                self.parts.remove(at);
                true
            }
            None => false,
        }
    }

    /// Takes whichever of `names` is present.
    pub fn any(&mut self, names: &[&'static str]) -> Option<&'static str> {
        names.iter().copied().find(|n| self.flag(n))
    }

    pub fn pick<T>(&mut self, mut read: impl FnMut(&str) -> Option<T>) -> Option<T> {
        let (at, value) =
            self.parts.iter().enumerate().find_map(|(i, p)| read(p).map(|v| (i, v)))?;
        self.parts.remove(at);
        Some(value)
    }

    /// The next type, in text order.
    pub fn ty(&mut self) -> Option<Type> {
        self.pick(Type::parse)
    }

    pub fn round(&mut self) -> Option<Round> {
        self.pick(|p| {
            Some(match p {
                "rn" => Round::Rn,
                "rz" => Round::Rz,
                "rm" => Round::Rm,
                "rp" => Round::Rp,
                "rna" => Round::Rna,
                _ => return None,
            })
        })
    }

    pub fn bool_op(&mut self) -> Option<BoolOp> {
        self.pick(|p| {
            Some(match p {
                "and" => BoolOp::And,
                "or" => BoolOp::Or,
                "xor" => BoolOp::Xor,
                _ => return None,
            })
        })
    }

    pub fn space(&mut self) -> Option<Space> {
        self.pick(|p| {
            Some(match p {
                "global" => Space::Global,
                // A block is alone in its cluster.
                "shared" | "shared::cta" | "shared::cluster" => Space::Shared,
                "local" => Space::Local,
                "const" => Space::Const,
                "param" | "param::entry" | "param::func" => Space::Param,
                _ => return None,
            })
        })
    }
}
