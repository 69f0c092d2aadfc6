//! The rows of a sweep's table: a variant's runs at each rate over its seeds, and the best of these rates.

use super::bootstrap::{DevAnswers, Interval, OfSeed, interval};
use super::rows::{RunEnd, RunRow};
use super::statistics::{deviation, mean, median};
use crate::settings::metric::Metric;
use crate::words::short;
use std::collections::BTreeMap;

/// Options that do not separate groups in the table: one is chosen, the other averaged over.
const WITHIN: [&str; 2] = ["lr", "seed"];

/// Runs' answers to their dev rows, by run name, if known.
pub type AnswersByRun = BTreeMap<String, DevAnswers>;

/// The runs of a variant at one rate.
#[derive(Debug, Clone)]
pub struct AtRate<'a> {
    /// As written, or as used; `various` if trials chose several.
    pub rate: String,
    /// The common rate of all.
    pub lr: Option<f64>,
    pub runs: Vec<&'a RunRow>,
}

/// A row of the table.
#[derive(Debug, Clone)]
pub struct Group<'a> {
    pub variant: &'a str,
    /// Further options that distinguish it, with their values.
    pub axes: Vec<(&'a str, &'a str)>,
    /// In grid order.
    pub rates: Vec<AtRate<'a>>,
    /// The index of the best of them; `None` if no run has a value.
    best: Option<usize>,
}

/// A difference between two groups, each at its best rate, over the seeds that both have.
#[derive(Debug, Clone, PartialEq)]
pub struct Difference {
    pub mean: f64,
    pub seeds: usize,
    /// For two seeds or more.
    pub interval: Option<Interval>,
}

/// All groups, and the measure used.
#[derive(Debug)]
pub struct Groups<'a> {
    pub metric: Option<Metric>,
    pub list: Vec<Group<'a>>,
}

impl<'a> AtRate<'a> {
    /// Finished runs with a value.
    pub fn measured(&self) -> impl Iterator<Item = (&'a RunRow, f64)> {
        self.runs.iter().filter_map(|run| {
            let value = run.dev.filter(|value| value.is_finite() && run.outcome == RunEnd::Done);
            Some((*run, value?))
        })
    }

    /// Each seed's best value on dev rows.
    pub fn dev(&self) -> Vec<f64> {
        self.measured().map(|(_, value)| value).collect()
    }

    pub fn mean(&self) -> Option<f64> {
        mean(&self.dev())
    }

    /// Over the seeds, if two or more.
    pub fn deviation(&self) -> Option<f64> {
        deviation(&self.dev())
    }

    /// Over the runs with a value.
    pub fn median_of(&self, figure: impl Fn(&RunRow) -> Option<f64>) -> Option<f64> {
        median(&self.measured().filter_map(|(run, _)| figure(run)).collect::<Vec<_>>())
    }

    pub fn mean_of(&self, figure: impl Fn(&RunRow) -> Option<f64>) -> Option<f64> {
        mean(&self.measured().filter_map(|(run, _)| figure(run)).collect::<Vec<_>>())
    }
}

impl<'a> Group<'a> {
    /// At its best rate.
    pub fn at_best(&self) -> Option<&AtRate<'a>> {
        self.rates.get(self.best?)
    }

    /// The runs from which costs are taken: those at its best rate. Without dev rows there is no best run, but costs
    /// are still known.
    pub fn shown(&self) -> Option<&AtRate<'a>> {
        self.at_best().or(self.rates.first())
    }

    /// The maximum of a figure over these runs.
    pub fn most(&self, figure: impl Fn(&RunRow) -> Option<u64>) -> Option<u64> {
        self.shown()?.runs.iter().filter_map(|run| figure(run)).max()
    }

    /// The median of a figure over these runs.
    pub fn median(&self, figure: impl Fn(&RunRow) -> Option<f64>) -> Option<f64> {
        median(&self.shown()?.runs.iter().filter_map(|run| figure(run)).collect::<Vec<_>>())
    }

    /// The variant, and what else distinguishes it.
    pub fn label(&self) -> String {
        self.label_without("")
    }

    /// The same without one of these options.
    pub fn label_without(&self, option: &str) -> String {
        let more = self.axes.iter().filter(|(name, _)| *name != option);
        let more = more.map(|&(name, value)| match (name, value) {
            ("train-rows", "0") => ", all rows".to_owned(),
            _ => format!(", {name} {value}"),
        });
        self.variant.to_owned() + &more.collect::<String>()
    }

    /// The value of an option other than rate and seed.
    pub fn axis(&self, option: &str) -> Option<&'a str> {
        self.axes.iter().find(|(name, _)| *name == option).map(|(_, value)| *value)
    }

    pub fn runs(&self) -> impl Iterator<Item = &'a RunRow> {
        self.rates.iter().flat_map(|rate| rate.runs.iter().copied())
    }

    /// How many runs ended in this way.
    pub fn ended(&self, end: RunEnd) -> usize {
        self.runs().filter(|run| run.outcome == end).count()
    }

    /// The interval of the mean at the best rate.
    pub fn interval(&self, answers: &AnswersByRun) -> Option<Interval> {
        let measured = self.at_best()?.measured();
        let seed = |(run, value): (&RunRow, f64)| OfSeed {
            value,
            rows: answers.get(&run.run).map(|own| (own, None)),
        };
        interval(&measured.map(seed).collect::<Vec<_>>())
    }

    /// Its difference from another group; `None` if they have no seed in common.
    pub fn difference(&self, from: &Group<'_>, answers: &AnswersByRun) -> Option<Difference> {
        let base: BTreeMap<u64, (&RunRow, f64)> =
            from.at_best()?.measured().map(|found| (found.0.seed, found)).collect();
        let pair = |(run, value): (&'a RunRow, f64)| {
            let (other, than) = base.get(&run.seed)?;
            let rows = answers.get(&run.run).zip(answers.get(&other.run));
            Some(OfSeed { value: value - than, rows: rows.map(|(own, other)| (own, Some(other))) })
        };
        let seeds: Vec<OfSeed<'_>> = self.at_best()?.measured().filter_map(pair).collect();
        let mean = mean(&seeds.iter().map(|seed| seed.value).collect::<Vec<_>>())?;
        Some(Difference { mean, seeds: seeds.len(), interval: interval(&seeds) })
    }
}

impl<'a> Groups<'a> {
    /// Groups rows in grid order.
    pub fn of(rows: &'a [RunRow]) -> Self {
        let metric = rows.iter().find_map(|row| row.metric);
        let mut list: Vec<Group<'a>> = Vec::new();
        for row in rows {
            let axes = row.axes.iter().filter(|(option, _)| !WITHIN.contains(&option.as_str()));
            let axes: Vec<_> = axes.map(|(k, v)| (k.as_str(), v.as_str())).collect();
            let same = |group: &Group<'_>| group.variant == row.variant && group.axes == axes;
            let place = list.iter().position(same).unwrap_or_else(|| {
                list.push(Group { variant: &row.variant, axes, rates: Vec::new(), best: None });
                list.len() - 1
            });
            let rate = row.axes.get("lr").map_or("", String::as_str);
            let rates = &mut list[place].rates;
            let place = rates.iter().position(|at| at.rate == rate).unwrap_or_else(|| {
                rates.push(AtRate { rate: rate.to_owned(), lr: None, runs: Vec::new() });
                rates.len() - 1
            });
            rates[place].runs.push(row);
        }
        for group in &mut list {
            for at in &mut group.rates {
                let first = at.runs.iter().find_map(|run| run.lr);
                let same = at.runs.iter().all(|run| run.lr.is_none() || run.lr == first);
                at.lr = first.filter(|_| same);
                if at.rate.is_empty() {
                    at.rate = match (at.lr, first) {
                        (Some(lr), _) => short(lr),
                        (None, Some(_)) => "various".to_owned(),
                        (None, None) => "-".to_owned(),
                    };
                }
            }
            group.best = best(&group.rates, metric);
        }
        Self { metric, list }
    }

    /// The variant that the others are compared with.
    pub fn first_variant(&self) -> &'a str {
        self.list.first().map_or("", |group| group.variant)
    }

    /// The group to compare with: that of the first variant with the same values of the further options that both have.
    /// `None` for the first variant itself, and if there is none or more than one.
    pub fn compared_with(&self, group: &Group<'_>) -> Option<&Group<'a>> {
        let first = self.first_variant();
        let agrees = |other: &&Group<'_>| {
            let same = |(option, value): &(&str, &str)| {
                other.axis(option).is_none_or(|theirs| theirs == *value)
            };
            other.variant == first && group.axes.iter().all(same)
        };
        let mut found = self.list.iter().filter(agrees);
        let one = found.next().filter(|_| group.variant != first)?;
        found.next().is_none().then_some(one)
    }
}

/// The best mean, among the rates with values for the most seeds: a rate at which some seeds diverge does not gain from
/// it.
fn best(rates: &[AtRate<'_>], metric: Option<Metric>) -> Option<usize> {
    let higher = metric.is_none_or(Metric::higher_is_better);
    let most = rates.iter().map(|at| at.dev().len()).max().filter(|&most| most > 0)?;
    let mut best: Option<(usize, f64)> = None;
    for (place, at) in rates.iter().enumerate().filter(|(_, at)| at.dev().len() == most) {
        let mean = at.mean()?;
        let better = best.is_none_or(|(_, than)| if higher { mean > than } else { mean < than });
        if better {
            best = Some((place, mean));
        }
    }
    best.map(|(place, _)| place)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::rows::tests::{diverged, row};

    fn rows() -> Vec<RunRow> {
        let mut rows = Vec::new();
        for (variant, offset) in [("bitfit", 0.0), ("full", 0.02)] {
            for (lr, at_lr) in [(1e-3, 0.70), (3e-3, 0.80), (1e-2, 0.90)] {
                for seed in 1..=3 {
                    let found = row(variant, lr, seed, at_lr + offset + 0.01 * seed as f64);
                    let lost = lr == 1e-2 && seed == 2;
                    rows.push(if lost { diverged(found) } else { found });
                }
            }
        }
        rows
    }

    #[test]
    fn the_best_rate_has_the_best_mean_and_no_fewer_seeds() {
        let rows = rows();
        let groups = Groups::of(&rows);
        assert_eq!(groups.list.len(), 2);
        let group = &groups.list[0];
        let rates: Vec<_> = group.rates.iter().map(|at| at.rate.as_str()).collect();
        assert_eq!(rates, ["0.001", "0.003", "0.01"]);
        let best = group.at_best().unwrap();
        // At the highest rate the mean is higher, but over only two seeds.
        assert_eq!((best.rate.as_str(), best.lr), ("0.003", Some(3e-3)));
        assert!((best.mean().unwrap() - 0.82).abs() < 1e-12);
        assert!((best.deviation().unwrap() - 0.01).abs() < 1e-12);
        assert!((best.mean_of(RunRow::gap).unwrap() - 0.05).abs() < 1e-12);
        assert_eq!((group.ended(RunEnd::Diverged), group.ended(RunEnd::Failed)), (1, 0));
    }

    #[test]
    fn a_measure_that_is_to_be_low_has_its_lowest_as_best() {
        let mut rows = rows();
        rows.iter_mut().for_each(|row| row.metric = Some(Metric::Perplexity));
        assert_eq!(Groups::of(&rows).list[0].at_best().unwrap().rate, "0.001");
    }

    #[test]
    fn differences_are_of_the_same_seeds() {
        let mut rows = rows();
        rows.retain(|row| !(row.variant == "full" && row.seed == 3));
        let groups = Groups::of(&rows);
        let full = &groups.list[1];
        let first = groups.compared_with(full).unwrap();
        let found = full.difference(first, &AnswersByRun::new()).unwrap();
        assert!((found.mean - 0.02).abs() < 1e-12, "{found:?}");
        assert_eq!(found.seeds, 2);
        let interval = found.interval.unwrap();
        assert!(!interval.rows && (interval.low - 0.02).abs() < 1e-12);
        assert!(groups.compared_with(first).is_none());
        assert!(full.interval(&AnswersByRun::new()).is_some());
    }

    #[test]
    fn other_options_tell_groups_apart() {
        let mut rows = rows();
        for (place, row) in rows.iter_mut().enumerate() {
            let value = if place % 2 == 0 { "100" } else { "0" };
            row.axes.insert("train-rows".to_owned(), value.to_owned());
        }
        let groups = Groups::of(&rows);
        let labels: Vec<_> = groups.list.iter().map(Group::label).collect();
        let expected = ["bitfit, train-rows 100", "bitfit, all rows"];
        assert_eq!(labels[..2], expected);
        assert_eq!(labels.len(), 4);
        assert_eq!(groups.list[0].axis("train-rows"), Some("100"));
        let first = groups.compared_with(&groups.list[3]).unwrap();
        assert_eq!((first.variant, &first.axes), ("bitfit", &groups.list[3].axes));
    }

    #[test]
    fn a_variant_with_an_option_of_its_own_is_compared_where_there_is_one_to_compare_it_with() {
        let with = |variant: &str, axes: &[(&str, &str)]| {
            let mut row = row(variant, 1e-3, 1, 0.5);
            row.axes.extend(axes.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())));
            row
        };
        let place = |rows: &[RunRow], last: usize| {
            let groups = Groups::of(rows);
            groups.compared_with(&groups.list[last]).map(Group::label)
        };
        let ranks = [with("bitfit", &[]), with("lora", &[("lora-rank", "2")])];
        assert_eq!(place(&ranks, 1).as_deref(), Some("bitfit"));
        let weights = |of_full| {
            let axes = |weights| [("weights", weights)];
            let bitfit = ["nf4", "f16"].map(|weights| with("bitfit", &axes(weights)));
            bitfit.into_iter().chain([with("full", of_full)]).collect::<Vec<_>>()
        };
        assert_eq!(place(&weights(&[("weights", "f32")]), 2), None);
        assert_eq!(
            place(&weights(&[("weights", "f16")]), 2).as_deref(),
            Some("bitfit, weights f16")
        );
        assert_eq!(place(&weights(&[]), 2), None, "there are two");
    }

    #[test]
    fn nothing_that_was_measured_has_no_best() {
        let rows = [diverged(row("a", 1.0, 1, 0.5))];
        let groups = Groups::of(&rows);
        let group = &groups.list[0];
        assert!(group.at_best().is_none() && group.interval(&AnswersByRun::new()).is_none());
        assert!(group.difference(group, &AnswersByRun::new()).is_none());
        assert!(Groups::of(&[]).list.is_empty());
    }

    #[test]
    fn rates_that_trials_chose_are_one_group() {
        let mut rows = [row("a", 1e-3, 1, 0.5), row("a", 3e-3, 2, 0.6)];
        rows.iter_mut().for_each(|row| drop(row.axes.remove("lr")));
        let groups = Groups::of(&rows);
        let at = &groups.list[0].rates[..];
        assert_eq!((at.len(), at[0].rate.as_str(), at[0].lr), (1, "various", None));
    }
}
