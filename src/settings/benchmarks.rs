//! The named tasks, one row of [`TASKS`] each: GLUE's, and those of SuperGLUE that are single texts or pairs.

use super::benchmark::{Answers, Archive, NamedClass, NamedTask, Recipe, Suite, TaskPart, Wanted};
use super::metric::Metric;
use super::schedule::ScheduleKind;

/// Tasks of the suites that are not single texts or pairs, and why they are refused.
pub const REFUSED: [(&str, &str); 4] = [
    (
        "copa",
        "each row asks which of two sentences follows better, so two pairs have to be scored against each other; one \
         class per text or pair cannot express that",
    ),
    ("multirc", "each question has several answers to judge together over one passage"),
    ("record", "each answer is one of the names in its passage, not a class"),
    ("wsc", "each row asks about two marked words within one text"),
];

/// As in the authors' code, except that MNLI's rate is an author's advice.
const AUTHORS: Recipe = Recipe {
    lr: 1e-3,
    epochs: 16,
    batch_size: 8,
    max_length: 128,
    schedule: ScheduleKind::Constant,
    source: "the recipe of the paper's authors",
};
const MNLI: Recipe =
    Recipe { lr: 1e-4, epochs: 32, source: "an author's advice for MNLI", ..AUTHORS };
const OTHERS: Recipe = Recipe { source: "GLUE's recipe, as the paper has none for it", ..AUTHORS };
/// Passages of several sentences.
const PASSAGES: Recipe = Recipe {
    max_length: 256,
    source: "GLUE's recipe with longer texts, as the paper has none for it",
    ..AUTHORS
};

const fn class(name: &'static str, word: &'static str) -> NamedClass {
    NamedClass { name, word }
}

const fn wanted(
    text: &'static [&'static str],
    pair: Option<&'static str>,
    label: &'static str,
    index: &'static str,
) -> Wanted {
    Wanted { text, pair, label, index }
}

const fn part(
    name: &'static str,
    split: &'static str,
    files: &'static [&'static str],
    submission: &'static str,
) -> TaskPart {
    TaskPart { name, split, files, submission }
}

const fn archive(folder: &'static str, columns: Wanted) -> Archive {
    Archive {
        folder,
        columns,
        header: &[],
        has_test_labels: false,
        bare: None,
        has_broken_rows: false,
        dev_ids: None,
    }
}

/// An archive whose training file has this header.
const fn headed(folder: &'static str, columns: Wanted, header: &'static [&'static str]) -> Archive {
    Archive { header, ..archive(folder, columns) }
}

const GLUE_TRAIN: Option<TaskPart> = Some(part("", "train", &["train.tsv"], ""));
const GLUE_DEV: &[TaskPart] = &[part("", "validation", &["dev.tsv"], "")];
const SUPER_TRAIN: Option<TaskPart> = Some(part("", "train", &["train.jsonl"], ""));
const SUPER_DEV: &[TaskPart] = &[part("", "validation", &["val.jsonl"], "")];

const SENTENCES: Wanted = wanted(&["sentence1"], Some("sentence2"), "label", "idx");
const INFERENCE: Wanted = wanted(&["premise"], Some("hypothesis"), "label", "idx");
const NLI: &[NamedClass] = &[
    class("entailment", "entailment"),
    class("neutral", "neutral"),
    class("contradiction", "contradiction"),
];
const ENTAILMENT: &[NamedClass] =
    &[class("entailment", "entailment"), class("not_entailment", "not_entailment")];
const TRUTH: &[NamedClass] = &[class("False", "false"), class("True", "true")];
const ACCURACY: &[Metric] = &[Metric::Accuracy];

/// Every named task.
pub static TASKS: [NamedTask; 13] = [
    NamedTask {
        name: "cola",
        title: "CoLA",
        help: "GLUE: is a sentence acceptable; Matthews' correlation",
        suite: Suite::Glue,
        answers: Answers::Classes(&[class("unacceptable", "0"), class("acceptable", "1")]),
        measures: &[Metric::Matthews],
        columns: wanted(&["sentence"], None, "label", "idx"),
        archive: Archive {
            bare: Some(&["source", "label", "star", "sentence"]),
            ..archive("CoLA", wanted(&["sentence"], None, "label", "index"))
        },
        train: GLUE_TRAIN,
        dev: GLUE_DEV,
        test: &[part("", "test", &["test.tsv"], "CoLA.tsv")],
        trained_as: None,
        recipe: AUTHORS,
    },
    NamedTask {
        name: "sst2",
        title: "SST-2",
        help: "GLUE: sentiment of movie reviews; accuracy",
        suite: Suite::Glue,
        answers: Answers::Classes(&[class("negative", "0"), class("positive", "1")]),
        measures: ACCURACY,
        columns: wanted(&["sentence"], None, "label", "idx"),
        archive: headed(
            "SST-2",
            wanted(&["sentence"], None, "label", "index"),
            &["sentence", "label"],
        ),
        train: GLUE_TRAIN,
        dev: GLUE_DEV,
        test: &[part("", "test", &["test.tsv"], "SST-2.tsv")],
        trained_as: None,
        recipe: AUTHORS,
    },
    NamedTask {
        name: "mrpc",
        title: "MRPC",
        help: "GLUE: do two sentences mean the same; F1 and accuracy",
        suite: Suite::Glue,
        answers: Answers::Classes(&[class("not_equivalent", "0"), class("equivalent", "1")]),
        measures: &[Metric::F1, Metric::Accuracy],
        columns: SENTENCES,
        archive: Archive {
            has_test_labels: true,
            dev_ids: Some(("dev_ids.tsv", ["#1 ID", "#2 ID"])),
            ..archive("MRPC", wanted(&["#1 String"], Some("#2 String"), "Quality", "index"))
        },
        train: Some(part("", "train", &["train.tsv", "msr_paraphrase_train.txt"], "")),
        dev: GLUE_DEV,
        test: &[part("", "test", &["test.tsv", "msr_paraphrase_test.txt"], "MRPC.tsv")],
        trained_as: None,
        recipe: AUTHORS,
    },
    NamedTask {
        name: "stsb",
        title: "STS-B",
        help: "GLUE: how similar are two sentences, from 0 to 5; Pearson's and Spearman's correlations",
        suite: Suite::Glue,
        answers: Answers::Scores(0.0, 5.0),
        measures: &[Metric::Pearson, Metric::Spearman],
        columns: SENTENCES,
        archive: archive("STS-B", wanted(&["sentence1"], Some("sentence2"), "score", "index")),
        train: GLUE_TRAIN,
        dev: GLUE_DEV,
        test: &[part("", "test", &["test.tsv"], "STS-B.tsv")],
        trained_as: None,
        recipe: AUTHORS,
    },
    NamedTask {
        name: "qqp",
        title: "QQP",
        help: "GLUE: do two questions ask the same thing; F1 and accuracy",
        suite: Suite::Glue,
        answers: Answers::Classes(&[class("not_duplicate", "0"), class("duplicate", "1")]),
        measures: &[Metric::F1, Metric::Accuracy],
        columns: wanted(&["question1"], Some("question2"), "label", "idx"),
        archive: Archive {
            has_broken_rows: true,
            ..archive("QQP", wanted(&["question1"], Some("question2"), "is_duplicate", "id"))
        },
        train: GLUE_TRAIN,
        dev: GLUE_DEV,
        test: &[part("", "test", &["test.tsv"], "QQP.tsv")],
        trained_as: None,
        recipe: AUTHORS,
    },
    NamedTask {
        name: "mnli",
        title: "MNLI",
        help: "GLUE: does one sentence follow from another; accuracy on the matched and the mismatched rows",
        suite: Suite::Glue,
        answers: Answers::Classes(NLI),
        measures: ACCURACY,
        columns: INFERENCE,
        archive: archive("MNLI", wanted(&["sentence1"], Some("sentence2"), "gold_label", "index")),
        train: GLUE_TRAIN,
        dev: &[
            part("matched", "validation_matched", &["dev_matched.tsv"], ""),
            part("mismatched", "validation_mismatched", &["dev_mismatched.tsv"], ""),
        ],
        test: &[
            part("matched", "test_matched", &["test_matched.tsv"], "MNLI-m.tsv"),
            part("mismatched", "test_mismatched", &["test_mismatched.tsv"], "MNLI-mm.tsv"),
        ],
        trained_as: None,
        recipe: MNLI,
    },
    NamedTask {
        name: "qnli",
        title: "QNLI",
        help: "GLUE: does a sentence answer a question; accuracy",
        suite: Suite::Glue,
        answers: Answers::Classes(ENTAILMENT),
        measures: ACCURACY,
        columns: wanted(&["question"], Some("sentence"), "label", "idx"),
        archive: archive("QNLI", wanted(&["question"], Some("sentence"), "label", "index")),
        train: GLUE_TRAIN,
        dev: GLUE_DEV,
        test: &[part("", "test", &["test.tsv"], "QNLI.tsv")],
        trained_as: None,
        recipe: AUTHORS,
    },
    NamedTask {
        name: "rte",
        title: "RTE",
        help: "GLUE: does one sentence follow from another; accuracy",
        suite: Suite::Glue,
        answers: Answers::Classes(ENTAILMENT),
        measures: ACCURACY,
        columns: SENTENCES,
        archive: headed(
            "RTE",
            wanted(&["sentence1"], Some("sentence2"), "label", "index"),
            &["index", "sentence1", "sentence2", "label"],
        ),
        train: GLUE_TRAIN,
        dev: GLUE_DEV,
        test: &[part("", "test", &["test.tsv"], "RTE.tsv")],
        trained_as: None,
        recipe: AUTHORS,
    },
    NamedTask {
        name: "wnli",
        title: "WNLI",
        help: "GLUE: what a pronoun refers to, as entailment; accuracy",
        suite: Suite::Glue,
        answers: Answers::Classes(&[class("not_entailment", "0"), class("entailment", "1")]),
        measures: ACCURACY,
        columns: SENTENCES,
        archive: headed(
            "WNLI",
            wanted(&["sentence1"], Some("sentence2"), "label", "index"),
            &["index", "sentence1", "sentence2", "label"],
        ),
        train: GLUE_TRAIN,
        dev: GLUE_DEV,
        test: &[part("", "test", &["test.tsv"], "WNLI.tsv")],
        trained_as: None,
        recipe: AUTHORS,
    },
    NamedTask {
        name: "ax",
        title: "AX",
        help: "GLUE's diagnostic pairs, answered by a model trained on mnli (`bitfit predict --task ax`)",
        suite: Suite::Glue,
        answers: Answers::Classes(NLI),
        measures: ACCURACY,
        columns: INFERENCE,
        archive: archive(
            "diagnostic",
            wanted(&["sentence1"], Some("sentence2"), "gold_label", "index"),
        ),
        train: None,
        dev: &[],
        test: &[part("", "test", &["diagnostic.tsv", "AX.tsv"], "AX.tsv")],
        trained_as: Some("mnli"),
        recipe: MNLI,
    },
    NamedTask {
        name: "boolq",
        title: "BoolQ",
        help: "SuperGLUE: yes/no questions about a passage; accuracy",
        suite: Suite::SuperGlue,
        answers: Answers::Classes(TRUTH),
        measures: ACCURACY,
        columns: wanted(&["question"], Some("passage"), "label", "idx"),
        archive: archive("BoolQ", wanted(&["question"], Some("passage"), "label", "idx")),
        train: SUPER_TRAIN,
        dev: SUPER_DEV,
        test: &[part("", "test", &["test.jsonl"], "BoolQ.jsonl")],
        trained_as: None,
        recipe: PASSAGES,
    },
    NamedTask {
        name: "cb",
        title: "CB",
        help: "SuperGLUE: what a speaker is committed to, as entailment; macro F1 and accuracy",
        suite: Suite::SuperGlue,
        answers: Answers::Classes(&[
            class("entailment", "entailment"),
            class("contradiction", "contradiction"),
            class("neutral", "neutral"),
        ]),
        measures: &[Metric::MacroF1, Metric::Accuracy],
        columns: INFERENCE,
        archive: archive("CB", INFERENCE),
        train: SUPER_TRAIN,
        dev: SUPER_DEV,
        test: &[part("", "test", &["test.jsonl"], "CB.jsonl")],
        trained_as: None,
        recipe: PASSAGES,
    },
    NamedTask {
        name: "wic",
        title: "WiC",
        help: "SuperGLUE: does a word have the same meaning in two sentences; accuracy. The text is the word, a colon and \
               the first sentence",
        suite: Suite::SuperGlue,
        answers: Answers::Classes(TRUTH),
        measures: ACCURACY,
        columns: wanted(&["word", "sentence1"], Some("sentence2"), "label", "idx"),
        archive: archive("WiC", wanted(&["word", "sentence1"], Some("sentence2"), "label", "idx")),
        train: SUPER_TRAIN,
        dev: SUPER_DEV,
        test: &[part("", "test", &["test.jsonl"], "WiC.jsonl")],
        trained_as: None,
        recipe: OTHERS,
    },
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::choice::Choice;
    use crate::settings::task::Task;

    #[test]
    fn every_task_is_named_once_and_complete() {
        let mut submissions = std::collections::BTreeSet::new();
        for task in &TASKS {
            assert!(std::ptr::eq(NamedTask::named(task.name).unwrap(), task));
            assert!(Task::from_name(task.name).is_err());
            assert!(REFUSED.iter().all(|(name, _)| *name != task.name));
            assert!(!task.test.is_empty() && !task.measures.is_empty());
            assert_eq!(task.train.is_none(), task.trained_as.is_some(), "{}", task.name);
            assert_eq!(task.train.is_none(), task.dev.is_empty(), "{}", task.name);
            for part in task.test {
                assert!(submissions.insert(part.submission), "{}", part.submission);
            }
            if let Some(other) = task.trained_as {
                let other = NamedTask::named(other).unwrap();
                let names = |task: &NamedTask| -> Vec<_> {
                    task.classes().iter().map(|class| class.name).collect()
                };
                assert_eq!(names(task), names(other));
            }
        }
        let besides: Vec<_> =
            NamedTask::named("mnli").unwrap().answered_besides().map(|t| t.name).collect();
        assert_eq!(besides, ["ax"]);
    }

    #[test]
    fn a_positive_class_is_there_where_f1_is() {
        let with: Vec<_> =
            TASKS.iter().filter(|task| task.positive() == Some(1)).map(|task| task.name).collect();
        assert_eq!(with, ["mrpc", "qqp"]);
        let mrpc = NamedTask::named("mrpc").unwrap().reported();
        assert_eq!(mrpc, [Metric::F1, Metric::Accuracy, Metric::MacroF1, Metric::Matthews]);
    }
}
