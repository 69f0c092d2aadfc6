//! `bitfit completions` and `bitfit man`: the command line's description for a shell and for `man`, generated from its
//! arguments.

use crate::cli::{Cli, CompletionsArgs, ManArgs};
use crate::files::{write_bytes_atomic, write_stdout};
use anyhow::{Context, Result};
use clap::CommandFactory;
use clap_mangen::Man;

pub fn completions(args: &CompletionsArgs) -> Result<()> {
    let mut script = Vec::new();
    let mut command = Cli::command();
    let name = command.get_name().to_owned();
    clap_complete::generate(args.shell, &mut command, name, &mut script);
    print(&script)
}

pub fn man(args: &ManArgs) -> Result<()> {
    // Once built, each command has its full name, `bitfit train`, and its page's name, `bitfit-train`.
    let mut program = Cli::command().disable_help_subcommand(true);
    program.build();
    let Some(folder) = &args.output else {
        return print(&page(&Man::new(program))?);
    };
    std::fs::create_dir_all(folder)
        .with_context(|| format!("cannot create {}", folder.display()))?;
    let commands: Vec<_> = program.get_subcommands().cloned().collect();
    for command in commands.into_iter().chain([program]) {
        let man = Man::new(command);
        write_bytes_atomic(&folder.join(man.get_filename()), &page(&man)?)?;
    }
    Ok(())
}

fn page(man: &Man) -> Result<Vec<u8>> {
    let mut page = Vec::new();
    man.render(&mut page).context("cannot make a manual page")?;
    Ok(page)
}

fn print(text: &[u8]) -> Result<()> {
    write_stdout(|out| Ok(out.write_all(text)?))
}
