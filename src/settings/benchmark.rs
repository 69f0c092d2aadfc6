//! What is known of a benchmark's task: its labels, its measures, its files and its recipe. The tasks themselves are the
//! table of `benchmarks`; whatever depends on a task asks its row and knows no task by name.

use super::benchmarks::TASKS;
use super::metric::Metric;
use super::schedule::ScheduleKind;
use super::task::Task;

/// A benchmark: where its tasks are fetched from and how answers are handed in.
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

    /// The data set on the hub.
    pub fn repository(self) -> &'static str {
        match self {
            Self::Glue => "nyu-mll/glue",
            Self::SuperGlue => "aps/super_glue",
        }
    }
}

/// A class as the task has it. In the hub's files it stands as its place in the task's list.
#[derive(Debug)]
pub struct NamedClass {
    pub name: &'static str,
    /// The benchmark's own word for it, in its files and in what is handed in.
    pub word: &'static str,
}

/// What the labels are.
#[derive(Debug)]
pub enum Answers {
    Classes(&'static [NamedClass]),
    /// Numbers from one to the other.
    Scores(f32, f32),
}

/// The columns that a row is made of.
#[derive(Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Joined by `: ` where there are several.
    pub text: &'static [&'static str],
    pub pair: Option<&'static str>,
    pub label: &'static str,
    /// The number of a test row.
    pub index: &'static str,
}

impl Wanted {
    /// What the text's column is called in a delta and in messages.
    pub fn text_name(&self) -> String {
        self.text.join(": ")
    }
}

/// Rows that lie in files of their own.
#[derive(Debug)]
pub struct TaskPart {
    /// Tells several of a kind apart; empty where there is one.
    pub name: &'static str,
    /// What the hub calls it.
    pub split: &'static str,
    /// Its file in the benchmark's own archive: the first of these that is there.
    pub files: &'static [&'static str],
    /// The file to hand in.
    pub submission: &'static str,
}

/// What the benchmark's own archive is like.
#[derive(Debug)]
pub struct Archive {
    pub folder: &'static str,
    pub columns: Wanted,
    /// The columns of training files that have no header.
    pub bare: Option<&'static [&'static str]>,
    /// Rows with fewer fields than the header has are known, and left out.
    pub has_broken_rows: bool,
    /// A file that names the training rows that are development rows, by two columns of ids.
    pub dev_ids: Option<(&'static str, [&'static str; 2])>,
}

/// How a task is trained where nothing is said.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Recipe {
    /// Of methods that freeze the matrices.
    pub lr: f64,
    pub epochs: u64,
    pub batch_size: usize,
    pub max_length: usize,
    pub schedule: ScheduleKind,
    /// Whose it is.
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
    /// Those of the benchmark; the first chooses the best evaluation.
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

    /// The class whose F1 is one of the measures: the last, as benchmarks with an F1 have it.
    pub fn positive(&self) -> Option<u32> {
        self.measures.contains(&Metric::F1).then(|| self.classes().len() as u32 - 1)
    }

    /// Everything that an evaluation of this task has besides the loss.
    pub fn reported(&self) -> Vec<Metric> {
        let others = self.kind().facts().measures.iter().filter(|m| !self.measures.contains(m));
        self.measures.iter().chain(others).copied().collect()
    }

    /// Tasks without training rows that a model of this one answers.
    pub fn answered_besides(&self) -> impl Iterator<Item = &'static Self> {
        TASKS.iter().filter(|task| task.trained_as == Some(self.name))
    }
}
