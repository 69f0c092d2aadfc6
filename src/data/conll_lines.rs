//! Lines of a word-per-line file other than words: comments, and the ten columns of CoNLL-U under another name.

/// The number of columns per line, and whether tabs separate them.
pub(super) type LineForm = (usize, bool);

/// The columns of CoNLL-U.
pub(super) const COLUMNS: [&str; 10] =
    ["id", "form", "lemma", "upos", "xpos", "feats", "head", "deprel", "deps", "misc"];

/// The fields of a line.
pub(super) fn fields(line: &str, tabs: bool) -> Vec<&str> {
    match tabs {
        true => line.split('\t').map(str::trim).collect(),
        false => line.split_whitespace().collect(),
    }
}

/// Whether a line starting with `#` is a comment rather than a word. A word may be `#`, and hashtags begin with it, so
/// the number of columns decides, or before the first word the content of the last one.
pub(super) fn is_comment(line: &str, shape: Option<LineForm>) -> bool {
    let Some(rest) = line.strip_prefix('#') else {
        return false;
    };
    if ["begin document", "end document"].iter().any(|known| rest.starts_with(known)) {
        return true;
    }
    if !rest.starts_with(char::is_whitespace) {
        return false;
    }
    let assigns = rest.split_whitespace().nth(1) == Some("=");
    match shape {
        Some((width, tabs)) => fields(line, tabs).len() != width || (!tabs && assigns),
        None => {
            let last =
                fields(rest, rest.contains('\t')).last().is_some_and(|last| is_like_a_tag(last));
            rest.contains('=') || !last
        }
    }
}

/// The name of a sentence, if a comment gives one.
pub(super) fn sentence_id(comment: &str) -> Option<&str> {
    let (key, id) = comment.trim_start_matches('#').split_once('=')?;
    (key.trim() == "sent_id").then(|| id.trim())
}

/// Whether the first word's line is CoNLL-U.
pub(super) fn is_universal(fields: &[&str], tabs: bool) -> bool {
    let number = |text: &str| text.split(['-', '.']).all(|part| part.parse::<u64>().is_ok());
    tabs && fields.len() == COLUMNS.len() && number(fields[0])
}

/// Whether a column holds only the numbers of words: each is one more than the previous one, restarting per sentence or
/// continuing through the file.
#[derive(Default)]
pub(super) struct Numbering {
    sentences: usize,
    words: usize,
    /// Whether a word was not such a number.
    broken: bool,
}

impl Numbering {
    /// Checks a sentence; true once it is certain.
    pub fn sentence(&mut self, words: &[String]) -> bool {
        let numbers: Option<Vec<u64>> = words.iter().map(|word| word.parse().ok()).collect();
        let numbers =
            numbers.filter(|all| all.windows(2).all(|two| two[0].checked_add(1) == Some(two[1])));
        let Some(numbers) = numbers.filter(|_| !self.broken) else {
            self.broken = true;
            return false;
        };
        self.sentences += 1;
        self.words += numbers.len();
        let from_start = numbers.len() > 2 && numbers[0] <= 1;
        // Three consecutive years may be a sentence in some file.
        from_start || self.words - self.sentences > 4
    }

    /// Whether a whole file of more than one word has only such numbers.
    pub fn all(&self) -> bool {
        !self.broken && self.words > 1
    }
}

/// Tags have a mark and a hyphen in front, or are in capitals.
fn is_like_a_tag(field: &str) -> bool {
    let marked = field.get(1..2) == Some("-") && field.starts_with(|c| "BIESLU".contains(c));
    !field.contains(' ') && (marked || !field.chars().any(char::is_lowercase))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_words_are_known_from_0_or_1_through_the_file_and_in_short_sentences() {
        let numbers = |from: u64, to: u64| (from..=to).map(|n| n.to_string()).collect::<Vec<_>>();
        for sure in [numbers(0, 3), numbers(1, 3)] {
            assert!(Numbering::default().sentence(&sure), "{sure:?}");
        }
        let mut on = Numbering::default();
        assert!(!on.sentence(&numbers(57, 59)) && on.sentence(&numbers(60, 63)));
        let mut short = Numbering::default();
        assert!(!short.sentence(&numbers(1, 2)) && !short.sentence(&numbers(1, 1)) && short.all());
        let mut words = Numbering::default();
        assert!(!words.sentence(&["3".to_owned(), "films".to_owned()]));
        assert!(!words.sentence(&numbers(1, 3)) && !words.all());
        let mut one = Numbering::default();
        assert!(!one.sentence(&numbers(7, 7)) && !one.all(), "a single word may be a number");
    }

    #[test]
    fn a_comment_is_told_from_a_word_by_its_columns() {
        for comment in [
            "# sent_id = 1",
            "# text = a b",
            "# newdoc",
            "# id 12 domain=en",
            "#\thttp://a b.c",
            "#\tA [2005]",
        ] {
            assert!(is_comment(comment, None), "{comment}");
        }
        for word in ["#\tO", "# O", "# NN B-misc", "#tag\tO", "#tag O", "#"] {
            assert!(!is_comment(word, None), "{word}");
        }
        let (two, four) = (Some((2, true)), Some((4, false)));
        assert!(is_comment("# a comment", two) && is_comment("# id = 5", four));
        assert!(is_comment("# a comment", Some((1, false))));
        assert!(is_comment("#begin document (a); part 0", None));
        for word in ["#\tO", "#1", "#tag"] {
            assert!(!is_comment(word, two), "{word}");
        }
        assert!(!is_comment("# NN I-NP O", four));
        assert_eq!(sentence_id("# sent_id = a-1"), Some("a-1"));
        assert_eq!(sentence_id("# text = sent_id = 1"), None);
    }
}
