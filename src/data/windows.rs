//! Long texts as overlapping windows, each a separate sequence, and where each token came from.

use std::ops::Range;

use anyhow::{Result, anyhow, bail};
use rayon::prelude::*;

use super::documents::Document;
use super::text_counts::TextCounts;
use super::tokenize::{Encoded, OnRows, TextTokenizer};

/// The most tokens of a question; longer ones are cut, as in the BERT authors' code.
const QUESTION_TOKENS: usize = 64;

/// The most tokens of a question in sequences of `max_len` tokens, at most half of them.
pub fn longest_question(max_len: usize) -> usize {
    QUESTION_TOKENS.min(max_len / 2)
}

/// One sequence: a part of a document's tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Window {
    /// Index of its document.
    pub document: usize,
    /// Its tokens among those of its document; each of those is in at least one window.
    pub tokens: Range<usize>,
    /// Where the first of them is in the sequence: after special tokens and a question.
    pub first: usize,
    /// For each of its tokens, the bytes of the text it stands for; empty if none.
    pub bytes: Vec<Range<usize>>,
}

impl Window {
    /// How many tokens of its document are on the nearer side of one of them: the more, the more context it has.
    pub fn context(&self, token: usize) -> usize {
        (token - self.tokens.start).min(self.tokens.end - 1 - token)
    }
}

/// The windows of documents, in document and text order.
#[derive(Default)]
pub struct Windows {
    pub(super) encoded: Encoded,
    pub list: Vec<Window>,
    /// How many tokens each document has, `[documents]`.
    pub tokens: Vec<usize>,
}

impl Windows {
    pub fn counts(&self) -> TextCounts {
        self.encoded.counts
    }

    /// Length of each sequence, `[windows]`.
    pub fn lengths(&self) -> impl Iterator<Item = usize> {
        let ends = &self.encoded.ends;
        let starts = std::iter::once(&0).chain(ends);
        starts.zip(ends).map(|(start, end)| end - start)
    }
}

impl TextTokenizer {
    /// Tokenizes documents and cuts them into windows of the maximum length; each window after the first starts
    /// `stride` tokens before the end of the previous one. A document without tokens still has one window.
    ///
    /// # Errors
    /// A text that cannot be tokenized, or no room for any of it.
    pub fn windows(
        &self,
        documents: &[Document],
        stride: usize,
        progress: OnRows<'_>,
    ) -> Result<Windows> {
        const DOCUMENTS_PER_CHUNK: usize = 16;
        let parts: Vec<Windows> = documents
            .par_chunks(DOCUMENTS_PER_CHUNK)
            .enumerate()
            .map(|(chunk, documents)| {
                let mut part = Windows::default();
                for (i, document) in documents.iter().enumerate() {
                    let index = chunk * DOCUMENTS_PER_CHUNK + i;
                    self.document(index, document, stride, &mut part)
                        .map_err(|e| anyhow!("line {}: {e}", document.line))?;
                }
                progress(documents.len());
                Ok(part)
            })
            .collect::<Result<_>>()?;
        let mut all = Windows::default();
        for part in parts {
            all.encoded.append(part.encoded);
            all.list.extend(part.list);
            all.tokens.extend(part.tokens);
        }
        Ok(all)
    }

    /// The tokens of a text of words, the first of which is preceded by a space like all others: transformers gives
    /// each word the tokens that it has in the middle of a text (`is_split_into_words` with `add_prefix_space`).
    fn tokens_of_words(&self, text: &str) -> Result<(Vec<u32>, Vec<Range<usize>>)> {
        let (ids, mut bytes) = self.tokens_with_bytes(&format!(" {text}"))?;
        for range in &mut bytes {
            *range = range.start.saturating_sub(1)..range.end.saturating_sub(1);
        }
        Ok((ids, bytes))
    }

    fn document(
        &self,
        index: usize,
        document: &Document,
        stride: usize,
        out: &mut Windows,
    ) -> Result<()> {
        let text = match document.words.is_empty() {
            true => self.tokens_with_bytes(&document.text)?,
            false => self.tokens_of_words(&document.text)?,
        };
        let mut question = match &document.question {
            Some(question) => self.tokens_with_bytes(question)?.0,
            None => Vec::new(),
        };
        let (ids, bytes) = text;
        let counts = &mut out.encoded.counts;
        self.unknown().count(&[&ids], document.line, counts);
        let longest = longest_question(self.options().max_len);
        if question.len() > longest {
            question.truncate(longest);
            counts.truncated.add(document.line);
        }
        let template = match (&document.question, self.pair_template()) {
            (None, _) => self.single_template(),
            (Some(_), Some(pair)) => pair,
            (Some(_), None) => bail!("the tokenizer has no template for a question and a text"),
        };
        let around = template.specials() + question.len();
        let room = self.options().max_len.saturating_sub(around);
        // Each window must advance beyond its overlap.
        if room <= stride {
            bail!(
                "a maximum length of {} leaves {room} tokens for the text next to {around} others, no more than the \
                 --stride of {stride}",
                self.options().max_len
            );
        }
        out.tokens.push(ids.len());
        let mut start = 0;
        loop {
            let end = ids.len().min(start + room);
            let (a, b) = match document.question {
                Some(_) => (&question[..], &ids[start..end]),
                None => (&ids[start..end], &[][..]),
            };
            let first = template.place_of_text(a.len(), document.question.is_some());
            template.fill(a, b, &mut out.encoded);
            out.encoded.lines.push(document.line);
            out.list.push(Window {
                document: index,
                tokens: start..end,
                first,
                bytes: bytes[start..end].to_vec(),
            });
            if end == ids.len() {
                return Ok(());
            }
            start = end - stride;
        }
    }
}
