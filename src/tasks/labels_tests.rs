//! Labels as data files have them, good and bad.

use super::*;
use crate::batch::Labels;
use crate::settings::task::Task;
use crate::tasks::examples::Examples;
use crate::tasks::remarks::{doubts, in_order, mark_doubt, respelled, summary, without_rows};
use crate::tasks::splitting::Splitting;
use crate::tasks::targets::Targets;

/// One number per text.
const VALUES: Targets = Targets::Values { outputs: 1, splitting: Splitting::LISTS };

/// A table with the given labels on lines 2, 3, ...
pub(crate) fn table(labels: &[&str]) -> Table {
    let row = |(i, label): (usize, &&str)| Row {
        line: i as u64 + 2,
        text: "t".to_owned(),
        text_pair: None,
        label: Some((*label).to_owned()),
    };
    Table {
        name: "f.tsv".to_owned(),
        unread: Vec::new(),
        over_lines: None,
        columns: crate::formats::columns::Columns {
            text: "text".to_owned(),
            text_pair: None,
            label: Some("label".to_owned()),
        },
        rows: labels.iter().enumerate().map(row).collect(),
    }
}

fn names(labels: &[&str]) -> Vec<String> {
    ClassNames::from_table(&table(labels)).unwrap().names().to_vec()
}

fn error(targets: &Targets, labels: &[&str]) -> String {
    targets.read(&table(labels)).unwrap_err().to_string()
}

#[test]
fn integer_labels_sort_by_value_and_words_by_character() {
    assert_eq!(names(&["10", "9", "-1", "9"]), ["-1", "9", "10"]);
    assert_eq!(names(&["b", "a10", "a9", " b "]), ["a10", "a9", "b"]);
    assert_eq!(names(&["2.0", "10.0", "1.0"]), ["1.0", "2.0", "10.0"]);
    assert_eq!(names(&["1", "yes"]), ["1", "yes"]);
}

#[test]
fn labels_keep_the_spelling_that_they_came_in() {
    assert_eq!(names(&["00", "+1", "2e0"]), ["00", "+1", "2e0"]);
    assert_eq!(names(&["True", "False"]), ["False", "True"]);
    let long = ["9007199254740993", "9007199254740992"];
    assert_eq!(names(&long), [long[1], long[0]], "more digits than f64 has");
}

#[test]
fn one_label_in_several_spellings_is_refused_with_their_rows() {
    for labels in [
        &["1", "0", "1.0", "1"][..],
        &["01", "1", "x"],
        &["café", "cafe\u{301}", "x"],
        &["café", "café\u{200b}", "x"],
        &["true", "True", "false"],
        &["not ok", "not\u{a0}ok"],
    ] {
        let message = ClassNames::from_table(&table(labels)).unwrap_err().to_string();
        assert!(message.contains("spelled in several ways"), "{message}");
        assert!(message.contains(" row"), "{message}");
    }
    let message = ClassNames::from_table(&table(&["cafe\u{301}", "café"])).unwrap_err();
    assert!(message.to_string().contains("\"cafe\\u{301}\" (1 row)"), "{message}");
}

#[test]
fn another_spelling_of_a_class_is_that_class_and_is_said() {
    let classes = ClassNames::from_table(&table(&["1.0", "2.0", "10.0"])).unwrap();
    let targets = Targets::Classes(classes);
    let dev = table(&["1", "2.0", "10"]);
    assert_eq!(targets.read(&dev).unwrap(), Labels::Classes(vec![0, 1, 2]));
    let said = respelled(&targets, &dev).unwrap();
    assert_eq!(said, "\"1\" (1 row) is the class \"1.0\", \"10\" (1 row) is the class \"10.0\"");
    assert_eq!(respelled(&targets, &table(&["1.0"])), None);
    assert!(error(&targets, &["3"]).contains("the label \"3\" is unknown"));
}

#[test]
fn what_an_earlier_program_took_for_several_classes_still_loads() {
    let names = ["1", "1.0", "2"].map(str::to_owned).to_vec();
    let classes = ClassNames::from_names(names, 2).unwrap();
    let id = |label| classes.id(label);
    assert_eq!((id("1"), id("1.0"), id("2.0"), id("01")), (Some(0), Some(1), Some(2), None));
}

#[test]
fn classes_are_listed_with_their_rows_and_what_is_odd_about_them() {
    let said = |labels: &[&str]| {
        let table = table(labels);
        let targets = Targets::Classes(ClassNames::from_table(&table).unwrap());
        let labels = targets.read(&table).unwrap();
        (summary(&targets, &labels), doubts(&targets, &labels).join("; "))
    };
    let (line, doubts) = said(&["b", "a", "b"]);
    assert_eq!(line, "2 classes and their rows: \"a\" (1), \"b\" (2)");
    assert_eq!(doubts, "");
    assert!(said(&["Yes", "yes"]).1.contains("only in case"));
    assert!(said(&["1", "2", "x"]).1.contains("some are not (\"x\")"));
    assert!(said(&["pro", "None"]).1.contains("\"None\" is taken for a class"));
    let many: Vec<String> = (0..3000).map(|i| i.to_string()).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let (line, doubts) = said(&many);
    assert!(line.starts_with("3000 classes") && line.ends_with("and 2980 more"), "{line}");
    assert!(doubts.contains("3000 of 3000 classes have a single row"), "{doubts}");
}

#[test]
fn labels_that_are_joined_otherwise_are_said_with_the_separator() {
    let said = |labels: &[&str]| {
        let table = table(labels);
        let splitting = Splitting::at(",");
        let targets = Targets::of(Task::MultiLabel, splitting, &table.clone().into()).unwrap();
        doubts(&targets, &targets.read(&table).unwrap()).join("; ")
    };
    for (labels, separator) in
        [(["a;b", "b", "a"], ";"), (["a|b", "b|a", ""], "|"), (["a b", "a", "b"], " ")]
    {
        let text = said(&labels);
        assert!(text.contains(&format!("--label-separator {separator:?}")), "{text}");
    }
    for labels in [["1 0 1", "0 0 1", "1 0 0"], ["0", "1", "1"]] {
        assert!(said(&labels).contains("instead of writing 0 or 1"), "{labels:?}");
    }
    assert!(said(&["a", "b", ""]).contains("no row has more than one label"));
    assert_eq!(said(&["a;b", "a;b,c", "c"]), "", "they are several");
    assert!(said(&["a", "a"]).contains("every row has every label"));
}

#[test]
fn words_that_may_be_no_tag_are_said() {
    let document = crate::data::Document {
        gold: crate::data::Gold::Tags(["O", "None", "nan", "-"].map(str::to_owned).into()),
        ..crate::data::Document::of_words(&["a", "b", "c", "d"].map(str::to_owned))
    };
    let documents = crate::data::Documents { name: "d".into(), list: vec![document] };
    let targets =
        Targets::of(Task::TokenClassification, Splitting::LISTS, &Examples::Documents(documents))
            .unwrap();
    let ids = (0..targets.names().len() as u32).collect();
    let text = doubts(&targets, &Labels::Tokens(ids)).join("; ");
    assert!(text.contains("\"None\", \"nan\" are learned as a tag like any other"), "{text}");
}

#[test]
fn numbers_that_may_say_that_there_is_none_are_said() {
    let said = |values: &[f32]| doubts(&VALUES, &Labels::Values(values.to_vec())).join("; ");
    assert!(said(&[0.5, -1.0, 4.0]).contains("the label -1 often means that there is none"));
    assert!(said(&[0.5, -99.0, 4.0]).contains("it is learned as a number"));
    assert_eq!(said(&[0.5, -1.0, -0.5]), "");
    assert!(mark_doubt(&[0.5, -9.0], "measured").unwrap().contains("it is measured as a number"));
}

#[test]
fn rows_in_the_order_of_their_labels_are_known() {
    let classes = |ids: &[u32]| in_order(&Labels::Classes(ids.to_vec()), 3);
    assert!(classes(&[1, 1, 0, 0, 2]) && !classes(&[0, 1, 1, 0]) && !classes(&[0, 0, 0]));
    assert!(!classes(&[0, 1, 2]), "one row each has no order");
    let values = |values: &[f32], outputs| in_order(&Labels::Values(values.to_vec()), outputs);
    assert!(values(&[0.5, 1.0, 1.5], 1) && values(&[3.0, 2.0, 1.0], 1));
    assert!(!values(&[0.5, 1.5, 1.0], 1) && !values(&[1.0, 1.0, 1.0], 1));
    assert!(values(&[1.0, 0.0, 1.0, 0.0, 0.0, 1.0], 2));
    assert!(!values(&[1.0, 0.0, 0.0, 1.0, 1.0, 0.0], 2));
}

#[test]
fn a_class_without_rows_is_found() {
    let classes = ClassNames::from_table(&table(&["a", "b", "c"])).unwrap();
    let found = |ids: &[u32]| without_rows(&classes, &Labels::Classes(ids.to_vec()));
    assert_eq!(found(&[0, 2]).as_deref(), Some("\"b\""));
    assert_eq!(found(&[0, 1, 2]), None);
}

#[test]
fn labels_become_the_ids_of_their_names() {
    let labels = ["neutral", "entailment", "neutral", "contradiction"];
    let targets = Targets::Classes(ClassNames::from_table(&table(&labels)).unwrap());
    assert_eq!(targets.read(&table(&labels)).unwrap(), Labels::Classes(vec![2, 1, 2, 0]));
}

#[test]
fn names_of_a_config_keep_their_order_and_a_number_is_no_place_in_it() {
    let classes = ClassNames::from_names(vec!["POSITIVE".into(), "NEGATIVE".into()], 2).unwrap();
    assert_eq!(classes.names(), ["POSITIVE", "NEGATIVE"]);
    assert_eq!((classes.id("NEGATIVE"), classes.id("1"), classes.id("2")), (Some(1), None, None));
    let numbered = ClassNames::from_names(vec!["1".into(), "2".into()], 2).unwrap();
    assert_eq!((numbered.id("1"), numbered.id("02"), numbered.id("0")), (Some(0), Some(1), None));
    assert!(ClassNames::from_names(vec!["a".into(), "a".into()], 2).is_err());
    assert!(ClassNames::from_names(vec!["a".into()], 2).is_err());
}

#[test]
fn a_label_unseen_in_training_is_reported_with_line_and_known_labels() {
    let targets = Targets::Classes(ClassNames::from_table(&table(&["no", "yes"])).unwrap());
    assert_eq!(
        error(&targets, &["yes", "maybe"]),
        "f.tsv:3: the label \"maybe\" is unknown; the task's labels are \"no\", \"yes\""
    );
}

#[test]
fn a_number_for_a_word_and_another_case_get_a_hint() {
    let targets = Targets::Classes(ClassNames::from_table(&table(&["no", "yes"])).unwrap());
    let message = error(&targets, &["yes", "1", "0"]);
    assert!(
        message.contains("2 of 3 rows") && message.contains("no") && message.contains("position"),
        "{message}"
    );
    assert!(error(&targets, &["YES"]).contains("did you mean \"yes\"?"));
}

#[test]
fn many_known_labels_are_listed_in_part() {
    let labels: Vec<String> = (0..30).map(|i| i.to_string()).collect();
    let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
    let targets = Targets::Classes(ClassNames::from_table(&table(&labels)).unwrap());
    assert!(error(&targets, &["x"]).ends_with("\"19\" and 10 more"));
}

#[test]
fn one_class_only_and_empty_labels_are_refused() {
    let message = ClassNames::from_table(&table(&["a", "a"])).unwrap_err().to_string();
    assert!(message.contains("every row has the label \"a\""), "{message}");
    let message = ClassNames::from_table(&table(&["a", " "])).unwrap_err().to_string();
    assert_eq!(message, "f.tsv:3: the label is empty");
}

#[test]
fn scores_taken_for_classes_are_refused() {
    let labels: Vec<String> = (0..40).map(|i| format!("{}.5", i % 21)).collect();
    let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
    let message = ClassNames::from_table(&table(&labels)).unwrap_err().to_string();
    assert!(message.ends_with("use --task regression"), "{message}");
    assert_eq!(names(&labels[..3]), ["0.5", "1.5", "2.5"]);
}

#[test]
fn regression_reads_numbers_and_refuses_everything_else_with_the_line() {
    assert_eq!(
        VALUES.read(&table(&["1", "-2.5", "3e-1 "])).unwrap(),
        Labels::Values(vec![1.0, -2.5, 0.3])
    );
    for infinite in ["nan", "inf", "-Infinity"] {
        let message = error(&VALUES, &["1", infinite]);
        assert!(
            message.starts_with("f.tsv:3: ") && message.contains("not a finite number"),
            "{message}"
        );
    }
    for large in ["1e38", "-2e15", "1e60"] {
        let message = error(&VALUES, &["1", large]);
        assert!(message.contains("divide all labels"), "{message}");
    }
    assert!(error(&VALUES, &["3,5"]).contains("write decimals with a point"));
    let message = error(&VALUES, &["good"]);
    assert!(
        message.starts_with("f.tsv:2: ") && message.ends_with("use --task classification"),
        "{message}"
    );
}

#[test]
fn prediction_has_no_targets() {
    assert_eq!(Targets::None.read(&table(&["a"])).unwrap(), Labels::None);
}
