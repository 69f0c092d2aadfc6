//! Text to vocabulary ids: the `tokenizers` crate for the words, with our own template and truncation around them.
//!
//! The crate's own truncation would work, but it also builds every overflowing window (for a pair: every combination of
//! windows), which for a long enough pair takes gigabytes. So a text is encoded without special tokens, cut here by the
//! same rule, and put into the template obtained once from the tokenizer's post-processor.

use std::fmt;
use std::ops::Range;
use std::path::Path;
use std::sync::OnceLock;

use anyhow::{Result, anyhow, bail};
use rayon::prelude::*;
use tokenizers::decoders::byte_level::ByteLevel;
use tokenizers::{Decoder, Encoding, PreTokenizerWrapper, Tokenizer};

use super::contained::contained;
use super::input::Row;
use super::lower_case::Lowered;
use super::text_counts::{TextCounts, Unknown};
use super::tokenizer_bounds::{Growth, bounds};
use super::tokenizer_files::{self, CutSide, Loaded};
use super::tokenizer_fingerprint;
use super::tokenizer_settled;
use crate::formats::fingerprint::Fingerprint;
use crate::room::room;

/// Where a sequence starts in the position table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Positions {
    /// Row of the first token: 0 for BERT, padding id + 1 for RoBERTa and XLM-R.
    pub offset: u32,
}

impl Positions {
    /// The position of each token of a sequence, as in `create_position_ids_from_input_ids` of transformers: a padding
    /// token within a RoBERTa text has its own id as its position, and those after it do not count it.
    pub fn of(self, ids: &[u32]) -> impl Iterator<Item = u32> {
        let padding = self.offset.checked_sub(1);
        let mut next = self.offset;
        ids.iter().map(move |&id| {
            if Some(id) == padding {
                return id;
            }
            next += 1;
            next - 1
        })
    }

    /// Longest sequence that fits a position table of `rows` rows (`max_position_embeddings`).
    pub fn room(self, rows: usize) -> usize {
        rows.saturating_sub(self.offset as usize)
    }
}

/// The model's requirements for its tokenizer.
#[derive(Clone, Copy, Debug)]
pub struct TokenizerOptions {
    /// Rows of the model's embedding table (`vocab_size`).
    pub vocab_size: usize,
    /// Rows of the model's token type table (`type_vocab_size`). With one row every token has type 0, as in RoBERTa's
    /// tokenizers whatever their template says.
    pub type_rows: usize,
    /// Longest sequence in tokens, including special tokens; longer texts are cut.
    pub max_len: usize,
    pub positions: Positions,
}

/// Gets the number of rows finished since the last call, from any thread.
pub type OnRows<'a> = &'a (dyn Fn(usize) + Sync);

/// A tokenizer with the model's limits, ready to encode.
pub struct TextTokenizer {
    inner: Tokenizer,
    single: Template,
    /// `None` if the tokenizer has no form for pairs.
    pair: Option<Template>,
    options: TokenizerOptions,
    /// Which end of a text is cut.
    cut: CutSide,
    lowered: Lowered,
    notes: Vec<String>,
    growth: Growth,
    unknown: Unknown,
    /// Computed on first use.
    fingerprint: OnceLock<Fingerprint>,
}

/// Sequences as output by the tokenizer, concatenated.
#[derive(Default)]
pub(super) struct Encoded {
    /// Ids of all sequences, `[tokens]`.
    pub ids: Vec<u32>,
    /// End of each sequence in `ids`, `[rows]`.
    pub ends: Vec<usize>,
    /// For each sequence, how many leading tokens have type 0; the rest has type 1, `[rows]`.
    pub type_zero: Vec<u32>,
    /// The line that each sequence comes from, `[rows]`.
    pub lines: Vec<u64>,
    pub counts: TextCounts,
}

impl Encoded {
    /// Appends sequences.
    pub fn append(&mut self, part: Self) {
        let base = self.ids.len();
        self.ids.extend_from_slice(&part.ids);
        self.ends.extend(part.ends.iter().map(|end| base + end));
        self.type_zero.extend_from_slice(&part.type_zero);
        self.lines.extend_from_slice(&part.lines);
        self.counts += part.counts;
    }
}

impl TextTokenizer {
    /// Reads the tokenizer of a model folder like transformers' `AutoTokenizer`: the class that the folder names takes
    /// its vocabulary from `tokenizer.json`, or else from `vocab.txt` (WordPiece) or `vocab.json` with `merges.txt`
    /// (byte-level BPE), and the rest from `tokenizer_config.json`. Padding and truncation settings of `tokenizer.json`
    /// are ignored.
    ///
    /// # Errors
    /// No or broken tokenizer files; ids beyond the model's embedding table; a `max_len` without room for text.
    pub fn load(folder: &Path, options: TokenizerOptions) -> Result<Self> {
        // If the crate panics in an expected place, the error names the file; it may panic anywhere.
        contained(|| Self::of_folder(folder, options))
            .map_err(|said| anyhow!("{}: not a usable tokenizer: {said}", folder.display()))?
    }

    fn of_folder(folder: &Path, options: TokenizerOptions) -> Result<Self> {
        let Loaded { tokenizer: inner, cut, gives_types, lowered, mut notes } =
            tokenizer_files::load(folder)?;
        let tokens = inner.get_vocab(true).into_values().max().map_or(0, |id| id as usize + 1);
        if tokens > options.vocab_size {
            bail!(
                "{}: the tokenizer has {tokens} tokens (including added ones), but the model's embedding table \
                has {}; are tokenizer and model from the same checkpoint?",
                folder.display(),
                options.vocab_size
            );
        }
        let growth = bounds(&inner)
            .map_err(|e| anyhow!("{}: the tokenizer exceeds a limit: {e}", folder.display()))?;
        let context = |what: &str, e| {
            anyhow!("{}: the tokenizer's template for {what}: {e}", folder.display())
        };
        let mut single = Template::probe(&inner, false).map_err(|e| context("single texts", e))?;
        // Only pairs need a form for pairs; encode() reports if it is missing.
        let mut pair = Template::probe(&inner, true).ok();
        let flat = pair.as_ref().is_none_or(Template::is_flat);
        if options.type_rows > 1 && !gives_types && !flat {
            notes.push(
                "the tokenizer gives the model no token types (model_input_names): both texts of a pair have type 0, as \
                 in transformers 5"
                    .to_owned(),
            );
        }
        if options.type_rows <= 1 || !gives_types {
            single.flatten_types();
            pair.iter_mut().for_each(Template::flatten_types);
        }
        for template in [Some(&single), pair.as_ref()].into_iter().flatten() {
            template.fits(options).map_err(|e| anyhow!("{}: {e}", folder.display()))?;
        }
        if options.max_len <= single.specials() {
            bail!(
                "a maximum length of {} leaves no room for text: special tokens take {}",
                options.max_len,
                single.specials()
            );
        }
        let unknown = Unknown::of(&inner);
        let fingerprint = OnceLock::new();
        Ok(Self { inner, single, pair, options, cut, lowered, notes, growth, unknown, fingerprint })
    }

    /// What the user should know about how the files were read.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// What decides the ids of a text, except its maximum length.
    ///
    /// # Errors
    /// A tokenizer that cannot be serialised.
    pub fn fingerprint(&self) -> Result<Fingerprint> {
        if let Some(known) = self.fingerprint.get() {
            return Ok(known.clone());
        }
        let pair = self.pair.as_ref().map_or("none".to_owned(), Template::to_string);
        let fingerprint = tokenizer_fingerprint::of(&self.inner)?
            .with("tokenizer.text", &self.single.to_string())
            .with("tokenizer.pair", &pair);
        let side = match self.cut {
            CutSide::Right => "right",
            CutSide::Left => "left",
        };
        let fingerprint = fingerprint.with("tokenizer.truncation_side", side);
        Ok(self.fingerprint.get_or_init(|| fingerprint).clone())
    }

    /// Makes the tokenizer files of a written model, copies of those read here, state what is done beyond them: see
    /// [`tokenizer_settled`]. Returns what they cannot express.
    ///
    /// # Errors
    /// A file that cannot be read or written.
    pub fn settle(&self, folder: &Path) -> Result<Option<String>> {
        let normalizer = self.inner.get_normalizer();
        tokenizer_settled::settle(folder, self.options.max_len, self.lowered, normalizer)
    }

    pub fn options(&self) -> TokenizerOptions {
        self.options
    }

    /// Encodes rows on all threads of the current rayon pool; the result does not depend on their number.
    pub(super) fn encode(&self, rows: &[Row], progress: OnRows<'_>) -> Result<Encoded> {
        const ROWS_A_CHUNK: usize = 64;
        let parts: Vec<Encoded> = rows
            .par_chunks(ROWS_A_CHUNK)
            .map(|chunk| {
                let mut part = Encoded::default();
                for row in chunk {
                    self.encode_row(row, &mut part)?;
                }
                progress(chunk.len());
                Ok(part)
            })
            .collect::<Result<_>>()?;
        let ids = room(parts.iter().map(|part| part.ids.len()).sum(), "the ids of tokens")?;
        let mut all = Encoded { ids, ..Encoded::default() };
        parts.into_iter().for_each(|part| all.append(part));
        Ok(all)
    }

    /// The tokens of one text.
    fn words(&self, text: &str) -> Result<Encoding, String> {
        let _alone = contained(|| self.growth.admit(text, &self.inner))??;
        self.checked(contained(|| self.inner.encode_fast(text, false))?)
    }

    /// The tokens of one text, and the bytes each stands for, without surrounding spaces.
    ///
    /// # Errors
    /// The text cannot be tokenized.
    pub(super) fn tokens_with_bytes(&self, text: &str) -> Result<(Vec<u32>, Vec<Range<usize>>)> {
        let cannot = |e: String| anyhow!("the text cannot be tokenized: {e}");
        let admitted = contained(|| self.growth.admit(text, &self.inner));
        let _alone = admitted.flatten().map_err(cannot)?;
        let encoded = contained(|| self.inner.encode(text, false)).map_err(cannot)?;
        let encoding = self.checked(encoded).map_err(cannot)?;
        let trimmed = |&(start, end): &(usize, usize)| {
            let part = text.get(start..end).unwrap_or_default();
            let start = start + (part.len() - part.trim_start().len());
            start..start + part.trim().len()
        };
        Ok((encoding.get_ids().to_vec(), encoding.get_offsets().iter().map(trimmed).collect()))
    }

    /// A token as it appears in a text.
    pub fn word(&self, id: u32) -> String {
        let token = || vec![self.inner.id_to_token(id).unwrap_or_default()];
        let bytes =
            matches!(self.inner.get_pre_tokenizer(), Some(PreTokenizerWrapper::ByteLevel(_)));
        let decoded = contained(|| match (self.inner.get_decoder(), bytes) {
            (Some(decoder), _) => decoder.decode_chain(token()),
            // Such vocabularies carry no information about it.
            (None, true) => ByteLevel::default().decode_chain(token()),
            (None, false) => Ok(token()),
        });
        let decoded = decoded.ok().and_then(Result::ok).unwrap_or_else(token);
        decoded.concat().replace('▁', " ").trim().to_owned()
    }

    pub(super) fn inner(&self) -> &Tokenizer {
        &self.inner
    }

    pub(super) fn unknown(&self) -> &Unknown {
        &self.unknown
    }

    pub(super) fn single_template(&self) -> &Template {
        &self.single
    }

    /// `None` if the tokenizer has no form for pairs.
    pub(super) fn pair_template(&self) -> Option<&Template> {
        self.pair.as_ref()
    }

    fn checked(&self, encoding: tokenizers::Result<Encoding>) -> Result<Encoding, String> {
        let encoding = encoding.map_err(|e| e.to_string())?;
        let rows = self.options.vocab_size;
        match encoding.get_ids().iter().find(|&&id| id as usize >= rows) {
            Some(id) => Err(format!("a token has the id {id}, but the model has {rows} rows")),
            None => Ok(encoding),
        }
    }

    fn encode_row(&self, row: &Row, out: &mut Encoded) -> Result<()> {
        let words = |text: &str| {
            self.words(text)
                .map_err(|e| anyhow!("line {}: the text cannot be tokenized: {e}", row.line))
        };
        let first = words(&row.text)?;
        // An empty partner counts as none, so that one file can hold pairs and single texts.
        let partner = row.text_pair.as_deref().filter(|text| !text.is_empty());
        let second = partner.map(words).transpose()?;
        let template = match (&second, &self.pair) {
            (None, _) => &self.single,
            (Some(_), Some(pair)) => pair,
            (Some(_), None) => {
                bail!("the tokenizer has no template for pairs of texts; use a single text column")
            }
        };
        let a = first.get_ids();
        let b = second.as_ref().map_or(&[][..], Encoding::get_ids);
        let texts = if second.is_some() { &[a, b][..] } else { &[a] };
        self.unknown.count(texts, row.line, &mut out.counts);
        let room = self.options.max_len.saturating_sub(template.specials());
        if room == 0 && second.is_some() {
            bail!(
                "line {}: a maximum length of {} leaves no room for a pair of texts: special tokens take {}",
                row.line,
                self.options.max_len,
                template.specials()
            );
        }
        let (keep_a, keep_b) = longest_first(a.len(), b.len(), room);
        if keep_a < a.len() || keep_b < b.len() {
            out.counts.truncated.add(row.line);
        }
        template.fill(self.cut.keep(a, keep_a), self.cut.keep(b, keep_b), out);
        out.lines.push(row.line);
        Ok(())
    }
}

/// How many tokens of each text to keep if both together may have `room`: Hugging Face's `longest_first`.
///
/// The longer text is cut first; if the shorter also fills more than half of the room, it keeps the smaller half and
/// the longer (the second on a tie) the larger.
fn longest_first(a: usize, b: usize, room: usize) -> (usize, usize) {
    if a + b <= room {
        return (a, b);
    }
    let shorter = a.min(b);
    let keep_shorter = if 2 * shorter <= room { shorter } else { room / 2 };
    let keep_longer = room - keep_shorter;
    if a > b { (keep_longer, keep_shorter) } else { (keep_shorter, keep_longer) }
}

/// The special tokens around the texts, and the types of all tokens: what the post-processor makes of one input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Template {
    parts: Vec<Part>,
    /// The special token with the largest id.
    largest: Option<(String, u32)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Part {
    piece: Piece,
    type_id: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Piece {
    Special(u32),
    A,
    B,
}

/// `101:0 A:0 102:0 B:1 102:1`: ids and texts, each with its type.
impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, Part { piece, type_id }) in self.parts.iter().enumerate() {
            let space = if i == 0 { "" } else { " " };
            match piece {
                Piece::Special(id) => write!(f, "{space}{id}:{type_id}")?,
                Piece::A => write!(f, "{space}A:{type_id}")?,
                Piece::B => write!(f, "{space}B:{type_id}")?,
            }
        }
        Ok(())
    }
}

impl Template {
    /// Sends one made-up token per text through the post-processor and checks where it comes out.
    fn probe(tokenizer: &Tokenizer, pair: bool) -> Result<Self> {
        // No vocabulary has these ids: `load` has checked it against the model's size.
        const A: u32 = u32::MAX;
        const B: u32 = u32::MAX - 1;
        let made_up = |id, type_id| {
            Encoding::new(
                vec![id],
                vec![type_id],
                vec!["x".to_owned()],
                vec![Some(0)],
                vec![(0, 1)],
                vec![0],
                vec![1],
                vec![],
                [(type_id as usize, 0..1)].into_iter().collect(),
            )
        };
        let second = pair.then(|| made_up(B, 1));
        let out = contained(|| tokenizer.post_process(made_up(A, 0), second, true))
            .map_err(|e| anyhow!(e))?
            .map_err(|e| anyhow!(e))?;
        let parts: Vec<Part> = out
            .get_ids()
            .iter()
            .zip(out.get_type_ids())
            .map(|(&id, &type_id)| {
                let piece = match id {
                    A => Piece::A,
                    B => Piece::B,
                    special => Piece::Special(special),
                };
                Part { piece, type_id }
            })
            .collect();
        let count = |piece| parts.iter().filter(|part| part.piece == piece).count();
        if count(Piece::A) != 1 || count(Piece::B) != usize::from(pair) {
            bail!("each text must occur once");
        }
        let named = out.get_tokens().iter().cloned().zip(out.get_ids().iter().copied());
        let largest = named.filter(|&(_, id)| id < B).max_by_key(|&(_, id)| id);
        let template = Self { parts, largest };
        if template.specials() == 0 {
            bail!("it adds no special tokens ([CLS], <s>, ...), which these models need");
        }
        let types = || template.parts.iter().map(|part| part.type_id);
        if !types().is_sorted() || types().next() != Some(0) || types().any(|t| t > 1) {
            bail!("token types must be 0, then 1; these are {:?}", types().collect::<Vec<_>>());
        }
        Ok(template)
    }

    /// # Errors
    /// If a special token has no row in the model.
    fn fits(&self, options: TokenizerOptions) -> Result<()> {
        match &self.largest {
            Some((token, id)) if *id as usize >= options.vocab_size => bail!(
                "the special token {token:?} has the id {id}, but the model's embedding table has only {} rows; \
                 are tokenizer and model from the same checkpoint?",
                options.vocab_size
            ),
            _ => Ok(()),
        }
    }

    /// Number of special tokens.
    pub(super) fn specials(&self) -> usize {
        self.parts.iter().filter(|part| matches!(part.piece, Piece::Special(_))).count()
    }

    fn is_flat(&self) -> bool {
        self.parts.iter().all(|part| part.type_id == 0)
    }

    fn flatten_types(&mut self) {
        self.parts.iter_mut().for_each(|part| part.type_id = 0);
    }

    /// Where the second text starts (or the first, if not `second`) in a sequence whose first text has `a` tokens.
    pub(super) fn place_of_text(&self, a: usize, second: bool) -> usize {
        let text = if second { Piece::B } else { Piece::A };
        let before = self.parts.iter().take_while(|part| part.piece != text);
        before.map(|part| if part.piece == Piece::A { a } else { 1 }).sum()
    }

    /// Appends one finished sequence.
    pub(super) fn fill(&self, a: &[u32], b: &[u32], out: &mut Encoded) {
        let start = out.ids.len();
        let mut type_zero = 0;
        for part in &self.parts {
            match part.piece {
                Piece::Special(id) => out.ids.push(id),
                Piece::A => out.ids.extend_from_slice(a),
                Piece::B => out.ids.extend_from_slice(b),
            }
            if part.type_id == 0 {
                type_zero = (out.ids.len() - start) as u32;
            }
        }
        out.ends.push(out.ids.len());
        out.type_zero.push(type_zero);
    }
}

#[cfg(test)]
#[path = "tokenize_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "as_transformers_tests.rs"]
mod as_transformers_tests;
