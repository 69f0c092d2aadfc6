//! `--method full`: everything trains, and the run leaves a model instead of a delta.

use crate::common::*;
use std::path::Path;
use std::process::Stdio;

const LEARNS: &str = "--method full --lr 1e-3 --epochs 8 --batch-size 8";

fn eval(run: &Path, data: &Path, json_file: &Path) -> Finished {
    let mut command = bitfit(["eval", "--batch-size", "8", "--threads", "1", "--delta"]);
    command.arg(run).arg("--data").arg(data);
    Finished::of(command.arg("--output").arg(json_file)).success()
}

#[test]
fn a_full_run_leaves_a_whole_model_that_eval_and_predict_take() {
    for model in ["bert", "roberta"] {
        let folder = Folder::new();
        let data = folder.write("a.tsv", toy_tsv(48, 2));
        let output = folder.path("run");
        let run =
            train(&fixture(model), &data, &output, &format!("{LEARNS} --dev {}", data.display()));
        assert!(run.stdout.contains("model.safetensors"), "{}", run.stdout);
        let result = json(&output.join("result.json"));
        assert!(number(&result["best"], "value") > 0.95, "{model}: {result}");
        let left = names(&output);
        assert!(left.contains(&"config.json".to_owned()), "{left:?}");
        assert!(!left.contains(&"bias.safetensors".to_owned()), "{left:?}");

        // Every tensor of the task model has moved, except the key's bias, which has no gradient.
        let (before, after) = (
            tensors(&fixture(model).join("model.safetensors")),
            tensors(&output.join("model.safetensors")),
        );
        for (name, (shape, values)) in &after {
            if name.starts_with("classifier") {
                continue;
            }
            let (base_shape, base) = &before[name];
            assert_eq!(shape, base_shape, "{model} {name}");
            assert_eq!(values == base, name.ends_with("key.bias"), "{model} {name}");
        }
        let encoder = |name: &&String| !name.starts_with("classifier");
        let count = before.keys().filter(encoder).count();
        assert_eq!(after.keys().filter(encoder).count(), count, "{model}");
        let trained: usize = after.values().map(|(_, values)| values.len()).sum();
        assert_eq!(number(&result, "trained_parameters"), trained as f64);

        let measured = folder.path("eval.json");
        eval(&output, &data, &measured);
        let best = number(&result["best"], "value");
        assert_eq!(number(&json(&measured), "accuracy"), best, "{model}");
        let mut predict = bitfit(["predict", "--input"]);
        predict.arg(&data).arg("--delta").arg(output.join("model.safetensors"));
        let predicted = Finished::of(&mut predict).success().stdout;
        assert_eq!(predicted.lines().count(), 49, "{predicted}");
        assert!(predicted.contains("land") && predicted.contains("sea"));
    }
}

#[test]
fn under_mean_pooling_the_head_lies_beside_a_bare_encoder() {
    let folder = Folder::new();
    let mut data = "text\tlabel\n".to_owned();
    for i in 0..24 {
        data += &format!("{}\t{}\n", text_of(i % 2, i), [1.5, -0.5][i % 2]);
    }
    let data = folder.write("a.tsv", data);
    let output = folder.path("run");
    let more = format!("{LEARNS} --task regression --pooling mean --dev {}", data.display());
    train(&fixture("bert-mean"), &data, &output, &more);
    let (encoder, head) =
        (tensors(&output.join("model.safetensors")), tensors(&output.join("head.safetensors")));
    let base = tensors(&fixture("bert-mean").join("model.safetensors"));
    assert!(encoder.keys().eq(base.keys()));
    assert_eq!(encoder["pooler.dense.weight"], base["pooler.dense.weight"]);
    assert_ne!(
        encoder["embeddings.word_embeddings.weight"],
        base["embeddings.word_embeddings.weight"]
    );
    assert_eq!(head["classifier.weight"].0, [1, 48]);
    let measured = folder.path("eval.json");
    eval(&output, &data, &measured);
    let best = json(&output.join("result.json"))["best"].clone();
    let found = number(&json(&measured), "pearson");
    assert!((found - number(&best, "value")).abs() < 1e-9, "{found} {best}");
}

#[cfg(unix)]
#[test]
fn a_killed_full_run_resumes_to_the_same_bits() {
    let folder = Folder::new();
    let data = folder.write("a.tsv", toy_tsv(48, 2));
    let options = "--method full --lr 1e-3 --epochs 6 --batch-size 4 --dropout 0.1 --eval-steps 5 --save-steps 3 \
                   --dev-fraction 0.2";
    let whole = folder.path("whole");
    train(&fixture("bert"), &data, &whole, options);
    let killed = folder.path("killed");
    let mut command = bitfit(train_args(&fixture("bert"), &data, &killed, options));
    let quiet = command.stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = quiet.spawn().unwrap();
    while std::fs::read_to_string(killed.join("metrics.jsonl")).unwrap_or_default().lines().count()
        < 14
    {
        std::thread::sleep(std::time::Duration::from_micros(200));
        if child.try_wait().unwrap().is_some() {
            break;
        }
    }
    let _ = child.kill();
    child.wait().unwrap();
    Finished::of(bitfit(["train", "--resume", "--output"]).arg(&killed)).success();
    assert_eq!(timeless(&whole), timeless(&killed));
    let model = |run: &Path| tensors(&run.join("model.safetensors"));
    assert!(model(&whole) == model(&killed), "the models differ");
}

#[test]
fn what_makes_no_sense_with_full_is_refused() {
    let folder = Folder::new();
    let data = folder.write("a.tsv", toy_tsv(12, 2));
    let output = folder.path("run");
    let wrong = |more: &str| {
        let more = format!("--method full {more}");
        Finished::of(&mut bitfit(train_args(&fixture("bert"), &data, &output, &more)))
    };
    wrong("--biases query").fails(2, &["--biases", "--method full trains everything"]);
    wrong("--weights f16").fails(2, &["--weights", "freezes none"]);
    assert!(!output.exists());

    train(&fixture("bert"), &data, &output, "--method full --steps 1");
    let delta = ["--delta", output.to_str().unwrap()];
    let merged = folder.path("merged");
    Finished::of(bitfit(["merge", "--output"]).arg(&merged).args(delta))
        .fails(1, &["a whole model", "--method full"]);
    Finished::of(bitfit(["inspect"]).args(delta)).fails(1, &["a whole model"]);
    let base = fixture("bert");
    let mut predict = bitfit(["predict", "--input"]);
    predict.arg(&data).args(delta).arg("--model").arg(base);
    Finished::of(&mut predict).fails(2, &["--model", "leave the option out"]);
}

#[test]
fn a_head_of_another_run_is_refused() {
    let folder = Folder::new();
    let data = folder.write("a.tsv", toy_tsv(12, 2));
    let runs = ["one", "two"].map(|name| {
        let output = folder.path(name);
        let seed = if name == "one" { 1 } else { 2 };
        let more = format!("--method full --pooling mean --steps 1 --seed {seed}");
        train(&fixture("bert-mean"), &data, &output, &more);
        output
    });
    let eval =
        |run: &Path| Finished::of(bitfit(["eval", "--delta"]).arg(run).arg("--data").arg(&data));
    eval(&runs[0]).success();
    let head = |run: &Path| run.join("head.safetensors");
    std::fs::copy(head(&runs[1]), head(&runs[0])).unwrap();
    eval(&runs[0]).fails(1, &["head.safetensors", "not the head that was trained with"]);
    // An earlier version did not record which one is.
    edit_tensors(&runs[0].join("model.safetensors"), |_, metadata| {
        metadata.remove("head_sha256").unwrap();
    });
    let done = eval(&runs[0]).success();
    assert!(done.stderr.contains("it is not known whether"), "{}", done.stderr);
}

#[test]
fn files_of_somebody_else_keep_a_model_out_of_a_folder() {
    let folder = Folder::new();
    let data = folder.write("a.tsv", toy_tsv(12, 2));
    let output = folder.path("run");
    std::fs::create_dir(&output).unwrap();
    std::fs::write(output.join("vocab.txt"), "mine").unwrap();
    let full = ["--method full --steps 1", "--steps 1"]
        .map(|more| bitfit(train_args(&fixture("bert"), &data, &output, more)));
    let [mut full, mut bitfit] = full;
    Finished::of(&mut full).fails(1, &["--output", "the folder has vocab.txt, which"]);
    assert_eq!(names(&output), ["vocab.txt"]);
    // A delta is read without any of them.
    Finished::of(&mut bitfit).success();
    assert_eq!(std::fs::read(output.join("vocab.txt")).unwrap(), b"mine");
}
