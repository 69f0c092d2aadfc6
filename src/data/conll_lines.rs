//! What the lines of a file of words in columns are besides words: comments, and the ten columns of CoNLL-U under another name.

/// How many columns each line has, and whether tabs part them.
pub(super) type Shape = (usize, bool);

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

/// Whether a line with a `#` before it says something of the text and is no word of it. A word may be `#`, and hashtags begin
/// with it; so the number of columns decides, or before the first word what stands in the last.
pub(super) fn is_comment(line: &str, shape: Option<Shape>) -> bool {
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

/// The name of a sentence, where a comment has one.
pub(super) fn sentence_id(comment: &str) -> Option<&str> {
    let (key, id) = comment.trim_start_matches('#').split_once('=')?;
    (key.trim() == "sent_id").then(|| id.trim())
}

/// Whether the first word's line is one of CoNLL-U.
pub(super) fn is_universal(fields: &[&str], tabs: bool) -> bool {
    let number = |text: &str| text.split(['-', '.']).all(|part| part.parse::<u64>().is_ok());
    tabs && fields.len() == COLUMNS.len() && number(fields[0])
}

/// Whether the words of a sentence are the numbers of its words.
pub(super) fn are_numbered(words: &[String]) -> bool {
    words.len() > 2 && words.iter().zip(1..).all(|(word, number)| *word == number.to_string())
}

/// Tags have a mark and a hyphen before them, or are in capitals.
fn is_like_a_tag(field: &str) -> bool {
    let marked = field.get(1..2) == Some("-") && field.starts_with(|c| "BIESLU".contains(c));
    !field.contains(' ') && (marked || !field.chars().any(char::is_lowercase))
}

#[cfg(test)]
mod tests {
    use super::*;

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
