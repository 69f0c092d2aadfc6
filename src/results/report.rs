//! What a sweep leaves for people in its folder: the table, the pictures, and a page with both.

use super::groups::{AnswersByRun, AtRate, Group, Groups};
use super::history::History;
use super::moved::Moved;
use super::page;
use super::pictures::{self, Findings, GroupHistory, GroupMoved, Picture};
use super::rows::RunRow;
use super::table::ResultTable;
use crate::files::write_bytes_atomic;
use crate::formats::delta::Delta;
use crate::formats::model_tensors::ModelTensors;
use crate::settings::metric::Metric;
use crate::train::output::{DELTA_FILE, METRICS_FILE};
use anyhow::{Context, Result};
use std::path::Path;

/// The folder of the pictures, within the sweep's.
pub const PICTURES: &str = "pictures";
pub const PAGE: &str = "report.html";
pub const TABLE: &str = "sweep.md";

/// The runs' base model.
pub struct BaseOfRuns<'a> {
    pub tensors: &'a ModelTensors,
    /// The deltas' prefix for the encoder's names.
    pub prefix: &'a str,
}

/// The names of all files that [`write()`] may write, within the sweep's folder.
pub fn files() -> impl Iterator<Item = String> {
    let of = |name: &&str| ["svg", "png"].map(|form| format!("{PICTURES}/{name}.{form}"));
    [PAGE, TABLE].map(str::to_owned).into_iter().chain(pictures::NAMES.iter().flat_map(of))
}

/// Writes the report on the runs with these rows, in grid order. Pictures of an earlier report that are not drawn now
/// are removed. `settings` is the list of runs stored in the folder.
///
/// # Errors
/// A log, a delta or the base is damaged; a file cannot be written.
pub fn write(
    folder: &Path,
    rows: &[RunRow],
    answers: &AnswersByRun,
    base: Option<&BaseOfRuns<'_>>,
    settings: &str,
) -> Result<ResultTable> {
    let groups = Groups::of(rows);
    let table = ResultTable::of(&groups, answers);
    let histories = histories(folder, &groups)?;
    let moved = match base {
        Some(base) => moved(folder, &groups, base)?,
        None => Vec::new(),
    };
    let findings = Findings { groups: &groups, answers, histories: &histories, moved: &moved };
    let drawn = pictures::all(&findings);
    let at = folder.join(PICTURES);
    std::fs::create_dir_all(&at).with_context(|| format!("cannot make {}", at.display()))?;
    for Picture { name, canvas, .. } in &drawn {
        write_bytes_atomic(&at.join(name).with_extension("svg"), canvas.svg()?.as_bytes())?;
        write_bytes_atomic(&at.join(name).with_extension("png"), &canvas.png()?)?;
    }
    for name in pictures::NAMES.iter().filter(|name| drawn.iter().all(|p| p.name != **name)) {
        for form in ["svg", "png"] {
            let path = at.join(name).with_extension(form);
            if path.exists() {
                std::fs::remove_file(&path)
                    .with_context(|| format!("cannot remove {}", path.display()))?;
            }
        }
    }
    write_bytes_atomic(&folder.join(TABLE), table.markdown().as_bytes())?;
    let page = page::html(rows, &table, &drawn, settings)?;
    write_bytes_atomic(&folder.join(PAGE), page.as_bytes())?;
    Ok(table)
}

/// Groups with a best rate, and those of its runs that have a value.
fn best<'g, 'a>(groups: &'g Groups<'a>) -> impl Iterator<Item = (&'g Group<'a>, &'g AtRate<'a>)> {
    groups.list.iter().filter_map(|group| Some((group, group.at_best()?)))
}

fn histories(folder: &Path, groups: &Groups<'_>) -> Result<Vec<GroupHistory>> {
    let of_run = |run: &RunRow, metric: Option<Metric>| -> Result<Option<History>> {
        let path = folder.join(&run.folder).join(METRICS_FILE);
        path.exists().then(|| History::read(&path, metric)).transpose()
    };
    let of_group = |(group, at): (&Group<'_>, &AtRate<'_>)| -> Result<GroupHistory> {
        let runs = at.measured().map(|(run, _)| of_run(run, groups.metric));
        let seeds = runs.collect::<Result<Vec<_>>>()?.into_iter().flatten().collect();
        Ok(GroupHistory { name: group.label(), seeds })
    };
    best(groups).map(of_group).collect()
}

fn moved(folder: &Path, groups: &Groups<'_>, base: &BaseOfRuns<'_>) -> Result<Vec<GroupMoved>> {
    let mut found = Vec::new();
    for (group, at) in best(groups) {
        let mut seeds = Vec::new();
        for (run, _) in at.measured() {
            let path = folder.join(&run.folder).join(DELTA_FILE);
            if path.exists() {
                let delta = Delta::read(&path)?;
                seeds.push(Moved::biases(&delta, base.tensors, base.prefix)?);
            }
        }
        seeds.retain(|moved| !moved.is_empty());
        if let Some(moved) = Moved::mean(&seeds) {
            found.push(GroupMoved { name: group.label(), seeds: seeds.len(), moved });
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::rows::tests::{diverged, row};

    #[test]
    fn the_folder_gets_table_pictures_and_a_page_that_needs_no_other_file() {
        let folder = tempfile::tempdir().unwrap();
        let mut rows = Vec::new();
        for variant in ["bitfit", "a<b>&c"] {
            for lr in [1e-3, 3e-3] {
                for seed in 1..=2 {
                    let mut row = row(variant, lr, seed, 0.8 + lr + 0.01 * seed as f64);
                    row.folder = rows.len().to_string();
                    let run = folder.path().join(&row.folder);
                    std::fs::create_dir(&run).unwrap();
                    let log = "{\"step\":1,\"loss\":0.7}\n{\"step\":2,\"loss\":0.6}\n\
                               {\"step\":2,\"eval\":{\"macro_f1\":0.5}}\n";
                    std::fs::write(run.join(METRICS_FILE), log).unwrap();
                    rows.push(row);
                }
            }
        }
        rows.push(diverged(row("lost", 1.0, 1, 0.0)));
        let settings = "model = \"m<1>\"\n\n[[run]]\nname = \"secret\"\n";
        write(folder.path(), &rows, &AnswersByRun::new(), None, settings).unwrap();
        let there = |name: &String| folder.path().join(name).exists();
        let absent: Vec<_> = files().filter(|name| !there(name)).collect();
        let none = ["training-rows", "bias-changes"];
        assert!(absent.iter().all(|name| none.iter().any(|n| name.contains(n))), "{absent:?}");
        assert_eq!(absent.len(), 4);
        let page = std::fs::read_to_string(folder.path().join(PAGE)).unwrap();
        assert_eq!(page.matches("<svg").count(), 5, "{page}");
        assert!(page.contains("a&lt;b&gt;&amp;c") && !page.contains("a<b>"));
        assert!(page.contains("m&lt;1&gt;") && !page.contains("secret"));
        assert!(page.contains("the loss is not finite at step 3"));
        for outside in ["<script", "src=", "href=", "@import", "url("] {
            assert!(!page.contains(outside), "{outside}");
        }
        // A picture missing from a new report is removed.
        let one = [rows[0].clone()];
        write(folder.path(), &one, &AnswersByRun::new(), None, settings).unwrap();
        assert!(!there(&"pictures/learning-rates.svg".to_owned()));
    }
}
