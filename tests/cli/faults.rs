//! Input that asks for more than a machine has, files that say what cannot be, and what killed processes leave: each
//! soon ends in an error that says so, and leaves nothing behind.
#![cfg(target_os = "linux")]

use crate::common::*;
use crate::resume::{reaches, signal};
use serde_json::{Value, json};
use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};

/// The program with 4 GB of address space.
pub fn confined(args: &[&str]) -> Command {
    limited("ulimit -v 4000000", args)
}

/// The same with so many seconds of processor time.
fn confined_to(seconds: u32, args: &[&str]) -> Command {
    limited(&format!("ulimit -v 4000000; ulimit -t {seconds}"), args)
}

/// A copy of a fixture's `config.json` with other numbers, in its own folder.
fn shaped(folder: &Folder, name: &str, model: &str, sizes: &[(&str, u64)]) -> String {
    let mut config = json(&fixture(model).join("config.json"));
    for (key, value) in sizes {
        config[*key] = (*value).into();
    }
    let path = folder.path(name);
    fs::create_dir(&path).unwrap();
    fs::write(path.join("config.json"), config.to_string()).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn a_plan_needs_no_memory_for_values() {
    let folder = Folder::new();
    let bert = fixture("bert").to_str().unwrap().to_owned();
    let wide =
        shaped(&folder, "wide", "roberta", &[("hidden_size", 100_000), ("num_attention_heads", 1)]);
    for (model, outputs) in [(&bert, "1000000000"), (&wide, "2")] {
        let plan =
            ["plan", "--device", "cpu", "--threads", "1", "--model", model, "--outputs", outputs];
        Finished::of(&mut confined_to(20, &plan)).success();
    }
    let plan = ["plan", "--device", "cpu", "--model", &bert, "--outputs", "18446744073709551615"];
    Finished::of(&mut confined(&plan)).fails(1, &["a head of 18446744073709551615 outputs"]);
    // Sizes that no machine can address are refused by part, and do not wrap.
    let most = u64::MAX.to_string();
    for texts in [most.as_str(), "9000000000000000000"] {
        let more = ["--batch-size", texts];
        let plan = ["plan", "--device", "cpu", "--threads", "1", "--model", &bert];
        for last in [&[][..], &["--list"], &["--memory", "1GiB"]] {
            let plan = [&plan[..], &more, last].concat();
            Finished::of(&mut confined(&plan))
                .fails(1, &["the tensor `", "any machine can address"]);
        }
    }
    // The maximum depth: a plan quadratic in the layers would take minutes.
    let deep = shaped(&folder, "deep", "bert", &[("num_hidden_layers", 1000)]);
    let plan = ["plan", "--device", "cpu", "--threads", "1", "--memory", "1GiB", "--model", &deep];
    Finished::of(&mut confined_to(60, &plan)).success();
    let deep = shaped(&folder, "deeper", "bert", &[("num_hidden_layers", 100_000)]);
    let plan = Finished::of(&mut confined(&["plan", "--device", "cpu", "--model", &deep]));
    plan.fails(1, &["num_hidden_layers", "between 1 and 1000"]);
}

#[test]
fn files_that_never_end_are_not_read() {
    let folder = Folder::new();
    Finished::of(&mut confined_to(5, &["train", "--config", "/dev/zero"]))
        .fails(2, &["--config", "/dev/zero"]);
    let model = folder.copy_of("bert");
    for name in ["model.safetensors.index.json", "sentence_bert_config.json", "config.json"] {
        let weights = model.join("model.safetensors");
        if name.ends_with("index.json") {
            fs::rename(&weights, model.join("aside")).unwrap();
        }
        let _ = fs::remove_file(model.join(name));
        std::os::unix::fs::symlink("/dev/zero", model.join(name)).unwrap();
        let plan = ["inspect", "--model", model.to_str().unwrap()];
        let train = ["train", "--train", "a.tsv", "--output", "o", "--model", plan[2]];
        let refused = |args: &[&str]| Finished::of(&mut confined_to(5, args)).code == Some(1);
        assert!(refused(&plan) || refused(&train), "{name}");
        fs::remove_file(model.join(name)).unwrap();
        if name.ends_with("index.json") {
            fs::rename(model.join("aside"), &weights).unwrap();
        }
    }
    let sparse = folder.path("s.safetensors");
    File::create(&sparse).unwrap().set_len(14 << 30).unwrap();
    let sparse = sparse.to_str().unwrap();
    Finished::of(&mut confined_to(5, &["inspect", "--delta", sparse])).fails(1, &["s.safetensors"]);
}

#[test]
fn a_delta_with_more_classes_than_its_head_is_refused_before_a_head_is_made() {
    let folder = Folder::new();
    let data = folder.write("a.tsv", toy_tsv(8, 2));
    let output = folder.path("run");
    train(&fixture("bert"), &data, &output, "--steps 1");
    let delta = output.join("bias.safetensors");
    edit_tensors(&delta, |_, metadata| {
        let labels: Vec<String> = (0..1_000_000).map(|i| format!("{i:x}")).collect();
        metadata.insert("labels".into(), json!(labels).to_string());
    });
    Finished::of(&mut confined_to(20, &["inspect", "--delta", delta.to_str().unwrap()]))
        .fails(1, &["classifier.bias", "[2]", "[1000000]"]);
}

#[test]
fn more_threads_than_are_of_use_are_refused() {
    let folder = Folder::new();
    let data = folder.write("a.tsv", toy_tsv(8, 2));
    let (model, data) = (fixture("bert"), data.to_str().unwrap().to_owned());
    let model = model.to_str().unwrap();
    let output = folder.path("run").to_str().unwrap().to_owned();
    for threads in ["65535", "1025", "18446744073709551615"] {
        let train = [
            "train",
            "--model",
            model,
            "--train",
            &data,
            "--output",
            &output,
            "--threads",
            threads,
        ];
        Finished::of(&mut bitfit(train)).fails(2, &["--threads", threads]);
        let plan = ["plan", "--model", model, "--threads", threads];
        Finished::of(&mut bitfit(plan)).fails(2, &["--threads", threads]);
    }
}

/// A run that stops at its sixth step or later, after two evaluations.
fn stopped(folder: &Folder) -> (Vec<String>, std::path::PathBuf) {
    let data = folder.write("a.tsv", toy_tsv(60, 3));
    let output = folder.path("run");
    let options = "--lr 5e-3 --epochs 60 --batch-size 4 --eval-steps 3 --save-steps 3 --dev-fraction 0.2 --metric loss";
    let args = train_args(&fixture("bert"), &data, &output, options);
    let mut child = bitfit(&args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    assert!(reaches(&mut child, &output, 8), "the run ended");
    signal(&child, "INT");
    assert_eq!(child.wait().unwrap().code(), Some(1));
    (args, output)
}

#[test]
fn a_checkpoint_with_other_numbers_is_not_gone_on_with() {
    let folder = Folder::new();
    let (mut args, output) = stopped(&folder);
    args.push("--resume".into());
    let path = output.join("checkpoint.safetensors");
    let whole = fs::read(&path).unwrap();
    for (key, value) in
        [("step", "1000000"), ("epoch", "1000"), ("best_step", "18446744073709551615")]
    {
        edit_tensors(&path, |_, metadata| {
            metadata.insert(key.into(), value.into());
        });
        let run = Finished::of(&mut bitfit(&args));
        run.fails(1, &["checkpoint.safetensors", "checksum"]);
        fs::write(&path, &whole).unwrap();
    }
    edit_tensors(&path, |tensors, _| tensors.get_mut("trainables").unwrap().bytes[100] ^= 1);
    Finished::of(&mut bitfit(&args)).fails(1, &["checkpoint.safetensors", "checksum"]);
    // Restored, the run continues, and counts what all of its processes did.
    fs::write(&path, &whole).unwrap();
    Finished::of(&mut bitfit(&args)).success();
    let result = json(&output.join("result.json"));
    let last = steps(&output).pop().unwrap();
    assert_eq!(result["tokens"], last["tokens"]);
}

#[test]
fn a_run_whose_best_values_are_gone_does_not_go_on() {
    let folder = Folder::new();
    let (mut args, output) = stopped(&folder);
    args.push("--resume".into());
    fs::remove_file(output.join("bias.safetensors")).unwrap();
    let run = Finished::of(&mut bitfit(&args));
    run.fails(1, &["--resume", "bias.safetensors", "missing"]);
}

#[test]
fn what_a_killed_command_left_is_removed_by_the_next() {
    let folder = Folder::new();
    let data = folder.write("a.tsv", toy_tsv(8, 2));
    let run = folder.path("run");
    train(&fixture("bert"), &data, &run, "--steps 1");
    let out = folder.path("out");
    fs::create_dir(&out).unwrap();
    fs::write(out.join(".p.tsv.a1B2c3.tmp"), "half").unwrap();
    let mut predict = bitfit(["predict", "--quiet", "--delta"]);
    predict.arg(&run).arg("--input").arg(&data).arg("--output").arg(out.join("p.tsv"));
    Finished::of(&mut predict).success();
    assert_eq!(names(&out), ["p.tsv"]);

    let merged = folder.path("merged");
    let merge = || {
        let mut merge = bitfit(["merge", "--quiet", "--delta"]);
        merge.arg(&run).arg("--output").arg(&merged);
        merge
    };
    fs::create_dir(&merged).unwrap();
    fs::write(merged.join(".model.safetensors.a1B2c3.tmp"), "half").unwrap();
    Finished::of(&mut merge()).success();
    let left = names(&merged);
    assert!(left.iter().all(|name| !name.ends_with(".tmp")), "{left:?}");
}

#[test]
fn an_exit_code_needs_no_standard_error() {
    let full = || Stdio::from(File::options().write(true).open("/dev/full").unwrap());
    let code = |args: &[&str]| bitfit(args).stderr(full()).stdout(full()).status().unwrap().code();
    assert_eq!(code(&["frobnicate"]), Some(2));
    assert_eq!(code(&["train", "--model", "/no/such/x", "--train", "q", "--output", "w"]), Some(1));
}

/// A `train` on a BERT whose `tokenizer.json` is changed, and used as written.
fn with_tokenizer(text: &str, edit: impl FnOnce(&mut Value)) -> Finished {
    with_tokenizer_of("PreTrainedTokenizerFast", text, edit)
}

/// The same with a tokenizer of this class.
fn with_tokenizer_of(class: &str, text: &str, edit: impl FnOnce(&mut Value)) -> Finished {
    let folder = Folder::new();
    let data = folder.write("a.tsv", format!("text\tlabel\n{text}\ta\nbar\tb\n"));
    let model = folder.copy_of("bert");
    let path = model.join("tokenizer.json");
    let mut value = json(&path);
    edit(&mut value);
    fs::write(&path, value.to_string()).unwrap();
    let settings = json!({"tokenizer_class": class}).to_string();
    fs::write(model.join("tokenizer_config.json"), settings).unwrap();
    let output = folder.path("run");
    let args = train_args(&model, &data, &output, "--steps 2 --device cpu --quiet");
    let args: Vec<&str> = args[..].iter().map(String::as_str).collect();
    Finished::of(&mut confined_to(20, &args))
}

#[test]
fn a_tokenizer_that_asks_for_endless_work_is_refused() {
    let doubling = json!({"type": "Replace", "pattern": {"String": "o"}, "content": "oo"});
    with_tokenizer("foo", |json| {
        json["normalizer"] = json!({"type": "Sequence", "normalizers": vec![doubling; 40]});
    })
    .fails(1, &["the tokenizer exceeds a limit", "Replace by \"oo\""]);
    let long = "x".repeat(200_000);
    with_tokenizer(&long, |json| json["model"]["max_input_chars_per_word"] = u64::MAX.into())
        .fails(1, &["max_input_chars_per_word"]);
    with_tokenizer(&long, |json| json["model"]["max_input_chars_per_word"] = 1000.into()).success();
}

#[test]
fn a_special_token_without_a_row_is_refused_where_the_tokenizer_is_loaded() {
    let beyond = |json: &mut Value| {
        let tokens = json["post_processor"]["special_tokens"].as_object_mut().unwrap();
        tokens.values_mut().for_each(|token| token["ids"] = json!([99_999]));
    };
    with_tokenizer("foo", beyond).fails(1, &["special token", "99999", "rows"]);
    // Its class would put others there; but the file is damaged.
    with_tokenizer_of("BertTokenizer", "foo", beyond).fails(1, &["tokenizer.json", "99999"]);
}

#[test]
fn a_tokenizer_json_cut_anywhere_is_an_error() {
    let folder = Folder::new();
    let data = folder.write("a.tsv", toy_tsv(8, 2));
    let model = folder.copy_of("bert");
    let path: &Path = &model.join("tokenizer.json");
    let whole = fs::read_to_string(path).unwrap();
    let decoder = whole.find("\"decoder\":").unwrap() + 10;
    for cut in [decoder + 3, decoder + 20, whole.len() / 3] {
        fs::write(path, &whole[..cut]).unwrap();
        let run = Finished::of(&mut bitfit(train_args(&model, &data, &folder.path("run"), "")));
        run.fails(1, &["tokenizer.json", "not a usable tokenizer", "EOF", "line"]);
    }
}

/// `eval` and `predict` answer with what the best evaluation kept: another file in its place is not a result.
#[test]
fn a_run_whose_kept_values_were_changed_does_not_go_on() {
    let folder = Folder::new();
    let data = folder.write("a.tsv", toy_tsv(24, 2));
    let options = "--dev-fraction 0.25 --epochs 2 --batch-size 8";
    let (run, other) = (folder.path("run"), folder.path("other"));
    train(&fixture("bert"), &data, &run, options);
    train(&fixture("bert"), &data, &other, &format!("{options} --seed 7 --biases query"));
    let kept = run.join("bias.safetensors");
    let whole = fs::read(&kept).unwrap();
    let resume = || Finished::of(bitfit(["train", "--resume", "--output"]).arg(&run));
    let said = "bias.safetensors has changed since this run wrote it after step";
    let cut = &whole[..whole.len() / 2];
    for (bytes, why) in [
        (&b""[..], "it is 0 bytes long"),
        (cut, "bias.safetensors"),
        (&fs::read(other.join("bias.safetensors")).unwrap()[..], "it is of another run"),
    ] {
        fs::write(&kept, bytes).unwrap();
        resume().fails(1, &["--resume", said, why, "start again"]);
        assert_eq!(fs::read(&kept).unwrap(), bytes, "it stays to be looked at");
    }
    // As if from a later evaluation of this run, which never comes.
    let later = edited(&whole, |metadata| metadata.insert("note".into(), "x".into()));
    fs::write(&kept, later).unwrap();
    fs::remove_file(run.join("result.json")).unwrap();
    resume().fails(1, &[said]);
    assert!(!run.join("result.json").exists());
    fs::write(&kept, &whole).unwrap();
    resume().success();
    let sha256 = json(&run.join("result.json"))["sha256"].as_str().unwrap().to_owned();
    assert_eq!(sha256, bitfit::files::sha256_file(&kept).unwrap());
}

/// A safetensors file with other metadata.
fn edited<T>(bytes: &[u8], edit: impl FnOnce(&mut serde_json::Map<String, Value>) -> T) -> Vec<u8> {
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let mut header: Value = serde_json::from_slice(&bytes[8..8 + length]).unwrap();
    edit(header["__metadata__"].as_object_mut().unwrap());
    let mut text = header.to_string().into_bytes();
    text.resize(text.len().next_multiple_of(8), b' ');
    [&(text.len() as u64).to_le_bytes()[..], &text, &bytes[8 + length..]].concat()
}

#[test]
fn a_model_that_lost_its_other_files_is_no_result_of_a_run() {
    let folder = Folder::new();
    let data = folder.write("a.tsv", toy_tsv(24, 2));
    let options = "--dev-fraction 0.25 --epochs 1 --batch-size 8 --method full --precision f32";
    let run = folder.path("run");
    train(&fixture("bert"), &data, &run, options);
    let resume = || Finished::of(bitfit(["train", "--resume", "--output"]).arg(&run));
    for (name, content) in [("tokenizer.json", "x"), ("config.json", "{}")] {
        let path = run.join(name);
        let whole = fs::read(&path).unwrap();
        fs::write(&path, content).unwrap();
        resume().fails(1, &["--resume: what this run kept is damaged", name]);
        fs::remove_file(&path).unwrap();
        resume().fails(1, &["--resume: what this run kept is damaged"]);
        fs::write(&path, whole).unwrap();
    }
    resume().success();
}

#[test]
fn a_comparison_does_not_believe_a_run_whose_result_was_changed() {
    let folder = Folder::new();
    let data = folder.write("a.tsv", toy_tsv(24, 2));
    let output = folder.path("compare");
    let args = train_args(&fixture("bert"), &data, &output, "--steps 1 --quiet");
    let compare = |more: &[&str]| {
        let mut command = bitfit(["compare", "--run", "bitfit", "--run", "head"]);
        Finished::of(command.args(&args[1..]).args(more))
    };
    compare(&[]).success();
    let [bitfit, head] = ["bitfit", "head"].map(|run| output.join(run).join("bias.safetensors"));
    let whole = fs::read(&bitfit).unwrap();
    for bytes in [Vec::new(), fs::read(&head).unwrap()] {
        fs::write(&bitfit, bytes).unwrap();
        compare(&["--resume"]).fails(1, &["bitfit: ", "has changed since the run"]);
    }
    fs::write(&bitfit, whole).unwrap();
    compare(&["--resume"]).success();
}

#[test]
fn files_beside_the_weights_are_read_within_bounds() {
    let folder = Folder::new();
    let data = folder.write("a.tsv", toy_tsv(24, 2));
    let run = folder.path("run");
    let with = |model: &Path, more: &str| {
        let args = train_args(model, &data, &run, &format!("--steps 1 --quiet {more}"));
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        Finished::of(&mut confined_to(20, &args))
    };
    with(&fixture("bert"), "--class-weights /dev/zero").fails(1, &["--class-weights", "/dev/zero"]);
    for name in ["vocab.json", "merges.txt"] {
        let model = folder.copy_of("roberta");
        File::options().write(true).open(model.join(name)).unwrap().set_len(6 << 30).unwrap();
        with(&model, "").fails(1, &[name, "too many"]);
        fs::remove_dir_all(&model).unwrap();
    }
    let model = folder.copy_of("bert");
    fs::remove_file(model.join("tokenizer.json")).unwrap();
    let pipe = Command::new("mkfifo").arg(model.join("tokenizer.json")).status().unwrap();
    assert!(pipe.success());
    with(&model, "").fails(1, &["tokenizer"]);
}

#[test]
fn memory_that_is_not_there_is_an_error_and_no_end_by_a_signal() {
    let folder = Folder::new();
    let data = folder.write("a.tsv", toy_tsv(24, 2));
    let run = folder.path("run");
    let args = train_args(&fixture("bert"), &data, &run, "--steps 1 --quiet");
    // More than the program and its threads take, and far less than a head for that many labels.
    let labels: String = (0..400_000).map(|i| format!("the train\tlabel{i}\n")).collect();
    let many = folder.write("many.tsv", format!("text\tlabel\n{labels}"));
    let many = train_args(&fixture("bert"), &many, &run, "--steps 1 --quiet");
    let within = |kilobytes: usize, args: &[String]| {
        Finished::of(&mut limited(&format!("ulimit -v {kilobytes}"), args))
    };
    within(600_000, &many).fails(1, &["no memory for", "MiB of"]);
    within(2_000_000, &args).success();
}

/// Stopped between the first evaluation's values and the first checkpoint, which come in this order.
#[test]
fn a_run_killed_before_its_first_checkpoint_begins_anew() {
    let folder = Folder::new();
    let data = folder.write("a.tsv", toy_tsv(24, 2));
    let options = "--dev-fraction 0.25 --epochs 2 --batch-size 8";
    let (whole, run) = (folder.path("whole"), folder.path("run"));
    for output in [&whole, &run] {
        train(&fixture("bert"), &data, output, options);
    }
    let resume = || Finished::of(bitfit(["train", "--resume", "--output"]).arg(&run));
    for name in ["checkpoint.safetensors", "result.json"] {
        fs::remove_file(run.join(name)).unwrap();
    }
    resume().fails(1, &["checkpoint.safetensors: missing"]);
    let log = run.join("metrics.jsonl");
    let text = fs::read_to_string(&log).unwrap();
    let first: usize = 1 + text.lines().position(|line| line.contains("\"eval\"")).unwrap();
    let lines: Vec<&str> = text.lines().take(first).collect();
    fs::write(&log, lines.join("\n") + "\n").unwrap();
    let resumed = resume().success();
    assert!(resumed.stderr.contains("starting from the beginning"), "{}", resumed.stderr);
    assert_eq!(timeless(&run), timeless(&whole));
    assert_eq!(tensors(&run.join("bias.safetensors")), tensors(&whole.join("bias.safetensors")));
}

#[test]
fn a_tokenizer_json_of_pieces_that_no_tree_holds_is_refused() {
    with_tokenizer("foo", |json| {
        json["model"] = json!({"type": "Unigram", "unk_id": 0,
            "vocab": [["a".repeat(1_000_000), -1.0], ["b", 0.0]]});
    })
    .fails(1, &["tokenizer.json", "a piece of 1000000 bytes"]);
}
