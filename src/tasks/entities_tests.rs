use super::*;
use serde_json::Value;

/// Values from `scripts/tag_measures.py`.
#[test]
fn precision_recall_and_f1_are_those_of_seqeval() {
    let cases: Vec<Value> =
        serde_json::from_str(include_str!("../../tests/fixtures/tag_measures.json")).unwrap();
    assert!(cases.len() > 70);
    for case in &cases {
        let mut found = EntityTally::default();
        let sentences = |key: &str| case[key].as_array().unwrap().clone();
        for (predicted, gold) in sentences("predicted").iter().zip(&sentences("gold")) {
            let tags = |list: &'_ Value| -> Vec<String> {
                list.as_array().unwrap().iter().map(|t| t.as_str().unwrap().to_owned()).collect()
            };
            let (predicted, gold) = (tags(predicted), tags(gold));
            let [predicted, gold] = [&predicted, &gold]
                .map(|tags| tags.iter().map(String::as_str).collect::<Vec<&str>>());
            found.add(&entities(&predicted), &entities(&gold));
        }
        for (key, value) in
            [("precision", found.precision()), ("recall", found.recall()), ("f1", found.f1())]
        {
            let expected = case[key].as_f64().unwrap();
            assert!((value - expected).abs() < 1e-12, "{key} is {value}: {case}");
        }
    }
}

#[test]
fn the_last_and_unit_tags_of_bilou_are_those_of_iobes() {
    let of =
        |tags: &[&'static str]| entities(tags).iter().map(|e| e.words.clone()).collect::<Vec<_>>();
    assert_eq!(of(&["B-x", "I-x", "L-x", "U-x"]), of(&["B-x", "I-x", "E-x", "S-x"]));
}

#[test]
fn only_tags_of_a_scheme_have_entities() {
    assert!(are_tagged(&["O", "B-PER", "I-PER"]));
    assert!(are_tagged(&["B", "I", "O"]));
    assert!(are_tagged(&["U-x", "L-x", "B-x", "I-x", "O"]));
    assert!(!are_tagged(&["O"]));
    assert!(!are_tagged(&["NOUN", "VERB"]));
    assert!(!are_tagged(&["O", "B-PER", "x"]));
    assert!(!are_tagged(&["é", "B-PER"]));
    assert_eq!(continued("B-PER"), "I-PER");
    assert_eq!(continued("O"), "O");
    assert_eq!(continued("NOUN"), "NOUN");
}
