//! The arguments of `completions` and `man`.

use clap::Args;
use clap_complete::Shell;
use std::path::PathBuf;

/// Arguments of `completions`.
#[derive(Debug, Clone, Args)]
#[command(after_help = COMPLETIONS)]
pub struct CompletionsArgs {
    /// The shell
    pub shell: Shell,
}

const COMPLETIONS: &str = "\
Examples:
  bitfit completions bash > ~/.local/share/bash-completion/completions/bitfit
  bitfit completions zsh > ~/.zfunc/_bitfit
  bitfit completions fish > ~/.config/fish/completions/bitfit.fish";

/// Arguments of `man`.
#[derive(Debug, Clone, Args)]
#[command(after_help = MAN)]
pub struct ManArgs {
    /// Write the program's page and one per command to this folder, instead of printing the program's page
    #[arg(long, value_name = "FOLDER")]
    pub output: Option<PathBuf>,
}

const MAN: &str = "\
Examples:
  bitfit man | man -l -
  bitfit man --output ~/.local/share/man/man1";
