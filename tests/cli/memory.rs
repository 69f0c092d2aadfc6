//! A run's memory: planned before it, kept within a limit, and the same training whatever is kept.

use crate::common::*;

fn plan(args: &[&str]) -> Finished {
    let device: &[&str] = match args.contains(&"--device") {
        true => &["plan"],
        false => &["plan", "--device", "cpu"],
    };
    Finished::of(&mut bitfit([device, args].concat()))
}

/// The last column's cell, as a number, of the row whose line starts with `row`.
fn last_number(text: &str, row: &str) -> usize {
    let line = text
        .lines()
        .find(|line| line.starts_with(row))
        .unwrap_or_else(|| panic!("no `{row}` in {text}"));
    let cell = line.split_whitespace().last().unwrap();
    cell.replace(',', "").parse().unwrap()
}

#[test]
fn a_plan_needs_the_configuration_alone_and_its_parts_make_the_peak() {
    let folder = Folder::new();
    // Deep enough that what is kept outweighs what is transient.
    let mut config = json(&fixture("bert").join("config.json"));
    config["num_hidden_layers"] = 12.into();
    folder.write("config.json", config.to_string());
    let model = folder.path("");
    let model = model.to_str().unwrap();
    // In bf16 a block's input stays f32, so that `checkpoint` keeps as much as `recompute`.
    let args = ["--model", model, "--batch-size", "4", "--max-length", "16", "--precision", "f32"];
    let run = plan(&args).success();
    let parts = [
        "frozen weights",
        "parameters, gradients, moments",
        "kept for backward",
        "passing tensors",
        "head and logits",
        "batch",
        "workspace",
    ];
    let sum: usize = parts.iter().map(|part| last_number(&run.stdout, part)).sum();
    assert_eq!(sum, last_number(&run.stdout, "peak"), "{}", run.stdout);
    for column in ["bitfit", "head", "full"] {
        assert!(run.stdout.contains(column), "{}", run.stdout);
    }
    for kept in ["qkv", "slope", "x_hat"] {
        assert!(run.stdout.contains(kept), "{}", run.stdout);
    }
    // Each way keeps less than the one before, from everything to only the inputs.
    let peaks = ["keep", "recompute-qkv", "recompute ", "checkpoint"]
        .map(|saving| last_number(&run.stdout, saving));
    assert!(peaks.is_sorted_by(|a, b| a > b), "{peaks:?}");
}

#[test]
fn a_plan_counts_a_new_pooler_that_a_run_would_train() {
    let folder = Folder::new();
    let data = folder.write("a.tsv", toy_tsv(16, 2));
    let sizes = "--pooling cls --batch-size 4 --max-length 16 --precision f32 --threads 2";
    for (model, pooler) in [("bert-mlm", ""), ("bert", "--pooler reinit")] {
        let options = format!("{sizes} {pooler}");
        let model = fixture(model);
        let args =
            ["--model", model.to_str().unwrap()].into_iter().chain(options.split_whitespace());
        let planned = plan(&args.collect::<Vec<_>>()).success().stdout;
        let line = planned.lines().find(|line| line.starts_with("trained values")).unwrap();
        let values = line.split_whitespace().nth(2).unwrap().replace(',', "");
        let output = folder.path(&format!("run{}", pooler.len()));
        let said = train(&model, &data, &output, &format!("--steps 1 --device cpu {options}"));
        let trained = said.stdout.lines().find(|line| line.starts_with("trained parameters"));
        let trained = trained.unwrap().split_whitespace().nth(2).unwrap().replace(',', "");
        assert_eq!(values, trained, "{planned}");
    }
    let model = fixture("bert");
    let refused =
        plan(&["--model", model.to_str().unwrap(), "--pooling", "mean", "--pooler", "reinit"]);
    refused.fails(2, &["--pooler reinit", "no pooler"]);
}

/// What `plan --allocate` allocated for a method.
pub fn allocated(text: &str, method: &str) -> usize {
    let (_, table) = text.split_once("\nallocated").unwrap();
    let line = table.lines().find(|line| line.starts_with(method));
    let line = line.unwrap_or_else(|| panic!("no `{method}` in {table}"));
    assert!(line.ends_with("as planned"), "{line}");
    let bytes = line.split_whitespace().nth(1).unwrap();
    bytes.replace(',', "").parse().unwrap()
}

#[test]
fn a_plan_that_is_allocated_takes_its_peak_without_a_checkpoint() {
    let folder = Folder::new();
    let config = std::fs::read_to_string(fixture("bert").join("config.json"));
    folder.write("config.json", config.unwrap());
    let model = folder.path("");
    let args = ["--model", model.to_str().unwrap(), "--batch-size", "4", "--allocate"];
    for weights in ["f32", "f16", "int8", "nf4"] {
        let run = plan(&[&args[..], &["--weights", weights, "--threads", "2"]].concat());
        let text = run.success().stdout;
        let full = allocated(&text, "full");
        assert_eq!(full, last_number(&text, "peak"), "{text}");
        assert!(allocated(&text, "bitfit") < full, "{text}");
    }
}

/// Neither a device of that number nor, on most machines, a driver: all methods are refused for the same reason.
#[test]
fn what_refuses_every_method_is_said_once() {
    let model = fixture("bert");
    let mut plan = bitfit(["plan", "--device", "cuda:999", "--allocate", "--model"]);
    let refused = Finished::of(plan.arg(model));
    let said = refused.fails(1, &["bitfit, head, full: "]);
    let why = said.split_once("bitfit, head, full: ").unwrap().1;
    assert!(!why.contains("; head: "), "{said}");
}

#[test]
fn a_plan_of_methods_that_are_named_has_a_column_each_and_takes_as_much() {
    let model = fixture("bert");
    let args = ["--model", model.to_str().unwrap(), "--batch-size", "4", "--threads", "2"];
    let of = |more: &[&str]| plan(&[&args[..], more].concat());
    let lora = |rank: &str| {
        let text = of(&["--method", "ia3,lora,random,rows", "--lora-rank", rank, "--allocate"]);
        let text = text.success().stdout;
        let heading = text.lines().find(|line| line.starts_with("part")).unwrap();
        let columns: Vec<&str> = heading.split_whitespace().skip(1).collect();
        assert_eq!(columns, ["ia3", "lora", "random", "rows"]);
        let all: Vec<usize> = columns.iter().map(|method| allocated(&text, method)).collect();
        all[1]
    };
    assert!(lora("2") < lora("16"));

    // What is kept, and what a run would take, refer to the first one requested.
    let fits = |method: &str| {
        let text =
            of(&["--method", method, "--memory", "2MiB", "--precision", "f32"]).success().stdout;
        assert!(text.contains(&format!("kept by {method}")), "{text}");
        text.lines().find(|line| line.contains("would take")).unwrap().to_owned()
    };
    assert_ne!(fits("lora"), fits("bitfit"));

    let list = of(&["--method", "ia3", "--list"]).success().stdout;
    assert!(list.contains("ia3_l"), "{list}");
    for (more, said) in [
        (&["--lora-rank", "4"][..], "--lora-rank is only for --method lora"),
        (&["--method", "lora", "--lora-rank", "0"], "--lora-rank must be from 1"),
        (&["--method", "ia3,lora", "--list"], "--list prints the step of one --method"),
        (&["--method", "full", "--task", "masked-lm"], "--method full is not for --task masked-lm"),
        (&["--method", "random", "--task", "masked-lm"], "random is not for --task masked-lm"),
        (&["--method", "lorra"], "'lora'"),
        (&["--method", "ia3,lora", "--biases", "query"], "--biases is for --method bitfit"),
        (&["--method", "lora", "--lora-rank", "3", "--device", "cuda"], "a multiple of 8"),
    ] {
        of(more).fails(2, &[said]);
    }
}

/// The head of each task, whose labels and outputs also take memory.
#[test]
fn a_plan_of_any_task_is_allocated_as_planned() {
    let model = fixture("bert-mlm");
    let args = ["--model", model.to_str().unwrap(), "--batch-size", "4", "--threads", "2"];
    let of = |task: &str, more: &[&str]| {
        let text = plan(&[&args[..], &["--task", task, "--allocate"], more].concat()).success();
        let text = text.stdout;
        // The columns: bitfit first, and full if present.
        let peaks = text.lines().find(|line| line.starts_with("peak")).unwrap();
        let peaks = peaks.split_whitespace().skip(1).map(|cell| cell.replace(',', ""));
        let peaks: Vec<usize> = peaks.map(|cell| cell.parse().unwrap()).collect();
        assert_eq!(allocated(&text, "bitfit"), peaks[0], "{text}");
        let heading = text.lines().find(|line| line.starts_with("part ")).unwrap();
        assert_eq!(heading.contains(" full"), task != "masked-lm", "{text}");
        peaks[0]
    };
    for task in ["classification", "multi-label", "regression", "question-answering"] {
        of(task, &[]);
    }
    of("token-classification", &["--outputs", "9"]);
    let [some, all] = ["0.15", "1"].map(|hidden| of("masked-lm", &["--mask-probability", hidden]));
    assert!(some < all, "{some} and {all}");
    for (more, said) in [
        (&["--task", "masked-lm", "--outputs", "3"][..], "--outputs"),
        (&["--task", "masked-lm", "--pooling", "cls"], "--pooling"),
        (&["--task", "masked-lm", "--mask-probability", "0"], "--mask-probability"),
        (&["--mask-probability", "0.2"], "--mask-probability"),
    ] {
        plan(&[&args[..], more].concat()).fails(2, &[said]);
    }
}

#[test]
fn a_plan_names_the_largest_batch_that_fits_and_the_smallest_memory_that_runs() {
    let model = fixture("bert");
    let model = model.to_str().unwrap();
    let args = ["--model", model, "--batch-size", "8", "--max-length", "32"];
    let of = |memory| plan(&[&args[..], &["--memory", memory]].concat()).success().stdout;
    let (small, large) = (of("24MiB"), of("48MB"));
    let most = |text: &str| last_number(text, "recompute ");
    assert!(0 < most(&small) && most(&small) < most(&large), "{small}");
    assert!(of("1KiB").contains("nothing fits 1,024; the smallest that runs is --saving"));
}

#[test]
fn a_plan_of_what_cannot_be_is_wrong_usage() {
    let model = fixture("bert");
    let model = model.to_str().unwrap();
    for (args, said) in [
        (vec!["--saving", "half"], "unknown saving `half`"),
        (vec!["--saving", "recompute,gelu8"], "cannot be combined"),
        (vec!["--saving", "recompute-qkv,xhat8"], "cannot be combined"),
        (vec!["--memory", "4 floppies"], "4GiB"),
        (vec!["--max-length", "100000"], "--max-length"),
        (vec!["--biases", "qurey"], "query"),
    ] {
        plan(&[&["--model", model], &args[..]].concat()).fails(2, &[said]);
    }
}

#[test]
fn a_plan_for_a_gpu_counts_matrices_as_they_are_stored() {
    let model = fixture("bert");
    let frozen = |weights: &str| {
        let args = ["--model", model.to_str().unwrap(), "--device", "cuda"];
        let run = plan(&[&args[..], &["--weights", weights]].concat()).success();
        let line = run.stdout.lines().find(|l| l.starts_with("frozen weights"));
        let cells: Vec<&str> = line.unwrap().split_whitespace().collect();
        cells[2].replace(',', "").parse::<usize>().unwrap()
    };
    let bytes = ["f32", "f16", "int8", "nf4"].map(frozen);
    assert_eq!(bytes[0], bytes[1], "a GPU keeps 32 bits in 16");
    assert!(bytes[1..].is_sorted_by(|a, b| a > b), "{bytes:?}");
}

/// The peak that a run reports, in MiB.
fn said_peak(run: &Finished) -> f64 {
    let line = run.stderr.lines().find(|l| l.starts_with("memory: "));
    let number = line.and_then(|l| l["memory: ".len()..].split(' ').next());
    number.unwrap().parse().unwrap()
}

#[test]
fn a_limit_cuts_batches_and_chooses_what_is_kept_and_training_stays_the_same() {
    let folder = Folder::new();
    let data = folder.write("a.tsv", toy_tsv(48, 2));
    let dev = data.display();
    // For anything stored in 16 bits, recomputed values differ by rounding.
    let options = format!("--lr 1e-2 --epochs 2 --batch-size 16 --precision f32 --dev {dev}");
    let of = |name: &str, more: &str| {
        let output = folder.path(name);
        let options = format!("{options} {more}");
        (train(&fixture("bert"), &data, &output, &options), output)
    };
    let (free, whole) = of("free", "");
    assert!(free.stderr.contains("saving keep"), "{}", free.stderr);
    let peak = said_peak(&free);

    // Exact ways: the same bits.
    for saving in ["recompute-qkv", "recompute-ffn", "recompute", "checkpoint"] {
        let (run, output) = of(saving, &format!("--saving {saving}"));
        assert!(said_peak(&run) < peak, "{saving}: {}", run.stderr);
        assert_eq!(timeless(&output), timeless(&whole), "{saving}");
    }
    // A limit below that peak: smaller micro-batches, the same sums in a different order.
    let limit = format!("{}KB", (peak * 1048.576 * 0.97) as usize);
    let (run, output) = of("limited", &format!("--memory {limit}"));
    assert!(said_peak(&run) < peak * 0.97, "{}", run.stderr);
    assert_eq!(steps(&output).len(), steps(&whole).len());
    let delta = |output: &std::path::Path| output.join("bias.safetensors");
    nearly_equal(&delta(&output), &delta(&whole), 1e-3);

    let nothing = folder.path("nothing");
    let args = train_args(&fixture("bert"), &data, &nothing, &format!("{options} --memory 100KB"));
    Finished::of(&mut bitfit(args)).fails(1, &["100,000", "the smallest that runs is"]);
    assert!(!nothing.exists());
}

#[test]
fn matrices_in_few_bits_learn_the_task_and_follow_the_delta() {
    let folder = Folder::new();
    let data = folder.write("a.tsv", toy_tsv(48, 2));
    for weights in ["int8", "nf4"] {
        let output = folder.path(weights);
        let options = format!(
            "--lr 1e-2 --epochs 20 --batch-size 8 --weights {weights} --dev {}",
            data.display()
        );
        train(&fixture("bert"), &data, &output, &options);
        let result = json(&output.join("result.json"));
        assert!(number(&result["best"], "value") > 0.95, "{result}");

        // `eval` takes the type from the delta; the merged model has the values that were computed with.
        let measured = |name: &str, more: &[&str]| {
            let file = folder.path(name);
            let paths = [output.to_str(), data.to_str(), file.to_str()].map(Option::unwrap);
            let args = ["eval", "--delta", paths[0], "--data", paths[1], "--output", paths[2]];
            Finished::of(&mut bitfit([&args[..], more].concat())).success();
            number(&json(&file), "loss")
        };
        let own = measured("own.json", &["--device", "cpu"]);
        let merged = folder.path(&format!("merged-{weights}"));
        let args = ["merge", "--delta", output.to_str().unwrap(), "--output"];
        Finished::of(&mut bitfit([&args[..], &[merged.to_str().unwrap()]].concat())).success();
        let base = tensors(&fixture("bert").join("model.safetensors"));
        let rounded = tensors(&merged.join("model.safetensors"));
        let name = "bert.encoder.layer.0.intermediate.dense.weight";
        let plain = base.get(name).or_else(|| base.get(&name["bert.".len()..]));
        assert_ne!(plain.unwrap().1, rounded[name].1, "{weights}");
        let exact = measured("exact.json", &["--device", "cpu", "--weights", "f32"]);
        assert_ne!(own, exact, "{weights}: eval ignored how the run stored its matrices");
    }
}

/// A line per operation: what it reads, writes and computes, and a minimum time if the device's rates are given.
#[test]
fn a_plan_lists_the_step_operation_by_operation() {
    let folder = Folder::new();
    let config = std::fs::read_to_string(fixture("bert").join("config.json"));
    folder.write("config.json", config.unwrap());
    let model = folder.path("");
    let model = model.to_str().unwrap();
    let sizes = ["--batch-size", "4", "--max-length", "16"];
    let list = |more: &[&str]| {
        let args = ["--model", model, "--list", "--device", "cpu", "--precision", "f32"];
        plan(&[&args, &sizes[..], more].concat())
    };
    let whole = list(&["--rate", "1", "--bandwidth", "30"]).success().stdout;
    let line = |text: &str, name: &str| -> String {
        let found = text.lines().find(|line| line.contains(name));
        found.unwrap_or_else(|| panic!("no {name} in {text}")).to_owned()
    };
    let product = line(&whole, "slope %9");
    for part in ["Linear", "hidden %8 [64, 64]", "inner %10 [64, 128]", "32,768"] {
        assert!(product.contains(part), "{product}");
    }
    assert!(line(&whole, "query@0").contains("AttentionBack"), "{whole}");
    assert!(whole.contains("tokens/s"), "{whole}");
    // For one bias there is less: no gradient of another, nothing below it.
    let part = list(&["--biases", "output@1"]).success().stdout;
    assert!(part.contains("output@1") && !part.contains("query@"), "{part}");
    assert!(!part.contains("AttentionBack"), "{part}");
    list(&["--rate", "1"]).fails(2, &["--bandwidth"]);
    list(&["--rate", "0", "--bandwidth", "1"]).fails(2, &["above 0"]);
}
