//! `--precision` on a CPU, from the command line to what a run leaves.

use crate::common::*;

const RUN: &str = "--device cpu --epochs 8 --lr 1e-2 --batch-size 8";

#[test]
fn a_run_in_bf16_says_so_learns_and_takes_what_was_planned() {
    let folder = Folder::new();
    let data = folder.write("a.tsv", toy_tsv(48, 2));
    let output = folder.path("run");
    let more = format!("{RUN} --precision bf16 --dev {}", data.display());
    let run = train(&fixture("bert"), &data, &output, &more);
    assert!(run.stderr.contains("device: CPU, bf16"), "{}", run.stderr);
    let result = json(&output.join("result.json"));
    assert!(number(&result["best"], "value") > 0.95, "{result}");
    let memory = &result["memory"];
    assert_eq!(number(memory, "planned"), number(memory, "allocated"), "{result}");
    let settings = std::fs::read_to_string(output.join("settings.toml")).unwrap();
    assert!(settings.contains("precision = \"bf16\""), "{settings}");
}

#[test]
fn a_run_does_not_resume_in_another_precision() {
    let folder = Folder::new();
    let data = folder.write("a.tsv", toy_tsv(16, 2));
    for (was, is) in [("bf16", "f32"), ("f32", "bf16")] {
        let output = folder.path(was);
        train(&fixture("bert"), &data, &output, &format!("{RUN} --precision {was}"));
        let mut again = bitfit(["train", "--resume", "--precision", is, "--output"]);
        let named = format!("precision was \"{was}\" and is \"{is}\"");
        Finished::of(again.arg(&output)).fails(1, &[&named]);
    }
}

#[test]
fn auto_is_recorded_as_what_it_is_on_this_machine() {
    let folder = Folder::new();
    let data = folder.write("a.tsv", toy_tsv(16, 2));
    let output = folder.path("run");
    let run = train(&fixture("bert"), &data, &output, RUN);
    let (is, other) = match run.stderr.contains("device: CPU, bf16") {
        true => ("bf16", "f32"),
        false => ("f32", "bf16"),
    };
    let resume = |precision: &str| {
        let mut again = bitfit(["train", "--resume", "--precision", precision, "--output"]);
        Finished::of(again.arg(&output))
    };
    let named = format!("precision was \"{is}\" and is \"{other}\"");
    resume(other).fails(1, &[&named]);
    resume(is).success();
    resume("auto").success();
}

#[test]
fn matrices_train_in_f32_whatever_a_cpu_is_fastest_in() {
    let folder = Folder::new();
    let data = folder.write("a.tsv", toy_tsv(16, 2));
    let options = format!("{RUN} --method full");
    let run = train(&fixture("bert"), &data, &folder.path("run"), &options);
    assert!(run.stderr.contains("device: CPU, f32\n"), "{}", run.stderr);
}

#[test]
fn what_a_cpu_does_not_compute_in_is_refused() {
    let folder = Folder::new();
    let data = folder.write("a.tsv", toy_tsv(16, 2));
    for (options, parts) in [
        ("--precision f16", ["f16 is only for a GPU", "f32 or bf16"]),
        ("--precision bf16 --method full", ["--method full", "f32"]),
    ] {
        let output = folder.path("run");
        let args = train_args(&fixture("bert"), &data, &output, &format!("{RUN} {options}"));
        Finished::of(&mut bitfit(args)).fails(2, &parts);
        assert!(!output.exists());
    }
}

#[test]
fn a_plan_in_bf16_is_what_a_cpu_takes_and_keeps_half() {
    let model = fixture("bert");
    let kept = |precision: &str| {
        let mut plan = bitfit(["plan", "--device", "cpu", "--allocate", "--max-length", "16"]);
        let run = Finished::of(plan.args(["--precision", precision, "--model"]).arg(&model));
        let run = run.success();
        assert!(run.stdout.contains(&format!("{precision} activations")), "{}", run.stdout);
        let row = run.stdout.lines().find(|line| line.starts_with("kept for backward")).unwrap();
        let cells: Vec<&str> = row.split_whitespace().collect();
        cells[3].replace(',', "").parse::<f64>().unwrap()
    };
    let ratio = kept("bf16") / kept("f32");
    // log-sums, the inverse deviations and padding stay.
    assert!((0.5..0.6).contains(&ratio), "{ratio}");
}
