//! Messages about the parts from which a run's model is assembled.

use crate::commands::base::Base;
use crate::commands::say;
use crate::formats::sentence::Makers;
use crate::methods::Trains;
use crate::model::Model;
use crate::model::config::Family;
use crate::model::load::NEW_POOLER;
use crate::model::params::{Param, ParamKind};
use crate::program::PoolKind;
use crate::settings::choice::{PoolerInit, Pooling};
use crate::settings::train::TrainConfig;
use crate::words::count;
use anyhow::Result;

/// Says how much the checkpoint lacks, so that the user can tell whether it is damaged, or how much was drawn.
pub fn say_added(trains: &Trains, model: &Model, quiet: bool) {
    if let Trains::Added(_) = trains {
        let added = model.params.trained().filter(|p| matches!(p.kind, ParamKind::Bias(_)));
        let (layers, values) = added.fold((0, 0), |(n, all), p| (n + 1, all + p.range.len));
        let layers = count(layers, "linear layer");
        say(
            quiet,
            format_args!("{layers} without a bias: {} are added", count(values, "bias value")),
        );
    }
    if let Some(biases) = trains.counted() {
        let values: usize = model.chosen.values().map(Vec::len).sum();
        let about = if trains.in_vectors() { "as many as" } else { "about as many as" };
        say(
            quiet,
            format_args!(
                "{} of {} of the encoder train, {about} --biases {biases} has",
                count(values, "value"),
                count(model.chosen.len(), "tensor"),
            ),
        );
    }
}

/// Says which head is put on the encoder, and why.
pub fn say_head(config: &TrainConfig, base: &Base, model: &Model, quiet: bool) -> Result<()> {
    let makers = match config.pooling {
        Pooling::Auto => Some(Makers::of(&base.folder)?),
        _ => None,
    };
    let why = match makers {
        Some(_) => ", as the checkpoint's makers do",
        None => "",
    };
    let pooling = model.head.pool;
    let vector = match pooling {
        PoolKind::Mean => "the mean over all tokens",
        PoolKind::Cls => "the first token",
        // Nothing is pooled.
        PoolKind::Each | PoolKind::Labelled(_) => return Ok(()),
    };
    say(quiet, format_args!("pooling: {vector}{why}"));
    let new = |p: &Param| p.name == NEW_POOLER && p.kind == ParamKind::Head;
    let new_pooler = model.params.list().iter().any(new);
    if let Some(Makers::Pool { besides, .. }) = makers {
        if pooling == PoolKind::Cls && base.config.family == Family::Bert && !new_pooler {
            say(
                quiet,
                "the checkpoint's makers use the first token directly; here it goes through the checkpoint's pooler, \
                 which they may never have trained (--pooler reinit draws a new one)",
            );
        }
        besides.iter().for_each(|note| say(quiet, note));
    }
    if new_pooler {
        let drawn = match config.pooler {
            PoolerInit::Reinit => "the pooler is reinitialised, as requested",
            _ => "the checkpoint has no pooler: it is initialised at random",
        };
        say(quiet, format_args!("{drawn}, and trains with the head"));
    }
    Ok(())
}
