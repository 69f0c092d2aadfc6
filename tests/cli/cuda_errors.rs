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

#[test]
fn a_gpu_that_auto_passes_over_is_named_with_the_reason() {
    if !kernels() {
        return;
    }
    let folder = Folder::new();
    let on = |setting: (&str, &str), device: &str| {
        let mut command = train(&folder, &format!("--device {device}"));
        command.env("LD_LIBRARY_PATH", driver::folder()).env(setting.0, setting.1);
        let said = Finished::of(&mut command).success().stderr;
        std::fs::remove_dir_all(folder.path("run")).unwrap();
        said
    };
    let auto = "--device auto uses the CPU: ";
    for (setting, reason) in [
        (("CUDA_EMULATOR_DRIVER", "12.4"), "supports CUDA 12.4"),
        (("CUDA_EMULATOR_CAPABILITY", "7.5"), "compute capability 7.5"),
    ] {
        let said = on(setting, "auto");
        let lines: Vec<&str> = said.lines().filter(|line| line.contains(auto)).collect();
        assert!(lines.len() == 1 && lines[0].contains(reason), "{said}");
        // Whoever asks for the CPU, or has no GPU, misses none.
        assert!(!on(setting, "cpu").contains(auto));
    }
    assert!(!on(("CUDA_EMULATOR_DEVICES", "0"), "auto").contains(auto));
}

#[test]
fn a_forward_pass_beyond_f16_is_an_error_at_once() {
    if !kernels() {
        return;
    }
    let folder = Folder::new();
    let model = folder.copy_of("bert");
    edit_tensors(&model.join("model.safetensors"), |tensors, _| {
        let bias = tensors.get_mut("bert.encoder.layer.0.output.dense.bias").unwrap();
        bias.bytes[..4].copy_from_slice(&1e5f32.to_le_bytes());
    });
    let data = folder.write("toy.tsv", toy_tsv(12, 2));
    let run = |precision: &str| {
        let options = format!("--steps 3 --batch-size 4 --device cuda --precision {precision}");
        let mut command = bitfit(train_args(&model, &data, &folder.path(precision), &options));
        Finished::of(command.env("LD_LIBRARY_PATH", driver::folder()))
    };
    run("bf16").success();
    run("f16").fails(1, &["the loss is not finite at step 1", "65504", "--precision bf16"]);
    assert!(metrics(&folder.path("f16")).is_empty(), "no step is logged");
}

#[test]
fn a_run_in_f16_whose_every_gradient_overflows_does_not_end_as_if_it_had_trained() {
    if !kernels() {
        return;
    }
    let folder = Folder::new();
    // The loss is finite; its gradient needs a loss scale far below the initial one.
    let data = folder.write("far.tsv", "text\tlabel\ngood\t10000\nbad\t-10000\n");
    let run = |name: &str, steps: u64| {
        let options = format!(
            "--task regression --steps {steps} --batch-size 2 --device cuda --precision f16"
        );
        let mut command = bitfit(train_args(&fixture("bert"), &data, &folder.path(name), &options));
        Finished::of(command.env("LD_LIBRARY_PATH", driver::folder()))
    };
    let said = ["nothing was trained", "each of the 2 steps", "--precision bf16"];
    run("short", 2).fails(1, &said);
    // It does not end well by being continued.
    let mut resume = bitfit(["train", "--resume", "--output"]);
    let resume = resume.arg(folder.path("short")).env("LD_LIBRARY_PATH", driver::folder());
    Finished::of(resume).fails(1, &said);
    run("long", 20).success();
}

#[test]
fn a_rank_that_the_kernels_do_not_have_is_refused_by_its_option() {
    if !kernels() {
        return;
    }
    let folder = Folder::new();
    let lora = "--method lora --lora-rank 4";
    let said = "--lora-rank 4: the CUDA kernels need a multiple of 8";
    let mut command = train(&folder, &format!("--device cuda {lora}"));
    Finished::of(command.env("LD_LIBRARY_PATH", driver::folder())).fails(2, &[said]);
    for name in ["plan", "profile"] {
        let mut command = bitfit([name, "--device", "cuda", "--model"]);
        command.arg(fixture("bert")).args(lora.split(' '));
        Finished::of(command.env("LD_LIBRARY_PATH", driver::folder())).fails(2, &[said]);
    }
}
