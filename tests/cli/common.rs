//! What every test of the program needs: a folder to work in, learnable data, and the program's captured output.

use serde_json::Value;
use std::collections::{BTreeMap, HashMap};
use std::ffi::OsStr;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// A checkpoint folder of the parity fixtures.
pub fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/parity").join(name)
}

/// A temporary folder with the files of one test.
pub struct Folder(tempfile::TempDir);

impl Folder {
    pub fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    /// The path of a file or folder of this name, existing or not.
    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, content).unwrap();
        path
    }

    /// A copy of a fixture's checkpoint, to be damaged.
    pub fn copy_of(&self, name: &str) -> PathBuf {
        let to = self.path(name);
        fs::create_dir(&to).unwrap();
        for entry in fs::read_dir(fixture(name)).unwrap() {
            let from = entry.unwrap().path();
            fs::copy(&from, to.join(from.file_name().unwrap())).unwrap();
        }
        to
    }
}

/// The result of a finished process.
#[derive(Debug)]
pub struct Finished {
    /// `None` after a signal.
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Finished {
    pub fn of(command: &mut Command) -> Self {
        let output = command.stdin(Stdio::null()).output().unwrap();
        Self {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// Like [`of`](Self::of), with `input` piped in.
    pub fn fed(command: &mut Command, input: String) -> Self {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        // A program that refuses its arguments does not read.
        let feeding = std::thread::spawn(move || stdin.write_all(input.as_bytes()));
        let output = child.wait_with_output().unwrap();
        let _ = feeding.join().unwrap();
        Self {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    #[track_caller]
    pub fn success(self) -> Self {
        assert_eq!(self.code, Some(0), "{}", self.stderr);
        self
    }

    /// Checks the form of a failure: this exit code, and one line that begins with `error: ` and contains all the
    /// `parts`. Notes may precede it, each on its own line.
    #[track_caller]
    pub fn fails(&self, code: i32, parts: &[&str]) -> &str {
        assert_eq!(self.code, Some(code), "{}", self.stderr);
        let errors: Vec<&str> =
            self.stderr.lines().filter(|line| line.starts_with("error: ")).collect();
        let &[error] = errors.as_slice() else {
            panic!("one line of error is wanted: {}", self.stderr)
        };
        assert_eq!(self.stderr.lines().last(), Some(error), "{}", self.stderr);
        assert!(!self.stderr.contains("panicked"), "{}", self.stderr);
        for part in parts {
            assert!(error.contains(part), "no `{part}` in: {error}");
        }
        error
    }
}

/// The program, to be given arguments.
pub fn bitfit<A: AsRef<OsStr>>(args: impl IntoIterator<Item = A>) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bitfit"));
    command.args(args);
    command
}

/// The program under limits that these commands of a shell set. For time it is `ulimit -t`, seconds of processor time: on
/// a clock, a machine that pauses would take some, too.
pub fn limited<A: AsRef<OsStr>>(limits: &str, args: impl IntoIterator<Item = A>) -> Command {
    let mut command = Command::new("sh");
    let program = format!("{limits}; exec \"$0\" \"$@\"");
    command.args(["-c", program.as_str(), env!("CARGO_BIN_EXE_bitfit")]).args(args);
    command
}

/// Only what would otherwise wait for ever takes this long: longer than a machine pauses.
pub const HANGS: Duration = Duration::from_secs(600);

/// An interpreter that can run this code, preferring the one named by `BITFIT_PYTHON`.
pub fn python_that(runs: &str) -> Option<String> {
    let asked = std::env::var("BITFIT_PYTHON").ok();
    let mut known = asked.into_iter().chain(["python3".to_owned()]);
    known.find(|python| {
        let done = Command::new(python).args(["-c", runs]).output();
        done.is_ok_and(|done| done.status.success())
    })
}

/// The arguments of a `train` run on one thread, without dropout; `more` are words as on a command line.
pub fn train_args(model: &Path, data: &Path, output: &Path, more: &str) -> Vec<String> {
    let paths = [("--model", model), ("--train", data), ("--output", output)];
    let mut args = vec!["train".to_owned()];
    for (option, path) in paths {
        args.extend([option.to_owned(), path.display().to_string()]);
    }
    if !more.contains("--threads") {
        args.extend(["--threads".into(), "1".into()]);
    }
    if !more.contains("--dropout") {
        args.extend(["--dropout".into(), "0".into()]);
    }
    args.extend(more.split_whitespace().map(str::to_owned));
    args
}

/// A whole `train` run, which must succeed.
#[track_caller]
pub fn train(model: &Path, data: &Path, output: &Path, more: &str) -> Finished {
    Finished::of(&mut bitfit(train_args(model, data, output, more))).success()
}

/// Words of the fixtures' vocabularies that carry no information.
const FILLER: [&str; 6] = ["the", "is in", "and", "again", "they", "that"];
/// Words that decide the class.
const TELLING: [[&str; 2]; 3] = [["harbour", "morning"], ["tickets", "train"], ["friends", "film"]];
pub const CLASSES: [&str; 3] = ["sea", "land", "people"];

/// A text of a class: fillers around a telling word, of several lengths and orders.
pub fn text_of(class: usize, i: usize) -> String {
    let filler = |k: usize| FILLER[(i * 5 + k * 7 + i / 6) % FILLER.len()];
    let word = TELLING[class][(i / 3) % 2];
    let mut words = vec![word];
    for k in 0..1 + i % 4 {
        if (i + k).is_multiple_of(2) {
            words.push(filler(k));
        } else {
            words.insert(0, filler(k));
        }
    }
    words.join(" ")
}

/// A tsv of `rows` rows, cycling through the first `classes` classes.
pub fn toy_tsv(rows: usize, classes: usize) -> String {
    let row = |i: usize| format!("{}\t{}\n", text_of(i % classes, i), CLASSES[i % classes]);
    "text\tlabel\n".to_owned() + &(0..rows).map(row).collect::<String>()
}

/// The tensors of a safetensors file: shape and f32 values by name.
pub fn tensors(path: &Path) -> BTreeMap<String, (Vec<usize>, Vec<f32>)> {
    let bytes = fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    file.tensors()
        .into_iter()
        .filter(|(_, tensor)| tensor.dtype() == safetensors::Dtype::F32)
        .map(|(name, tensor)| {
            let values = tensor.data().chunks_exact(4);
            let values = values.map(|b| f32::from_le_bytes(b.try_into().unwrap()));
            (name, (tensor.shape().to_vec(), values.collect()))
        })
        .collect()
}

/// A tensor as stored in a file, to be changed.
pub struct RawTensor {
    pub dtype: safetensors::Dtype,
    pub shape: Vec<usize>,
    pub bytes: Vec<u8>,
}

/// Rewrites a safetensors file with changed tensors and metadata.
pub fn edit_tensors(
    path: &Path,
    edit: impl FnOnce(&mut BTreeMap<String, RawTensor>, &mut HashMap<String, String>),
) {
    let bytes = fs::read(path).unwrap();
    let (_, header) = safetensors::SafeTensors::read_metadata(&bytes).unwrap();
    let mut metadata = header.metadata().clone().unwrap_or_default();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let raw = |t: safetensors::tensor::TensorView<'_>| RawTensor {
        dtype: t.dtype(),
        shape: t.shape().to_vec(),
        bytes: t.data().to_vec(),
    };
    let mut all: BTreeMap<String, RawTensor> =
        file.tensors().into_iter().map(|(name, tensor)| (name, raw(tensor))).collect();
    edit(&mut all, &mut metadata);
    let views = all.iter().map(|(name, t)| {
        let view = safetensors::tensor::TensorView::new(t.dtype, t.shape.clone(), &t.bytes);
        (name, view.unwrap())
    });
    fs::write(path, safetensors::serialize(views, Some(metadata)).unwrap()).unwrap();
}

/// Metadata of a safetensors file.
pub fn metadata(path: &Path) -> HashMap<String, String> {
    let bytes = fs::read(path).unwrap();
    let (_, header) = safetensors::SafeTensors::read_metadata(&bytes).unwrap();
    header.metadata().clone().unwrap_or_default()
}

/// The lines of `metrics.jsonl` in a run's folder.
pub fn metrics(output: &Path) -> Vec<Value> {
    let text = fs::read_to_string(output.join("metrics.jsonl")).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The step lines of a run.
pub fn steps(output: &Path) -> Vec<Value> {
    let all = metrics(output).into_iter();
    all.filter(|line| line.get("loss").is_some()).collect()
}

/// `metrics.jsonl` without anything that depends on the machine's speed.
pub fn timeless(output: &Path) -> Vec<Value> {
    let mut lines = metrics(output);
    for line in &mut lines {
        line.as_object_mut().unwrap().remove("tokens_per_s");
        if let Some(trial) = line.get_mut("lr_trial") {
            trial.as_object_mut().unwrap().remove("seconds");
        }
    }
    lines
}

/// A JSON file.
pub fn json(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

/// The rows of a sweep's runs.
pub fn sweep_rows(output: &Path) -> Vec<Value> {
    let text = fs::read_to_string(output.join("sweep.jsonl")).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

pub fn number(value: &Value, key: &str) -> f64 {
    value[key].as_f64().unwrap_or_else(|| panic!("no number `{key}` in {value}"))
}

/// Asserts that two deltas hold the same tensors within `tolerance` of the largest value of each.
#[track_caller]
pub fn nearly_equal(a: &Path, b: &Path, tolerance: f32) {
    let (a, b) = (tensors(a), tensors(b));
    assert!(!a.is_empty() && a.keys().eq(b.keys()));
    for (name, (_, ours)) in &a {
        let theirs = &b[name].1;
        let largest = theirs.iter().fold(0f32, |top, x| top.max(x.abs()));
        for (x, y) in ours.iter().zip(theirs) {
            assert!((x - y).abs() <= tolerance * largest, "{name}: {x} and {y}");
        }
    }
}

/// Names in a folder, hidden ones included, sorted.
pub fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}
