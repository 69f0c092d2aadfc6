//! The grid of a sweep, and the list of runs from which a sweep resumes.

use super::tame;
use bitfit::cli::sweep_file::{difference, recorded, runs_file, to_text};
use bitfit::cli::{Cli, Command, Parsed, TrainArgs};
use bitfit::settings::sweep_run::SweepRun;
use std::fs;
use std::path::Path;

/// Runs are unchanged when written and read back, whichever of the two files they come from.
pub fn runs(data: &[u8], folder: &Path) -> Option<()> {
    let output = folder.join("sweep");
    fs::create_dir_all(&output).unwrap();
    let listed = |bytes: &[u8]| {
        fs::write(runs_file(&output), bytes).unwrap();
        tame(recorded(&output, &TrainArgs::default()))
            .map(|runs| runs.expect("the file was just written"))
    };
    let holds = |runs: &[SweepRun]| {
        let again = listed(to_text(runs).ok()?.as_bytes()).expect("its own list");
        assert_eq!(difference(&again, runs).unwrap(), None);
        let places = |runs: &[SweepRun]| -> Vec<_> {
            runs.iter().map(|run| run.config.output.clone()).collect()
        };
        assert_eq!(places(&again), places(runs));
        assert!(places(runs).iter().all(|place| place.parent() == Some(&output)));
        Some(())
    };
    let of_list = listed(data).and_then(|runs| holds(&runs));
    fs::remove_file(runs_file(&output)).unwrap();
    let path = folder.join("grid.toml");
    fs::write(&path, data).unwrap();
    let (grid, place) = (path.to_str().unwrap(), output.to_str().unwrap());
    let args = ["bitfit", "sweep", "--grid", grid, "--output", place];
    let Some(Parsed::Run(Cli { command: Command::Sweep(args) })) = tame(Cli::from_args(args))
    else {
        panic!("the command line is a good one");
    };
    let of_grid = tame(args.resolve()).and_then(|command| holds(&command.runs));
    of_list.or(of_grid)
}
