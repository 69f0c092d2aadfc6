//! What a run may be called: its name is used for a folder, a row of a table and a label in a picture.

use crate::train::lock::LOCK_FILE;

/// Most letters in a run's name. Files next to its folder have the name plus a suffix, and file systems allow 255.
const LONGEST: usize = 120;

/// Files and folders of a sweep other than those of its runs.
const OF_A_SWEEP: [&str; 3] = ["answers", "pictures", LOCK_FILE];
/// Further ones, by prefix and by suffix.
const BEGINNINGS: [&str; 2] = ["sweep.", "report."];
const ENDINGS: [&str; 2] = [".log", ".toml"];

/// Whether a letter is allowed in names on every file system.
fn plain(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || "+-_.".contains(letter)
}

/// Checks that a name consists of letters that all file systems allow.
///
/// # Errors
/// What is wrong with it, as a sentence.
pub(super) fn of_plain_letters(name: &str) -> Result<(), String> {
    if name.is_empty() || name.starts_with('.') || !name.chars().all(plain) {
        return Err(format!(
            "`{name}` cannot be a run's name: use letters, digits and + - _ . as in `full-2`"
        ));
    }
    Ok(())
}

/// Checks that a run of a sweep can have this name.
///
/// # Errors
/// What is wrong with it, as a sentence.
pub(super) fn in_a_sweep(name: &str) -> Result<(), String> {
    of_plain_letters(name)?;
    if name.len() > LONGEST {
        return Err(format!(
            "the run's name would have {} letters, more than {LONGEST}: `{name}`; put the long values into a [[variant]] \
             with a short name",
            name.len()
        ));
    }
    // Some file systems ignore case.
    let lower = name.to_ascii_lowercase();
    if OF_A_SWEEP.contains(&lower.as_str())
        || BEGINNINGS.iter().any(|beginning| lower.starts_with(beginning))
        || ENDINGS.iter().any(|ending| lower.ends_with(ending))
    {
        return Err(format!(
            "`{name}` cannot be a run's name: the sweep's folder has files of that name"
        ));
    }
    Ok(())
}

/// The name of a run: its variant and the values that distinguish it from the variant's other runs.
pub(super) fn made_of<'a>(
    variant: &str,
    values: impl Iterator<Item = (&'a str, &'a str)>,
) -> String {
    let letter = |c: char| match c {
        c if plain(c) => c,
        ',' => '+',
        _ => '_',
    };
    values.fold(variant.to_owned(), |name, (option, value)| {
        let value: String = value.chars().map(letter).collect();
        format!("{name}-{option}{value}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_a_folder_on_every_file_system() {
        for name in ["full", "qi-lr3e-5-seed2", "a.json", "summary", "Sweep"] {
            assert_eq!(in_a_sweep(name), Ok(()), "{name}");
        }
        for name in ["", ".", "..", ".a", "a/b", "a b", "ä", "a\\b", "a:b"] {
            assert!(in_a_sweep(name).unwrap_err().contains("cannot be a run's name"), "{name}");
        }
        let taken =
            ["answers", "Pictures", "run.lock", "sweep.jsonl", "SWEEP.md", "report.html", "a.log"];
        for name in taken {
            assert!(in_a_sweep(name).unwrap_err().contains("has files of that name"), "{name}");
        }
        assert!(in_a_sweep(&"x".repeat(121)).unwrap_err().contains("121 letters"));
    }

    #[test]
    fn values_become_part_of_a_name() {
        let values = [("biases", "query,key@2"), ("train", "data/a.tsv"), ("lr", "1e-3")];
        assert_eq!(made_of("v", values.into_iter()), "v-biasesquery+key_2-traindata_a.tsv-lr1e-3");
        assert_eq!(made_of("v", std::iter::empty()), "v");
    }
}
