//! What the ranks of a run agree on before they work together: threads, and identical inputs.

use crate::error::OfAllRanks;
use crate::files::sha256_file;
use crate::formats::fingerprint::Fingerprint;
use crate::ranks::Ranks;
use anyhow::{Context, Result, bail};
use std::collections::BTreeMap;
use std::io::{self, Read};
use std::rc::Rc;

/// Default threads per rank: its share of the processors it may use.
///
/// # Errors
/// If another rank is gone.
pub fn threads_each(ranks: &dyn Ranks) -> Result<usize> {
    let mine = format!("{} {}", ranks.host(), allowed_processors());
    let all = ranks.gather(mine.as_bytes())?;
    let sharing = all.iter().filter(|other| other.as_slice() == mine.as_bytes()).count();
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    Ok((processors / sharing.max(1)).max(1))
}

/// The processors that this process may use: a launcher may bind each rank to some of its own.
fn allowed_processors() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    list.unwrap_or_default().trim().to_owned()
}

/// Stops if ranks run different commands.
///
/// # Errors
/// Which commands; a rank that is gone.
pub fn same_command(ranks: &dyn Ranks, name: &str) -> Result<()> {
    let commands = ranks.gather(name.as_bytes())?;
    match commands.iter().position(|other| *other != commands[0]) {
        None => Ok(()),
        Some(rank) => {
            let of = |rank: usize| String::from_utf8_lossy(&commands[rank]).into_owned();
            bail!(OfAllRanks::new(format!(
                "rank {rank} runs `{}`, and rank 0 `{}`: all ranks need the same command",
                of(rank),
                of(0)
            )))
        }
    }
}

/// Stops if a rank would compute something different from the first. All ranks then end in the same way.
///
/// # Errors
/// Which rank, and the difference; a rank that is gone.
pub fn agree(ranks: &dyn Ranks, what: &Fingerprint) -> Result<()> {
    if !ranks.several() {
        return Ok(());
    }
    let program = std::env::current_exe().context("cannot find this program's own file")?;
    let mine = what.clone().with("program", &sha256_file(&program)?);
    let of_first: Fingerprint =
        serde_json::from_slice(&ranks.broadcast(&serde_json::to_vec(&mine)?)?)?;
    let differences = mine.differences_between(&of_first, ("is", "on rank 0, and there"));
    let complaint = differences.map_or(String::new(), |differences| {
        let (rank, host) = (ranks.share().rank, ranks.host());
        format!(
            "rank {rank} on {host} differs from rank 0: {differences}; all ranks need the same program, files and \
             options"
        )
    });
    let complaints = ranks.gather(complaint.as_bytes())?;
    match complaints.into_iter().find(|complaint| !complaint.is_empty()) {
        None => Ok(()),
        Some(first) => bail!(OfAllRanks::new(String::from_utf8_lossy(&first))),
    }
}

/// How many ranks there are, and where: `4 ranks: 2 on a, 2 on b`.
///
/// # Errors
/// If another rank is gone.
pub fn describe(ranks: &dyn Ranks) -> Result<String> {
    let mut hosts: BTreeMap<Vec<u8>, usize> = BTreeMap::new();
    for host in ranks.gather(ranks.host().as_bytes())? {
        *hosts.entry(host).or_default() += 1;
    }
    let each = hosts
        .iter()
        .map(|(host, count)| format!("{count} on {}", String::from_utf8_lossy(host)))
        .collect::<Vec<_>>();
    Ok(format!("{} ranks: {}", ranks.share().of, each.join(", ")))
}

/// An input that the first rank reads and shares with all.
pub struct SharedInput<'a> {
    pub ranks: Rc<dyn Ranks>,
    /// The first rank's.
    pub input: Option<Box<dyn Read + 'a>>,
}

impl Read for SharedInput<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        // A byte says whether it could be read, followed by the contents or the error.
        let mine = match &mut self.input {
            None => Vec::new(),
            Some(input) => match input.read(into) {
                Ok(count) => [&[1], &into[..count]].concat(),
                Err(error) => [&[0], error.to_string().as_bytes()].concat(),
            },
        };
        let bytes = self.ranks.broadcast(&mine).map_err(io::Error::other)?;
        match bytes.split_first() {
            Some((1, bytes)) if bytes.len() <= into.len() => {
                into[..bytes.len()].copy_from_slice(bytes);
                Ok(bytes.len())
            }
            Some((0, message)) => Err(io::Error::other(String::from_utf8_lossy(message))),
            _ => Err(io::Error::other("the ranks do not read the same input")),
        }
    }
}
