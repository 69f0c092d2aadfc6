//! The files that a benchmark's site accepts: their words and headers.

use super::spelling::Key;
use crate::settings::benchmark::NamedTask;
use anyhow::{Context, Result};
use serde_json::json;

/// The benchmark's word for a class, given by its name or by that word.
pub fn word_of(task: &NamedTask, label: &str) -> Option<&'static str> {
    let key = Key::of(label);
    let is = |word: &str| Key::of(word) == key;
    task.classes().iter().find(|class| is(class.name) || is(class.word)).map(|class| class.word)
}

/// GLUE: a header, then number and answer.
pub fn answers_tsv(index: &[String], words: &[String]) -> String {
    let rows = index.iter().zip(words).map(|(index, word)| format!("{index}\t{word}\n"));
    "index\tprediction\n".to_owned() + &rows.collect::<String>()
}

/// SuperGLUE: one object per row.
///
/// # Errors
/// A row number that is not a number.
pub fn answers_jsonl(index: &[String], words: &[String]) -> Result<String> {
    let row = |(index, word): (&String, &String)| {
        let index: u64 =
            index.parse().with_context(|| format!("the row's idx {index:?} is not a number"))?;
        Ok(format!("{}\n", json!({ "idx": index, "label": word })))
    };
    index.iter().zip(words).map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_in_the_words_and_the_form_of_their_benchmark() {
        let word = |task: &str, label: &str| word_of(NamedTask::named(task).unwrap(), label);
        assert_eq!(word("cola", "acceptable"), Some("1"));
        assert_eq!(word("cola", "0"), Some("0"));
        assert_eq!(word("rte", "not_entailment"), Some("not_entailment"));
        assert_eq!(word("wnli", "entailment"), Some("1"));
        assert_eq!(word("boolq", "True"), Some("true"));
        // A number is not a word of a task with other words.
        assert_eq!(word("rte", "0"), None);
        let list = |words: &[&str]| words.iter().map(|word| word.to_string()).collect::<Vec<_>>();
        let (index, words) = (list(&["0", "7"]), list(&["1", "0"]));
        assert_eq!(answers_tsv(&index, &words), "index\tprediction\n0\t1\n7\t0\n");
        let lines = answers_jsonl(&index, &list(&["true", "false"])).unwrap();
        assert_eq!(lines, "{\"idx\":0,\"label\":\"true\"}\n{\"idx\":7,\"label\":\"false\"}\n");
        assert!(answers_jsonl(&list(&["x"]), &words).is_err());
    }
}
