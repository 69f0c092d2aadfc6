//! `--lr auto`: a trial that chooses a rate changes nothing else, and a run stopped around it continues.

use crate::common::*;
use serde_json::Value;
use std::fs;
use std::path::Path;

const OPTIONS: &str = "--epochs 8 --batch-size 4 --dropout 0.1 --eval-steps 20";
const DEV: &str = "--dev-fraction 0.2";

fn run(data: &Path, output: &Path, more: &str) -> Finished {
    train(&fixture("bert"), data, output, &format!("{OPTIONS} {more}"))
}

fn trial(output: &Path) -> Value {
    json(&output.join("result.json"))["lr_trial"].clone()
}

fn tried(output: &Path) -> Vec<(f64, Option<f64>)> {
    let trial = trial(output);
    let tried = trial["tried"].as_array().unwrap();
    tried.iter().map(|one| (number(one, "lr"), one["loss"].as_f64())).collect()
}

#[test]
fn the_rate_with_the_lowest_loss_is_taken_and_the_run_is_the_one_that_it_has() {
    let folder = Folder::new();
    let data = folder.write("a.tsv", toy_tsv(60, 3));
    let (one, again) = (folder.path("auto"), folder.path("again"));
    let said = run(&data, &one, &format!("--lr auto {DEV}"));
    for part in ["trying 5 learning rates", "--lr      loss", "accuracy", "chosen"] {
        assert!(said.stderr.contains(part), "no `{part}` in {}", said.stderr);
    }
    let tried = tried(&one);
    let rates: Vec<f64> = tried.iter().map(|(lr, _)| *lr).collect();
    assert_eq!(rates, [1e-4, 3e-4, 1e-3, 3e-3, 1e-2]);
    let trial = trial(&one);
    let best = number(&trial, "chosen");
    let loss = |lr: f64| tried.iter().find(|(tried, _)| *tried == lr).unwrap().1.unwrap();
    assert!(rates.iter().all(|&lr| loss(best) <= 1.05 * loss(lr)), "{tried:?}");
    assert_eq!(trial["rows"], "dev");
    assert!(said.stdout.contains("of 5 that --lr auto tried"), "{}", said.stdout);
    let settings = fs::read_to_string(one.join("settings.toml")).unwrap();
    assert!(settings.starts_with("# lr was chosen by --lr auto: 20 steps per rate"), "{settings}");
    assert!(settings.contains(&format!("\nlr = {best}\n")), "{settings}");

    run(&data, &again, &format!("--lr auto {DEV}"));
    assert_eq!(timeless(&one), timeless(&again));
    // The same name, as the delta holds the settings.
    let plain = folder.path("plain");
    run(&data, &plain, &format!("--lr {best} {DEV}"));
    let delta = |run: &Path| fs::read(run.join("bias.safetensors")).unwrap();
    assert!(delta(&one) == delta(&again) && delta(&one) == delta(&plain), "the deltas differ");
    assert_eq!(timeless(&one)[1..], timeless(&plain));
}

#[test]
fn without_dev_rows_the_training_loss_chooses() {
    let folder = Folder::new();
    let data = folder.write("a.tsv", toy_tsv(60, 3));
    let output = folder.path("run");
    train(&fixture("bert"), &data, &output, "--lr auto --epochs 2 --batch-size 4");
    assert_eq!(trial(&output)["rows"], "training");
    assert!(tried(&output).iter().all(|(_, loss)| loss.is_some()));
}

#[test]
fn a_rate_that_diverges_is_said_to_and_where_all_do_nothing_is_trained() {
    let folder = Folder::new();
    let data = folder.write("a.tsv", toy_tsv(60, 3));
    let output = folder.path("some");
    // Weights grow by lr · decay in each step. The run is as long as the trial, which the chosen rate has survived.
    let grows = format!("--lr auto --steps 20 --weight-decay 10000 --clip-norm 0 {DEV}");
    train(&fixture("bert"), &data, &output, &format!("--batch-size 4 {grows}"));
    let trial = trial(&output);
    let last = trial["tried"].as_array().unwrap().last().unwrap();
    assert_eq!((number(last, "lr"), &last["loss"]), (1e-2, &Value::Null));
    assert!(last["diverged_at"].as_u64().is_some_and(|step| (1..=20).contains(&step)), "{last}");
    assert!(number(&trial, "chosen") < 1e-3);

    let more = format!("{OPTIONS} --lr auto --weight-decay 1e12 --clip-norm 0 {DEV}");
    let all = bitfit(train_args(&fixture("bert"), &data, &folder.path("all"), &more)).output();
    let stderr = String::from_utf8(all.unwrap().stderr).unwrap();
    assert!(
        stderr.contains("error: --lr auto: all rates") && stderr.contains("--clip-norm 1"),
        "{stderr}"
    );
}

#[cfg(unix)]
#[test]
fn a_run_that_is_killed_in_its_trial_or_after_it_comes_to_the_same_end() {
    use crate::resume::{reaches, same_end, signal};
    use std::process::Stdio;
    use std::time::{Duration, Instant};
    let folder = Folder::new();
    let data = folder.write("a.tsv", toy_tsv(60, 3));
    let whole = folder.path("whole");
    let more = format!("--lr auto {DEV}");
    run(&data, &whole, &more);
    let args =
        |output: &Path| train_args(&fixture("bert"), &data, output, &format!("{OPTIONS} {more}"));
    let start = |output: &Path| {
        let mut command = bitfit(args(output));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    };
    let resume = |output: &Path, more: &[&str]| {
        Finished::of(bitfit(["train", "--resume", "--output"]).arg(output).args(more)).success()
    };

    let after = folder.path("after");
    let mut child = start(&after);
    assert!(reaches(&mut child, &after, 3));
    signal(&child, "KILL");
    child.wait().unwrap();
    // As originally requested; the run's settings have the rate.
    resume(&after, &["--lr", "auto"]);
    same_end(&whole, &after);
    assert_eq!(trial(&after)["chosen"], trial(&whole)["chosen"]);

    let during = folder.path("during");
    for name in ["KILL", "TERM"] {
        let mut child = start(&during);
        let deadline = Instant::now() + HANGS;
        while !during.join("settings.toml").exists() {
            assert!(Instant::now() < deadline && child.try_wait().unwrap().is_none());
            std::thread::sleep(Duration::from_micros(200));
        }
        signal(&child, name);
        child.wait().unwrap();
        assert!(!during.join("checkpoint.safetensors").exists());
        resume(&during, &[]);
        same_end(&whole, &during);
        fs::remove_dir_all(&during).unwrap();
    }
}

#[test]
fn a_comparison_has_the_rate_that_was_chosen_and_goes_on() {
    let folder = Folder::new();
    let data = folder.write("a.tsv", toy_tsv(24, 2));
    let output = folder.path("compare");
    let compare = |more: &[&str]| {
        let mut command = bitfit(["compare", "--quiet", "--output"]);
        Finished::of(command.arg(&output).args(more)).success()
    };
    let model = fixture("bert").display().to_string();
    let data = data.display().to_string();
    let inputs = ["--model", &model, "--train", &data, "--dev-fraction", "0.25", "--threads", "1"];
    let runs = ["--epochs", "2", "--run", "a: --lr auto", "--run", "b: --method head"];
    compare(&[&inputs[..], &runs].concat());
    let rows = sweep_rows(&output);
    assert_eq!(rows[0]["lr"], trial(&output.join("a"))["chosen"]);
    fs::remove_dir_all(output.join("b")).unwrap();
    compare(&["--resume"]);
    assert_eq!(sweep_rows(&output)[0]["lr"], rows[0]["lr"]);
}
