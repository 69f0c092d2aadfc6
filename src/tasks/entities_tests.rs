use super::*;

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
