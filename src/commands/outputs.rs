//! Files that a command is told to write: none is one that it reads, whatever name, link or redirection leads there, and
//! all can be written, which is checked before there is anything to write.

use super::base::trained_on;
use crate::cli::MergeArgs;
use crate::error::UsageError;
use crate::files::can_be_written;
use crate::formats::delta::Delta;
use crate::formats::model_files::{
    CONFIG, SENTENCE_ENCODER_FILES, TOKENIZER_FILES, WEIGHTS, WEIGHTS_INDEX,
};
use crate::formats::model_tensors::ModelTensors;
use crate::train::output::{OF_A_RUN, delta_path};
use anyhow::{Context, Result};
use std::fs::{self, Metadata};
use std::path::{Path, PathBuf};

/// Standard input and output as paths, if the system has them.
pub const STDIN: &str = "/dev/stdin";
pub const STDOUT: &str = "/dev/stdout";

/// Refuses an output file that is one of the inputs, or a file read from the folder of a run or model. A path that does
/// not exist or is not a file (a pipe, a terminal) can be written.
///
/// # Errors
/// Wrong usage, with the input's name.
pub fn no_input(option: &str, output: &Path, inputs: &[&Path]) -> Result<(), UsageError> {
    let Ok(written) = fs::metadata(output) else {
        return Ok(());
    };
    let over =
        |path: &PathBuf| fs::metadata(path).is_ok_and(|meta| same(&meta, &written, path, output));
    let hit = inputs.iter().flat_map(|input| files_of(input)).find(over);
    match hit {
        Some(file) if written.is_file() => Err(UsageError::new(format!(
            "{option} {}: this is {}, which the command reads; use another file",
            output.display(),
            file.display()
        ))),
        _ => Ok(()),
    }
}

/// The files that a command may read given a path: itself, or those of a run and of a model.
fn files_of(path: &Path) -> Vec<PathBuf> {
    if !path.is_dir() {
        return vec![path.to_path_buf()];
    }
    let names = OF_A_RUN.iter().chain(&[CONFIG, WEIGHTS, WEIGHTS_INDEX]);
    let names = names.chain(&TOKENIZER_FILES).chain(&SENTENCE_ENCODER_FILES);
    let mut files: Vec<PathBuf> = names.map(|name| path.join(name)).collect();
    files.extend(ModelTensors::files(path).unwrap_or_default());
    files
}

/// Checks the files that a command writes next to its results on standard output, each with its option: call it before the
/// work that produces the content.
///
/// # Errors
/// Wrong usage: `-`, or one file for two options. A file that cannot be written.
pub fn can_all_be_written(outputs: &[(&str, &Path)]) -> Result<()> {
    for (at, &(option, path)) in outputs.iter().enumerate() {
        if path == Path::new("-") {
            return Err(UsageError::new(format!(
                "{option} -: standard output has the table; name a file, or {STDOUT} if the system has it"
            ))
            .into());
        }
        if let Some((other, _)) = outputs[..at].iter().find(|(_, other)| one_file(other, path)) {
            return Err(UsageError::new(format!(
                "{other} and {option} both name {}: use two files",
                path.display()
            ))
            .into());
        }
    }
    for (option, path) in outputs {
        can_be_written(path).context((*option).to_owned())?;
    }
    Ok(())
}

/// Whether what is written to one path would replace what is written to the other; a device or a pipe takes both.
fn one_file(one: &Path, other: &Path) -> bool {
    match (fs::metadata(one), fs::metadata(other)) {
        (Ok(a), Ok(b)) => a.is_file() && same(&a, &b, one, other),
        (Err(_), Err(_)) => match (in_full(one), in_full(other)) {
            (Some(a), Some(b)) => a == b,
            _ => one == other,
        },
        _ => false,
    }
}

/// The path of a file that does not exist yet, under one name: where links lead that have no target yet.
fn in_full(path: &Path) -> Option<PathBuf> {
    let folder_of = |path: &Path| match path.parent() {
        Some(folder) if folder != Path::new("") => folder.to_owned(),
        _ => PathBuf::from("."),
    };
    let mut path = path.to_owned();
    // As many as the system follows.
    for _ in 0..40 {
        let Ok(target) = fs::read_link(&path) else { break };
        path = folder_of(&path).join(target);
    }
    let folder = fs::canonicalize(folder_of(&path)).ok()?;
    Some(folder.join(path.file_name()?))
}

/// Refuses to merge into the folder of the delta or of its base.
///
/// # Errors
/// Wrong usage. A delta that cannot be read is reported by the command itself.
pub fn of_merge(args: &MergeArgs) -> Result<(), UsageError> {
    let named = |path: PathBuf| anyhow::Ok(trained_on(&path, &Delta::read(&path)?.info));
    let trained_on = delta_path(&args.delta).and_then(named).ok();
    let base = args.model.clone().or(trained_on).unwrap_or_default();
    no_input_folder(&args.output, &[&args.delta, Path::new(&base)])
}

/// Refuses an output folder that is one of the input folders, or the folder of an input file.
///
/// # Errors
/// Wrong usage, with the input's name.
pub fn no_input_folder(output: &Path, inputs: &[&Path]) -> Result<(), UsageError> {
    let Ok(written) = fs::metadata(output) else {
        return Ok(());
    };
    for &input in inputs {
        let folder = match (input.is_dir(), input.parent()) {
            (true, _) => input,
            (false, Some(parent)) if input.is_file() && parent != Path::new("") => parent,
            (false, _) if input.is_file() => Path::new("."),
            _ => continue,
        };
        if fs::metadata(folder).is_ok_and(|meta| same(&meta, &written, folder, output)) {
            return Err(UsageError::new(format!(
                "--output {}: this is the folder of {}, which the command reads; use another",
                output.display(),
                input.display()
            )));
        }
    }
    Ok(())
}

#[cfg(unix)]
fn same(one: &Metadata, other: &Metadata, _: &Path, _: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    (one.dev(), one.ino()) == (other.dev(), other.ino())
}

#[cfg(not(unix))]
fn same(_: &Metadata, _: &Metadata, one: &Path, other: &Path) -> bool {
    matches!((fs::canonicalize(one), fs::canonicalize(other)), (Ok(a), Ok(b)) if a == b)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_input_is_known_under_every_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::create_dir_all(path("model/1_Pooling")).unwrap();
        for name in [
            "a.tsv",
            "other",
            "model/config.json",
            "model/1_Pooling/config.json",
            "model/labels.tsv",
        ] {
            fs::write(path(name), name).unwrap();
        }
        fs::hard_link(path("a.tsv"), path("hard")).unwrap();
        let (a, model) = (path("a.tsv"), path("model"));
        let inputs = [a.as_path(), model.as_path()];
        let refused = |name: &str| no_input("--output", &path(name), &inputs).is_err();
        for name in
            ["a.tsv", "model/../a.tsv", "hard", "model/config.json", "model/1_Pooling/config.json"]
        {
            assert!(refused(name), "{name}");
        }
        #[cfg(unix)]
        {
            std::os::unix::fs::symlink(&a, path("soft")).unwrap();
            assert!(refused("soft"));
        }
        for name in ["other", "none", "model/new", "model/labels.tsv"] {
            assert!(!refused(name), "{name}");
        }
        let into = |name: &str| no_input_folder(&path(name), &[&model, &path("model/config.json")]);
        assert!(into("model").is_err() && into("model/.").is_err());
        assert!(into("elsewhere").is_ok() && into("").is_ok());
    }
}
