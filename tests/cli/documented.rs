//! The commands that README, pages and help show: each is one that the program accepts, and those that need only small
//! files are run as shown. So a renamed option or a changed default cannot leave a page behind.

use crate::common::*;
use crate::{masked, questions, tags};
use bitfit::cli::Cli;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What a command may need that a test does not have. Commands with one of these words are parsed, but not run.
const NEEDS: [(&str, &str); 6] = [
    ("bert-base-cased", "a model from the hub"),
    ("scripts/movie-reviews.toml", "the movie reviews"),
    ("scripts/methods.toml", "the movie reviews and hours"),
    ("scripts/data-sizes.toml", "the movie reviews and hours"),
    ("mpirun", "MPI"),
    ("srun", "a cluster"),
];

/// The programs other than `bitfit` that a command run here may use.
const TOOLS: [&str; 2] = ["cut", "echo"];

/// What pages that use `runs/reviews` without training it assume.
const FIRST: &str =
    "bitfit train --model ./minilm --train reviews.tsv --dev-fraction 0.1 --output runs/reviews";

const GRID: &str = "model = './minilm'\ntrain = 'reviews.tsv'\ndev-fraction = 0.2\nsteps = 2\n\
                    [grid]\nseed = [1, 2]\n";

/// One command of a page, and where it begins.
struct Shown {
    place: String,
    text: String,
    /// A word list per program: parts of a pipe, or joined by `&&`.
    parts: Vec<Vec<String>>,
}

impl Shown {
    fn new(place: String, text: String) -> Self {
        let words = shlex::split(&text).unwrap_or_else(|| panic!("{place}: an open quote: {text}"));
        let parts = words.split(|word| ["|", "&&", ";"].contains(&word.as_str()));
        let parts = parts.filter(|part| !part.is_empty()).map(<[String]>::to_vec).collect();
        Self { place, text, parts }
    }

    /// The arguments of each `bitfit` in it, without redirections.
    fn calls(&self) -> impl Iterator<Item = Vec<String>> {
        self.parts.iter().filter_map(|part| {
            let at = part.iter().position(|word| is_program(word))?;
            if at > 0 && part[at - 1].starts_with("--") {
                return None; // the program as an option of a script
            }
            let end = part.iter().position(|word| word.starts_with('>')).unwrap_or(part.len());
            Some(part[at + 1..end].to_vec())
        })
    }

    /// The reason why it is not run here, if any.
    fn needs(&self) -> Option<String> {
        if let Some((_, what)) = NEEDS.iter().find(|(word, _)| self.text.contains(word)) {
            return Some((*what).to_owned());
        }
        let other = self.parts.iter().map(|part| &part[0]);
        let other = other.filter(|word| !is_program(word) && !TOOLS.contains(&word.as_str()));
        let other: Vec<_> = other.map(String::as_str).collect();
        (!other.is_empty()).then(|| other.join(", "))
    }
}

fn is_program(word: &str) -> bool {
    word == "bitfit" || word == "target/release/bitfit"
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn pages() -> Vec<PathBuf> {
    let docs = fs::read_dir(root().join("docs")).unwrap().map(|entry| entry.unwrap().path());
    let mut pages: Vec<_> =
        docs.filter(|path| path.extension().is_some_and(|e| e == "md")).collect();
    pages.sort();
    pages.insert(0, root().join("README.md"));
    pages
}

/// The commands in lines with their numbers; one that ends in a backslash is continued.
fn commands<'a>(source: &str, lines: impl Iterator<Item = (usize, &'a str)>) -> Vec<Shown> {
    let mut commands = Vec::new();
    let mut open = None;
    for (number, line) in lines {
        let (place, before) =
            open.take().unwrap_or_else(|| (format!("{source}:{number}"), String::new()));
        match line.strip_suffix('\\') {
            Some(part) => open = Some((place, before + part)),
            None => commands.push(Shown::new(place, before + line)),
        }
    }
    commands
}

/// The commands in the `sh` blocks of a page, in order.
fn shown(page: &Path) -> Vec<Shown> {
    let name = page.strip_prefix(root()).unwrap().display().to_string();
    let text = fs::read_to_string(page).unwrap();
    let mut inside = false;
    let lines = (1..).zip(text.lines()).filter(|(_, line)| {
        let fence = line.starts_with("```");
        if fence {
            inside = *line == "```sh";
        }
        inside && !fence
    });
    commands(&name, lines)
}

#[test]
fn every_command_of_every_page_is_one_that_the_program_takes() {
    let mut seen = 0;
    for command in pages().iter().flat_map(|page| shown(page)) {
        for call in command.calls() {
            let args = std::iter::once("bitfit".to_owned()).chain(call);
            if let Err(error) = Cli::from_args(args) {
                panic!("{}: {error}\n  {}", command.place, command.text);
            }
            seen += 1;
        }
    }
    assert!(seen > 40, "only {seen} commands were found");
}

/// In running text a command may omit what the sentence is not about, but has no unknown option or value.
#[test]
fn every_command_within_a_sentence_has_options_that_exist() {
    let mut seen = 0;
    for page in pages() {
        let name = page.strip_prefix(root()).unwrap().display().to_string();
        for (number, line) in fs::read_to_string(&page).unwrap().lines().enumerate() {
            // Every second piece is between backticks.
            for span in line.split('`').skip(1).step_by(2).filter(|s| s.starts_with("bitfit ")) {
                let placeholder =
                    |word: &str| word == "…" || word.chars().all(|c| c.is_ascii_uppercase());
                let words = shlex::split(span).unwrap_or_default();
                if words.is_empty() || words.iter().any(|word| placeholder(word)) {
                    continue;
                }
                let error = Cli::from_args(&words).err().map(|error| error.to_string());
                let lacks = ["were not provided", "a value is required"];
                let error = error.filter(|said| !lacks.iter().any(|lack| said.contains(lack)));
                assert_eq!(error, None, "{name}:{}: {span}", number + 1);
                seen += 1;
            }
        }
    }
    assert!(seen > 10, "only {seen} commands were found");
}

#[test]
fn every_example_of_the_help_is_one_that_the_program_takes() {
    let mut seen = 0;
    for command in
        ["", "train", "compare", "sweep", "export", "import", "profile", "completions", "man"]
    {
        let help =
            Finished::of(&mut bitfit(["help", command].iter().filter(|word| !word.is_empty())));
        let help = help.success().stdout;
        let examples = help.lines().skip_while(|line| *line != "Examples:").skip(1);
        let examples = examples.take_while(|line| line.starts_with("  "));
        for example in commands(&format!("help {command}"), (1..).zip(examples)) {
            for call in example.calls() {
                let args = std::iter::once("bitfit".to_owned()).chain(call);
                if let Err(error) = Cli::from_args(args) {
                    panic!("{}: {error}\n  {}", example.place, example.text);
                }
                seen += 1;
            }
        }
    }
    assert!(seen > 20, "only {seen} examples were found");
}

/// A folder with the files that the pages name, all small.
fn small_files() -> Folder {
    let folder = Folder::new();
    masked::checkpoint(&folder, "bert-mlm");
    symlink(folder.path("bert-mlm"), folder.path("bert")).unwrap();
    symlink(fixture("bert"), folder.path("minilm")).unwrap();
    symlink(root().join("scripts"), folder.path("scripts")).unwrap();
    symlink(root().join("tests/fixtures/glue"), folder.path("glue")).unwrap();
    folder.write("reviews.tsv", toy_tsv(40, 2));
    folder.write("other.tsv", toy_tsv(12, 2));
    folder.write("new.tsv", toy_tsv(6, 2));
    folder.write("articles.txt", masked::texts(40));
    folder.write("train.conll", tags::conll(0..24));
    folder.write("dev.conll", tags::conll(24..32));
    folder.write("new.jsonl", "{\"text\": \"they met again\"}\n");
    folder.write("train-v2.0.json", questions::squad(20, true));
    folder.write("dev-v2.0.json", questions::squad(8, true));
    folder.write("questions.jsonl", questions::lines(4, true));
    folder.write("grid.toml", GRID);
    // The program is found as `bitfit` and where cargo puts it.
    fs::create_dir_all(folder.path("target/release")).unwrap();
    symlink(env!("CARGO_BIN_EXE_bitfit"), folder.path("target/release/bitfit")).unwrap();
    folder
}

fn run(folder: &Folder, command: &str, place: &str) {
    let path = std::env::var("PATH").unwrap();
    let path = format!("{}:{path}", folder.path("target/release").display());
    let mut shell = Command::new("sh");
    shell.args(["-c", command]).current_dir(folder.path("")).env("PATH", path);
    let done = Finished::of(shell.env("HF_HUB_OFFLINE", "1"));
    assert_eq!(done.code, Some(0), "{place}: {command}\n{}{}", done.stdout, done.stderr);
}

#[test]
fn the_commands_of_every_page_run_in_their_order() {
    for page in pages() {
        let commands = shown(&page);
        let of_bitfit: Vec<_> = commands.iter().filter(|c| c.calls().next().is_some()).collect();
        let runs: Vec<_> = of_bitfit.iter().filter(|c| c.needs().is_none()).collect();
        if runs.is_empty() {
            continue;
        }
        let folder = small_files();
        let makes =
            |c: &&&&Shown| c.text.contains("--output runs/reviews") && !c.text.contains("--resume");
        let uses = runs.iter().any(|c| c.text.contains("runs/reviews"));
        if uses && !runs.iter().any(|c| makes(&c)) {
            run(&folder, FIRST, "before the page");
        }
        for command in &of_bitfit {
            match command.needs() {
                Some(what) => println!("{}: parsed only, it needs {what}", command.place),
                None => run(&folder, &command.text, &command.place),
            }
        }
    }
}
