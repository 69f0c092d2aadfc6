//! Places the emulator where a program under test finds it as its CUDA driver.

use std::path::PathBuf;

/// A folder that holds the emulator under the driver's names.
pub fn folder() -> PathBuf {
    let own = std::env::current_exe().expect("this program has a path");
    let library = own.with_file_name("libemulator.so");
    assert!(library.exists(), "{} is built with the tests", library.display());
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("cuda-driver");
    std::fs::create_dir_all(&folder).expect("a folder for the tests");
    for name in ["libcuda.so", "libcuda.so.1"] {
        // Another test may be making the same link, so it is created under a unique name and renamed in one step.
        let thread = std::thread::current().id();
        let fresh = folder.join(format!("{name}.{}.{thread:?}", std::process::id()));
        let _ = std::fs::remove_file(&fresh);
        std::os::unix::fs::symlink(&library, &fresh).expect("a link to the emulator");
        std::fs::rename(&fresh, folder.join(name)).expect("the link's name");
    }
    folder
}
