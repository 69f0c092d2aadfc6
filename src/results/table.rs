//! The table of a sweep, as text and as Markdown, with its notes.

use super::bootstrap::{Interval, RESAMPLES};
use super::groups::{AnswersByRun, AtRate, Group, Groups};
use super::rows::{RunEnd, RunRow};
use super::units::{bytes, difference, measure, seconds};
use crate::table::{TextTable, grouped};
use crate::words::{count, list};

/// One row per group of runs.
#[derive(Debug, Clone, PartialEq)]
pub struct ResultTable {
    pub heading: Vec<String>,
    pub rows: Vec<Vec<String>>,
    /// Sentences that belong to it.
    pub notes: Vec<String>,
}

fn or_dash(text: Option<String>) -> String {
    text.unwrap_or_else(|| "-".to_owned())
}

impl ResultTable {
    pub fn of(groups: &Groups<'_>, answers: &AnswersByRun) -> Self {
        let first = groups.first_variant();
        let dev = match groups.metric {
            Some(metric) => format!("dev {metric}"),
            None => "dev".to_owned(),
        };
        let compared = groups.list.iter().any(|group| group.variant != first);
        let mut heading = vec!["run".to_owned(), "rate".to_owned(), "seeds".to_owned(), dev];
        if compared {
            heading.push(format!("against {first}"));
        }
        let more = ["train − dev", "trained values", "memory", "saved/token", "step", "result"];
        heading.extend(more.map(str::to_owned));
        let mut drawn = Drawn::default();
        let rows = groups.list.iter().map(|group| {
            let mut row = Self::of_group(group);
            if compared {
                row.insert(4, against(groups, group, answers, &mut drawn));
            }
            row
        });
        let rows = rows.collect();
        Self { heading, rows, notes: notes(groups, compared.then_some(first), &drawn) }
    }

    fn of_group(group: &Group<'_>) -> Vec<String> {
        let at = group.at_best();
        let dev = at.and_then(|at| {
            let mean = measure(at.mean()?);
            Some(at.deviation().map_or(mean.clone(), |by| format!("{mean} ± {}", measure(by))))
        });
        let shown = group.shown();
        let done =
            |at: &AtRate<'_>| at.runs.iter().filter(|run| run.outcome == RunEnd::Done).count();
        let seeds = at.map_or_else(|| shown.map_or(0, done), |at| at.dev().len());
        vec![
            group.label(),
            or_dash(shown.map(|at| at.rate.clone())),
            seeds.to_string(),
            or_dash(dev),
            or_dash(at.and_then(|at| at.mean_of(RunRow::gap)).map(difference)),
            or_dash(group.most(|run| run.trained_parameters).map(grouped)),
            or_dash(group.most(|run| run.allocated_bytes).map(bytes)),
            or_dash(group.median(|run| run.saved_bytes_per_token).map(|b| bytes(b.round() as u64))),
            or_dash(group.median(|run| run.seconds_per_step).map(seconds)),
            or_dash(group.most(|run| run.result_bytes).map(bytes)),
        ]
    }

    pub fn text(&self) -> String {
        let mut table = TextTable::new(self.heading.iter().map(String::as_str));
        for row in &self.rows {
            table.row(row.iter().map(String::as_str));
        }
        let notes: String = self.notes.iter().map(|note| format!("{note}\n")).collect();
        format!("{table}{notes}")
    }

    pub fn markdown(&self) -> String {
        let line = |cells: &[String]| {
            let cells: Vec<_> = cells.iter().map(|cell| cell.replace('|', "\\|")).collect();
            format!("| {} |\n", cells.join(" | "))
        };
        let mut text =
            line(&self.heading) + "|---|" + &"---:|".repeat(self.heading.len() - 1) + "\n";
        text.extend(self.rows.iter().map(|row| line(row)));
        text.extend(self.notes.iter().map(|note| format!("\n{note}\n")));
        text
    }
}

/// What was compared, and what was drawn for the intervals, to be stated once.
#[derive(Default)]
struct Drawn {
    /// Whether there are differences for a single seed.
    single: bool,
    rows: bool,
    seeds_alone: Vec<String>,
    /// The fewest seeds behind an interval.
    fewest: Option<usize>,
    /// Compared over fewer seeds than the row has.
    fewer: Vec<String>,
    /// Without a row or seed to compare with.
    alone: Vec<String>,
    no_seed: Vec<String>,
}

/// How a group compares with the first variant.
fn against(
    groups: &Groups<'_>,
    group: &Group<'_>,
    answers: &AnswersByRun,
    drawn: &mut Drawn,
) -> String {
    let nothing = || "-".to_owned();
    let Some(at) = group.at_best().filter(|_| group.variant != groups.first_variant()) else {
        return nothing();
    };
    let Some(first) = groups.compared_with(group) else {
        drawn.alone.push(group.label());
        return nothing();
    };
    let Some(found) = group.difference(first, answers) else {
        drawn.no_seed.push(group.label());
        return nothing();
    };
    if found.seeds < at.dev().len() {
        drawn.fewer.push(format!("{} ({})", group.label(), count(found.seeds, "seed")));
    }
    let Some(Interval { low, high, rows }) = found.interval else {
        drawn.single = true;
        return format!("{} [-]", difference(found.mean));
    };
    drawn.fewest = Some(drawn.fewest.map_or(found.seeds, |fewest| fewest.min(found.seeds)));
    match rows {
        true => drawn.rows = true,
        false => drawn.seeds_alone.push(group.label()),
    }
    format!("{} [{}, {}]", difference(found.mean), difference(low), difference(high))
}

fn notes(groups: &Groups<'_>, first: Option<&str>, drawn: &Drawn) -> Vec<String> {
    let mut notes = Vec::new();
    let mut with_rates = groups.list.iter().filter(|group| group.rates.len() > 1);
    if with_rates.clone().any(|group| group.at_best().is_some()) {
        notes.push(
            "Each row has the rate with the best mean on the dev rows, so its value there is slightly optimistic.".to_owned(),
        );
    }
    if with_rates.any(|group| group.at_best().is_none()) {
        notes.push("A row without a value on dev rows shows its first rate.".to_owned());
    }
    if groups.list.iter().any(|group| group.at_best().is_some_and(|at| at.dev().len() > 1)) {
        notes.push("± is the sample standard deviation over the seeds.".to_owned());
    }
    if let Some(first) = first {
        let resamples = grouped(RESAMPLES);
        let of = |what: &str| {
            format!(
                "Differences from {first} are for the same seeds; in brackets, 95 % of {resamples} bootstrap \
                 resamples of {what}."
            )
        };
        match (drawn.rows, drawn.seeds_alone.is_empty()) {
            (true, true) => notes.push(of("seeds and dev rows")),
            (true, false) => {
                notes.push(of("seeds and dev rows"));
                let alone = list(&drawn.seeds_alone);
                notes.push(format!("Only seeds were resampled for {alone}: their rows do not pair."));
            }
            (false, false) => notes.push(of("seeds")),
            (false, true) if drawn.single => notes.push(format!(
                "Differences from {first} are for the same seed; one seed says nothing about how much seeds vary."
            )),
            (false, true) => {}
        }
        if !drawn.fewer.is_empty() {
            let fewer = list(&drawn.fewer);
            notes.push(format!("Compared over fewer seeds, those that {first} also has: {fewer}."));
        }
        if let Some(fewest @ 2..5) = drawn.fewest {
            notes.push(format!("Intervals of {} are rough.", count(fewest, "seed")));
        }
        if !drawn.no_seed.is_empty() {
            let rows = list(&drawn.no_seed);
            notes.push(format!("Not compared, as {first} has no seed in common: {rows}."));
        }
        if !drawn.alone.is_empty() {
            let rows = list(&drawn.alone);
            notes.push(format!(
                "Not compared, as no row of {first} has the same values of the columns: {rows}."
            ));
        }
    }
    for group in &groups.list {
        for (end, what) in [(RunEnd::Diverged, "diverged"), (RunEnd::Failed, "failed")] {
            let (lost, of) = (group.ended(end), group.runs().count());
            if lost > 0 {
                notes.push(format!("{}: {lost} of {} {what}.", group.label(), count(of, "run")));
            }
        }
    }
    notes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::bootstrap::DevAnswers;
    use crate::results::rows::tests::{diverged, row};
    use crate::tasks::row_answers::RowAnswers;

    #[test]
    fn each_group_has_a_row_with_its_best_rate_and_its_difference() {
        let mut rows = Vec::new();
        for (variant, by) in [("bitfit", 0.0), ("full", 0.02)] {
            for seed in 1..=3 {
                rows.push(row(variant, 1e-3, seed, 0.80 + by + 0.01 * seed as f64));
                rows.push(diverged(row(variant, 1.0, seed, 0.0)));
            }
        }
        let table = ResultTable::of(&Groups::of(&rows), &AnswersByRun::new());
        let text = table.text();
        assert!(text.contains("0.8200 ± 0.0100"), "{text}");
        assert!(text.contains("+0.0200 [+0.0200, +0.0200]"), "{text}");
        assert!(text.contains("bootstrap resamples of seeds"), "{text}");
        assert!(text.contains("full: 3 of 6 runs diverged"), "{text}");
        assert!(text.contains("Intervals of 3 seeds are rough"), "{text}");
        let markdown = table.markdown();
        let lines: Vec<&str> = markdown.lines().collect();
        assert_eq!(lines[0].matches('|').count(), lines[2].matches('|').count());
        assert!(lines[0].contains("against bitfit"), "{markdown}");
        assert!(
            lines[2].contains("| bitfit | 0.001 | 3 | 0.8200 ± 0.0100 | - | +0.0500 | 26,498 |")
        );
    }

    #[test]
    fn one_seed_has_neither_spread_nor_interval() {
        let rows = [row("a", 1e-3, 1, 0.5), row("b", 1e-3, 1, 0.6)];
        let text = ResultTable::of(&Groups::of(&rows), &AnswersByRun::new()).text();
        assert!(text.contains("+0.1000 [-]") && !text.contains('±'), "{text}");
        assert!(text.contains("one seed says nothing"), "{text}");
        let alone = ResultTable::of(&Groups::of(&rows[..1]), &AnswersByRun::new());
        assert!(alone.notes.is_empty() && !alone.text().contains("against"), "{alone:?}");
    }

    #[test]
    fn where_rows_are_known_they_are_drawn_and_it_is_said() {
        let rows = ["a", "b"].map(|v| [1, 2].map(|seed| row(v, 1e-3, seed, 0.5))).concat();
        let answers = |run: &RunRow| {
            let each = vec![1.0, 0.0, 0.0, 1.0];
            let answers = DevAnswers { rows: "x".into(), answers: RowAnswers::Mean { each } };
            (run.run.clone(), answers)
        };
        let answers: AnswersByRun = rows.iter().map(answers).collect();
        let text = ResultTable::of(&Groups::of(&rows), &answers).text();
        assert!(text.contains("of seeds and dev rows."), "{text}");
        assert!(text.contains("+0.0000 [+0.0000, +0.0000]"), "{text}");
    }

    #[test]
    fn what_is_not_compared_or_over_fewer_seeds_is_said() {
        let of = |variant: &str, seeds: &[u64]| {
            seeds.iter().map(|&seed| row(variant, 1e-3, seed, 0.5)).collect::<Vec<_>>()
        };
        let text =
            |rows: &[RunRow]| ResultTable::of(&Groups::of(rows), &AnswersByRun::new()).text();
        let some = text(&[of("a", &[1, 2, 3]), of("b", &[2, 3, 4])].concat());
        assert!(some.contains("those that a also has: \"b (2 seeds)\"."), "{some}");
        assert!(some.contains("Intervals of 2 seeds are rough."), "{some}");
        let none = text(&[of("a", &[1, 2]), of("b", &[3, 4])].concat());
        assert!(none.contains("Not compared, as a has no seed in common: \"b\"."), "{none}");
        assert!(!none.contains("Differences from a"), "{none}");
        let mut rows = [of("a", &[1, 2]), of("b", &[1, 2])].concat();
        for (row, value) in rows.iter_mut().zip(["2", "2", "4", "4"]) {
            row.axes.insert("lora-rank".to_owned(), value.to_owned());
        }
        let alone = text(&rows);
        assert!(alone.contains("columns: \"b, lora-rank 4\"."), "{alone}");
    }

    #[test]
    fn runs_without_dev_rows_have_what_they_took() {
        let without = RunRow { dev: None, train: None, metric: None, ..row("a|b", 1e-3, 1, 0.5) };
        let table =
            ResultTable::of(&Groups::of(std::slice::from_ref(&without)), &AnswersByRun::new());
        assert_eq!(table.rows[0][2..6], ["1", "-", "-", "26,498"].map(str::to_owned));
        assert!(table.markdown().contains("| a\\|b | 0.001 |"), "{}", table.markdown());
        let other = RunRow { variant: "b".to_owned(), ..without.clone() };
        let table = ResultTable::of(&Groups::of(&[without, other]), &AnswersByRun::new());
        assert!(table.notes.is_empty(), "{:?}", table.notes);
        let none = ResultTable::of(&Groups::of(&[]), &AnswersByRun::new());
        assert!(none.rows.is_empty() && !none.text().is_empty());
    }
}
