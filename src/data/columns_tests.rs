//! Which columns are chosen for which headers.

use super::*;

fn found(header: &[&str]) -> (usize, Option<usize>, Option<usize>) {
    let chosen = choose(header, &ColumnNames::default(), LabelUse::Required, None, "f:1").unwrap();
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
    choose(header, names, LabelUse::Required, None, "f:1").unwrap_err().to_string()
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
    assert_eq!(found(&["sentence1", "sentence2", "text", "label", "score"]), (2, None, Some(3)));
    assert_eq!(found(&["text_pair", "text", "label"]), (1, Some(0), Some(2)));
}

#[test]
fn names_asked_for_are_taken_exactly() {
    let header = ["body", "title", "stars", "sentence"];
    let names = named(Some("body"), Some("title"), Some("stars"));
    let chosen = choose(&header, &names, LabelUse::Required, None, "f:1").unwrap();
    assert_eq!(chosen, ChosenColumns { text: 0, text_pair: Some(1), label: Some(2) });
    assert!(
        refused(&header, &named(Some("Body"), None, Some("stars")))
            .contains("did you mean \"body\"?")
    );
}

#[test]
fn a_named_text_column_is_single_unless_a_partner_is_named_or_has_the_default_name() {
    let names = named(Some("sentence1"), None, None);
    let chosen = |header: &[&str]| {
        choose(header, &names, LabelUse::Required, None, "f:1").unwrap().text_pair
    };
    assert_eq!(chosen(&["sentence1", "sentence2", "label"]), None);
    assert_eq!(chosen(&["sentence1", "text_pair", "label"]), Some(1));
}

#[test]
fn a_named_partner_finds_its_first_half() {
    let names = named(None, Some("sentence2"), None);
    let header = ["sentence1", "sentence2", "premise", "hypothesis", "label"];
    let chosen = choose(&header, &names, LabelUse::Required, None, "f:1").unwrap();
    assert_eq!((chosen.text, chosen.text_pair), (0, Some(1)));
    let names = named(None, Some("notes"), None);
    let chosen =
        choose(&["sentence", "notes", "label"], &names, LabelUse::Required, None, "f:1").unwrap();
    assert_eq!((chosen.text, chosen.text_pair), (0, Some(1)));
}

#[test]
fn a_missing_column_lists_what_is_there_and_the_nearest() {
    let message = refused(&["sentense", "label"], &ColumnNames::default());
    assert!(
        message
            .starts_with("f:1: no text column recognised; the columns are \"sentense\", \"label\"")
    );
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
        refused(&header, &ColumnNames::default()).contains("several columns could be the label")
    );
    assert!(
        refused(&["text", "text", "label"], &ColumnNames::default())
            .contains("two columns are called")
    );
}

#[test]
fn columns_that_differ_in_case_alone_are_named_as_they_are() {
    let header = ["Text", "text", "label"];
    let message = refused(&header, &ColumnNames::default());
    assert!(message.contains("\"Text\" and \"text\" differ only in case"), "{message}");
    let names = named(Some("text"), None, None);
    assert_eq!(choose(&header, &names, LabelUse::Required, None, "f:1").unwrap().text, 1);
}

#[test]
fn words_are_several_names_where_a_label_or_a_pair_is_among_them() {
    for several in
        [&["text", "label"][..], &["Sentence1", "sentence2"], &["idx", "review", "stars"]]
    {
        assert!(name_several(several), "{several:?}");
    }
    for one in [&["comment", "text"][..], &["label"], &["text"], &[]] {
        assert!(!name_several(one), "{one:?}");
    }
}

#[test]
fn one_column_cannot_play_two_parts() {
    let names = named(Some("a"), None, Some("a"));
    assert!(refused(&["a", "b"], &names).contains("used twice"));
}

#[test]
fn prediction_does_not_need_a_label() {
    let chosen =
        choose(&["text"], &ColumnNames::default(), LabelUse::Ignored, None, "f:1").unwrap();
    assert_eq!(chosen.label, None);
}

fn trained(text: &str, pair: Option<&str>) -> Columns {
    Columns {
        text: text.to_owned(),
        text_pair: pair.map(str::to_owned),
        label: Some("label".to_owned()),
    }
}

fn held(header: &[&str], names: &ColumnNames, trained: &Columns) -> Result<(usize, Option<usize>)> {
    let chosen = choose(header, names, LabelUse::Ignored, Some(trained), "f:1")?;
    hold_pairs(Some(trained), chosen.text_pair.is_some(), "f:1")?;
    Ok((chosen.text, chosen.text_pair))
}

#[test]
fn a_task_on_pairs_is_held_to_pairs() {
    let (any, pairs) = (ColumnNames::default(), trained("premise", Some("hypothesis")));
    let found = |header: &[&str]| held(header, &any, &pairs);
    // These names win over recognised ones, in any order.
    let header = ["text", "hypothesis", "premise", "label"];
    assert_eq!(found(&header).unwrap(), (2, Some(1)));
    assert_eq!(found(&["sentence1", "sentence2"]).unwrap(), (0, Some(1)));
    for header in [&["text"][..], &["premise", "label"], &["premise"]] {
        let message = found(header).unwrap_err().to_string();
        assert!(
            message.contains("pair") || message.contains("\"hypothesis\" is not there"),
            "{message}"
        );
    }
    let by_name = named(Some("a"), Some("b"), None);
    assert_eq!(held(&["a", "b"], &by_name, &pairs).unwrap(), (0, Some(1)));
}

#[test]
fn a_task_on_single_texts_is_held_to_those() {
    let (any, single) = (ColumnNames::default(), trained("sentence", None));
    let found = |header: &[&str]| held(header, &any, &single);
    assert_eq!(found(&["text", "sentence"]).unwrap(), (1, None));
    assert_eq!(found(&["text"]).unwrap(), (0, None));
    for header in
        [&["question", "sentence"][..], &["text", "text_pair"], &["sentence1", "sentence2"]]
    {
        let message = found(header).unwrap_err().to_string();
        assert!(message.contains("trained on single texts"), "{message}");
    }
    let by_name = named(Some("text"), None, None);
    assert_eq!(held(&["text", "text_pair"], &by_name, &single).unwrap(), (0, None));
    let by_name = named(None, Some("text_pair"), None);
    assert!(held(&["text", "text_pair"], &by_name, &single).is_err());
}

#[test]
fn half_a_pair_is_named_as_what_it_is_and_nothing_is_suggested_that_was_given() {
    let message = refused(&["sentence1", "label"], &ColumnNames::default());
    assert!(message.contains("\"sentence2\" is missing"), "{message}");
    assert!(!message.contains("did you mean"), "{message}");
    let message = refused(&["Text", "label"], &named(Some("text"), None, None));
    assert!(message.contains("did you mean \"Text\"?"), "{message}");
}

#[test]
fn usual_names_of_texts_and_labels_are_found_after_the_documented_ones() {
    assert_eq!(found(&["text", "labels"]), (0, None, Some(1)));
    assert_eq!(found(&["review", "sentiment"]), (0, None, Some(1)));
    assert_eq!(found(&["review", "text", "score", "rating"]), (1, None, Some(2)));
}
