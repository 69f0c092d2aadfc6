//! What each fuzz target does with its bytes. Most inputs only have to be handled without a crash. If more can be checked
//! of an accepted input (it is the same when written and read back, it stays within bounds), that is checked, too.
//! `tests/seeds.rs` runs the same functions on all seeds, with any toolchain.

mod driver;
mod grid;
mod hub;

use bitfit::backend::cpu::Arithmetic;
use bitfit::backend::{DeviceKind, WeightType};
use bitfit::batch::Labels;
use bitfit::cli::{Cli, Command, Parsed};
use bitfit::data::benchmark;
use bitfit::data::{
    ColumnNames, Dataset, Document, FileFormat, LabelUse, Positions, ReadOptions, Row,
    RunningReader, TextTokenizer, TokenizerOptions, rows,
};
use bitfit::error::one_line;
use bitfit::formats::adapter::read::ReadAdapter;
use bitfit::formats::container::Container;
use bitfit::formats::delta::{Delta, DeltaInfo};
use bitfit::formats::fingerprint::Fingerprint;
use bitfit::formats::model_tensors::ModelTensors;
use bitfit::formats::run_state::Checkpoint;
use bitfit::methods::Trains;
use bitfit::model::config::ModelConfig;
use bitfit::model::fit::Budget;
use bitfit::model::load::{TaskSpec, outline};
use bitfit::program::{Limits, LossKind, PoolKind, Saving};
use bitfit::settings::benchmark::NamedTask;
use bitfit::settings::biases::{BiasSelection, Component};
use bitfit::settings::train::TrainConfig;
use emulator::{DeviceConfig, DeviceMemory, Module};
use std::fs;
use std::io::Read;
use std::path::Path;
use std::sync::{Arc, LazyLock};

/// Name and function. The function returns `Some` if the input was accepted; `folder` is for files.
type Target = (&'static str, fn(data: &[u8], folder: &Path) -> Option<()>);

pub const TARGETS: [Target; 15] = [
    ("adapter", adapter),
    ("checkpoint", checkpoint),
    ("config", config),
    ("container", container),
    ("delta", delta),
    ("driver", |data, _| driver::calls(data)),
    ("grid", grid::runs),
    ("hub", hub::answers),
    ("parquet", parquet),
    ("ptx", |data, _| ptx(data)),
    ("rows", |data, _| all_rows(data)),
    ("running", |data, _| running(data)),
    ("selectors", |data, _| selectors(data)),
    ("settings", settings),
    ("tokenizer", tokenizer),
];

/// Runs a target, and returns whether it accepted the input.
pub fn run(target: &str, data: &[u8], folder: &Path) -> bool {
    let (_, work) = TARGETS.iter().find(|(name, _)| *name == target).expect("a target's name");
    work(data, folder).is_some()
}

/// The value, or `None` if it was refused; the message must then be one that a terminal can show.
fn tame<T>(result: Result<T, impl Into<anyhow::Error>>) -> Option<T> {
    let error = match result {
        Ok(value) => return Some(value),
        Err(error) => one_line(&error.into()),
    };
    assert!(!error.is_empty() && !error.chars().any(char::is_control), "{error:?}");
    None
}

/// A safetensors file whose header is everything before the first NUL, so that the fuzzer need not guess its length.
fn with_length(data: &[u8]) -> Vec<u8> {
    let end = data.iter().position(|&byte| byte == 0);
    let (header, tensors) = end.map_or((data, &[][..]), |at| (&data[..at], &data[at + 1..]));
    [&(header.len() as u64).to_le_bytes(), header, tensors].concat()
}

fn container(data: &[u8], folder: &Path) -> Option<()> {
    let mut taken = None;
    for bytes in [data.to_vec(), with_length(data)] {
        if let Some(read) = tame(Container::from_bytes(&bytes)) {
            let again = Container::from_bytes(&read.to_bytes().unwrap()).unwrap();
            assert_eq!(again, read);
        }
        fs::write(folder.join("model.safetensors"), &bytes).unwrap();
        let Some(model) = tame(ModelTensors::open(folder, "bert.")) else { continue };
        for (name, shape, _) in model.list() {
            let inside = name.strip_prefix("bert.").unwrap_or(&name);
            if let Some(values) = tame(model.get(inside, &shape)) {
                assert_eq!(values.len(), shape.iter().product::<usize>());
                taken = Some(());
            }
        }
    }
    taken
}

/// An adapter's configuration and, after a NUL, its tensors as for [`with_length`].
fn adapter(data: &[u8], folder: &Path) -> Option<()> {
    let end = data.iter().position(|&byte| byte == 0)?;
    fs::write(folder.join("adapter_config.json"), &data[..end]).unwrap();
    fs::write(folder.join("adapter_model.safetensors"), with_length(&data[end + 1..])).unwrap();
    let adapter = tame(ReadAdapter::of(folder))?;
    let query = "bert.encoder.layer.0.attention.self.query.bias".to_owned();
    let shapes = [(query, vec![2]), ("bert.pooler.dense.bias".to_owned(), vec![2])].into();
    let values = tame(adapter.values("bert.", &shapes, &|name, shape| {
        Ok(name.starts_with("encoder").then(|| vec![0.5; shape.iter().product()]))
    }))?;
    for (name, value) in &values {
        assert!(value.data.iter().all(|value| value.is_finite()), "{name}");
        assert!(shapes.get(name).is_none_or(|shape| *shape == value.shape), "{name}");
    }
    Some(())
}

fn delta(data: &[u8], folder: &Path) -> Option<()> {
    let path = folder.join("bias.safetensors");
    fs::write(&path, with_length(data)).unwrap();
    tame(DeltaInfo::of_model(&path));
    let delta = tame(Delta::read(&path))?;
    let shapes: Vec<_> = delta.tensors.iter().map(|(n, t)| (n.clone(), t.shape.clone())).collect();
    delta.check(&delta.info.base_sha256, &shapes).unwrap();
    assert!(delta.check(&"0".repeat(64), &[]).is_err());
    delta.info.model_metadata().unwrap();
    Some(())
}

fn checkpoint(data: &[u8], folder: &Path) -> Option<()> {
    let path = folder.join("checkpoint.safetensors");
    fs::write(&path, with_length(data)).unwrap();
    static RUN: LazyLock<Fingerprint> = LazyLock::new(|| {
        let config = TrainConfig::with_defaults("m".into(), Some("a.tsv".into()), "out".into());
        Fingerprint::of(&config).unwrap()
    });
    let (state, vectors) = tame(Checkpoint::load(&path, &RUN, 3))?;
    assert!(state.seconds >= 0.0 && vectors.second_moment.len() == 3);
    Some(())
}

/// A `config.json` and, after a NUL, the options of `plan`, one per line.
fn config(data: &[u8], folder: &Path) -> Option<()> {
    let text = String::from_utf8_lossy(data);
    let (json, options) = text.split_once('\0').unwrap_or((&text, ""));
    let config = tame(ModelConfig::parse(json))?;
    assert!(config.hidden % config.heads == 0 && config.max_len() >= 2);
    let folder = folder.to_str().unwrap();
    let options = ["bitfit", "plan", "--model", folder].into_iter().chain(options.lines());
    let Parsed::Run(Cli { command: Command::Plan(plan) }) = tame(Cli::from_args(options))? else {
        return None;
    };
    // A plan of many layers takes long.
    if config.layers > 3 {
        return None;
    }
    let spec = TaskSpec {
        outputs: plan.step.outputs.unwrap_or(2),
        class_weights: Vec::new(),
        loss: LossKind::CrossEntropy,
        pooling: PoolKind::Mean,
        reinit_pooler: plan.step.outputs == Some(1),
        trains: plan.step.biases.map_or(Trains::Everything, Trains::Biases),
        dropout: None,
        seed: 0,
    };
    let model = tame(outline(&config, &spec))?;
    let max_len = plan.step.max_length.unwrap_or(config.max_len());
    let tokens = plan.step.batch_tokens.unwrap_or(max_len);
    let limits = Limits { tokens, sequences: plan.step.batch_size, max_len };
    let weights = WeightType::from(plan.step.weights);
    let threads = plan.step.threads.unwrap_or(2);
    for device in [
        DeviceKind::Cpu { weights, threads, arithmetic: Arithmetic::F32 },
        DeviceKind::Cuda { weights },
    ] {
        tame(model.addressable(limits, device))?;
        let budget = Budget { model: &model, device, ranks: 1 };
        for saving in [None, Some(Saving::KEEP)] {
            let program = budget.program(limits, saving);
            assert!(budget.footprint(&program).total() >= program.bytes());
        }
    }
    Some(())
}

/// `tokenizer.json`, `tokenizer_config.json`, `vocab.txt` and a text, separated by NULs; empty files are left out.
fn tokenizer(data: &[u8], folder: &Path) -> Option<()> {
    let mut parts = data.split(|&byte| byte == 0);
    for name in ["tokenizer.json", "tokenizer_config.json", "vocab.txt"] {
        let path = folder.join(name);
        let _ = fs::remove_file(&path);
        let part = parts.next().unwrap_or_default();
        if !part.is_empty() {
            fs::write(path, part).unwrap();
        }
    }
    let positions = Positions { offset: 2 };
    let options = TokenizerOptions { vocab_size: 64, type_rows: 2, max_len: 12, positions };
    let tokenizer = tame(TextTokenizer::load(folder, options))?;
    let text = String::from_utf8_lossy(parts.next().unwrap_or_default()).into_owned();
    for text_pair in [None, Some("a b c [SEP] d".to_owned())] {
        let row = Row { line: 1, text: text.clone(), text_pair, label: None };
        let built = Dataset::build(&[row], Labels::None, &tokenizer, &|_| ());
        let Some((dataset, _)) = tame(built) else { continue };
        assert!(dataset.ids(0).len() <= 12 && dataset.ids(0).iter().all(|&id| id < 64));
        assert!(dataset.batch(&[0]).type_ids.iter().all(|&kind| kind < 2));
    }
    Some(())
}

/// Bytes that arrive a few at a time, as from a pipe.
struct Pieces<'a>(&'a [u8]);

impl Read for Pieces<'_> {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        let most = into.len().min(3);
        self.0.read(&mut into[..most])
    }
}

/// A file of rows; the first byte of the input chooses the kind.
fn all_rows(data: &[u8]) -> Option<()> {
    let (&kind, data) = data.split_first()?;
    let format = [FileFormat::Tsv, FileFormat::Csv, FileFormat::Jsonl][usize::from(kind) % 3];
    let named = |name: &str| (kind & 4 != 0).then(|| name.to_owned());
    let options = ReadOptions {
        label_lists: true,
        format: None,
        columns: ColumnNames { text: named("a"), text_pair: named("b"), label: named("c") },
        label_use: if kind & 8 == 0 { LabelUse::Required } else { LabelUse::Ignored },
        trained: None,
    };
    let read = |from: Box<dyn Read + '_>| -> (Vec<Row>, bool) {
        let Some(reader) = tame(rows(from, "file", format, &options)) else {
            return (Vec::new(), false);
        };
        let (mut all, mut whole) = (Vec::<Row>::new(), true);
        for row in reader {
            match tame(row) {
                Some(row) => {
                    assert!(all.last().is_none_or(|last| last.line < row.line));
                    all.push(row);
                }
                None => whole = false,
            }
        }
        (all, whole)
    };
    let (all, whole) = read(Box::new(data));
    assert_eq!(read(Box::new(Pieces(data))), (all, whole));
    whole.then_some(())
}

/// Running text; the first byte of the input chooses the kind of file.
fn running(data: &[u8]) -> Option<()> {
    let (&kind, data) = data.split_first()?;
    let formats = [None, Some(FileFormat::Tsv), Some(FileFormat::Csv), Some(FileFormat::Jsonl)];
    let text = (kind & 4 != 0).then(|| "a".to_owned());
    let options = ReadOptions {
        label_lists: false,
        format: None,
        columns: ColumnNames { text, text_pair: None, label: None },
        label_use: if kind & 8 == 0 { LabelUse::Required } else { LabelUse::Ignored },
        trained: None,
    };
    let read = |from: Box<dyn Read + '_>| -> Option<Vec<(u64, String)>> {
        let format = formats[usize::from(kind) % 4];
        let reader = tame(RunningReader::new(from, "file", format, &options))?;
        let mut all = Vec::<(u64, String)>::new();
        for text in reader {
            let Document { line, text, .. } = tame(text)?;
            assert!(all.last().is_none_or(|(last, _)| *last < line));
            assert!(kind & 8 != 0 || !text.trim().is_empty());
            all.push((line, text));
        }
        Some(all)
    };
    let all = read(Box::new(data));
    assert_eq!(read(Box::new(Pieces(data))), all);
    all.map(drop)
}

/// A file of a named task's rows.
fn parquet(data: &[u8], folder: &Path) -> Option<()> {
    let path = folder.join("rows.parquet");
    fs::write(&path, data).unwrap();
    let archive = &NamedTask::named("cola").unwrap().archive;
    let fields =
        benchmark::Fields { needed: vec!["sentence", "label"], texts: 1, optional: vec!["idx"] };
    let read = tame(benchmark::read(&path, archive, &fields))?;
    let text =
        |row: &benchmark::RawRow| row.fields.iter().flatten().map(String::len).sum::<usize>();
    let texts: usize = read.rows.iter().map(text).sum();
    assert!(texts + 64 * read.rows.len() <= (64 << 20) + 64 * data.len());
    assert!(read.rows.iter().all(|row| row.fields.len() == 3));
    Some(())
}

/// The value of `--biases` and, after a line break, other options of `train`, one per line.
fn selectors(data: &[u8]) -> Option<()> {
    let text = String::from_utf8_lossy(data);
    let (biases, options) = text.split_once('\n').unwrap_or((&text, ""));
    if let Some(selection) = tame(BiasSelection::parse(biases)) {
        assert_eq!(BiasSelection::parse(&selection.to_string()).unwrap(), selection);
        for layers in [1, 12] {
            let Some(()) = tame(selection.validate(layers)) else { continue };
            let selects = |&layer: &usize| {
                let mut kinds = Component::ALL.into_iter().filter(|kind| kind.per_layer());
                kinds.any(|kind| selection.selects(kind, Some(layer)))
            };
            assert_eq!((0..layers).find(selects), selection.lowest_layer(layers));
        }
    }
    // Parsing a whole command line takes long.
    if options.is_empty() {
        return None;
    }
    // Other targets cover files.
    if options.contains("config") || options.contains("resume") {
        return None;
    }
    let command = ["bitfit", "train", "--model", "m", "--train", "t.tsv", "--output", "o"];
    match tame(Cli::from_args(command.into_iter().chain(options.lines())))? {
        Parsed::Run(Cli { command: Command::Train(args) }) => tame(args.resolve()).map(drop),
        _ => None,
    }
}

/// The settings in a delta, and a file for `--config`.
fn settings(data: &[u8], folder: &Path) -> Option<()> {
    if let Some(config) =
        std::str::from_utf8(data).ok().and_then(|t| tame(TrainConfig::from_toml(t)))
    {
        assert_eq!(TrainConfig::from_toml(&config.to_toml().unwrap()).unwrap(), config);
    }
    let path = folder.join("settings.toml");
    let resolved = |bytes: &[u8]| {
        fs::write(&path, bytes).unwrap();
        let args = ["bitfit", "train", "--config", path.to_str().unwrap()];
        let Some(Parsed::Run(Cli { command: Command::Train(args) })) = tame(Cli::from_args(args))
        else {
            panic!("the command line is a good one");
        };
        tame(args.resolve())
    };
    let command = resolved(data)?;
    let written = command.config.to_toml().ok()?;
    assert_eq!(TrainConfig::from_toml(&written).unwrap(), command.config);
    assert_eq!(resolved(written.as_bytes()).expect("its own settings").config, command.config);
    Some(())
}

fn ptx(data: &[u8]) -> Option<()> {
    let memory = Arc::new(DeviceMemory::new(1 << 20));
    let module = Module::load(&String::from_utf8_lossy(data), &memory, &DeviceConfig::default());
    let loaded = module.is_ok();
    drop(module);
    assert_eq!(memory.usage().used, 0, "unloading a module frees its memory");
    loaded.then_some(())
}
