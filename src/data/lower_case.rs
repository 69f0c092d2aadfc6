//! Lower-casing that a sentence encoder's own settings ask for, although its tokenizer keeps case. `transformers` does not
//! read these settings, so it is done where the tokenizer's files can say it, as far as they can.

use anyhow::{Result, anyhow};
use tokenizers::Tokenizer;
use tokenizers::normalizers::{Lowercase, NormalizerWrapper, Sequence};

use super::special_tokens::Class;

/// What lower-cases texts, and where files can say so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lowered {
    /// The tokenizer as it is written, or nothing.
    AsWritten,
    /// Its class by another setting than its own; accents go or stay as they did.
    ByClass { strip_accents: bool },
    /// Its normalizer, which `tokenizer.json` can have.
    ByNormalizer,
    /// What no file of a tokenizer of this class can say.
    Besides,
}

/// Has a tokenizer lower-case before all else, unless it does so anyway.
///
/// # Errors
/// Parts that cannot be put together.
pub(super) fn lower_case(tokenizer: &mut Tokenizer, class: Class) -> Result<Lowered> {
    let mut parts = match tokenizer.get_normalizer() {
        None => Vec::new(),
        Some(NormalizerWrapper::Sequence(sequence)) => sequence.as_ref().to_vec(),
        Some(one) => vec![one.clone()],
    };
    let lowers = |part: &NormalizerWrapper| match part {
        NormalizerWrapper::Lowercase(_) => true,
        NormalizerWrapper::BertNormalizer(part) => part.lowercase,
        _ => false,
    };
    if parts.iter().any(lowers) {
        return Ok(Lowered::AsWritten);
    }
    if let [NormalizerWrapper::BertNormalizer(part)] = parts.as_mut_slice() {
        // Left to itself it strips accents where it lower-cases, and did not so far.
        let strip_accents = part.strip_accents.unwrap_or(false);
        part.strip_accents = Some(strip_accents);
        part.lowercase = true;
        let part = *part;
        tokenizer.with_normalizer(Some(part)).map_err(|e| anyhow!(e))?;
        return Ok(match class {
            Class::Bert => Lowered::ByClass { strip_accents },
            _ => Lowered::ByNormalizer,
        });
    }
    let all = std::iter::once(NormalizerWrapper::from(Lowercase)).chain(parts);
    tokenizer.with_normalizer(Some(Sequence::new(all.collect()))).map_err(|e| anyhow!(e))?;
    Ok(match class {
        Class::Written => Lowered::ByNormalizer,
        _ => Lowered::Besides,
    })
}
