//! `install DIR`: puts the emulator into its own folder as `libcuda.so` and `libcuda.so.1`, for `LD_LIBRARY_PATH`.
//!
//! It refuses system folders and folders that hold another `libcuda`, so that a real driver is never replaced by
//! accident.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Part of the device's name: it tells the emulator's library from a driver's.
const MARK: &[u8] = b"CUDA emulator";
const NAMES: [&str; 2] = ["libcuda.so.1", "libcuda.so"];

fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1);
    let (Some(folder), None) = (args.next(), args.next()) else {
        eprintln!("usage: install DIR");
        return ExitCode::from(2);
    };
    match install(Path::new(&folder)) {
        Ok(folder) => {
            println!(
                "The emulator is in {0}. To run a program on it:\n  LD_LIBRARY_PATH={0} PROGRAM",
                folder.display()
            );
            ExitCode::SUCCESS
        }
        Err(message) => {
            eprintln!("install: {message}");
            ExitCode::FAILURE
        }
    }
}

fn install(folder: &Path) -> Result<PathBuf, String> {
    let library = library()?;
    let failed = |error: std::io::Error| format!("{}: {error}", folder.display());
    // Before the folder is created, and again after, when links in its path can be followed.
    refuse_system(&std::path::absolute(folder).map_err(failed)?)?;
    std::fs::create_dir_all(folder).map_err(failed)?;
    let folder = folder.canonicalize().map_err(failed)?;
    refuse_system(&folder)?;
    for name in NAMES {
        let path = folder.join(name);
        if path.exists() && !is_emulator(&path)? {
            return Err(format!("{} exists and is not the emulator", path.display()));
        }
        // Removed first: writing through a link, or into a library that a program has mapped, must not happen.
        if path.symlink_metadata().is_ok() {
            std::fs::remove_file(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        }
    }
    let target = folder.join(NAMES[0]);
    std::fs::copy(&library, &target).map_err(|error| format!("{}: {error}", target.display()))?;
    link(NAMES[0], &folder.join(NAMES[1]))?;
    Ok(folder)
}

fn refuse_system(folder: &Path) -> Result<(), String> {
    let system = ["/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib", "/usr/local/cuda"];
    if system.iter().any(|root| folder.starts_with(root)) {
        return Err(format!("{} is a system folder; choose another", folder.display()));
    }
    Ok(())
}

/// The shared library that cargo built next to this program.
fn library() -> Result<PathBuf, String> {
    let own = std::env::current_exe().map_err(|error| error.to_string())?;
    let beside = own.parent().unwrap_or(Path::new("."));
    ["libemulator.so", "deps/libemulator.so"]
        .iter()
        .map(|name| beside.join(name))
        .find(|path| path.exists())
        .ok_or_else(|| {
            format!(
                "no libemulator.so in {}; build with `cargo build -p emulator`",
                beside.display()
            )
        })
}

fn is_emulator(path: &Path) -> Result<bool, String> {
    let bytes = std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(bytes.windows(MARK.len()).any(|window| window == MARK))
}

#[cfg(unix)]
fn link(to: &str, at: &Path) -> Result<(), String> {
    std::os::unix::fs::symlink(to, at).map_err(|error| format!("{}: {error}", at.display()))
}

#[cfg(not(unix))]
fn link(_to: &str, at: &Path) -> Result<(), String> {
    Err(format!("{}: the emulator's library is for Unix", at.display()))
}
