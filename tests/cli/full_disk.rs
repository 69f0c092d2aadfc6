//! A full disk, simulated by the limit on the size of a file and by /dev/full: the error names the file, whatever was
//! whole before stays whole, and no partial file is left.
#![cfg(target_os = "linux")]

use crate::common::*;
use crate::sweep::resume;
use std::fs::{self, OpenOptions};
use std::path::Path;
use std::process::Command;

/// The program with no file allowed to grow beyond `blocks` of 512 bytes.
fn no_file_beyond(blocks: u32, args: &[String]) -> Finished {
    // Without the trap the limit would kill the process; with it, it is a write error, like a full disk.
    Finished::of(&mut limited(&format!("trap '' XFSZ; ulimit -f {blocks}"), args))
}

fn no_pieces(folder: &Path) {
    let left = names(folder);
    assert!(left.iter().all(|name| !name.ends_with(".tmp")), "{left:?}");
}

#[test]
fn a_run_that_cannot_save_names_the_file_and_goes_on_once_there_is_room() {
    let folder = Folder::new();
    let data = folder.write("a.tsv", toy_tsv(24, 2));
    let options = "--epochs 3 --batch-size 8 --lr 1e-2";
    let whole = folder.path("whole");
    train(&fixture("bert"), &data, &whole, options);
    let size = |name: &str| fs::metadata(whole.join(name)).unwrap().len();
    // Room for everything but the checkpoint, then not even for the delta.
    assert!(size("checkpoint.safetensors") > 16 * 512 && size("metrics.jsonl") < 16 * 512);

    let output = folder.path("run");
    let args = train_args(&fixture("bert"), &data, &output, options);
    let run = no_file_beyond(16, &args);
    run.fails(1, &["cannot write", "checkpoint.safetensors", "File too large"]);
    assert!(!output.join("checkpoint.safetensors").exists());
    no_pieces(&output);
    Finished::of(bitfit(["train", "--resume", "--output"]).arg(&output)).success();
    assert_eq!(timeless(&output), timeless(&whole));
    assert_eq!(tensors(&output.join("bias.safetensors")), tensors(&whole.join("bias.safetensors")));
}

#[test]
fn a_log_that_cannot_grow_is_cut_at_a_whole_line() {
    let folder = Folder::new();
    let data = folder.write("a.tsv", toy_tsv(24, 2));
    let options = "--epochs 20 --batch-size 8 --save-steps 1000";
    let output = folder.path("run");
    let run = no_file_beyond(4, &train_args(&fixture("bert"), &data, &output, options));
    run.fails(1, &["metrics.jsonl", "File too large"]);
    assert!(!steps(&output).is_empty(), "each line that stayed is whole");
}

#[test]
fn a_sweep_goes_on_once_there_is_room_for_its_rows() {
    let folder = Folder::new();
    let data = folder.write("a.tsv", toy_tsv(8, 2));
    let seeds: Vec<String> = (1..=30).map(|seed| seed.to_string()).collect();
    let (model, seeds) = (fixture("bert"), seeds.join(", "));
    let grid = folder.write(
        "grid.toml",
        format!(
            "model = {:?}\ntrain = {:?}\nmethod = \"head\"\npooling = \"mean\"\nsteps = 1\n[grid]\nseed = [{seeds}]\n",
            model.display(),
            data.display()
        ),
    );
    let output = folder.path("sweep");
    let text = |path: &Path| path.to_str().unwrap().to_owned();
    let args = ["sweep", "--threads", "2", "--jobs", "2", "--device", "cpu", "--output"];
    let mut args: Vec<String> = args.map(str::to_owned).into();
    args.extend([text(&output), "--grid".to_owned(), text(&grid)]);
    // Some rows fit; two workers reach the end of the file one after the other.
    no_file_beyond(24, &args).fails(1, &["sweep.jsonl", "File too large"]);
    let made = sweep_rows(&output).len();
    assert!(made > 0 && made < 30, "{made}");
    Finished::of(&mut resume(&output)).success();
    assert_eq!(sweep_rows(&output).len(), 30);
}

#[test]
fn export_and_import_leave_nothing_of_what_does_not_fit() {
    let folder = Folder::new();
    let data = folder.write("a.tsv", toy_tsv(24, 2));
    let run = folder.path("run");
    train(&fixture("bert-mean"), &data, &run, "--steps 1 --pooling mean");
    let text = |path: &Path| path.to_str().unwrap().to_owned();
    let [adapter, back] = ["adapter", "back"].map(|name| folder.path(name));
    let args = ["export".into(), "--delta".into(), text(&run), "--peft".into(), text(&adapter)];
    // No room for the folder's lock, then for the head, which comes first, then for the vectors next to it.
    for (blocks, file) in
        [(0, "run.lock"), (1, "head.safetensors"), (4, "adapter_model.safetensors")]
    {
        no_file_beyond(blocks, &args).fails(1, &["cannot write", file, "File too large"]);
        assert!(!adapter.exists(), "{blocks}: {:?}", names(&adapter));
    }
    Finished::of(&mut bitfit(&args)).success();
    let model = text(&fixture("bert-mean"));
    let args = ["--peft".into(), text(&adapter), "--output".into(), text(&back)];
    let args = [vec!["import".to_owned(), "--model".to_owned(), model], args.to_vec()].concat();
    for (blocks, file) in [(0, "run.lock"), (4, "bias.safetensors")] {
        no_file_beyond(blocks, &args).fails(1, &["cannot write", file, "File too large"]);
        assert!(!back.exists(), "{blocks}: {:?}", names(&back));
    }
    Finished::of(&mut bitfit(&args)).success();
}

#[test]
fn merge_and_predict_leave_no_piece_of_a_file() {
    let folder = Folder::new();
    let data = folder.write("a.tsv", toy_tsv(24, 2));
    let run = folder.path("run");
    train(&fixture("bert"), &data, &run, "--steps 1");
    let text = |path: &Path| path.to_str().unwrap().to_owned();

    let merged = folder.path("merged");
    let args = ["merge".into(), "--delta".into(), text(&run), "--output".into(), text(&merged)];
    // No room for the tokenizer's settings, then for the tokenizer, then for the weights.
    for blocks in [0, 2, 64] {
        no_file_beyond(blocks, &args).fails(1, &["cannot write", &text(&merged), "File too large"]);
        assert!(!merged.exists(), "{blocks}: {:?}", names(&merged));
    }
    // What was there before stays.
    fs::create_dir(&merged).unwrap();
    fs::write(merged.join("notes.txt"), "mine").unwrap();
    no_file_beyond(64, &args).fails(1, &["cannot write", "model.safetensors", "File too large"]);
    assert_eq!(names(&merged), ["notes.txt"]);
    Finished::of(&mut bitfit(&args)).success();

    let many: String = (0..3000).map(|i| text_of(i % 2, i) + "\n").collect();
    let input = folder.write("many.tsv", format!("text\n{many}"));
    let to = folder.write("predictions.tsv", "from before\n");
    let args =
        ["predict", "--delta", &text(&run), "--input", &text(&input), "--output", &text(&to)];
    no_file_beyond(64, &args.map(str::to_owned))
        .fails(1, &["cannot write", "predictions.tsv", "File too large"]);
    assert_eq!(fs::read_to_string(&to).unwrap(), "from before\n");
    no_pieces(&folder.path(""));
}

#[test]
fn a_full_standard_output_is_an_error_and_no_panic() {
    let folder = Folder::new();
    let data = folder.write("a.tsv", toy_tsv(24, 2));
    let output = folder.path("run");
    train(&fixture("bert"), &data, &output, "--steps 1");
    let (run, rows) = (output.to_str().unwrap(), data.to_str().unwrap());
    for args in [
        vec!["predict", "--delta", run, "--input", rows],
        vec!["eval", "--delta", run, "--data", rows],
        vec!["inspect", "--delta", run],
        vec!["train", "--output", run, "--resume"],
        vec!["completions", "bash"],
        vec!["--help"],
    ] {
        let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
        let output = bitfit(&args).stdout(full).output().unwrap();
        let finished = Finished {
            code: output.status.code(),
            stdout: String::new(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        };
        finished.fails(1, &["cannot write to standard output: No space left on device"]);
    }
}

#[test]
fn a_closed_standard_output_is_an_error_for_who_answers_there_and_dev_null_is_none() {
    let folder = Folder::new();
    let data = folder.write("a.tsv", toy_tsv(24, 2));
    let output = folder.path("run");
    train(&fixture("bert"), &data, &output, "--steps 1");
    let (run, rows) = (output.to_str().unwrap(), data.to_str().unwrap());
    let model = fixture("bert");
    let model = model.to_str().unwrap();
    let file = folder.path("answers");
    let file = file.to_str().unwrap();
    let redirected = |how: &str, args: &[&str]| {
        let script = format!("exec \"$0\" \"$@\" {how}");
        let mut command = Command::new("sh");
        Finished::of(command.args(["-c", &script, env!("CARGO_BIN_EXE_bitfit")]).args(args))
    };
    for args in [
        &["predict", "--delta", run, "--input", rows][..],
        &["eval", "--delta", run, "--data", rows],
        &["inspect", "--delta", run],
        &["plan", "--model", model],
        &["doctor"],
        &["--help"],
    ] {
        redirected(">&-", args).fails(1, &["cannot write to standard output", "closed"]);
        // A shell opens it to write, a daemon to read and write, as Rust does if there is none.
        redirected("> /dev/null", args).success();
        redirected("1<> /dev/null", args).success();
    }
    for args in [
        &["predict", "--delta", run, "--input", rows, "--output", file][..],
        &["eval", "--delta", run, "--data", rows, "--output", file],
        &["train", "--output", run, "--resume"],
    ] {
        redirected(">&-", args).success();
    }
}

#[test]
fn a_device_as_output_is_written_to_and_stays_a_device() {
    use std::os::unix::fs::FileTypeExt;
    let folder = Folder::new();
    let data = folder.write("a.tsv", toy_tsv(24, 2));
    let output = folder.path("run");
    train(&fixture("bert"), &data, &output, "--steps 1");
    // The test cannot create a device of its own without rights; a pipe is just as little a file.
    let pipe = folder.path("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let reader = {
        let pipe = pipe.clone();
        std::thread::spawn(move || fs::read_to_string(pipe).unwrap())
    };
    let mut command = bitfit(["predict", "--delta"]);
    command.arg(&output).arg("--input").arg(&data).arg("--output").arg(&pipe);
    Finished::of(&mut command).success();
    assert!(fs::metadata(&pipe).unwrap().file_type().is_fifo());
    assert_eq!(reader.join().unwrap().lines().count(), 25);
    // A link is treated as the file that it points to.
    let (file, link) = (folder.path("file.tsv"), folder.path("link.tsv"));
    fs::write(&file, "old").unwrap();
    std::os::unix::fs::symlink(&file, &link).unwrap();
    let mut command = bitfit(["predict", "--delta"]);
    command.arg(&output).arg("--input").arg(&data).arg("--output").arg(&link);
    Finished::of(&mut command).success();
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    assert_eq!(fs::read_to_string(&file).unwrap().lines().count(), 25);
}
