//! Which columns hold the text, its partner and the label: named by the user, or recognised.

use anyhow::{Result, bail};

/// Column names asked for; `None` means: find it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ColumnNames {
    pub text: Option<String>,
    pub text_pair: Option<String>,
    pub label: Option<String>,
}

/// Whether rows must carry a label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LabelUse {
    /// Training and evaluation: no label column is an error.
    Required,
    /// Prediction: a label column may be there and is not read.
    Ignored,
}

/// Numbers of the chosen columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Chosen {
    pub text: usize,
    pub text_pair: Option<usize>,
    pub label: Option<usize>,
}

/// The default names, then those of GLUE, SuperGLUE's BoolQ, SNLI and SICK.
const PAIRS: [(&str, &str); 8] = [
    ("text", "text_pair"),
    ("sentence1", "sentence2"),
    ("question1", "question2"),
    ("premise", "hypothesis"),
    ("question", "sentence"),
    ("question", "passage"),
    ("sentence_a", "sentence_b"),
    ("#1 string", "#2 string"),
];
const SINGLES: [&str; 2] = ["text", "sentence"];
const LABELS: [&str; 7] =
    ["label", "gold_label", "is_duplicate", "quality", "score", "similarity", "relatedness_score"];

/// Finds the columns of `header`.
///
/// Names asked for must be there exactly as written. Otherwise `text`, `text_pair` and `label` are taken, and where
/// they are not there the usual names of public data sets, in any case; two that fit equally are an error.
/// `place` starts each message ("file:line").
pub(super) fn choose<S: AsRef<str>>(
    header: &[S],
    names: &ColumnNames,
    label_use: LabelUse,
    place: &str,
) -> Result<Chosen> {
    let header = Header { columns: header.iter().map(AsRef::as_ref).collect(), place };
    let pair_named =
        names.text_pair.as_deref().map(|n| header.named(n, "text pair")).transpose()?;
    let (text, text_pair) = match &names.text {
        Some(name) => {
            let text = header.named(name, "text")?;
            // Only the default name goes with a text column of the user's own.
            let default = header.find("text_pair")?.filter(|&pair| pair != text);
            (text, pair_named.or(default))
        }
        None => header.recognise_text(pair_named)?,
    };
    let label = match label_use {
        LabelUse::Ignored => None,
        LabelUse::Required => Some(match &names.label {
            Some(name) => header.named(name, "label")?,
            None => header.recognise_label()?,
        }),
    };
    if text_pair == Some(text) || label == Some(text) || (label.is_some() && label == text_pair) {
        bail!(
            "{place}: a column is used twice; text, text pair and label need a column each ({})",
            header.list()
        );
    }
    Ok(Chosen { text, text_pair, label })
}

struct Header<'a> {
    columns: Vec<&'a str>,
    place: &'a str,
}

impl Header<'_> {
    /// A column asked for by name.
    fn named(&self, name: &str, role: &str) -> Result<usize> {
        let mut hits = (0..self.columns.len()).filter(|&i| self.columns[i] == name);
        match (hits.next(), hits.next()) {
            (Some(i), None) => Ok(i),
            (Some(_), Some(_)) => bail!("{}: two columns are called {name:?}", self.place),
            _ => bail!(
                "{}: no {role} column {name:?}; {}{}",
                self.place,
                self.list(),
                self.nearest(&[name])
            ),
        }
    }

    /// A usual name, in any case.
    fn find(&self, usual: &str) -> Result<Option<usize>> {
        let mut hits =
            (0..self.columns.len()).filter(|&i| self.columns[i].eq_ignore_ascii_case(usual));
        match (hits.next(), hits.next()) {
            (Some(_), Some(_)) => bail!("{}: two columns are called {usual:?}", self.place),
            (hit, _) => Ok(hit),
        }
    }

    fn recognise_text(&self, pair_named: Option<usize>) -> Result<(usize, Option<usize>)> {
        let mut pairs = Vec::new();
        for (first, second) in PAIRS {
            let (first, second) = (self.find(first)?, self.find(second)?);
            if let (Some(text), Some(pair)) = (first, second) {
                pairs.push((text, Some(pair)));
            }
        }
        let mut singles = Vec::new();
        for name in SINGLES {
            singles.extend(self.find(name)?.map(|text| (text, None)));
        }
        if let Some(pair) = pair_named {
            // The partner is known: its usual first half, or else any usual text column.
            pairs.retain(|&(_, second)| second == Some(pair));
            singles.retain(|&(text, _)| text != pair);
            singles.iter_mut().for_each(|single| single.1 = Some(pair));
        }
        let default =
            singles.first().filter(|&&(text, _)| self.columns[text].eq_ignore_ascii_case("text"));
        let found = match (default, pairs.as_slice()) {
            // `text` is the documented default: it wins over any other name, with its own partner if there is one.
            (Some(&(text, pair)), _) => {
                let own = pairs.iter().find(|&&(first, _)| first == text);
                return Ok((text, own.map_or(pair, |own| own.1)));
            }
            (None, []) => singles,
            (None, _) => pairs,
        };
        match found.as_slice() {
            [one] => Ok(*one),
            [] => bail!(
                "{}: no text column is recognised; {}; name it with --text-column (and --text-pair-column){}",
                self.place,
                self.list(),
                self.nearest(&["text", "sentence", "sentence1", "premise", "question1"])
            ),
            _ => bail!(
                "{}: several columns could be the text; {}; choose with --text-column and --text-pair-column",
                self.place,
                self.list()
            ),
        }
    }

    fn recognise_label(&self) -> Result<usize> {
        let mut hits = Vec::new();
        for name in LABELS {
            hits.extend(self.find(name)?);
        }
        match hits.as_slice() {
            [one] => Ok(*one),
            // `label` is the documented default.
            [first, ..] if self.columns[*first].eq_ignore_ascii_case("label") => Ok(*first),
            [] => bail!(
                "{}: no label column is recognised; {}; name it with --label-column{}",
                self.place,
                self.list(),
                self.nearest(&LABELS)
            ),
            _ => bail!(
                "{}: several columns could be the label; {}; choose with --label-column",
                self.place,
                self.list()
            ),
        }
    }

    fn list(&self) -> String {
        let quoted: Vec<String> = self.columns.iter().map(|c| format!("{c:?}")).collect();
        format!("the columns are {}", quoted.join(", "))
    }

    /// " (did you mean ...?)" for the column nearest to any of the wanted names, if one is near enough to be a slip.
    fn nearest(&self, wanted: &[&str]) -> String {
        let closeness = |column: &str| {
            let column = column.to_lowercase();
            wanted
                .iter()
                .map(|w| strsim::jaro_winkler(&column, &w.to_lowercase()))
                .fold(0.0, f64::max)
        };
        let best =
            self.columns.iter().map(|c| (closeness(c), c)).max_by(|a, b| a.0.total_cmp(&b.0));
        match best {
            Some((score, column)) if score > 0.8 => format!(" (did you mean {column:?}?)"),
            _ => String::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(header: &[&str]) -> (usize, Option<usize>, Option<usize>) {
        let chosen = choose(header, &ColumnNames::default(), LabelUse::Required, "f:1").unwrap();
        (chosen.text, chosen.text_pair, chosen.label)
    }

    fn named(text: Option<&str>, pair: Option<&str>, label: Option<&str>) -> ColumnNames {
        ColumnNames {
            text: text.map(str::to_owned),
            text_pair: pair.map(str::to_owned),
            label: label.map(str::to_owned),
        }
    }

    fn refused(header: &[&str], names: &ColumnNames) -> String {
        choose(header, names, LabelUse::Required, "f:1").unwrap_err().to_string()
    }

    #[test]
    fn headers_of_every_glue_task_are_recognised() {
        assert_eq!(found(&["sentence", "label"]), (0, None, Some(1))); // SST-2
        assert_eq!(
            found(&["Quality", "#1 ID", "#2 ID", "#1 String", "#2 String"]),
            (3, Some(4), Some(0))
        ); // MRPC
        assert_eq!(
            found(&["id", "qid1", "qid2", "question1", "question2", "is_duplicate"]),
            (3, Some(4), Some(5))
        );
        assert_eq!(
            found(&["index", "genre", "source1", "sentence1", "sentence2", "score"]),
            (3, Some(4), Some(5))
        );
        assert_eq!(
            found(&["index", "sentence1_parse", "sentence1", "sentence2", "label1", "gold_label"]),
            (2, Some(3), Some(5))
        ); // MNLI
        assert_eq!(found(&["index", "question", "sentence", "label"]), (1, Some(2), Some(3))); // QNLI
        assert_eq!(found(&["premise", "hypothesis", "label"]), (0, Some(1), Some(2)));
        assert_eq!(found(&["question", "passage", "label"]), (0, Some(1), Some(2))); // BoolQ
    }

    #[test]
    fn default_names_win_over_recognised_ones() {
        assert_eq!(
            found(&["sentence1", "sentence2", "text", "label", "score"]),
            (2, None, Some(3))
        );
        assert_eq!(found(&["text_pair", "text", "label"]), (1, Some(0), Some(2)));
    }

    #[test]
    fn names_asked_for_are_taken_exactly() {
        let header = ["body", "title", "stars", "sentence"];
        let names = named(Some("body"), Some("title"), Some("stars"));
        let chosen = choose(&header, &names, LabelUse::Required, "f:1").unwrap();
        assert_eq!(chosen, Chosen { text: 0, text_pair: Some(1), label: Some(2) });
        assert!(
            refused(&header, &named(Some("Body"), None, Some("stars")))
                .contains("did you mean \"body\"?")
        );
    }

    #[test]
    fn a_named_text_column_is_single_unless_a_partner_is_named_or_has_the_default_name() {
        let names = named(Some("sentence1"), None, None);
        let chosen =
            |header: &[&str]| choose(header, &names, LabelUse::Required, "f:1").unwrap().text_pair;
        assert_eq!(chosen(&["sentence1", "sentence2", "label"]), None);
        assert_eq!(chosen(&["sentence1", "text_pair", "label"]), Some(1));
    }

    #[test]
    fn a_named_partner_finds_its_first_half() {
        let names = named(None, Some("sentence2"), None);
        let header = ["sentence1", "sentence2", "premise", "hypothesis", "label"];
        let chosen = choose(&header, &names, LabelUse::Required, "f:1").unwrap();
        assert_eq!((chosen.text, chosen.text_pair), (0, Some(1)));
        let names = named(None, Some("notes"), None);
        let chosen =
            choose(&["sentence", "notes", "label"], &names, LabelUse::Required, "f:1").unwrap();
        assert_eq!((chosen.text, chosen.text_pair), (0, Some(1)));
    }

    #[test]
    fn a_missing_column_lists_what_is_there_and_the_nearest() {
        let message = refused(&["sentense", "label"], &ColumnNames::default());
        assert!(message.starts_with(
            "f:1: no text column is recognised; the columns are \"sentense\", \"label\""
        ));
        assert!(message.ends_with("(did you mean \"sentense\"?)"), "{message}");
        let message = refused(&["text", "lable"], &ColumnNames::default());
        assert!(
            message.contains("--label-column") && message.contains("did you mean \"lable\"?"),
            "{message}"
        );
        let message = refused(&["text", "x"], &named(None, None, Some("polarity")));
        assert_eq!(message, "f:1: no label column \"polarity\"; the columns are \"text\", \"x\"");
    }

    #[test]
    fn two_equal_candidates_are_refused() {
        let header = ["sentence1", "sentence2", "premise", "hypothesis", "label"];
        assert!(
            refused(&header, &ColumnNames::default()).contains("several columns could be the text")
        );
        let header = ["text", "gold_label", "score"];
        assert!(
            refused(&header, &ColumnNames::default())
                .contains("several columns could be the label")
        );
        assert!(
            refused(&["text", "text", "label"], &ColumnNames::default())
                .contains("two columns are called")
        );
    }

    #[test]
    fn one_column_cannot_play_two_parts() {
        let names = named(Some("a"), None, Some("a"));
        assert!(refused(&["a", "b"], &names).contains("used twice"));
    }

    #[test]
    fn prediction_does_not_need_a_label() {
        let chosen = choose(&["text"], &ColumnNames::default(), LabelUse::Ignored, "f:1").unwrap();
        assert_eq!(chosen.label, None);
    }
}
