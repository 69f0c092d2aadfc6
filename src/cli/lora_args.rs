//! The options of `--method lora`, which `train` and `plan` take alike.

use crate::settings::choice::Choice as _;
use crate::settings::lora::{Lora, Projections};
use crate::settings::method::{Adds, Method};
use crate::settings::validate::{self, InvalidSetting};
use clap::Args;

/// The options as given: `None` where nothing is said.
#[derive(Debug, Clone, Default, PartialEq, Args)]
pub struct LoraArgs {
    /// Rank of the products of --method lora; a multiple of 8 on a GPU [default: 8]
    #[arg(long, value_name = "N", help_heading = "What trains")]
    pub lora_rank: Option<usize>,
    /// The products are multiplied by this divided by the rank [default: 8]
    #[arg(long, value_name = "ALPHA", allow_negative_numbers = true, help_heading = "What trains")]
    pub lora_alpha: Option<f64>,
    /// Dropout on the products' input [default: 0]
    #[arg(long, value_name = "P", allow_negative_numbers = true, help_heading = "What trains")]
    pub lora_dropout: Option<f64>,
    /// The layers that get a product: query, key, value, attention-output, output, joined by commas
    /// [default: query,value]
    #[arg(long, value_name = "NAMES", help_heading = "What trains")]
    pub lora_on: Option<Projections>,
}

impl LoraArgs {
    /// These options, with missing ones from `under`.
    pub fn over(self, under: Self) -> Self {
        Self {
            lora_rank: self.lora_rank.or(under.lora_rank),
            lora_alpha: self.lora_alpha.or(under.lora_alpha),
            lora_dropout: self.lora_dropout.or(under.lora_dropout),
            lora_on: self.lora_on.or(under.lora_on),
        }
    }

    /// The low-rank settings, which are only valid with their method.
    ///
    /// # Errors
    /// An option given with methods that cannot use it; an invalid value.
    pub fn settings(&self, methods: &[Method]) -> Result<Option<Lora>, InvalidSetting> {
        if methods.iter().any(|method| method.facts().adds == Adds::LowRank) {
            let default = Lora::default();
            let lora = Lora {
                rank: self.lora_rank.unwrap_or(default.rank),
                alpha: self.lora_alpha.unwrap_or(default.alpha),
                dropout: self.lora_dropout.unwrap_or(default.dropout),
                on: self.lora_on.clone().unwrap_or(default.on),
            };
            validate::lora(&lora)?;
            return Ok(Some(lora));
        }
        let given = [
            ("lora-rank", self.lora_rank.is_some()),
            ("lora-alpha", self.lora_alpha.is_some()),
            ("lora-dropout", self.lora_dropout.is_some()),
            ("lora-on", self.lora_on.is_some()),
        ];
        match given.into_iter().find(|(_, given)| *given) {
            None => Ok(None),
            Some((option, _)) => {
                let names: Vec<&str> = methods.iter().map(|method| method.name()).collect();
                let names = names.join(", ");
                let problem =
                    format!("is only for --method lora, and this is {names}: leave it out");
                Err(InvalidSetting { option, problem })
            }
        }
    }
}
