//! How products on Hopper are fed and launched, where the choice affects their time and no bit of their results.
//! `BITFIT_HOPPER` changes it, so that one program can measure every choice on a device.

use super::args::{RING_STAGES_96, RING_STAGES_192, RING_STAGES_256};
use super::kernels::Products;
use crate::variables;
use anyhow::Result;

/// The environment variable.
pub const VARIABLE: &str = "BITFIT_HOPPER";

/// A stage is released once the products of the next one run, so a single stage would wait for itself.
const FEWEST_STAGES: usize = 2;
/// Those of the narrowest tile; a wider one has fewer.
const MOST_STAGES: usize = RING_STAGES_96;
const _: () = assert!(MOST_STAGES >= RING_STAGES_192 && RING_STAGES_192 >= RING_STAGES_256);

/// Which rows the left operand of a product has for the copy engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeftRows {
    /// The batch's, which only the kernel knows; rows beyond them become zeros.
    Ragged,
    /// All that a launch is sized for, in a plain map of two dimensions. Rows beyond the batch's are read as they are,
    /// and no result depends on them.
    Plain,
}

/// How a product on Hopper runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RingSettings {
    /// The most stages in use; a tile that has fewer uses all of its own.
    pub stages: usize,
    pub left: LeftRows,
    /// Whether a recorded product may begin before the previous kernel has ended.
    pub overlapping: bool,
}

impl RingSettings {
    pub const USUAL: Self = Self { stages: MOST_STAGES, left: LeftRows::Ragged, overlapping: true };

    /// As set by `BITFIT_HOPPER`.
    ///
    /// # Errors
    /// A [`UsageError`](crate::error::UsageError) if its value is wrong, or the products in use are not Hopper's.
    pub fn told(products: Products) -> Result<Self> {
        let Some(text) = variables::told(VARIABLE) else { return Ok(Self::USUAL) };
        let refused = |why: String| variables::refused(VARIABLE, &text, &why);
        let told = Self::of(&text).map_err(refused)?;
        match products {
            Products::Hopper => Ok(told),
            Products::Portable => Err(refused(
                "it is for the products that only compute capability 9.0 has, and others are in use; unset it".into(),
            )
            .into()),
        }
    }

    /// From settings such as `stages=3,maps=plain`; the others are as usual.
    ///
    /// # Errors
    /// What is wrong, and which settings there are.
    pub fn of(text: &str) -> Result<Self, String> {
        let mut settings = Self::USUAL;
        let mut named = Vec::new();
        for part in text.split(',') {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            let stages = value.parse().ok().filter(|n| (FEWEST_STAGES..=MOST_STAGES).contains(n));
            match (name, value, stages) {
                ("stages", _, Some(stages)) => settings.stages = stages,
                ("maps", "ragged", _) => settings.left = LeftRows::Ragged,
                ("maps", "plain", _) => settings.left = LeftRows::Plain,
                ("launches", "overlapping", _) => settings.overlapping = true,
                ("launches", "ordered", _) => settings.overlapping = false,
                _ => {
                    return Err(format!(
                        "{part:?} is not a setting; there are stages={FEWEST_STAGES} to stages={MOST_STAGES}, \
                         maps=ragged|plain and launches=overlapping|ordered, separated by commas"
                    ));
                }
            }
            if named.contains(&name) {
                return Err(format!("{name} is set twice"));
            }
            named.push(name);
        }
        Ok(settings)
    }

    /// The settings that are not the usual ones, in the variable's form, if any.
    pub fn unusual(self) -> Option<String> {
        let stages = (self.stages != Self::USUAL.stages).then(|| format!("stages={}", self.stages));
        let maps = (self.left == LeftRows::Plain).then(|| "maps=plain".to_owned());
        let launches = (!self.overlapping).then(|| "launches=ordered".to_owned());
        let told: Vec<String> = [stages, maps, launches].into_iter().flatten().collect();
        (!told.is_empty()).then(|| told.join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_read_and_shown_in_one_form() {
        for text in [
            "stages=2",
            "stages=6",
            "maps=plain",
            "launches=ordered",
            "stages=3,maps=plain,launches=ordered",
        ] {
            assert_eq!(RingSettings::of(text).unwrap().unusual().as_deref(), Some(text));
        }
        let usual = RingSettings::of("launches=overlapping,maps=ragged,stages=7").unwrap();
        assert_eq!((usual, usual.unusual()), (RingSettings::USUAL, None));
    }

    #[test]
    fn settings_that_do_not_exist_are_refused_with_those_that_do() {
        for wrong in [
            "stages=1",
            "stages=8",
            "stages=",
            "stages",
            "maps=2d",
            "launches=1",
            "stage=3",
            "stages=3,",
            ",",
        ] {
            let refused = RingSettings::of(wrong).unwrap_err();
            assert!(
                refused.contains("stages=2 to stages=7, maps=ragged|plain"),
                "{wrong}: {refused}"
            );
        }
        assert_eq!(RingSettings::of("stages=3,stages=4").unwrap_err(), "stages is set twice");
    }
}
