//! The measures against those of scikit-learn and SciPy, on random and on odd predictions (`scripts/make_measures.py`).

use bitfit::tasks::confusion::Confusion;
use bitfit::tasks::metrics;
use serde_json::Value;

fn fixture(kind: &str) -> Vec<Value> {
    let text = std::fs::read_to_string("tests/fixtures/measures.json").unwrap();
    let all: Value = serde_json::from_str(&text).unwrap();
    let cases = all[kind].as_array().unwrap().clone();
    assert!(cases.len() > 9, "{kind}");
    cases
}

fn numbers(list: &Value) -> Vec<f64> {
    list.as_array().unwrap().iter().map(|number| number.as_f64().unwrap()).collect()
}

fn ids(list: &Value) -> Vec<u32> {
    numbers(list).into_iter().map(|number| number as u32).collect()
}

#[track_caller]
fn close(case: &Value, what: &str, ours: f64, theirs: f64) {
    assert!((ours - theirs).abs() < 1e-12, "{}: {what} {ours} and {theirs}", case["name"]);
}

#[test]
fn measures_of_classes_are_those_of_scikit_learn() {
    for case in &fixture("classification") {
        let (gold, predicted) = (ids(&case["gold"]), ids(&case["predicted"]));
        let classes = case["classes"].as_u64().unwrap() as usize;
        let confusion = Confusion::count(classes, &predicted, &gold);
        let number = |key: &str| case[key].as_f64().unwrap();
        close(case, "accuracy", metrics::accuracy(&predicted, &gold), number("accuracy"));
        close(case, "matthews", metrics::matthews(&predicted, &gold), number("matthews"));
        for class in 0..classes {
            let found = confusion.class(class);
            for (key, ours) in
                [("precision", found.precision), ("recall", found.recall), ("f1", found.f1)]
            {
                close(case, key, ours, numbers(&case[key])[class]);
            }
            assert_eq!(confusion.gold()[class], case["rows"][class].as_u64().unwrap());
            for other in 0..classes {
                let theirs = case["confusion"][class][other].as_u64().unwrap();
                assert_eq!(confusion.cell(class, other), theirs, "{}", case["name"]);
            }
        }
        if let Some(theirs) = case["f1_positive"].as_f64() {
            close(case, "f1 of class 1", metrics::f1_of(1, &predicted, &gold), theirs);
        }
        for (key, ours) in
            [("macro", confusion.macro_average()), ("micro", confusion.micro_average())]
        {
            let theirs = numbers(&case[key]);
            close(case, key, ours.precision, theirs[0]);
            close(case, key, ours.recall, theirs[1]);
            close(case, key, ours.f1, theirs[2]);
        }
        close(case, "macro F1", metrics::macro_f1(&predicted, &gold), numbers(&case["macro"])[2]);
    }
}

#[test]
fn correlations_are_those_of_scipy_and_0_where_it_has_none() {
    for case in &fixture("regression") {
        let single = |key: &str| -> Vec<f32> {
            numbers(&case[key]).into_iter().map(|number| number as f32).collect()
        };
        let (gold, predicted) = (single("gold"), single("predicted"));
        for (key, measure) in [
            ("pearson", metrics::pearson as fn(&[f32], &[f32]) -> f64),
            ("spearman", metrics::spearman),
        ] {
            close(case, key, measure(&predicted, &gold), case[key].as_f64().unwrap_or(0.0));
        }
    }
}
