//! The encoder and its task head with matrices on a device, and the lists for training and prediction.

mod addressable;
pub mod bert;
pub mod config;
pub mod fit;
pub mod load;
pub mod params;

use crate::backend::{Backend, MatrixShape, Memory, Slot};
use crate::methods::entries::Places;
use crate::program::{Builder, ElementBytes, Limits, List, ParamRange, Program, Saving};
use crate::settings::biases::Component;
use crate::tasks::head::TaskHead;
use anyhow::Result;
use bert::Encoder;
use config::ModelConfig;
use params::{ParamKind, Params};
use std::sync::Arc;

/// An encoder with its matrices on a device, and its head.
#[derive(Clone, Debug)]
pub struct Model {
    pub config: ModelConfig,
    pub params: Params,
    pub encoder: Encoder,
    pub head: TaskHead,
    /// The matrices that the device holds.
    pub matrices: Vec<MatrixShape>,
    /// Single values that train, by tensor name.
    pub chosen: Places,
}

impl Model {
    /// A training step, or a prediction if there is no way of saving, as the model writes it, before any pass. Its
    /// outputs are the logits, `[sequences, outputs]`. With `everything` also the hidden states of all tokens after the
    /// embeddings and after each block, `[tokens, hidden]`, and the pooled vectors, `[sequences, hidden]`, for
    /// inspection.
    pub fn write_down(&self, train: Option<Saving>, everything: bool) -> List {
        let mut b = Builder::new(train);
        let pass = self.encoder.forward(&mut b, everything);
        let head = self.head.forward(&mut b, pass.last());
        b.output(head.logits());
        if everything {
            for value in pass.hidden_states() {
                b.output(value);
            }
            b.output(head.pooled());
        }
        if train.is_some() {
            let dlogits = self.head.loss(&mut b, &head);
            b.turn();
            let dx = self.head.backward(&mut b, &head, dlogits);
            self.encoder.backward(&mut b, &pass, dx);
        }
        b.finish()
    }

    /// The same after the passes: what actually runs.
    pub fn list(&self, train: Option<Saving>, everything: bool) -> Arc<List> {
        let mut list = self.write_down(train, everything);
        list.freeze(self.params.with_gradient());
        if let Some(saving) = train {
            list.again(saving);
        }
        list.prune();
        if cfg!(debug_assertions)
            && train.is_some()
            && let Err(fault) =
                list.verify_gradients(&self.gradients(), self.params.with_gradient())
        {
            panic!("{fault:#}");
        }
        Arc::new(list)
    }

    /// For batches of up to `limits` on a backend with this element size.
    pub fn program(&self, limits: Limits, element: ElementBytes, train: Option<Saving>) -> Program {
        self.list(train, false).place(limits, element)
    }

    /// The parameters that must have a gradient in a training list: all that train except the key's biases, whose
    /// gradient is zero.
    pub fn gradients(&self) -> Vec<ParamRange> {
        let has_one = |kind: ParamKind| kind != ParamKind::Bias(Component::Key);
        let trained = self.params.trained().filter(|param| has_one(param.kind));
        trained.map(|param| param.range).collect()
    }

    /// The device memory that the given programs need in addition to the matrices; they share one arena. With several
    /// `ranks`, each also needs room for what they exchange.
    pub fn memory(&self, programs: &[&Program], ranks: usize) -> Memory {
        let trainable = self.params.trainable();
        Memory {
            with_gradient: self.params.with_gradient(),
            exchanged: if ranks > 1 { trainable + 2 } else { 0 },
            ..Memory::of(programs, (self.params.count(), trainable))
        }
    }

    /// Allocates device memory for the given programs and writes the initial parameters.
    ///
    /// # Errors
    /// When the device has no room.
    pub fn allocate(
        &self,
        backend: &mut dyn Backend,
        programs: &[&Program],
        ranks: usize,
    ) -> Result<()> {
        backend.allocate(self.memory(programs, ranks))?;
        backend.write_params(Slot::Value, self.params.whole(), self.params.initial())
    }

    /// Whether every weight trains, not only biases and the head.
    pub fn trains_weights(&self) -> bool {
        self.encoder.embeddings.trains.is_some()
    }
}
