use super::*;
use crate::cli::train_args::options_command;
use crate::cli::{Cli, Command, Parsed};
use crate::program::Saving;
use crate::settings::biases::BiasSelection;
use crate::settings::bytes::ByteSize;
use crate::settings::choice::{
    FormatChoice, PoolerInit, Pooling, Precision, Unlabelled, WeightStorage,
};
use crate::settings::device::DeviceChoice;
use crate::settings::method::Method;
use crate::settings::metric::Metric;
use crate::settings::saving::SavingChoice;
use crate::settings::schedule::{ScheduleKind, Warmup};
use crate::settings::task::Task;
use crate::settings::task_choice::TaskChoice;
use std::fs;

fn args(args: &[&str]) -> TrainArgs {
    match Cli::from_args([&["bitfit", "train"], args].concat()).unwrap() {
        Parsed::Run(Cli { command: Command::Train(args) }) => args,
        other => panic!("not train: {other:?}"),
    }
}

const NEEDED: [&str; 6] = ["--model", "m", "--train", "a.tsv", "--output", "o"];

fn resolve(more: &[&str]) -> TrainConfig {
    args(&[&NEEDED, more].concat()).resolve().unwrap().config
}

fn error(more: &[&str]) -> String {
    args(&[&NEEDED, more].concat()).resolve().unwrap_err().to_string()
}

/// A folder with `settings.toml`, and that file's path.
fn file(text: &str) -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("settings.toml");
    fs::write(&path, text).unwrap();
    (folder, path.to_str().unwrap().to_string())
}

#[test]
fn three_options_are_enough_and_the_rest_is_default() {
    let default = TrainConfig::with_defaults("m".into(), Some("a.tsv".into()), "o".into());
    assert_eq!(resolve(&[]), default);
}

#[test]
fn the_defaults_in_the_help_are_the_defaults() {
    let default = TrainConfig::with_defaults("m".into(), Some("a".into()), "o".into());
    let table: toml::Table = default.to_toml().unwrap().parse().unwrap();
    let command = options_command();
    let mut compared = 0;
    for (key, value) in &table {
        let arg = command
            .get_arguments()
            .find(|arg| arg.get_long() == Some(key))
            .expect("every key is an option");
        let help = arg.get_help().unwrap().to_string();
        // The default metric depends on the task: described in words, and checked by a separate test.
        let Some((_, shown)) = help.split_once("[default: ").filter(|_| key != "metric") else {
            continue;
        };
        // The learning rate depends on the method: checked by a separate test.
        let shown = shown.trim_end_matches(']').split(", or ").next().unwrap();
        let parsed =
            command.clone().try_get_matches_from(["train", &format!("--{key}={shown}")]).unwrap();
        let from_help = <TrainArgs as clap::FromArgMatches>::from_arg_matches(&parsed).unwrap();
        let mut with_help = from_help.over(args(&NEEDED));
        with_help.config = None;
        assert_eq!(with_help.resolve().unwrap().config, resolve(&[]), "{key}: {shown} {value}");
        compared += 1;
    }
    assert!(compared >= 18, "only {compared} options show their default");
}

#[test]
fn the_default_metric_follows_the_task() {
    assert_eq!(resolve(&[]).metric(), Metric::Accuracy);
    assert_eq!(resolve(&["--task", "regression"]).metric(), Metric::Pearson);
    assert_eq!(resolve(&[]).metric, None, "nobody asked for it");
    let asked = resolve(&["--metric", "macro_f1", "--dev-fraction", "0.1"]);
    assert_eq!((asked.metric, asked.metric()), (Some(Metric::MacroF1), Metric::MacroF1));
}

#[test]
fn the_help_names_every_measure_that_can_choose() {
    let command = options_command();
    let metric = command.get_arguments().find(|arg| arg.get_id() == "metric");
    let help = metric.unwrap().get_help().unwrap().to_string();
    for metric in Metric::ALL {
        let named = help.split([' ', ',', ';', '.']).any(|word| word == metric.name());
        assert!(named, "no {metric} in: {help}");
    }
}

#[test]
fn the_default_learning_rate_follows_the_method_as_the_help_says() {
    let full = resolve(&["--method", "full"]).lr;
    assert_eq!(full, Rate::Is(Method::Full.facts().lr));
    let command = options_command();
    let lr = command.get_arguments().find(|arg| arg.get_id() == "lr");
    let help = lr.unwrap().get_help().unwrap().to_string();
    let usual = Method::default().facts().lr;
    assert!(help.contains(&format!("[default: {usual}, ")), "{help}");
    for method in Method::which(|facts| facts.lr != usual) {
        assert!(help.contains(&format!("{} with {method}", method.facts().lr)), "{help}");
    }
}

#[test]
fn every_option_arrives_in_the_settings() {
    let config = resolve(&[
        "--weights=f32",
        "--pooling=cls",
        "--pooler=reinit",
        "--init-head=h",
        "--dev-fraction=0.1",
        "--train-rows=50",
        "--format=jsonl",
        "--task=regression",
        "--text-column=a",
        "--text-pair-column=b",
        "--label-column=c",
        "--unlabelled=drop",
        "--max-length=64",
        "--no-shuffle",
        "--biases=query@1,pooler",
        "--steps=10",
        "--batch-size=4",
        "--batch-tokens=512",
        "--grad-accumulation=2",
        "--lr=0.01",
        "--betas=0.8,0.9",
        "--eps=1e-8",
        "--weight-decay=0.1",
        "--schedule=constant",
        "--warmup=6%",
        "--clip-norm=0",
        "--dropout=0",
        "--seed=7",
        "--eval-steps=5",
        "--metric=spearman",
        "--patience=2",
        "--saving=recompute",
        "--memory=512MiB",
        "--save-steps=3",
        "--save-minutes=0.5",
        "--tensorboard",
        "--threads=2",
        "--device=cpu",
        "--precision=f16",
    ]);
    let expected = TrainConfig {
        model: "m".into(),
        weights: WeightStorage::F32,
        pooling: Pooling::Cls,
        pooler: PoolerInit::Reinit,
        init_head: Some("h".into()),
        init_delta: None,
        method: Method::Bitfit,
        biases: BiasSelection::parse("query@1,pooler").unwrap(),
        lora: None,
        train: Some("a.tsv".into()),
        data: None,
        dev: Some(DevSource::Fraction(0.1)),
        train_rows: Some(50),
        format: FormatChoice::Jsonl,
        task: TaskChoice::Kind(Task::Regression),
        label_separator: None,
        stride: None,
        max_answer_length: None,
        mask_probability: None,
        whole_word_masking: false,
        class_weights: None,
        text_column: Some("a".into()),
        text_pair_column: Some("b".into()),
        label_column: Some("c".into()),
        unlabelled: Unlabelled::Drop,
        max_length: Some(64),
        no_shuffle: true,
        length: Length::Steps(10),
        batch_size: 4,
        batch_tokens: Some(512),
        grad_accumulation: 2,
        lr: Rate::Is(0.01),
        betas: [0.8, 0.9],
        eps: 1e-8,
        weight_decay: 0.1,
        schedule: ScheduleKind::Constant,
        warmup: Warmup::Fraction(0.06),
        clip_norm: 0.0,
        dropout: Some(0.0),
        seed: 7,
        eval_steps: Some(5),
        metric: Some(Metric::Spearman),
        patience: Some(2),
        saving: SavingChoice::Only(Saving::RECOMPUTE),
        memory: Some(ByteSize(512 << 20)),
        output: "o".into(),
        save_steps: Some(3),
        save_minutes: Some(0.5),
        tensorboard: true,
        device: DeviceChoice::Cpu,
        precision: Precision::F16,
        threads: Some(2),
    };
    assert_eq!(config, expected);
    // The settings that a run records, when given back, yield the same run.
    let (_folder, path) = file(&config.to_toml().unwrap());
    assert_eq!(args(&["--config", &path]).resolve().unwrap().config, expected);
}

#[test]
fn what_a_default_run_writes_down_is_a_configuration_file() {
    let config = resolve(&["--method", "head", "--dev", "d.tsv", "--warmup", "1"]);
    let (_folder, path) = file(&config.to_toml().unwrap());
    assert_eq!(args(&["--config", &path]).resolve().unwrap().config, config);
}

#[test]
fn flags_win_over_the_file_and_the_file_over_defaults() {
    let (_folder, path) =
        file("lr = 0.5\nseed = 3\nepochs = 9\ndev = \"d.tsv\"\nno-shuffle = true\nquiet = true\n");
    let from_file = resolve(&["--config", &path]);
    assert_eq!((from_file.lr, from_file.seed, from_file.no_shuffle), (Rate::Is(0.5), 3, true));
    assert_eq!(from_file.length, Length::Epochs(9));
    assert_eq!(from_file.batch_size, 16);
    let both = resolve(&[
        "--config",
        &path,
        "--lr",
        "0.1",
        "--steps",
        "5",
        "--dev-fraction",
        "0.2",
        "--no-shuffle=false",
    ]);
    assert_eq!((both.lr, both.seed, both.no_shuffle), (Rate::Is(0.1), 3, false));
    assert_eq!(both.length, Length::Steps(5));
    assert_eq!(both.dev, Some(DevSource::Fraction(0.2)));
    assert!(args(&[&NEEDED[..], &["--config", &path]].concat()).resolve().unwrap().quiet);
}

#[test]
fn a_value_out_of_range_is_blamed_on_where_it_stands() {
    let (_folder, path) = file("seed = 1\nlr = -1.0\n");
    assert_eq!(error(&["--config", &path]), format!("{path}:2: --lr must be above 0, got -1"));
    assert_eq!(error(&["--config", &path, "--lr=-2"]), "--lr must be above 0, got -2");
    assert_eq!(error(&["--lr", "-3"]), "--lr must be above 0, got -3");
}

#[test]
fn what_is_missing_or_exclusive_is_said() {
    let missing = args(&["--model", "m"]).resolve().unwrap_err().to_string();
    assert!(missing.starts_with("--train is missing"), "{missing}");
    let both = Cli::from_args(["bitfit", "train", "--epochs", "1", "--steps", "2"])
        .unwrap_err()
        .to_string();
    assert!(both.contains("--epochs") && both.contains("--steps"), "{both}");
    assert!(Cli::from_args(["bitfit", "train", "--dev", "a", "--dev-fraction", "0.1"]).is_err());
    assert!(
        Cli::from_args(["bitfit", "train", "--betas", "0.9"])
            .unwrap_err()
            .to_string()
            .contains("0.9,0.999")
    );
    let absent = error(&["--config", "no-such-file.toml"]);
    assert!(absent.contains("cannot read no-such-file.toml"), "{absent}");
}

#[test]
fn a_resumed_run_needs_only_its_folder() {
    let (folder, _) =
        file("model = \"m\"\ntrain = \"a.tsv\"\noutput = \"moved-since\"\nlr = 0.25\n");
    let output = folder.path().to_str().unwrap();
    let command = args(&["--resume", "--output", output]).resolve().unwrap();
    assert!(command.resume);
    assert_eq!(command.config.lr, Rate::Is(0.25));
    assert_eq!(command.config.output, folder.path());
    // Without --resume that folder is just an output folder.
    assert!(args(&["--output", output]).resolve().is_err());
}
