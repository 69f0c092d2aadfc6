//! Tests whose CUDA driver is the emulator.
//!
//! Each is a process of its own, this binary again with the emulator as its driver: a process has one driver,
//! which reads its settings once. With `BITFIT_TEST_CUDA=1` they run on the machine's own driver instead.

use std::path::PathBuf;
use std::process::Command;

const CHILD: &str = "BITFIT_TEST_CHILD";
const OWN_DRIVER: &str = "BITFIT_TEST_CUDA";

/// A folder that holds the emulator under the driver's names.
fn driver_folder() -> PathBuf {
    let own = std::env::current_exe().expect("this program has a path");
    let library = own.with_file_name("libemulator.so");
    assert!(
        library.exists(),
        "{} is built with the tests",
        library.display()
    );
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("cuda-driver");
    std::fs::create_dir_all(&folder).expect("a folder for the tests");
    for name in ["libcuda.so", "libcuda.so.1"] {
        // Another test may be making the same link, so it is put in place in one step under a name of its own.
        let thread = std::thread::current().id();
        let fresh = folder.join(format!("{name}.{}.{thread:?}", std::process::id()));
        let _ = std::fs::remove_file(&fresh);
        std::os::unix::fs::symlink(&library, &fresh).expect("a link to the emulator");
        std::fs::rename(&fresh, folder.join(name)).expect("the link's name");
    }
    folder
}

/// Runs `body` in a child process on the emulator and returns what it printed; `name` is the test's full name. In
/// the child itself, and on the machine's own driver, runs it here and returns nothing.
pub fn emulated(name: &str, environment: &[(&str, &str)], body: impl FnOnce()) -> Option<String> {
    if std::env::var_os(CHILD).is_some_and(|child| child == name)
        || std::env::var_os(OWN_DRIVER).is_some()
    {
        body();
        return None;
    }
    if !bitfit::backend::cuda::images::built_in() {
        eprintln!("skipped: built without CUDA kernels; scripts/fetch-cuda gets a compiler");
        return None;
    }
    let output = Command::new(std::env::current_exe().expect("this program has a path"))
        .args([name, "--exact", "--nocapture"])
        .env(CHILD, name)
        .env("LD_LIBRARY_PATH", driver_folder())
        .envs(environment.iter().copied())
        .output()
        .expect("this program starts");
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{name} failed in its process:\n{text}"
    );
    assert!(
        text.contains("1 passed"),
        "there is no test {name}:\n{text}"
    );
    println!("{text}");
    Some(text.into_owned())
}
