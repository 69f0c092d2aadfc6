//! The program as `mpirun` starts it: the ranks are processes, on this machine and on others. Needs the feature `mpi`
//! and Open MPI or MPICH; network namespaces simulate other machines, which needs root.
#![cfg(all(target_os = "linux", feature = "mpi"))]

#[allow(dead_code, reason = "the tests of `cli` use the rest")]
#[path = "cli/common.rs"]
mod common;
#[path = "ops/driver.rs"]
mod driver;
#[path = "mpi/hosts.rs"]
mod hosts;

use common::*;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Dropout and shuffling on; an epoch's last batch has a single row.
const OPTIONS: &str = "--lr 5e-3 --epochs 9 --batch-size 7 --dropout 0.1 --eval-steps 6 --save-steps 4 --dev-fraction 0.2 \
                       --precision f32";

/// `mpirun -n ranks`, as root and with more ranks than processors if need be. The options are Open MPI's; MPICH allows
/// it anyway.
pub fn mpirun(ranks: usize) -> Command {
    let mut command = Command::new("mpirun");
    command
        .env("OMPI_ALLOW_RUN_AS_ROOT", "1")
        .env("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1")
        .env("OMPI_MCA_rmaps_base_oversubscribe", "1")
        .env("OMPI_MCA_hwloc_base_binding_policy", "none")
        .args(["-n", &ranks.to_string(), env!("CARGO_BIN_EXE_bitfit")]);
    command
}

pub struct Runs {
    pub folder: Folder,
    pub data: PathBuf,
}

impl Runs {
    fn new() -> Self {
        let folder = Folder::new();
        let data = folder.write("a.tsv", toy_tsv(71, 3));
        Self { folder, data }
    }

    pub fn args(&self, output: &Path) -> Vec<String> {
        train_args(&fixture("bert"), &self.data, output, OPTIONS)
    }

    /// Trains with that many ranks; 1 is the program without a launcher.
    #[track_caller]
    fn train(&self, name: &str, ranks: usize) -> PathBuf {
        let output = self.folder.path(name);
        let mut command = match ranks {
            1 => bitfit(self.args(&output)),
            _ => mpirun(ranks),
        };
        if ranks > 1 {
            command.args(self.args(&output));
        }
        Finished::of(&mut command).success();
        output
    }
}

/// The biases and everything logged except speeds, to the bit.
#[track_caller]
pub fn same(a: &Path, b: &Path) {
    let bits = |run: &Path| -> Vec<(String, Vec<u32>)> {
        let tensors = tensors(&run.join("bias.safetensors")).into_iter();
        tensors
            .map(|(name, (_, values))| (name, values.iter().map(|x| x.to_bits()).collect()))
            .collect()
    };
    assert_eq!(timeless(a), timeless(b));
    assert!(bits(a) == bits(b), "the biases differ");
}

/// The same up to the order of sums.
#[track_caller]
fn nearly_the_same(a: &Path, b: &Path) {
    let (one, other) = (steps(a), steps(b));
    assert_eq!(one.len(), other.len());
    for (x, y) in one.iter().zip(&other) {
        assert_eq!((&x["step"], &x["tokens"]), (&y["step"], &y["tokens"]));
        let (x, y) = (number(x, "loss"), number(y, "loss"));
        assert!((x - y).abs() <= 1e-6 * x.abs(), "{x} and {y}");
    }
    nearly_equal(&a.join("bias.safetensors"), &b.join("bias.safetensors"), 1e-4);
}

/// The processes of a job's ranks.
fn rank_pid(job: &Child, rank: usize) -> u32 {
    let wanted = [format!("OMPI_COMM_WORLD_RANK={rank}"), format!("PMI_RANK={rank}")];
    let deadline = Instant::now() + Duration::from_secs(60);
    while Instant::now() < deadline {
        for entry in fs::read_dir("/proc").unwrap().flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
                continue;
            };
            let read = |file: &str| fs::read(entry.path().join(file)).unwrap_or_default();
            let environment = String::from_utf8_lossy(&read("environ")).into_owned();
            let command = String::from_utf8_lossy(&read("cmdline")).into_owned();
            let of_rank = environment.split('\0').any(|set| wanted.iter().any(|w| w == set));
            if of_rank && command.starts_with(env!("CARGO_BIN_EXE_bitfit")) && below(pid, job.id())
            {
                return pid;
            }
        }
    }
    panic!("there is no rank {rank}");
}

/// Whether a process descends from another.
fn below(mut pid: u32, ancestor: u32) -> bool {
    while pid > 1 {
        if pid == ancestor {
            return true;
        }
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let parent = stat.rsplit(')').next().and_then(|rest| rest.split_whitespace().nth(1));
        pid = parent.and_then(|parent| parent.parse().ok()).unwrap_or(0);
    }
    false
}

pub fn wait_for_lines(job: &mut Child, output: &Path, lines: usize) {
    let deadline = Instant::now() + Duration::from_secs(120);
    loop {
        let text = fs::read_to_string(output.join("metrics.jsonl")).unwrap_or_default();
        if text.lines().count() >= lines {
            return;
        }
        assert!(job.try_wait().unwrap().is_none(), "the job ended before it had {lines} lines");
        assert!(Instant::now() < deadline, "the run does not get to {lines} lines");
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn send(pid: u32, signal: &str) {
    assert!(
        Command::new("kill").args(["-s", signal, &pid.to_string()]).status().unwrap().success()
    );
}

fn start(mut command: Command) -> Child {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

fn end(child: Child) -> Finished {
    let output = child.wait_with_output().unwrap();
    Finished {
        code: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

#[test]
fn any_number_of_ranks_trains_as_one_process_and_repeats_to_the_bit() {
    let runs = Runs::new();
    let one = runs.train("one", 1);
    for ranks in [2, 3, 4] {
        let several = runs.train(&format!("ranks-{ranks}"), ranks);
        nearly_the_same(&one, &several);
        same(&several, &runs.train(&format!("again-{ranks}"), ranks));
        assert_eq!(
            json(&one.join("result.json"))["best"]["step"],
            json(&several.join("result.json"))["best"]["step"]
        );
        assert_eq!(names(&one), names(&several));
    }
}

#[test]
fn one_rank_alone_speaks_and_says_who_works_where() {
    let runs = Runs::new();
    let output = runs.folder.path("out");
    let alone = Finished::of(&mut bitfit(runs.args(&runs.folder.path("alone")))).success();
    let said = Finished::of(mpirun(3).args(runs.args(&output))).success();
    assert_eq!(said.stdout.matches("accuracy").count(), alone.stdout.matches("accuracy").count());
    assert_eq!(said.stderr.matches("device: ").count(), 1, "{}", said.stderr);
    assert!(said.stderr.contains("3 ranks: 3 on "), "{}", said.stderr);
}

#[test]
fn evaluation_and_prediction_are_split_and_come_back_in_the_order_of_the_input() {
    let runs = Runs::new();
    let one = runs.train("one", 1);
    let delta = one.display().to_string();
    let data = runs.data.display().to_string();
    let eval = ["eval", "--delta", &delta, "--data", &data, "--batch-size", "4"];
    let alone = Finished::of(&mut bitfit(eval)).success();
    let several = Finished::of(mpirun(3).args(eval)).success();
    assert_eq!(several.stdout, alone.stdout);

    let texts: String = (0..1500).map(|i| format!("{}\n", text_of(i % 3, i))).collect();
    let texts = format!("text\n{texts}");
    let file = runs.folder.write("texts.tsv", &texts);
    let file = file.display().to_string();
    let output = runs.folder.path("labelled.tsv").display().to_string();
    let from_file = ["predict", "--delta", &delta, "--input", &file];
    let alone = Finished::of(&mut bitfit(from_file)).success();
    assert_eq!(alone.stdout.lines().count(), 1501);
    assert_eq!(Finished::of(mpirun(3).args(from_file)).success().stdout, alone.stdout);
    Finished::of(mpirun(2).args(from_file).args(["--output", &output])).success();
    assert_eq!(fs::read_to_string(&output).unwrap(), alone.stdout);
    let piped = ["predict", "--delta", &delta, "--input", "-"];
    let from_pipe = Finished::fed(mpirun(3).args(piped), texts).success();
    assert_eq!(from_pipe.stdout, alone.stdout);
}

#[test]
fn ranks_with_other_deltas_do_not_answer_together() {
    let runs = Runs::new();
    let [one, other] = ["one", "other"].map(|name| runs.folder.path(name));
    train(&fixture("bert"), &runs.data, &one, "--steps 2 --precision f32");
    train(&fixture("bert"), &runs.data, &other, "--steps 3 --precision f32");
    let eval = |delta: &Path| {
        [
            "eval",
            "--delta",
            &delta.display().to_string(),
            "--data",
            &runs.data.display().to_string(),
        ]
        .map(str::to_owned)
    };
    let mut command = mpirun(1);
    command
        .args(eval(&one))
        .args([":", "-n", "1", env!("CARGO_BIN_EXE_bitfit")])
        .args(eval(&other));
    let refused = Finished::of(&mut command);
    assert_eq!(refused.code, Some(1), "{}", refused.stderr);
    assert!(refused.stderr.contains("delta or model is "), "{}", refused.stderr);
}

#[test]
fn a_job_that_loses_a_rank_ends_and_goes_on_to_the_same_bits() {
    let runs = Runs::new();
    let whole = runs.train("whole", 2);
    let output = runs.folder.path("killed");
    let mut command = mpirun(2);
    command.args(runs.args(&output));
    let mut job = start(command);
    wait_for_lines(&mut job, &output, 9);
    send(rank_pid(&job, 1), "KILL");
    let ended = end(job);
    assert_ne!(ended.code, Some(0));
    assert!(ended.stderr.contains("rank 1") && ended.stderr.contains("Killed"), "{}", ended.stderr);
    let resume = ["train", "--resume", "--output"];
    Finished::of(mpirun(2).args(resume).arg(&output)).success();
    same(&whole, &output);
}

#[test]
fn a_signal_to_one_rank_stops_all_after_the_same_step() {
    let runs = Runs::new();
    let whole = runs.train("whole", 3);
    let output = runs.folder.path("stopped");
    let mut command = mpirun(3);
    command.args(runs.args(&output));
    let mut job = start(command);
    wait_for_lines(&mut job, &output, 5);
    send(rank_pid(&job, 2), "TERM");
    let ended = end(job);
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    assert_eq!(
        ended.stderr.matches("error: stopped on request after step").count(),
        1,
        "{}",
        ended.stderr
    );
    Finished::of(mpirun(3).args(["train", "--resume", "--output"]).arg(&output)).success();
    same(&whole, &output);
}

#[test]
fn another_number_of_ranks_goes_on_with_a_run() {
    let runs = Runs::new();
    let whole = runs.train("whole", 1);
    let output = runs.folder.path("moved");
    let mut command = mpirun(3);
    command.args(runs.args(&output));
    let mut job = start(command);
    wait_for_lines(&mut job, &output, 9);
    send(rank_pid(&job, 0), "TERM");
    end(job);
    Finished::of(mpirun(2).args(["train", "--resume", "--output"]).arg(&output)).success();
    nearly_the_same(&whole, &output);
}

#[test]
fn a_rank_that_sees_something_else_than_the_first_refuses_to_train() {
    let runs = Runs::new();
    let other = runs.folder.write("b.tsv", toy_tsv(72, 3));
    for (changed, said) in [
        (("a.tsv", other.to_str().unwrap()), "training data"),
        (("5e-3", "4e-3"), "lr is 0.005 on rank 0, and there 0.004"),
    ] {
        let output = runs.folder.path("out");
        let args = runs.args(&output);
        let theirs = args.iter().map(|arg| match arg.ends_with(changed.0) {
            true => changed.1.to_owned(),
            false => arg.clone(),
        });
        let mut command = mpirun(1);
        command.args(&args).args([":", "-n", "1", env!("CARGO_BIN_EXE_bitfit")]).args(theirs);
        let refused = Finished::of(&mut command);
        assert_eq!(refused.code, Some(1), "{}", refused.stderr);
        let errors: Vec<_> =
            refused.stderr.lines().filter(|line| line.starts_with("error: ")).collect();
        assert_eq!(errors.len(), 1, "{}", refused.stderr);
        assert!(errors[0].starts_with("error: rank 1 on "), "{}", errors[0]);
        assert!(errors[0].contains(said), "{}", errors[0]);
        assert!(!output.exists());
    }
}

#[test]
fn ranks_with_a_gpu_each_train_as_one_process_with_one() {
    if !bitfit::backend::cuda::images::built_in() {
        assert!(std::env::var_os("BITFIT_REQUIRE_CUDA").is_none_or(|v| v != "1"), "no kernels");
        eprintln!("skipped: built without CUDA kernels; scripts/fetch-cuda gets a compiler");
        return;
    }
    let runs = Runs::new();
    let options = "--steps 6 --lr 5e-3 --batch-size 7 --dropout 0.1 --device auto";
    let train = |name: &str, mut command: Command| {
        let output = runs.folder.path(name);
        command.args(train_args(&fixture("bert"), &runs.data, &output, options));
        // Each process has an emulated driver, and so a GPU, of its own.
        let said = Finished::of(command.env("LD_LIBRARY_PATH", driver::folder())).success();
        assert_eq!(said.stderr.matches("device: cuda:0").count(), 1, "{}", said.stderr);
        output
    };
    let one = train("one", Command::new(env!("CARGO_BIN_EXE_bitfit")));
    let two = train("two", mpirun(2));
    same(&two, &train("again", mpirun(2)));
    for (x, y) in steps(&one).iter().zip(&steps(&two)) {
        let (x, y) = (number(x, "loss"), number(y, "loss"));
        assert!((x - y).abs() <= 4e-3 * x, "{x} and {y}");
    }
}

#[test]
fn a_rank_without_rows_in_a_step_goes_on_after_an_evaluation() {
    let runs = Runs::new();
    // As many rows as ranks: with rows of unequal lengths, shares of even tokens leave a rank with none.
    let options = "--lr 5e-3 --epochs 2 --batch-size 4 --eval-steps 3 --dev-fraction 0.4 --precision f32 --seed 1";
    let args =
        |name: &str| train_args(&fixture("bert"), &runs.data, &runs.folder.path(name), options);
    Finished::of(&mut bitfit(args("one"))).success();
    Finished::of(mpirun(4).args(args("four"))).success();
    nearly_the_same(&runs.folder.path("one"), &runs.folder.path("four"));
}

#[test]
fn a_mistake_of_one_rank_alone_or_another_command_ends_the_job() {
    let runs = Runs::new();
    let args = runs.args(&runs.folder.path("out"));
    let beside = |theirs: &[&str]| {
        let mut command = mpirun(1);
        command.args(&args).args([":", "-n", "1", env!("CARGO_BIN_EXE_bitfit")]).args(theirs);
        Finished::of(&mut command)
    };
    let mistaken = beside(&["train", "--foo"]);
    assert_eq!(mistaken.code, Some(2), "{}", mistaken.stderr);
    assert!(mistaken.stderr.contains("error: rank 1 on "), "{}", mistaken.stderr);
    assert!(mistaken.stderr.contains("--foo"), "{}", mistaken.stderr);
    let other = beside(&["doctor"]);
    assert_eq!(other.code, Some(1), "{}", other.stderr);
    assert!(other.stderr.contains("rank 1 runs `doctor`, and rank 0 `train`"), "{}", other.stderr);
}

#[test]
fn what_cannot_be_shared_is_refused_once() {
    let runs = Runs::new();
    let output = runs.folder.path("out");
    let narrow = train_args(&fixture("bert"), &runs.data, &output, "--batch-size 2");
    let compare =
        ["compare", "--model", "m", "--train", "a.tsv", "--output", "o"].map(String::from);
    let mistaken = ["train", "--learning-rate", "1"].map(String::from);
    for (args, said) in [
        (narrow, "--batch-size 2: 3 ranks share each batch"),
        (compare.to_vec(), "compare starts several runs"),
        (mistaken.to_vec(), "--learning-rate"),
    ] {
        let refused = Finished::of(mpirun(3).args(args));
        assert_eq!(refused.code, Some(2), "{}", refused.stderr);
        let errors: Vec<_> =
            refused.stderr.lines().filter(|line| line.starts_with("error: ")).collect();
        assert_eq!(errors.len(), 1, "{}", refused.stderr);
        assert!(errors[0].contains(said), "{}", errors[0]);
    }
    assert!(!output.exists());
    let doctor = Finished::of(mpirun(3).arg("doctor")).success();
    assert_eq!(doctor.stdout.matches("bitfit").count(), 1);
    assert!(doctor.stdout.contains("mpi       "), "{}", doctor.stdout);
}
