//! What can be wrong with a GPU and its driver, simulated by the emulator: each is one clear error and exit code 1.
#![cfg(unix)]

use crate::common::*;
use crate::on_cuda::{driver, kernels};
use std::process::Command;

/// One step on toy data with these options.
fn train(folder: &Folder, options: &str) -> Command {
    let data = folder.write("toy.tsv", toy_tsv(12, 2));
    let output = folder.path("run");
    let options = format!("--steps 1 --batch-size 4 {options}");
    bitfit(train_args(&fixture("bert"), &data, &output, &options))
}

/// Trains on an emulated device with these settings of the emulator; the error must have all the `parts`.
fn fails_on(settings: &[(&str, &str)], options: &str, parts: &[&str]) {
    if !kernels() {
        return;
    }
    let folder = Folder::new();
    let mut command = train(&folder, options);
    command.env("LD_LIBRARY_PATH", driver::folder()).envs(settings.iter().copied());
    Finished::of(&mut command).fails(1, parts);
}

/// What is set for measuring and tests is refused like an option, before anything runs.
#[test]
fn variables_with_values_that_do_not_exist() {
    let folder = Folder::new();
    let on = |device: &str, (name, value): (&str, &str)| {
        let mut command = train(&folder, &format!("--device {device}"));
        command.env("LD_LIBRARY_PATH", driver::folder()).env(name, value);
        Finished::of(&mut command)
    };
    on("cpu", ("BITFIT_SIMD", "avx")).fails(2, &["BITFIT_SIMD", "\"avx\"", "`avx2`"]);
    if kernels() {
        on("cuda", ("BITFIT_KERNELS", "Portable")).fails(2, &["BITFIT_KERNELS", "`portable`"]);
        on("cuda", ("BITFIT_CUDA_CODE", "cubin")).fails(2, &["BITFIT_CUDA_CODE", "`ptx`"]);
    }
}

#[test]
fn no_driver() {
    if !kernels() {
        return;
    }
    let folder = Folder::new();
    let nothing = folder.path("no-driver");
    std::fs::create_dir(&nothing).unwrap();
    for name in ["libcuda.so", "libcuda.so.1"] {
        std::fs::write(nothing.join(name), "not a library").unwrap();
    }
    let on = |device: &str| {
        let mut command = train(&folder, &format!("--device {device}"));
        command.env("LD_LIBRARY_PATH", &nothing);
        Finished::of(&mut command)
    };
    on("cuda").fails(1, &["no NVIDIA driver", "libcuda.so.1", "use the CPU"]);
    on("auto").success();
}

#[test]
fn a_driver_older_than_the_kernels() {
    fails_on(
        &[("CUDA_EMULATOR_DRIVER", "12.4")],
        "--device cuda",
        &["supports CUDA 12.4", "update the driver"],
    );
}

#[test]
fn a_driver_without_a_device() {
    fails_on(
        &[("CUDA_EMULATOR_DEVICES", "0")],
        "--device cuda",
        &["sees no CUDA device", "CUDA_VISIBLE_DEVICES"],
    );
}

#[test]
fn a_device_that_is_too_old() {
    fails_on(
        &[("CUDA_EMULATOR_CAPABILITY", "7.5")],
        "--device cuda",
        &["compute capability 7.5", "8.0", "use the CPU"],
    );
}

#[test]
fn a_device_that_is_not_there() {
    fails_on(&[], "--device cuda:3", &["no CUDA device 3", "the driver sees 1"]);
}

#[test]
fn kernels_that_the_driver_cannot_load() {
    fails_on(&[("CUDA_EMULATOR_PTX", "7.0")], "--device cuda", &["cannot load", ".cu", "PTX"]);
}
