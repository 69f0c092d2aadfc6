//! The checkpoint's own masked-words head: a dense layer, an activation and a LayerNorm, then the frozen embedding
//! table again, with a bias per word. Its biases train.

use super::read::{Loader, NewHeadLayer, NewWeight, NormNames};
use crate::backend::{MatrixKind, MatrixShape};
use crate::model::config::Family;
use crate::model::params::ParamKind;
use crate::program::Activation;
use anyhow::{Result, ensure};

/// The names of the tensors.
struct Names {
    dense: &'static str,
    norm: &'static str,
    /// A copy of the embedding table, which files may omit.
    table: &'static str,
    /// The bias of the words; some files have only the second name.
    words: [&'static str; 2],
}

impl Names {
    const fn of(family: Family) -> Self {
        match family {
            Family::Bert => Self {
                dense: "cls.predictions.transform.dense",
                norm: "cls.predictions.transform.LayerNorm",
                table: "cls.predictions.decoder.weight",
                words: ["cls.predictions.bias", "cls.predictions.decoder.bias"],
            },
            Family::Roberta => Self {
                dense: "lm_head.dense",
                norm: "lm_head.layer_norm",
                table: "lm_head.decoder.weight",
                words: ["lm_head.bias", "lm_head.decoder.bias"],
            },
        }
    }
}

impl Loader<'_> {
    /// `table` is the word embedding table.
    pub(super) fn words_head(&mut self, table: &NewWeight) -> Result<Vec<NewHeadLayer>> {
        let (config, hidden) = (self.config, self.config.hidden);
        ensure!(
            config.tied,
            "config.json: `tie_word_embeddings` is false: a head on masked words with its own matrix is not supported"
        );
        ensure!(
            !self.task.trains.weights(),
            "a head on masked words trains its biases; its matrix is the embeddings' table"
        );
        let names = Names::of(config.family);
        let shape = [config.vocab, hidden];
        self.source.is_tied(names.table, "embeddings.word_embeddings.weight", &shape)?;
        let name = format!("{}.weight", names.dense);
        let shape =
            MatrixShape { kind: MatrixKind::Linear, rows: hidden, cols: hidden, trains: false };
        let source = self.source;
        let values = || source.of_words_head(&[&name], &[hidden, hidden]);
        let stored = self.frozen(&name, shape, values)?;
        let dense = NewHeadLayer {
            weight: NewWeight { name, shape, stored, sparse: None },
            bias: self.bias_of_head(&[&format!("{}.bias", names.dense)], hidden)?,
            outputs: hidden,
            dropout: false,
            tanh: false,
            norm: None,
        };
        let gain = format!("{}.weight", names.norm);
        let values = self.source.of_words_head(&[&gain], &[hidden])?;
        let norm = NormNames {
            gamma: self.add(ParamKind::Gain, None, gain, (hidden, values), false),
            beta: self.bias_of_head(&[&format!("{}.bias", names.norm)], hidden)?,
        };
        let act = match config.family {
            Family::Bert => config.activation,
            // Regardless of the encoder's activation.
            Family::Roberta => Activation::GeluErf,
        };
        let words = NewHeadLayer {
            weight: table.clone(),
            bias: self.bias_of_head(&names.words, config.vocab)?,
            outputs: config.vocab,
            dropout: false,
            tanh: false,
            norm: None,
        };
        Ok(vec![NewHeadLayer { norm: Some((act, norm)), ..dense }, words])
    }

    /// A bias under the first of its names, which it keeps.
    fn bias_of_head(&mut self, names: &[&str], width: usize) -> Result<String> {
        let values = self.source.of_words_head(names, &[width])?;
        Ok(self.add(ParamKind::Head, None, names[0].to_owned(), (width, values), true))
    }
}
