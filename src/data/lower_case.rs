//! Lower-casing requested by a sentence encoder's own settings although its tokenizer keeps case. `transformers` does
//! not read these settings, so the tokenizer's files are made to say it, as far as they can.

use anyhow::{Result, anyhow};
use tokenizers::Tokenizer;
use tokenizers::normalizers::{Lowercase, NormalizerWrapper, Sequence};

use super::special_tokens::Class;

/// What lower-cases texts, and where files can say so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lowered {
    /// The tokenizer as written, or nothing.
    AsWritten,
    /// Its class, with a changed setting; accents are stripped or kept as before.
    ByClass { strip_accents: bool },
    /// Its normalizer, which `tokenizer.json` can have.
    ByNormalizer,
    /// Something that no file of a tokenizer of this class can express.
    Besides,
}

/// Makes a tokenizer lower-case before anything else, unless it does so anyway.
///
/// # Errors
/// Parts that cannot be combined.
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
        // By default it strips accents if it lower-cases; it did not before.
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
