use super::*;
use crate::cli::sweep_file;
use crate::cli::train_args::options_command;
use crate::settings::method::Method;
use crate::settings::rate::Rate;
use clap::FromArgMatches;

const TOP: &str = "model = \"m\"\ntrain = \"a.tsv\"\n";

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn resolve(&self, grid: Option<&str>, flags: &[&str]) -> Result<SweepCommand, UsageError> {
        let path = self.0.path().join("grid.toml");
        if let Some(text) = grid {
            std::fs::write(&path, text).unwrap();
        }
        let output = self.0.path().join("out");
        let words = ["train", "--output", output.to_str().unwrap()];
        let words: Vec<&str> = words.iter().chain(flags).copied().collect();
        let matches = options_command().try_get_matches_from(words).unwrap();
        let common = TrainArgs::from_arg_matches(&matches).unwrap();
        SweepArgs { grid: grid.map(|_| path), jobs: None, common }.resolve()
    }
}

fn runs(text: &str) -> Vec<SweepRun> {
    Folder::new().resolve(Some(&format!("{TOP}{text}")), &[]).unwrap().runs
}

fn names(runs: &[SweepRun]) -> Vec<&str> {
    runs.iter().map(|run| run.name.as_str()).collect()
}

/// Without the folder's name.
fn error_with(text: &str, flags: &[&str]) -> String {
    let folder = Folder::new();
    let error = folder.resolve(Some(&format!("{TOP}{text}")), flags).unwrap_err().to_string();
    error.replace(&format!("{}/", folder.0.path().display()), "")
}

fn error(text: &str) -> String {
    error_with(text, &[])
}

#[test]
fn every_combination_is_a_run_named_after_what_tells_it_apart() {
    let runs = runs(
        "epochs = 1\n[grid]\nlr = [3e-4, 1e-3]\nseed = [1, 2]\ndropout = [0.0]\n[[variant]]\nname = \"bitfit\"\n\
         [[variant]]\nname = \"qi\"\nbiases = \"query,intermediate\"\n[[variant]]\nname = \"full\"\nlr = [5e-5]\nsteps = 7\n",
    );
    assert_eq!(
        names(&runs),
        [
            "bitfit-lr3e-4-seed1",
            "bitfit-lr3e-4-seed2",
            "bitfit-lr1e-3-seed1",
            "bitfit-lr1e-3-seed2",
            "qi-lr3e-4-seed1",
            "qi-lr3e-4-seed2",
            "qi-lr1e-3-seed1",
            "qi-lr1e-3-seed2",
            "full-seed1",
            "full-seed2",
        ]
    );
    let qi = &runs[6];
    assert_eq!((qi.variant.as_str(), qi.config.lr, qi.config.seed), ("qi", Rate::Is(1e-3), 1));
    assert_eq!(qi.config.biases.to_string(), "query,intermediate");
    assert_eq!(qi.config.dropout, Some(0.0));
    assert!(qi.config.output.ends_with("out/qi-lr1e-3-seed1"));
    let axes: Vec<_> = qi.axes.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    assert_eq!(axes, [("lr", "1e-3"), ("seed", "1")]);
    let full = &runs[9];
    assert_eq!((full.config.method, full.config.lr), (Method::Full, Rate::Is(5e-5)));
    assert_eq!(full.config.length, crate::settings::train::Length::Steps(7));
    // It has one rate, and rates are an axis of the table.
    assert_eq!(full.axes["lr"], "5e-5");
}

#[test]
fn without_variants_each_method_is_one() {
    assert_eq!(names(&runs("")), ["bitfit"]);
    assert_eq!(
        names(&runs("method = \"head\"\n[grid]\nseed = [1, 2]")),
        ["head-seed1", "head-seed2"]
    );
    let methods = runs("[grid]\nseed = [1]\nmethod = [\"bitfit\", \"layernorm\"]");
    assert_eq!(names(&methods), ["bitfit", "layernorm"]);
    assert_eq!(methods[1].config.method, Method::LayerNorm);
    let biases = runs("[grid]\nbiases = [\"query\", [\"query\", \"value@1..2\"]]");
    assert_eq!(names(&biases), ["bitfit-biasesquery", "bitfit-biasesquery+value_1..2"]);
}

#[test]
fn what_is_nearer_to_a_run_beats_what_is_further() {
    let folder = Folder::new();
    let config = folder.0.path().join("c.toml");
    std::fs::write(&config, "model = \"other\"\nbatch-size = 4\nclip-norm = 2\nseed = 9\n")
        .unwrap();
    let text = format!("{TOP}batch-size = 8\nweight-decay = 0.1\n[grid]\nseed = [1]\n");
    let flags = ["--config", config.to_str().unwrap(), "--weight-decay", "0.2"];
    let run = folder.resolve(Some(&text), &flags).unwrap().runs.remove(0).config;
    assert_eq!((run.model.as_str(), run.batch_size, run.clip_norm), ("m", 8, 2.0));
    assert_eq!((run.weight_decay, run.seed), (0.2, 1));
}

#[test]
fn mistakes_name_line_variant_and_value() {
    assert_eq!(
        error("[grid]\nlr = [1e-3,\n0]\n"),
        "grid.toml:5: variant `bitfit`, lr = 0: --lr must be above 0, got 0"
    );
    let both = error("[grid]\nbiases = [\"query\"]\n[[variant]]\nname = \"full\"\n");
    assert!(both.starts_with("grid.toml:4: variant `full`, biases = query: --biases"), "{both}");
    let top = error("dropout = 2\n[[variant]]\nname = \"a\"\n");
    assert!(top.starts_with("grid.toml:3: variant `a`: --dropout must be"), "{top}");
    let flag = error_with("[[variant]]\nname = \"a\"\n", &["--dropout", "2"]);
    assert!(flag.starts_with("grid.toml: variant `a`: --dropout must be"), "{flag}");
    let same = error("[[variant]]\nname = \"a\"\n[[variant]]\nname = \"b\"\n");
    assert!(same.contains("the runs `a` and `b` have the same settings"), "{same}");
    assert!(same.starts_with("grid.toml:6: "), "{same}");
    let folder = error("[[variant]]\nname = \"a\"\nseed = 1\n[[variant]]\nname = \"A\"\n");
    assert!(folder.contains("would have the same folder as `a`"), "{folder}");
    let alike = error("[grid]\ntext-column = [\"a b\", \"a_b\"]");
    assert!(alike.contains("would have the same folder as"), "{alike}");
    let reserved = error("[[variant]]\nname = \"answers\"\n");
    assert!(reserved.contains("has files of that name"), "{reserved}");
    let long = error(&format!("[grid]\ntext-column = [\"{}\", \"b\"]", "x".repeat(200)));
    assert!(long.contains("218 letters"), "{long}");
    let list: Vec<String> = (1..=101).map(|number| number.to_string()).collect();
    let list = list.join(",");
    let many = error(&format!("[grid]\nseed = [{list}]\nsteps = [{list}]\n"));
    assert!(many.contains("the grid has 10201 runs, more than 10000"), "{many}");
}

#[test]
fn an_option_that_no_run_would_have_is_refused() {
    let axis = error_with("[grid]\nseed = [1, 2]\n", &["--seed", "3"]);
    assert!(axis.starts_with("grid.toml:4: `seed` is set here for every run"), "{axis}");
    let partner = error_with("[grid]\nsteps = [1, 2]\n", &["--epochs", "3"]);
    assert!(partner.starts_with("grid.toml:4: `steps` is set here"), "{partner}");
    let variants = "[[variant]]\nname = \"a\"\nlr = 1e-3\n[[variant]]\nname = \"b\"\nlr = 1e-4\n";
    assert!(error_with(variants, &["--lr", "1"]).starts_with("grid.toml:5: `lr`"));
    let one = format!("{TOP}[[variant]]\nname = \"a\"\nlr = 1e-3\n[[variant]]\nname = \"b\"\n");
    let runs = Folder::new().resolve(Some(&one), &["--lr", "0.5"]).unwrap().runs;
    assert_eq!((runs[0].config.lr, runs[1].config.lr), (Rate::Is(1e-3), Rate::Is(0.5)));
}

#[test]
fn what_a_command_needs_is_asked_for() {
    let folder = Folder::new();
    let said = |flags: &[&str]| folder.resolve(None, flags).unwrap_err().to_string();
    assert!(said(&[]).contains("--grid is missing"));
    assert!(said(&["--resume"]).contains("is not the folder of a sweep"));
    assert!(said(&["--resume", "--config", "x"]).contains("--config needs --grid"));
    assert!(said(&["--predict-test", "x"]).contains("not for several runs"));
    let args = SweepArgs { grid: None, jobs: Some(0), common: TrainArgs::default() };
    assert!(args.resolve().unwrap_err().to_string().contains("--jobs must be from 1"));
    let missing = folder.resolve(Some("train = \"x\""), &[]).unwrap_err().to_string();
    assert!(missing.contains("--model is missing"), "{missing}");
}

#[test]
fn a_sweep_goes_on_from_its_folder_alone() {
    let folder = Folder::new();
    let grid = format!(
        "{TOP}dev-fraction = 0.1\n[grid]\nlr = [3e-4, 1e-3]\nseed = [1, 2]\n[[variant]]\nname = \"bitfit\"\n\
         [[variant]]\nname = \"lora\"\nlora-rank = [4, 8]\n[[variant]]\nname = \"full\"\nlr = \"auto\"\nsteps = 3\n"
    );
    let begun = folder.resolve(Some(&grid), &[]).unwrap();
    let text = sweep_file::to_text(&begun.runs).unwrap();
    let output = folder.0.path().join("out");
    std::fs::create_dir(&output).unwrap();
    std::fs::write(sweep_file::runs_file(&output), &text).unwrap();
    let found = folder.resolve(None, &["--resume"]).unwrap();
    assert!(found.resume);
    assert_eq!(found.runs, begun.runs);
    assert_eq!(sweep_file::to_text(&found.runs).unwrap(), text);
    // What does not affect results may change; what distinguishes runs may not.
    let other = folder.resolve(None, &["--resume", "--threads", "3"]).unwrap();
    assert!(other.runs.iter().all(|run| run.config.threads == Some(3)));
    let axis = folder.resolve(None, &["--resume", "--lr", "1"]).unwrap_err().to_string();
    assert!(axis.contains("the runs differ in `lr`"), "{axis}");
}

#[test]
fn the_grid_in_the_help_is_one() {
    let grid = EXAMPLES.split_once("A grid:\n").unwrap().1;
    let runs = Folder::new().resolve(Some(grid), &[]).unwrap().runs;
    assert_eq!(runs.len(), 27);
    let help = SweepArgs::augment_args(clap::Command::new("sweep")).render_long_help();
    assert!(help.to_string().contains("[[variant]]"), "{help}");
}
