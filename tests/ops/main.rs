//! One table of cases for every backend, checked against an f64 oracle; the oracle's gradients against finite
//! differences.

mod activate_cases;
mod attention_cases;
mod cases;
mod codes;
mod columns_cases;
mod cuda;
mod cuda_cases;
mod differences;
mod emulated;
mod far;
mod first_cases;
mod full_cases;
mod head_cases;
mod hopper;
mod linear_cases;
mod norm_cases;
mod optimizer;
mod oracle;
mod refused;
mod rig;
mod scale_cases;
mod sparse_cases;
mod table;
mod words_cases;

use bitfit::backend::cpu::{Arithmetic, CpuBackend};
use bitfit::backend::{Backend, WeightType};
use cases::{Case, Kind, Outcome};
use rig::Rounding;

/// Largest ‖got - want‖/‖want‖ of one tensor.
#[derive(Clone, Copy)]
struct Tolerance {
    activation: f64,
    f32: f64,
}

/// ‖got - want‖/‖want‖, or the plain norm if only zeros are expected. NaN stays NaN.
fn error(got: &[f32], want: &[f64]) -> f64 {
    assert_eq!(got.len(), want.len());
    let square = |sum: f64, x: f64| sum + x * x;
    let difference = got.iter().zip(want).map(|(g, w)| f64::from(*g) - w).fold(0.0, square);
    let norm = want.iter().copied().fold(0.0, square);
    (if norm > 0.0 { difference / norm } else { difference }).sqrt()
}

/// Runs the table on a backend and collects every tensor that is too far off.
fn agree<B: Backend>(cases: &[Case], new: impl Fn(WeightType) -> B, tolerance: Tolerance) {
    let mut wrong = Vec::new();
    let mut worst: f64 = 0.0;
    for case in cases {
        for Outcome { name, got, want, f32, .. } in cases::run(case, new(case.weights)) {
            let bound = if f32 { tolerance.f32 } else { tolerance.activation };
            let error = error(&got, &want);
            worst = worst.max(error);
            if error.is_nan() || error >= bound {
                wrong.push(format!("{name} is off by {error:.2e} in {case:?}"));
            }
        }
    }
    println!("largest relative error: {worst:.2e}");
    assert!(wrong.is_empty(), "{} tensors:\n{}", wrong.len(), wrong.join("\n"));
}

/// Largest ‖got - want‖/‖want‖ of a tensor: twice the error of a straightforward implementation in the same 16-bit type
/// (`Outcome::straight`), plus what f32 sums may add to it.
///
/// For a tensor core that truncates sums at 24 bits, eight products at a time, this is enough: values stored in 16 bits
/// have all of their own rounding (1.4e-4 in f16) as a margin, and values stored in f32 are sums over at most 129 rows,
/// 17 truncated sums of nine numbers, each of which loses less than 2⁻²³: 1.8e-5 if all were as large as the result and
/// lost the most. `tensor_cores_that_truncate_stay_within_the_bounds` runs it.
fn bound(outcome: &Outcome) -> f64 {
    let straight: Vec<f32> = outcome.straight.iter().map(|&v| v as f32).collect();
    2.0 * error(&straight, &outcome.want) + 2e-5
}

const CPU: Tolerance = Tolerance { activation: 1e-5, f32: 1e-5 };

#[test]
fn cpu_agrees_with_the_oracle_in_every_case() {
    agree(&table::table(), CpuBackend::new, CPU);
}

/// Every `step`-th case of each operation.
fn sample(step: usize) -> Vec<Case> {
    let mut counts = std::collections::HashMap::new();
    let mut cases = table::table();
    cases.retain(|case| {
        let count: &mut usize = counts.entry(std::mem::discriminant(&case.kind)).or_default();
        *count += 1;
        (*count - 1).is_multiple_of(step)
    });
    cases
}

#[test]
fn cpu_agrees_with_the_oracle_in_a_sample() {
    agree(&sample(11), CpuBackend::new, CPU);
    agree_in_bf16(&sample(11));
}

fn in_bf16(case: &Case) -> Vec<Outcome> {
    let activation = |v| half::bf16::from_f32(v).to_f32();
    let rounding = Rounding { matrix: cases::as_stored(case.weights), activation };
    cases::run_rounding(case, CpuBackend::computing(Arithmetic::Bf16, case.weights), rounding)
}

/// Matrices train only in f32.
fn is_in_bf16(case: &Case) -> bool {
    !matches!(case.kind, Kind::WeightGrad { .. } | Kind::EmbedBackward { tables: true, .. })
}

fn agree_in_bf16(cases: &[Case]) {
    let mut wrong = Vec::new();
    for case in cases.iter().filter(|case| is_in_bf16(case)) {
        for outcome in in_bf16(case) {
            // With few elements, the yardstick's own error is luck.
            let least = if outcome.want.len() < 8 { f64::powi(2.0, -9) } else { 0.0 };
            let (error, bound) = (error(&outcome.got, &outcome.want), bound(&outcome).max(least));
            if error.is_nan() || error >= bound {
                let name = outcome.name;
                wrong.push(format!("{name} is off by {error:.2e}, bound {bound:.2e}, in {case:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{} tensors:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn cpu_in_bf16_agrees_with_the_oracle_in_every_case() {
    agree_in_bf16(&table::table());
}

/// The instruction set is chosen once per process, so lower ones are tested in separate processes.
#[test]
fn cpu_agrees_with_the_oracle_on_lesser_instruction_sets() {
    for level in ["portable", "avx2", "avx512"] {
        let run = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "cpu_agrees_with_the_oracle_in_a_sample"])
            .env("BITFIT_SIMD", level)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&run.stdout);
        assert!(run.status.success() && said.contains("1 passed"), "{level}: {said}");
    }
}

fn bits(case: &Case, threads: usize) -> Vec<u32> {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
    let outcomes = pool.install(|| {
        let mut outcomes = cases::run(case, CpuBackend::new(case.weights));
        if is_in_bf16(case) {
            outcomes.extend(in_bf16(case));
        }
        outcomes
    });
    outcomes.iter().flat_map(|o| o.got.iter().map(|x| x.to_bits())).collect()
}

#[test]
fn cpu_results_are_identical_from_run_to_run_and_for_any_number_of_threads() {
    for case in &sample(11) {
        let once = bits(case, 1);
        assert_eq!(once, bits(case, 1), "two runs differ in {case:?}");
        for threads in [2, 3] {
            assert_eq!(once, bits(case, threads), "1 and {threads} threads differ in {case:?}");
        }
    }
}
