use super::*;
use crate::results::history::History;
use crate::results::moved::Moved;
use crate::results::rows::RunRow;
use crate::results::rows::tests::{diverged, row};
use crate::settings::biases::Component;

/// Pictures of rows, with logs and movements of each group.
fn drawn(rows: &[RunRow], answers: &AnswersByRun) -> Vec<Picture> {
    let groups = Groups::of(rows);
    let seed = |by: f64| History {
        loss: (1..=200).map(|s| (f64::from(s), by + 1.0 / (1.0 + f64::from(s) / 30.0))).collect(),
        dev: (1..=5).map(|e| (40.0 * f64::from(e), by + 0.5 + 0.07 * f64::from(e))).collect(),
    };
    let histories: Vec<_> = groups
        .list
        .iter()
        .enumerate()
        .map(|(place, group)| GroupHistory {
            name: group.label(),
            seeds: (0..3).map(|n| seed(0.02 * place as f64 + 0.01 * f64::from(n))).collect(),
        })
        .collect();
    let moved: Vec<_> = groups
        .list
        .iter()
        .map(|group| GroupMoved {
            name: group.label(),
            seeds: 3,
            moved: Moved::of(&Component::ALL, 6, |module| Some(module.len() as f64 * 1e-4)),
        })
        .collect();
    all(&Findings { groups: &groups, answers, histories: &histories, moved: &moved })
}

fn names(pictures: &[Picture]) -> Vec<&str> {
    pictures.iter().map(|picture| picture.name).collect()
}

fn grid(variants: &[&str], sizes: &[u64]) -> Vec<RunRow> {
    let mut rows = Vec::new();
    for (place, variant) in variants.iter().enumerate() {
        for size in sizes {
            for lr in [3e-4, 1e-3, 3e-3] {
                for seed in 1..=3 {
                    let dev = 0.7 + 0.01 * place as f64 + 0.002 * seed as f64 + 10.0 * lr;
                    let mut row = row(variant, lr, seed, dev + (*size as f64).ln() / 100.0);
                    row.train_rows = Some(*size);
                    if sizes.len() > 1 {
                        row.axes.insert("train-rows".to_owned(), size.to_string());
                        row.run += &format!("-train-rows{size}");
                    }
                    rows.push(row);
                }
            }
        }
    }
    rows
}

#[test]
fn there_is_a_picture_for_all_that_has_data_and_for_nothing_else() {
    let none = AnswersByRun::new();
    let all = drawn(&grid(&["bitfit", "full"], &[100, 1000]), &none);
    assert_eq!(names(&all), NAMES);
    let one = drawn(&[row("bitfit", 1e-3, 1, 0.8)], &none);
    assert!(!names(&one).contains(&rates::NAME) && !names(&one).contains(&sizes::NAME));
    let lost = [diverged(row("bitfit", 1e-3, 1, 0.8))];
    let groups = Groups::of(&lost);
    let findings = Findings { groups: &groups, answers: &none, histories: &[], moved: &[] };
    assert_eq!(names(&super::all(&findings)), [cost::NAME]);
    let groups = Groups::of(&[]);
    let findings = Findings { groups: &groups, answers: &none, histories: &[], moved: &[] };
    assert!(super::all(&findings).is_empty());
}

#[test]
fn every_shape_stands_on_its_canvas_whatever_the_data() {
    use canvas::Shape;
    let many: Vec<String> =
        (0..30).map(|i| format!("variant-with-a-very-long-name-that-goes-on-{i}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let mut odd = grid(&["a", "b"], &[10, 100_000]);
    for (place, row) in odd.iter_mut().enumerate() {
        row.dev = [Some(f64::NAN), Some(-0.4), Some(0.0), Some(1e9)][place % 4];
        row.seconds_per_step = Some(0.0);
        row.allocated_bytes = (place % 2 == 0).then_some(0);
    }
    let cases =
        [grid(&["bitfit", "full"], &[100, 1000]), grid(&many, &[100]), odd, grid(&["x"], &[1])];
    for rows in cases {
        for picture in drawn(&rows, &AnswersByRun::new()) {
            let Canvas { width, height, shapes } = &picture.canvas;
            assert!((100.0..20_000.0).contains(height), "{}: {height}", picture.name);
            for shape in shapes {
                let points: Vec<(f64, f64)> = match shape {
                    Shape::Line { points, .. } | Shape::Fill { points, .. } => points.clone(),
                    Shape::Words { at, text, size, align, upwards: false, .. } => {
                        let wide = canvas::width_of(text, *size);
                        let left = match align {
                            canvas::Align::Left => at.0,
                            canvas::Align::Center => at.0 - wide / 2.0,
                            canvas::Align::Right => at.0 - wide,
                        };
                        vec![(left, at.1), (left + wide, at.1)]
                    }
                    Shape::Words { at, .. } => vec![*at],
                };
                for (x, y) in points {
                    let there = (0.0..=*width).contains(&x) && (0.0..=*height).contains(&y);
                    assert!(there, "{}: {shape:?} beyond {width} x {height}", picture.name);
                }
            }
        }
    }
}

#[test]
fn pictures_become_files() {
    for picture in drawn(&grid(&["bitfit", "a<b>&"], &[100, 1000]), &AnswersByRun::new()) {
        let svg = picture.canvas.svg().unwrap();
        assert!(svg.contains("</svg>") && !svg.contains("a<b>"), "{}", picture.name);
        assert!(picture.canvas.png().unwrap().starts_with(b"\x89PNG"), "{}", picture.name);
    }
}
