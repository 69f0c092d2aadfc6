//! `bitfit train`: it learns, it trains only what it is told to, it does the same twice, and it reports what it did.

use crate::common::*;
use std::collections::BTreeSet;
use std::fs;

/// Settings under which the toy task is learned in a second.
const LEARNS: &str = "--lr 1e-2 --epochs 20 --batch-size 8";
/// A few steps, for tests that need no good model.
const SHORT: &str = "--lr 1e-2 --epochs 2 --batch-size 8";

#[test]
fn two_classes_are_learned_by_bert_and_by_roberta() {
    for model in ["bert", "roberta"] {
        let folder = Folder::new();
        let data = folder.write("a.tsv", toy_tsv(48, 2));
        let output = folder.path("run");
        let dev = format!("{LEARNS} --dev {}", data.display());
        let run = train(&fixture(model), &data, &output, &dev);
        let result = json(&output.join("result.json"));
        assert!(number(&result["best"], "value") > 0.95, "{model}: {result}");
        assert!(run.stdout.contains("best accuracy"), "{}", run.stdout);
    }
}

#[test]
fn three_classes_are_learned_and_named_in_the_delta() {
    let folder = Folder::new();
    let data = folder.write("a.tsv", toy_tsv(48, 3));
    let output = folder.path("run");
    let dev = format!("--lr 2e-2 --epochs 20 --batch-size 8 --dev {}", data.display());
    train(&fixture("bert"), &data, &output, &dev);
    let result = json(&output.join("result.json"));
    assert!(number(&result["best"], "value") > 0.95, "{result}");
    let about = metadata(&output.join("bias.safetensors"));
    assert_eq!(about["labels"], r#"["land","people","sea"]"#);
    assert_eq!((about["task"].as_str(), about["pooling"].as_str()), ("classification", "cls"));
    assert_eq!(tensors(&output.join("bias.safetensors"))["classifier.weight"].0, [3, 64]);
}

#[test]
fn numbers_are_learned_with_mean_pooling() {
    let folder = Folder::new();
    let mut data = "text\tlabel\n".to_owned();
    for i in 0..48 {
        let value = [1.5, -0.5][i % 2];
        data += &format!("{}\t{value}\n", text_of(i % 2, i));
    }
    let data = folder.write("a.tsv", data);
    let output = folder.path("run");
    let dev = format!("{LEARNS} --task regression --pooling mean --dev {}", data.display());
    train(&fixture("bert-mean"), &data, &output, &dev);
    let last = metrics(&output).pop().unwrap();
    assert!(number(&last["eval"], "pearson") > 0.95, "{last}");
    assert!(number(&last["eval"], "loss") < 0.2, "{last}");
    assert!(last["eval"].get("spearman").is_some() && last["eval"].get("accuracy").is_none());
    assert_eq!(metadata(&output.join("bias.safetensors"))["labels"], "[]");
}

#[test]
fn the_second_text_of_a_pair_is_read() {
    let folder = Folder::new();
    let mut data = "sentence1\tsentence2\tlabel\n".to_owned();
    for i in 0..48 {
        data += &format!("the second film\t{}\t{}\n", text_of(i % 2, i), CLASSES[i % 2]);
    }
    let data = folder.write("a.tsv", data);
    let output = folder.path("run");
    let dev = format!("{LEARNS} --dev {}", data.display());
    train(&fixture("bert"), &data, &output, &dev);
    let result = json(&output.join("result.json"));
    assert!(number(&result["best"], "value") > 0.9, "{result}");
}

#[test]
fn every_line_of_the_metrics_has_its_fields() {
    let folder = Folder::new();
    let data = folder.write("a.tsv", toy_tsv(20, 2));
    let output = folder.path("run");
    train(
        &fixture("bert"),
        &data,
        &output,
        &format!("--epochs 2 --batch-size 8 --dev {}", data.display()),
    );
    let lines = metrics(&output);
    let steps = steps(&output);
    assert_eq!(steps.len(), 6, "three batches an epoch");
    let mut tokens = 0.0;
    for (i, step) in steps.iter().enumerate() {
        assert_eq!(number(step, "step"), i as f64 + 1.0);
        assert!((number(step, "epoch") - (i as f64 + 1.0) / 3.0).abs() < 1e-9);
        assert!(number(step, "loss") > 0.0 && number(step, "grad_norm") > 0.0);
        assert!(number(step, "tokens") > tokens && number(step, "tokens_per_s") > 0.0);
        assert!((number(step, "lr") - 1e-3 * (6 - i) as f64 / 6.0).abs() < 1e-9);
        tokens = number(step, "tokens");
    }
    let evals: Vec<_> = lines.iter().filter(|l| l.get("eval").is_some()).collect();
    let at: Vec<f64> = evals.iter().map(|e| number(e, "step")).collect();
    assert_eq!(at, [3.0, 6.0]);
    for eval in evals {
        for key in ["accuracy", "macro_f1", "matthews", "loss"] {
            number(&eval["eval"], key);
        }
    }
    let result = json(&output.join("result.json"));
    assert_eq!((result["end"].as_str(), number(&result, "steps")), (Some("finished"), 6.0));
    assert_eq!(number(&result, "tokens"), tokens);
}

#[test]
fn the_settings_left_behind_give_the_same_run_again() {
    let folder = Folder::new();
    let data = folder.write("a.tsv", toy_tsv(40, 3));
    let (first, second) = (folder.path("first"), folder.path("second"));
    let odd = "--lr 7e-3 --betas 0.8,0.99 --eps 1e-7 --weight-decay 0.01 --schedule constant --warmup 10% \
               --epochs 2 --batch-size 8 --batch-tokens 40 --grad-accumulation 2 --clip-norm 0.5 --seed 7 \
               --dropout 0.2 --max-length 12 --biases query,output@1 --dev-fraction 0.2 --eval-steps 3 \
               --metric macro-f1 --weights f32 --save-steps 2";
    train(&fixture("bert"), &data, &first, odd);
    let settings = first.join("settings.toml");
    let args = ["train", "--config", settings.to_str().unwrap(), "--output"];
    let again = bitfit(args).arg(&second).output().unwrap();
    assert!(again.status.success(), "{again:?}");
    assert_eq!(timeless(&first), timeless(&second));
    assert_eq!(tensors(&first.join("bias.safetensors")), tensors(&second.join("bias.safetensors")));
    let text = |folder: &std::path::Path| {
        let text = fs::read_to_string(folder.join("settings.toml")).unwrap();
        text.lines()
            .filter(|l| !l.starts_with("output"))
            .map(|l| format!("{l}\n"))
            .collect::<String>()
    };
    // `output = …` and `output-layernorm` never start a line alike: that key is the folder's.
    assert_eq!(text(&first), text(&second));
}

/// Names of the tensors that a run of `options` trained.
fn trained(model: &str, options: &str) -> BTreeSet<String> {
    let folder = Folder::new();
    let data = folder.write("a.tsv", toy_tsv(16, 2));
    let output = folder.path("run");
    train(&fixture(model), &data, &output, &format!("{SHORT} {options}"));
    let mut names = BTreeSet::new();
    let before = tensors(&fixture(model).join("model.safetensors"));
    for (name, (shape, values)) in tensors(&output.join("bias.safetensors")) {
        if let Some((old_shape, old)) =
            before.get(&name).filter(|_| !name.starts_with("classifier"))
        {
            assert_eq!(&shape, old_shape, "{name}");
            // A key bias has no gradient except rounding noise.
            assert!(&values != old || name.contains(".key."), "{name} did not move");
        }
        names.insert(name);
    }
    names
}

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|&name| name.to_owned()).collect()
}

#[test]
fn a_selection_trains_exactly_the_biases_it_names() {
    let head = ["classifier.weight", "classifier.bias"];
    assert_eq!(trained("bert", "--method head"), set(&head));
    assert_eq!(
        trained("bert", "--biases output"),
        set(&[
            "bert.encoder.layer.0.output.dense.bias",
            "bert.encoder.layer.1.output.dense.bias",
            head[0],
            head[1],
        ]),
        "`output` is not attention-output"
    );
    assert_eq!(
        trained("bert", "--biases output-layernorm@1,intermediate@..0,pooler"),
        set(&[
            "bert.encoder.layer.1.output.LayerNorm.bias",
            "bert.encoder.layer.0.intermediate.dense.bias",
            "bert.pooler.dense.bias",
            head[0],
            head[1],
        ])
    );
    assert_eq!(
        trained("roberta", "--biases attention-output@2,embeddings-layernorm"),
        set(&[
            "roberta.encoder.layer.2.attention.output.dense.bias",
            "roberta.embeddings.LayerNorm.bias",
            "classifier.dense.weight",
            "classifier.dense.bias",
            "classifier.out_proj.weight",
            "classifier.out_proj.bias",
        ])
    );
}

#[test]
fn all_biases_are_every_bias_of_the_encoder() {
    let file = tensors(&fixture("bert").join("model.safetensors"));
    let all = file.keys().filter(|name| name.ends_with(".bias"));
    let mut expected: BTreeSet<String> = all.cloned().collect();
    expected.insert("classifier.weight".into());
    assert_eq!(trained("bert", ""), expected);
}

#[test]
fn a_new_pooler_trains_whole_and_is_said_aloud() {
    let folder = Folder::new();
    let data = folder.write("a.tsv", toy_tsv(16, 2));
    let output = folder.path("run");
    let run = train(&fixture("bert"), &data, &output, "--steps 2 --biases query --pooler reinit");
    let delta = tensors(&output.join("bias.safetensors"));
    assert!(delta.contains_key("bert.pooler.dense.weight"));
    assert!(run.stderr.contains("pooler"), "{}", run.stderr);
}

#[test]
fn one_seed_gives_one_result_byte_for_byte_and_another_seed_another() {
    let folder = Folder::new();
    let data = folder.write("a.tsv", toy_tsv(30, 3));
    let delta = |name: &str, seed: u32| {
        let output = folder.path(name);
        // The settings are in the file, including the folder: one folder for all.
        train(
            &fixture("bert"),
            &data,
            &output,
            &format!("{SHORT} --dropout 0.1 --dev-fraction 0.2 --seed {seed}"),
        );
        let bytes = fs::read(output.join("bias.safetensors")).unwrap();
        fs::remove_dir_all(output).unwrap();
        bytes
    };
    let first = delta("run", 1);
    assert!(first == delta("run", 1));
    assert!(first != delta("run", 2));
}

#[test]
fn the_number_of_threads_changes_no_bit() {
    let folder = Folder::new();
    let data = folder.write("a.tsv", toy_tsv(30, 3));
    for threads in [1, 2, 3] {
        let output = folder.path(&threads.to_string());
        let options = format!("{SHORT} --threads {threads}");
        train(&fixture("bert"), &data, &output, &options);
    }
    let delta = |name: &str| tensors(&folder.path(name).join("bias.safetensors"));
    assert!(delta("1") == delta("2"));
    assert!(delta("1") == delta("3"));
}

#[test]
fn accumulated_gradients_equal_those_of_the_larger_batch() {
    let folder = Folder::new();
    let data = folder.write("a.tsv", toy_tsv(32, 2));
    let run = |name: &str, options: &str| {
        let output = folder.path(name);
        let same =
            "--no-shuffle --epochs 2 --lr 1e-2 --biases query,value,output,intermediate,pooler";
        train(&fixture("bert"), &data, &output, &format!("{same} {options}"));
        output
    };
    let whole = run("whole", "--batch-size 8");
    let halves = run("halves", "--batch-size 4 --grad-accumulation 2");
    let (a, b) = (steps(&whole), steps(&halves));
    assert_eq!((a.len(), b.len()), (8, 8));
    for (a, b) in a.iter().zip(&b) {
        assert!((number(a, "loss") - number(b, "loss")).abs() < 1e-4, "{a} {b}");
        assert_eq!(a["tokens"], b["tokens"]);
    }
    nearly_equal(&whole.join("bias.safetensors"), &halves.join("bias.safetensors"), 2e-3);
}

#[test]
fn formats_byte_order_marks_and_line_ends_do_not_matter() {
    let folder = Folder::new();
    let tsv = toy_tsv(24, 2);
    let rows = || tsv.lines().skip(1).map(|line| line.split_once('\t').unwrap());
    let csv: String = rows().map(|(text, label)| format!("\"{text}\",{label}\n")).collect();
    let jsonl: String = rows()
        .map(|(text, label)| format!("{}\n", serde_json::json!({ "text": text, "label": label })))
        .collect();
    let files = [
        folder.write("plain.tsv", &tsv),
        folder.write("dos.tsv", format!("\u{feff}{}", tsv.replace('\n', "\r\n"))),
        folder.write("a.csv", format!("text,label\n{csv}")),
        folder.write("dos.csv", format!("\u{feff}text,label\r\n{}", csv.replace('\n', "\r\n"))),
        folder.write("a.jsonl", &jsonl),
        folder.write("dos.jsonl", format!("\u{feff}{}", jsonl.replace('\n', "\r\n"))),
    ];
    let mut losses = BTreeSet::new();
    for file in &files {
        let output = folder.path("run");
        train(&fixture("bert"), file, &output, SHORT);
        losses.insert(format!("{:?}", timeless(&output)));
        fs::remove_dir_all(output).unwrap();
    }
    assert_eq!(losses.len(), 1, "all files hold the same rows");
}

#[test]
fn texts_that_are_too_long_or_empty_are_counted_and_said() {
    let folder = Folder::new();
    let mut data = toy_tsv(10, 2);
    for _ in 0..3 {
        data += &format!("{}\tsea\n", "harbour ".repeat(100));
    }
    data += "\tland\n";
    let data = folder.write("a.tsv", data);
    let run = train(&fixture("bert"), &data, &folder.path("whole"), "--steps 2");
    let file = data.display();
    assert!(run.stderr.contains(&format!("{file}: 3 texts cut to 64 tokens")), "{}", run.stderr);
    assert!(run.stderr.contains(&format!("{file}: 1 text is empty")), "{}", run.stderr);
    let run = train(&fixture("bert"), &data, &folder.path("short"), "--steps 2 --max-length 20");
    assert!(run.stderr.contains("cut to 20 tokens"), "{}", run.stderr);
    let run = train(&fixture("bert"), &data, &folder.path("quiet"), "--steps 2 --quiet");
    assert_eq!(run.stderr, "");
    // RoBERTa's first two positions are not for tokens.
    let run = train(&fixture("roberta"), &data, &folder.path("roberta"), "--steps 2");
    assert!(run.stderr.contains("3 texts cut to 64 tokens"), "{}", run.stderr);
}

#[test]
fn a_length_with_room_for_one_token_serves_single_texts_and_no_pairs() {
    let folder = Folder::new();
    let data = folder.write("a.tsv", toy_tsv(8, 2));
    train(&fixture("bert"), &data, &folder.path("one"), "--steps 1 --max-length 3");
    let pairs = folder.write("p.tsv", "text\ttext_pair\tlabel\na\tb\t0\na\tb\t1\n");
    let output = folder.path("none");
    let args = train_args(&fixture("bert"), &pairs, &output, "--max-length 3");
    Finished::of(&mut bitfit(args)).fails(1, &["p.tsv", "line 2", "3 leaves no room for a pair"]);
}

#[test]
fn patience_ends_a_run_that_no_longer_gains() {
    let folder = Folder::new();
    let data = folder.write("a.tsv", toy_tsv(48, 2));
    let output = folder.path("run");
    let dev = format!("{LEARNS} --epochs 60 --patience 3 --dev {}", data.display());
    train(&fixture("bert"), &data, &output, &dev.replace("--epochs 20", ""));
    let result = json(&output.join("result.json"));
    assert_eq!(result["end"], "patience");
    let last = metrics(&output).pop().unwrap();
    let gap = number(&last, "step") - number(&result["best"], "step");
    assert_eq!(gap, 3.0 * 6.0, "three evaluations of six steps without a better one");
}

#[test]
fn a_loss_that_is_not_finite_stops_the_run_and_keeps_the_checkpoint_before() {
    let folder = Folder::new();
    let data = folder.write("a.tsv", toy_tsv(16, 2));
    let output = folder.path("run");
    // Step 1 ends with the rate's first value, 0; later ones throw the biases far out of bounds.
    let options = "--lr 1e30 --warmup 20 --clip-norm 0 --epochs 30 --batch-size 16 --save-steps 1";
    let run = Finished::of(&mut bitfit(train_args(&fixture("bert"), &data, &output, options)));
    let error = run.fails(1, &["not finite at step", "--lr", "last good checkpoint is"]);
    let step: f64 = error
        .split("at step ")
        .nth(1)
        .and_then(|rest| rest.split(' ').next()?.parse().ok())
        .unwrap();
    assert_eq!(steps(&output).len() as f64, step - 1.0, "only good steps are logged");
    let kept = tensors(&output.join("checkpoint.safetensors"));
    assert!(kept.values().all(|(_, values)| values.iter().all(|x| x.is_finite())));
    assert!(!output.join("result.json").exists());
}

#[test]
fn only_so_many_rows_are_trained_on_and_the_seed_draws_them() {
    let folder = Folder::new();
    let data = folder.write("a.tsv", toy_tsv(40, 2));
    let few = |name: &str, seed: u64, more: &str| {
        let output = folder.path(name);
        let options =
            format!("--epochs 2 --dev-fraction 0.25 --train-rows 12 --seed {seed} {more}");
        let run = train(&fixture("bert"), &data, &output, &options);
        assert!(
            run.stderr.contains("training on 12 of the 30 rows, drawn with seed"),
            "{}",
            run.stderr
        );
        output
    };
    let (one, other) = (few("one", 1, "--batch-size 4"), few("other", 2, "--batch-size 4"));
    assert_eq!(steps(&one).len(), 6, "two epochs of three batches");
    assert_ne!(metrics(&one)[0]["tokens"], metrics(&other)[0]["tokens"]);
    let settings = fs::read_to_string(one.join("settings.toml")).unwrap();
    assert!(settings.contains("train-rows = 12"), "{settings}");
    // It affects what is computed.
    let again = ["train", "--resume", "--output", one.to_str().unwrap(), "--train-rows", "13"];
    Finished::of(&mut bitfit(again)).fails(1, &["train-rows was 12 and is 13"]);
    // Everything is written as 0.
    let all = folder.path("all");
    let run = train(&fixture("bert"), &data, &all, "--epochs 1 --train-rows 0");
    assert!(!run.stderr.contains("are trained on"), "{}", run.stderr);
    assert!(!fs::read_to_string(all.join("settings.toml")).unwrap().contains("train-rows"));
}

#[test]
fn more_rows_than_there_are_cannot_be_trained_on() {
    let folder = Folder::new();
    let data = folder.write("a.tsv", toy_tsv(40, 2));
    let output = folder.path("none");
    let options = "--dev-fraction 0.25 --train-rows 31";
    let args = train_args(&fixture("bert"), &data, &output, options);
    Finished::of(&mut bitfit(args)).fails(1, &["--train-rows 31", "30 rows to train on"]);
    assert!(!output.exists());
}
