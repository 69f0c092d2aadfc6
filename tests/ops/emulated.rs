//! Tests whose CUDA driver is the emulator.
//!
//! Each is a separate process, this binary again with the emulator as its driver: a process has one driver, which reads
//! its settings once. With `BITFIT_TEST_CUDA=1` they run on the machine's own driver instead.

#[path = "driver.rs"]
mod driver;

use std::process::Command;

const CHILD: &str = "BITFIT_TEST_CHILD";
const OWN_DRIVER: &str = "BITFIT_TEST_CUDA";

/// Like [`emulated`], for a test of something that only the emulator can simulate: the machine's own driver skips it.
#[allow(dead_code, reason = "not every test program has such a test")]
pub fn emulated_alone(
    name: &str,
    environment: &[(&str, &str)],
    body: impl FnOnce(),
) -> Option<String> {
    if std::env::var_os(OWN_DRIVER).is_some() {
        println!("skipped: the emulator's alone");
        return None;
    }
    emulated(name, environment, body)
}

/// Runs `body` in a child process on the emulator and returns what it printed; `name` is the test's full name. In the
/// child itself, and on the machine's own driver, runs it here and returns nothing.
pub fn emulated(name: &str, environment: &[(&str, &str)], body: impl FnOnce()) -> Option<String> {
    if std::env::var_os(CHILD).is_some_and(|child| child == name)
        || std::env::var_os(OWN_DRIVER).is_some()
    {
        body();
        return None;
    }
    if !bitfit::backend::cuda::images::built_in() {
        assert!(
            std::env::var_os("BITFIT_REQUIRE_CUDA").is_none_or(|v| v != "1"),
            "BITFIT_REQUIRE_CUDA=1, but this was built without CUDA kernels"
        );
        eprintln!("skipped: built without CUDA kernels; scripts/fetch-cuda gets a compiler");
        return None;
    }
    let output = Command::new(std::env::current_exe().expect("this program has a path"))
        .args([name, "--exact", "--nocapture"])
        .env(CHILD, name)
        .env("LD_LIBRARY_PATH", driver::folder())
        .envs(environment.iter().copied())
        .output()
        .expect("this program starts");
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{name} failed in its process:\n{text}");
    assert!(text.contains("1 passed"), "there is no test {name}:\n{text}");
    println!("{text}");
    Some(text.into_owned())
}
