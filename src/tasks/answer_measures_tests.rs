use super::*;
use serde::Deserialize;

/// Written by `scripts/squad_measures.py`, which compares it with SQuAD's own script.
const FIXTURE: &str = include_str!("../../tests/fixtures/squad/measures.json");

#[derive(Deserialize)]
struct Fixture {
    answers: Vec<Case>,
    thresholds: Vec<Chosen>,
}

#[derive(Deserialize)]
struct Case {
    answer: String,
    right: Vec<String>,
    normalised: String,
    exact: f64,
    f1: f64,
}

#[derive(Deserialize)]
struct Chosen {
    /// Score, worth, and whether the text answers.
    doubts: Vec<(f64, f64, bool)>,
    sum: f64,
    threshold: Option<f64>,
}

fn fixture() -> Fixture {
    serde_json::from_str(FIXTURE).unwrap()
}

#[test]
fn exact_match_and_f1_are_those_of_squad() {
    let cases = fixture().answers;
    assert!(cases.len() > 300);
    for Case { answer, right, normalised: text, exact, f1 } in cases {
        assert_eq!(normalised(&answer), text, "{answer:?}");
        let of = measured(&answer, right.iter().map(String::as_str));
        let near = |a: f64, b: f64| (a - b).abs() < 1e-12;
        assert!(near(of.exact, exact) && near(of.f1, f1), "{answer:?} {right:?}: {of:?}");
    }
}

fn doubts(of: &[(f64, f64, bool)]) -> Vec<Doubt> {
    of.iter().map(|&(score, worth, answered)| Doubt { score, worth, answered }).collect()
}

/// The total value at a threshold.
fn sum_at(threshold: f64, doubts: &[Doubt]) -> f64 {
    let worth = |doubt: &Doubt| match (doubt.score > threshold, doubt.answered) {
        (true, answered) => f64::from(u8::from(!answered)),
        (false, _) => doubt.worth,
    };
    doubts.iter().map(worth).sum()
}

#[test]
fn the_threshold_is_that_of_squad_and_worth_what_it_promises() {
    for Chosen { doubts: of, sum, threshold } in fixture().thresholds {
        let doubts = doubts(&of);
        let best = best_threshold(&doubts);
        match threshold {
            Some(threshold) => {
                let between = |doubt: &Doubt| doubt.score > threshold && doubt.score <= best;
                assert!(best > threshold && !doubts.iter().any(between));
            }
            None => assert!(doubts.iter().all(|doubt| doubt.score > best)),
        }
        assert!((sum_at(best, &doubts) - sum).abs() < 1e-9);
    }
}

#[test]
fn equal_scores_are_answered_together() {
    // Between the two lies what SQuAD's script would promise but no threshold delivers.
    let tie = doubts(&[(1.0, 1.0, true), (1.0, 0.0, false), (2.0, 0.0, false)]);
    assert!(best_threshold(&tie) < 1.0);
    let tie = doubts(&[(1.0, 1.0, true), (1.0, 1.0, true), (1.0, 0.0, false)]);
    assert_eq!(best_threshold(&tie), 2.0);
    assert_eq!(best_threshold(&[]), 0.0);
    assert_eq!(best_threshold(&doubts(&[(f64::INFINITY, 0.0, true)])), 0.0);
}
