//! What shells and `man` get of the command line.

use crate::common::*;
use std::fs;
use std::process::{Command, Stdio};

const COMMANDS: [&str; 6] = ["train", "sweep", "predict", "merge", "doctor", "completions"];

#[test]
fn every_shell_gets_a_script_that_knows_commands_and_options() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = Finished::of(&mut bitfit(["completions", shell])).success().stdout;
        for word in COMMANDS.into_iter().chain(["batch-size", "dev-fraction"]) {
            assert!(script.contains(word), "{shell}: {word}");
        }
    }
    let unknown = Finished::of(&mut bitfit(["completions", "tcsh"]));
    assert_eq!(unknown.code, Some(2), "{}", unknown.stderr);
    assert!(unknown.stderr.contains("zsh"), "{}", unknown.stderr);
}

/// Asks bash itself what it would offer.
#[test]
fn bash_completes_commands_and_values() {
    if Command::new("bash").arg("--version").stdout(Stdio::null()).status().is_err() {
        return;
    }
    let folder = Folder::new();
    let script = Finished::of(&mut bitfit(["completions", "bash"])).success().stdout;
    let script = folder.write("bitfit.bash", script);
    let offered = |words: &str| {
        let ask = format!(
            "source {}; COMP_WORDS=({words}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); \
             _bitfit bitfit \"${{COMP_WORDS[COMP_CWORD]}}\" \"${{COMP_WORDS[COMP_CWORD - 1]}}\"; echo \"${{COMPREPLY[@]}}\"",
            script.display()
        );
        Finished::of(Command::new("bash").args(["-c", &ask])).success().stdout
    };
    assert_eq!(offered("bitfit tr").trim(), "train");
    assert_eq!(offered("bitfit train --batch-s").trim(), "--batch-size");
    assert_eq!(offered("bitfit train --weights i").trim(), "int8");
}

#[test]
fn there_is_a_manual_page_per_command() {
    let page = Finished::of(&mut bitfit(["man"])).success().stdout;
    assert!(page.starts_with(".ie") && page.contains(".TH bitfit 1"), "{page}");
    let folder = Folder::new();
    let pages = folder.path("man1");
    Finished::of(bitfit(["man", "--output"]).arg(&pages)).success();
    assert!(!pages.join("bitfit-help.1").exists());
    for command in COMMANDS {
        let page = fs::read_to_string(pages.join(format!("bitfit-{command}.1"))).unwrap();
        assert!(page.contains(&format!(".TH bitfit-{command} 1")), "{page}");
    }
    let train = fs::read_to_string(pages.join("bitfit-train.1")).unwrap();
    assert!(train.contains(r"\fBbitfit train\fR") && train.contains("batch"), "{train}");
}
