//! What is known about a benchmark's task: its labels, measures, files and recipe. The tasks themselves are the table
//! in `benchmarks`; code that depends on a task asks its row and knows no task by name.

use super::benchmarks::TASKS;
use super::metric::Metric;
use super::schedule::ScheduleKind;
use super::task::Task;

/// A benchmark: where to fetch its tasks and how to submit answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Suite {
    Glue,
    SuperGlue,
}

impl Suite {
    pub fn title(self) -> &'static str {
        match self {
            Self::Glue => "GLUE",
            Self::SuperGlue => "SuperGLUE",
        }
    }

    /// The dataset on the hub.
    pub fn repository(self) -> &'static str {
        match self {
            Self::Glue => "nyu-mll/glue",
            Self::SuperGlue => "aps/super_glue",
        }
    }
}

/// A class as the task defines it. The hub's files store its index in the task's list.
#[derive(Debug)]
pub struct NamedClass {
    pub name: &'static str,
    /// The benchmark's own word for it, in its files and in submissions.
    pub word: &'static str,
}

/// What the labels are.
#[derive(Debug)]
pub enum Answers {
    Classes(&'static [NamedClass]),
    /// Numbers in this range.
    Scores(f32, f32),
}

/// The columns that make up a row.
#[derive(Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Joined by `: ` if there are several.
    pub text: &'static [&'static str],
    pub pair: Option<&'static str>,
    pub label: &'static str,
    /// The number of a test row.
    pub index: &'static str,
}

impl Wanted {
    /// The name of the text's column in a delta and in messages.
    pub fn text_name(&self) -> String {
        self.text.join(": ")
    }
}

/// Rows in separate files.
#[derive(Debug)]
pub struct TaskPart {
    /// Distinguishes several of a kind; empty if there is one.
    pub name: &'static str,
    /// The hub's name for it.
    pub split: &'static str,
    /// Its file in the benchmark's own archive: the first of these that exists.
    pub files: &'static [&'static str],
    /// The file to submit.
    pub submission: &'static str,
}

/// The form of the benchmark's own archive.
#[derive(Debug)]
pub struct Archive {
    pub folder: &'static str,
    pub columns: Wanted,
    /// The header of its training file; empty if it has none, or none that could be confused with another's.
    pub header: &'static [&'static str],
    /// Whether its test rows have labels.
    pub has_test_labels: bool,
    /// The columns of training files without a header.
    pub bare: Option<&'static [&'static str]>,
    /// Whether some rows are known to have too few fields, and are left out.
    pub has_broken_rows: bool,
    /// A file that lists the training rows that are development rows, by two columns of ids.
    pub dev_ids: Option<(&'static str, [&'static str; 2])>,
}

/// A task's default training settings.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Recipe {
    /// For methods that freeze the matrices.
    pub lr: f64,
    pub epochs: u64,
    pub batch_size: usize,
    pub max_length: usize,
    pub schedule: ScheduleKind,
    /// Where it comes from.
    pub source: &'static str,
}

/// A named task.
#[derive(Debug)]
pub struct NamedTask {
    /// On the command line and on the hub.
    pub name: &'static str,
    pub title: &'static str,
    pub help: &'static str,
    pub suite: Suite,
    pub answers: Answers,
    /// The benchmark's; the first chooses the best evaluation.
    pub measures: &'static [Metric],
    /// The columns on the hub.
    pub columns: Wanted,
    pub archive: Archive,
    pub train: Option<TaskPart>,
    /// The first chooses the best evaluation.
    pub dev: &'static [TaskPart],
    pub test: &'static [TaskPart],
    /// A task without training rows is answered by a model of this one.
    pub trained_as: Option<&'static str>,
    pub recipe: Recipe,
}

impl PartialEq for NamedTask {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl NamedTask {
    pub fn named(name: &str) -> Option<&'static Self> {
        TASKS.iter().find(|task| task.name == name)
    }

    pub fn kind(&self) -> Task {
        match self.answers {
            Answers::Classes(_) => Task::Classification,
            Answers::Scores(..) => Task::Regression,
        }
    }

    pub fn classes(&self) -> &'static [NamedClass] {
        match self.answers {
            Answers::Classes(classes) => classes,
            Answers::Scores(..) => &[],
        }
    }

    /// The class whose F1 is one of the measures: the last, as in the benchmarks with an F1.
    pub fn positive(&self) -> Option<u32> {
        self.measures.contains(&Metric::F1).then(|| self.classes().len() as u32 - 1)
    }

    /// Everything that an evaluation of this task reports in addition to the loss.
    pub fn reported(&self) -> Vec<Metric> {
        let others = self.kind().facts().measures.iter().filter(|m| !self.measures.contains(m));
        self.measures.iter().chain(others).copied().collect()
    }

    /// Tasks without training rows that a model of this one answers.
    pub fn answered_besides(&self) -> impl Iterator<Item = &'static Self> {
        TASKS.iter().filter(|task| task.trained_as == Some(self.name))
    }
}
