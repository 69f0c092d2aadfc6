//! Training on the CUDA backend as its user sees it, with the emulator as the driver: against the CPU, and resumed.
#![cfg(unix)]

#[path = "../ops/driver.rs"]
pub mod driver;

use crate::common::*;
use crate::masked::{checkpoint, texts};
use crate::memory::allocated;
use crate::resume::{reaches, same_end, signal};
use crate::tags::{TASK, conll};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Whether there is something to test; says so if not.
pub fn kernels() -> bool {
    let built = bitfit::backend::cuda::images::built_in();
    if !built {
        assert!(
            std::env::var_os("BITFIT_REQUIRE_CUDA").is_none_or(|v| v != "1"),
            "BITFIT_REQUIRE_CUDA=1, but this was built without CUDA kernels"
        );
        eprintln!("skipped: built without CUDA kernels; scripts/fetch-cuda gets a compiler");
    }
    built
}

/// The program with the emulator as its driver.
fn on_emulator(command: &mut Command) -> &mut Command {
    command.env("LD_LIBRARY_PATH", driver::folder())
}

/// Real text that is always available: lines of the licence, and whether they name its subject.
fn licence(rows: usize) -> String {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("LICENSE-APACHE"));
    let text = text.unwrap();
    let lines = text.lines().map(str::trim).filter(|line| line.len() > 40);
    let mut table = "text\tlabel\n".to_owned();
    for line in lines.take(rows) {
        let names = ["icens", "Work", "Contribut"].iter().any(|word| line.contains(word));
        writeln!(table, "{line}\t{}", if names { "legal" } else { "other" }).unwrap();
    }
    table
}

/// Movie reviews with their polarity if they were fetched, else the licence.
fn real_text(rows: usize) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(".cache/data/movie-reviews.tsv");
    match fs::read_to_string(&path) {
        // The file is in source order: every so many lines, so that both polarities occur.
        Ok(reviews) => {
            let (heading, lines) = reviews.split_once('\n').unwrap();
            let lines: Vec<&str> = lines.lines().collect();
            let every = lines.iter().step_by(lines.len() / rows).take(rows);
            let every: Vec<&str> = std::iter::once(&heading).chain(every).copied().collect();
            every.join("\n") + "\n"
        }
        Err(_) => {
            eprintln!(
                "{} is not there (scripts/fetch.py): the licence takes its place",
                path.display()
            );
            licence(rows)
        }
    }
}

#[test]
fn few_bits_stand_beside_16_and_full_fine_tuning_in_one_table() {
    if !kernels() {
        return;
    }
    let folder = Folder::new();
    let data = folder.write("a.tsv", licence(32));
    let output = folder.path("compare");
    let settings = "--steps 4 --batch-size 8 --device cuda --dev-fraction 0.25";
    let args = train_args(&fixture("bert"), &data, &output, settings);
    let mut compare = bitfit(["compare"]);
    compare.args(&args[1..]);
    for run in [
        "bitfit",
        "int8: --weights int8 --saving recompute",
        "nf4: --weights nf4 --saving gelu8,xhat8",
        "full",
    ] {
        compare.args(["--run", run]);
    }
    Finished::of(on_emulator(&mut compare)).success();
    let rows = sweep_rows(&output);
    let names: Vec<_> = rows.iter().map(|r| r["run"].as_str().unwrap()).collect();
    assert_eq!(names, ["bitfit", "int8", "nf4", "full"]);
    for row in &rows {
        assert_eq!(number(row, "planned_bytes"), number(row, "allocated_bytes"));
        assert!(number(row, "seconds_per_step") > 0.0, "{row}");
    }
    let column = |key| rows.iter().map(|row| number(row, key)).collect::<Vec<_>>();
    let allocated = column("allocated_bytes");
    assert!(allocated[1] < allocated[0] && allocated[2] < allocated[0], "{allocated:?}");
    assert!(allocated[0] < allocated[3], "{allocated:?}");
    let saved = column("saved_bytes_per_token");
    assert!(saved[1] < saved[2] && saved[2] < saved[0] && saved[0] < saved[3], "{saved:?}");
}

/// Mean losses over ten steps each.
fn loss_curve(output: &Path) -> Vec<f64> {
    let losses: Vec<f64> = steps(output).iter().map(|s| number(s, "loss")).collect();
    losses.chunks(10).map(|ten| ten.iter().sum::<f64>() / ten.len() as f64).collect()
}

#[track_caller]
fn close(name: &str, cpu: &[f64], cuda: &[f64], tolerance: f64) {
    assert_eq!(cpu.len(), cuda.len());
    for (a, b) in cpu.iter().zip(cuda) {
        assert!((a - b).abs() <= tolerance * a.max(0.1), "{name}: cpu {cpu:?}, cuda {cuda:?}");
    }
}

#[test]
fn fifty_steps_on_real_text_follow_the_cpu_and_end_with_the_same_metrics() {
    if !kernels() {
        return;
    }
    let folder = Folder::new();
    let data = folder.write("text.tsv", real_text(60));
    let options = "--lr 3e-3 --steps 50 --batch-size 4 --dropout 0.1 --max-length 40 --dev-fraction 0.2 --eval-steps 50";
    let run = |name: &str, more: &str| -> PathBuf {
        let output = folder.path(name);
        let options = format!("{options} {more}");
        let mut command = bitfit(train_args(&fixture("bert"), &data, &output, &options));
        Finished::of(on_emulator(&mut command)).success();
        output
    };
    let accuracy = |output: &Path| {
        let lines = metrics(output);
        let eval = lines.iter().rev().find_map(|line| line.get("eval"));
        number(eval.unwrap(), "accuracy")
    };
    let cpu = run("cpu", "--device cpu");
    let curve = loss_curve(&cpu);
    assert!(curve[4] < curve[0], "the text teaches nothing: {curve:?}");
    for (precision, tolerance) in [("f16", 0.02), ("bf16", 0.06)] {
        let cuda = run(precision, &format!("--device cuda --precision {precision}"));
        close(precision, &curve, &loss_curve(&cuda), tolerance);
        // Twelve dev rows: one may fall on the other side.
        let (a, b) = (accuracy(&cpu), accuracy(&cuda));
        assert!((a - b).abs() < 0.1, "accuracies {a} and {b}");
    }
}

/// In f16, where the loss scale and its counter belong to the state.
#[test]
fn a_run_on_cuda_that_was_stopped_resumes_to_the_same_bits() {
    if !kernels() {
        return;
    }
    let folder = Folder::new();
    let data = folder.write("toy.tsv", toy_tsv(30, 3));
    let options = "--device cuda --precision f16 --lr 5e-3 --steps 24 --batch-size 4 --grad-accumulation 2 \
                   --dropout 0.1 --save-steps 5 --dev-fraction 0.2 --eval-steps 9";
    let command = |output: &Path| {
        let mut command = bitfit(train_args(&fixture("bert"), &data, output, options));
        on_emulator(&mut command).stdin(Stdio::null()).stdout(Stdio::null());
        command
    };
    let whole = folder.path("whole");
    Finished::of(&mut command(&whole)).success();
    for (name, lines) in [("INT", 3), ("KILL", 13)] {
        let output = folder.path(name);
        let mut child = command(&output).stderr(Stdio::null()).spawn().unwrap();
        assert!(reaches(&mut child, &output, lines), "the run ended before it was stopped");
        signal(&child, name);
        child.wait().unwrap();
        assert!(!output.join("result.json").exists() || steps(&output).len() < 24);
        let mut resume = bitfit(["train", "--resume", "--output"]);
        Finished::of(on_emulator(resume.arg(&output))).success();
        same_end(&whole, &output);
    }
}

/// A head on tokens, some with ignored labels, and class weights.
#[test]
fn a_tagger_on_cuda_follows_the_cpu() {
    if !kernels() {
        return;
    }
    let folder = Folder::new();
    let data = folder.write("a.conll", conll(0..24));
    let runs = ["cpu", "cuda"].map(|device| {
        let output = folder.path(device);
        let options = format!("{TASK} --steps 10 --class-weights balanced --device {device}");
        let args = train_args(&fixture("bert"), &data, &output, &options);
        Finished::of(on_emulator(&mut bitfit(args))).success();
        steps(&output).iter().map(|step| number(step, "loss")).collect::<Vec<_>>()
    });
    close("losses", &runs[0], &runs[1], 0.02);
}

/// Masked words: trained alongside the CPU, measured, filled in and merged, within the planned memory.
#[test]
fn masked_words_on_cuda_follow_the_cpu() {
    if !kernels() {
        return;
    }
    let folder = Folder::new();
    let model = checkpoint(&folder, "bert-mlm");
    let data = folder.write("a.txt", texts(40));
    let run = |args: &[&str]| Finished::of(on_emulator(&mut bitfit(args))).success();
    let trained = |device: &str| {
        let output = folder.path(device);
        let options = format!(
            "--task masked-lm --steps 12 --batch-size 8 --lr 2e-3 --dropout 0.1 --dev-fraction 0.2 --device {device}"
        );
        Finished::of(on_emulator(&mut bitfit(train_args(&model, &data, &output, &options))))
            .success();
        let memory = &json(&output.join("result.json"))["memory"];
        assert_eq!(memory["planned"], memory["allocated"], "{memory}");
        output
    };
    // In bf16 a sum that is rounded across 0 sometimes turns a ReLU of this model on or off.
    let outputs = ["cpu --precision f32", "cuda --precision f16"].map(trained);
    let losses = outputs
        .each_ref()
        .map(|output| steps(output).iter().map(|step| number(step, "loss")).collect::<Vec<_>>());
    close("losses", &losses[0], &losses[1], 0.02);
    let perplexity = |device: &str| {
        let file = folder.path(&format!("{device}.json"));
        let paths = [&outputs[1], &data, &file].map(|path| path.to_str().unwrap());
        let args = ["eval", "--delta", paths[0], "--data", paths[1], "--output", paths[2]];
        run(&[&args[..], &["--device", device]].concat());
        number(&json(&file), "perplexity")
    };
    let (cpu, cuda) = (perplexity("cpu"), perplexity("cuda"));
    assert!((cpu / cuda - 1.0).abs() < 0.01, "perplexities {cpu} and {cuda}");
    // One of three texts has no mask, and one has two.
    let input = folder.write("in.txt", "the [MASK] is in\nnothing\nin [MASK] the [MASK]\n");
    let filled = |device: &str| {
        let paths = [&outputs[1], &input].map(|path| path.to_str().unwrap());
        let args = ["predict", "--delta", paths[0], "--input", paths[1], "--device", device];
        let lines = run(&args).stdout;
        lines.lines().map(|line| line.split('\t').count()).collect::<Vec<_>>()
    };
    assert_eq!(filled("cuda"), [10, 1, 1, 10, 10, 1]);
    assert_eq!(filled("cuda"), filled("cpu"));
}

#[test]
fn a_task_trained_on_cuda_with_few_bits_is_evaluated_predicted_and_merged() {
    if !kernels() {
        return;
    }
    let folder = Folder::new();
    let data = folder.write("toy.tsv", toy_tsv(24, 2));
    let data = data.to_str().unwrap();
    for weights in ["int8", "nf4"] {
        let output = folder.path(weights);
        let options = format!(
            "--device cuda --precision f16 --weights {weights} --lr 1e-2 --epochs 6 --batch-size 8 --dev {data}"
        );
        let args = train_args(&fixture("bert"), Path::new(data), &output, &options);
        Finished::of(on_emulator(&mut bitfit(args))).success();
        let delta = output.to_str().unwrap();
        let run = |args: &[&str]| Finished::of(on_emulator(&mut bitfit(args))).success();
        // The matrices' type follows the delta.
        let loss = |device: &str| {
            let file = folder.path(device);
            let args = ["eval", "--delta", delta, "--data", data, "--device", device];
            run(&[&args[..], &["--output", file.to_str().unwrap()]].concat());
            number(&json(&file), "loss")
        };
        let (cuda, cpu) = (loss("cuda"), loss("cpu"));
        let off = (cuda - cpu).abs();
        assert!(off < 0.02, "{weights}: losses {cuda} and {cpu}");
        let labels = |device: &str| {
            let args = ["predict", "--delta", delta, "--input", data];
            run(&[&args[..], &["--device", device]].concat()).stdout
        };
        assert_eq!(labels("cuda").lines().count(), labels("cpu").lines().count());
        let merged = folder.path(&format!("merged-{weights}"));
        run(&["merge", "--delta", delta, "--output", merged.to_str().unwrap()]);
        assert!(merged.join("model.safetensors").exists());
    }
}

#[test]
fn too_little_memory_is_refused_with_a_size_that_fits() {
    if !kernels() {
        return;
    }
    let folder = Folder::new();
    let data = folder.write("licence.tsv", licence(60));
    let run = |name: &str, more: &str| {
        let output = folder.path(name);
        let options = format!("--device cuda --steps 1 --batch-size 60 --max-length 40 {more}");
        let mut command = bitfit(train_args(&fixture("bert"), &data, &output, &options));
        command.env("CUDA_EMULATOR_MEMORY", "3000000");
        Finished::of(on_emulator(&mut command))
    };
    let refused = run("refused", "");
    let advice = " tokens per batch would fit";
    let said = refused.fails(1, &["out of memory", "needs", "are free", advice]);
    let tokens = said.split(advice).next().unwrap();
    let tokens = tokens.rsplit(' ').next().unwrap();
    run("fits", &format!("--batch-tokens {tokens}")).success();
}

#[test]
fn a_plan_that_is_allocated_takes_its_peak_on_the_device_or_says_what_does_not_fit() {
    if !kernels() {
        return;
    }
    let plan = |memory: &str, more: &[&str]| {
        let mut command = bitfit(["plan", "--allocate", "--device", "cuda", "--batch-size", "4"]);
        command.arg("--model").arg(fixture("bert"));
        command.args(more);
        command.env("CUDA_EMULATOR_MEMORY", memory);
        Finished::of(on_emulator(&mut command))
    };
    for weights in ["f16", "int8", "nf4"] {
        let text = plan("1G", &["--weights", weights]).success().stdout;
        assert!(allocated(&text, "bitfit") < allocated(&text, "full"), "{text}");
        let text = plan("1G", &["--weights", weights, "--task", "masked-lm"]).success().stdout;
        assert!(allocated(&text, "head") < allocated(&text, "bitfit"), "{text}");
    }
    plan("1M", &[]).fails(1, &["full: ", "out of memory"]);
}

#[test]
fn a_profile_on_the_emulator_counts_launches_and_names_kernels() {
    if !kernels() {
        return;
    }
    let folder = Folder::new();
    let (written, tiles) = (folder.path("profile.json"), folder.path("tiles.tsv"));
    let profile = || {
        let mut command =
            bitfit(["profile", "--device", "cuda", "--batch-size", "2", "--max-length", "8"]);
        command.args(["--repeat", "1", "--model"]).arg(fixture("bert"));
        command.arg("--json").arg(&written);
        on_emulator(&mut command);
        command
    };
    let refused = Finished::of(profile().args(["--picture", "roofs.svg"]));
    refused.fails(2, &["--picture roofs.svg", "nothing is timed on the emulator"]);
    assert!(!written.exists(), "nothing ran");
    let text = Finished::of(profile().arg("--tiles").arg(&tiles)).success().stdout;
    // No number there is taken for a time.
    let written = json(&written);
    assert!(written["seconds_per_step"].is_null(), "{written}");
    for row in written["operations"].as_array().unwrap() {
        assert!(row["seconds"].is_null() && row["seconds_per_step"].is_null(), "{row}");
        assert!(number(row, "times") > 0.0, "{row}");
    }
    for product in written["tiles"].as_array().unwrap() {
        let times = product["microseconds"].as_array().unwrap();
        assert!(times.iter().all(serde_json::Value::is_null), "{product}");
    }
    let tiles = fs::read_to_string(&tiles).unwrap();
    let lines: Vec<&str> = tiles.lines().filter(|line| line.starts_with("# not timed")).collect();
    assert!(!lines.is_empty() && lines.iter().all(|line| line.ends_with("\t-")), "{tiles}");
    for part in ["gemm_bias_small", "attention_backward_short_32", "grad_norm", "launches; on"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(!text.contains("tokens/s"), "{text}");
}

#[test]
fn minilm_trains_on_cuda_as_on_the_cpu_where_the_model_is_present() {
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join(".cache/models/minilm");
    if !model.join("config.json").exists() {
        eprintln!("skipped: {} is not there; scripts/test.sh fetches it", model.display());
        return;
    }
    if !kernels() {
        return;
    }
    let folder = Folder::new();
    let data = folder.write("licence.tsv", licence(12));
    let run = |name: &str, more: &str| -> Vec<f64> {
        let output = folder.path(name);
        let options = format!("--lr 1e-3 --steps 3 --batch-size 4 {more}");
        let mut command = bitfit(train_args(&model, &data, &output, &options));
        Finished::of(on_emulator(&mut command)).success();
        steps(&output).iter().map(|s| number(s, "loss")).collect()
    };
    let cpu = run("cpu", "--device cpu");
    close("minilm", &cpu, &run("cuda", "--device cuda --precision f16"), 0.01);
}
