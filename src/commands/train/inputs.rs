//! What runs read and do not change: base model, tokenizer and texts. Runs of one process that need the same share it,
//! so it is read once.

use super::data::Data;
use crate::backend::Resident;
use crate::commands::base::Base;
use crate::commands::named;
use crate::commands::notes::{Said, recorded, retell};
use crate::data::TextTokenizer;
use crate::ranks::Share;
use crate::session::gpu;
use crate::settings::biases::BiasSelection;
use crate::settings::method::Method;
use crate::settings::task::Task;
use crate::settings::train::{DevSource, TrainConfig};
use anyhow::Result;
use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A base model, and those of its frozen matrices that runs have uploaded.
pub struct OpenBase {
    pub base: Base,
    /// By [`frozen_name`].
    frozen: Mutex<BTreeMap<String, Resident>>,
}

impl OpenBase {
    /// The frozen matrices of a run with these settings, shared with other runs.
    pub fn frozen(&self, config: &TrainConfig) -> Resident {
        self.all_frozen().entry(frozen_name(config)).or_default().clone()
    }

    fn all_frozen(&self) -> MutexGuard<'_, BTreeMap<String, Resident>> {
        self.frozen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Equal for runs whose frozen matrices are identical in memory.
pub fn frozen_name(config: &TrainConfig) -> String {
    let TrainConfig { model, weights, device, precision, .. } = config;
    match gpu(*device, Share::WHOLE) {
        // On a GPU the precision decides between two 16-bit types.
        Some(_) => format!("{model} {weights} {precision}"),
        None => format!("{model} {weights}"),
    }
}

/// What a run reads.
pub struct Texts {
    pub of: Arc<OpenBase>,
    pub tokenizer: Arc<TextTokenizer>,
    pub data: Data,
}

impl Texts {
    pub fn base(&self) -> &Base {
        &self.of.base
    }
}

/// Everything that runs have read and may need again.
#[derive(Default)]
pub struct Inputs {
    bases: Once<OpenBase>,
    tokenizers: Once<TextTokenizer>,
    texts: Once<Texts>,
}

impl Inputs {
    /// What a run with these settings reads. Messages about it are repeated to every run that asks.
    ///
    /// # Errors
    /// A base or a file that cannot be read.
    pub fn of(&self, config: &TrainConfig, quiet: bool) -> Result<Arc<Texts>> {
        named::say_recipe(config, quiet);
        let of = self.base(config, quiet)?;
        self.texts.get(texts_key(config)?, || {
            let tokenizer = self.tokenizer(config, quiet)?;
            let data = Data::read(config, &tokenizer, quiet)?;
            Ok(Texts { of, tokenizer, data })
        })
    }

    /// The base of a run with these settings.
    ///
    /// # Errors
    /// As [`Base::open`].
    pub fn base(&self, config: &TrainConfig, quiet: bool) -> Result<Arc<OpenBase>> {
        self.bases.get(config.model.clone(), || {
            let base = Base::open(&config.model, quiet)?;
            Ok(OpenBase { base, frozen: Mutex::default() })
        })
    }

    /// The tokenizer of a run with these settings.
    ///
    /// # Errors
    /// As [`Base::tokenizer`].
    pub fn tokenizer(&self, config: &TrainConfig, quiet: bool) -> Result<Arc<TextTokenizer>> {
        let base = &self.base(config, quiet)?.base;
        let asked = config.max_length(base.config.max_len());
        let name = format!("{} {asked:?}", config.model);
        self.tokenizers.get(name, || base.tokenizer(asked, quiet))
    }

    /// Releases frozen matrices by their [`frozen_name`]. A run that uses them keeps them.
    pub fn release(&self, frozen: &str) {
        for place in self.bases.places().values() {
            let made = place.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(OnceMade { thing: base, .. }) = &*made {
                base.all_frozen().remove(frozen);
            }
        }
    }
}

/// What distinguishes the texts that runs read. Settings without influence on them are left out by name, so that a new
/// setting counts until it is listed here.
///
/// # Errors
/// Settings that cannot be serialised.
pub fn texts_key(config: &TrainConfig) -> Result<String> {
    let plain = TrainConfig::with_defaults(String::new(), None, PathBuf::new());
    let drawn = matches!(config.dev, Some(DevSource::Fraction(_)))
        || config.train_rows.is_some()
        || config.task.kind() == Task::MaskedLm;
    let key = TrainConfig {
        weights: plain.weights,
        pooling: plain.pooling,
        pooler: plain.pooler,
        init_head: None,
        init_delta: None,
        method: Method::default(),
        biases: BiasSelection::all(),
        lora: None,
        class_weights: None,
        no_shuffle: false,
        length: plain.length,
        batch_size: plain.batch_size,
        batch_tokens: None,
        grad_accumulation: plain.grad_accumulation,
        lr: plain.lr,
        betas: plain.betas,
        eps: plain.eps,
        weight_decay: plain.weight_decay,
        schedule: plain.schedule,
        warmup: plain.warmup,
        clip_norm: plain.clip_norm,
        dropout: None,
        seed: if drawn { config.seed } else { 0 },
        eval_steps: None,
        metric: None,
        patience: None,
        saving: plain.saving,
        memory: None,
        output: PathBuf::new(),
        tensorboard: false,
        save_steps: None,
        save_minutes: None,
        device: plain.device,
        precision: plain.precision,
        threads: None,
        ..config.clone()
    };
    key.to_toml()
}

/// Things that are made once for everyone who needs them, and stay.
struct Once<T>(Mutex<HashMap<String, OncePlace<T>>>);

/// A thing, once made, behind its own lock: others can be looked up while it is being made.
type OncePlace<T> = Arc<Mutex<Option<OnceMade<T>>>>;

struct OnceMade<T> {
    thing: Arc<T>,
    /// During its making.
    said: Vec<Said>,
}

impl<T> Default for Once<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T> Once<T> {
    /// What is stored under this name, or what `make` makes. Concurrent callers wait; after a failure the next one
    /// tries.
    fn get(&self, name: String, make: impl FnOnce() -> Result<T>) -> Result<Arc<T>> {
        let place = Arc::clone(self.places().entry(name).or_default());
        let mut made = place.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(OnceMade { thing, said }) = &*made {
            said.iter().try_for_each(retell)?;
            return Ok(Arc::clone(thing));
        }
        let (thing, said) = recorded(make);
        let thing = Arc::new(thing?);
        *made = Some(OnceMade { thing: Arc::clone(&thing), said });
        Ok(thing)
    }

    fn places(&self) -> MutexGuard<'_, HashMap<String, OncePlace<T>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::rate::Rate;
    use std::cell::Cell;

    #[test]
    fn a_thing_is_made_once() {
        let (once, count) = (Once::default(), Cell::new(0));
        let get = |name: &str| {
            let make = || {
                count.set(count.get() + 1);
                Ok(count.get())
            };
            *once.get(name.to_owned(), make).unwrap()
        };
        assert!(once.get("a".to_owned(), || anyhow::bail!("not yet")).is_err());
        assert_eq!((get("a"), get("b"), get("a")), (1, 2, 1));
    }

    #[test]
    fn runs_share_their_texts_unless_something_tells_them_apart() {
        let config = || TrainConfig::with_defaults("m".into(), Some("a.tsv".into()), "out".into());
        let of = |change: fn(&mut TrainConfig)| {
            let mut config = config();
            change(&mut config);
            texts_key(&config).unwrap()
        };
        let same = of(|_| ());
        assert_eq!(of(|c| c.lr = Rate::Is(0.5)), same);
        assert_eq!(of(|c| c.method = Method::Full), same);
        assert_eq!(of(|c| c.tensorboard = true), same);
        assert_eq!(of(|c| c.seed = 7), same, "nothing is drawn");
        let split = of(|c| c.dev = Some(DevSource::Fraction(0.1)));
        let other_split = of(|c| {
            c.dev = Some(DevSource::Fraction(0.1));
            c.seed = 7;
        });
        assert!(split != same && split != other_split);
        assert_ne!(of(|c| c.model = "n".into()), same);
        assert_ne!(of(|c| c.max_length = Some(9)), same);
        assert_ne!(of(|c| c.train_rows = Some(9)), same);
    }
}
