//! Ranks that share one GPU, simulated by the emulator. In `tests/mpi.rs` each rank has its own GPU.

use crate::emulated::emulated;
use crate::fixture::{CASES, Case, MASKED};
use crate::{Trained, differences, take_steps, together};
use bitfit::backend::Backend;
use bitfit::backend::cuda::{CudaBackend, CudaOptions, HalfType, LossScale};
use bitfit::methods::Trains;
use bitfit::ranks::{Alone, Ranks};
use std::rc::Rc;

const STEPS: u64 = 7;

// Without recordings: threads share one context, which must not synchronise while another records. Processes do not.

fn train(case: &Case, options: CudaOptions, ranks: Rc<dyn Ranks>) -> Trained {
    let backend: Box<dyn Backend> =
        Box::new(CudaBackend::new(options).unwrap_or_else(|e| panic!("{e:#}")));
    take_steps(STEPS, case, Trains::all_biases(), backend, ranks, None)
}

#[test]
fn ranks_that_share_a_gpu_train_as_one_process() {
    let name = "on_cuda::ranks_that_share_a_gpu_train_as_one_process";
    emulated(name, &[], || {
        let options = CudaOptions { graphs: false, ..CudaOptions::new(0, HalfType::Bf16) };
        for case in [&CASES[0], &MASKED[0]] {
            let one = train(case, options, Rc::new(Alone));
            let several = together(2, move |ranks| train(case, options, ranks));
            let first = (one.losses[0] - several.losses[0]).abs() / one.losses[0];
            assert!(first < 1e-6, "{}: the first losses differ by {first:.1e}", case.files);
            let (loss, _) = differences(&one, &several);
            assert!(loss < 4e-3, "{}: losses differ by {loss:.1e}", case.files);
            let again = together(2, move |ranks| train(case, options, ranks));
            assert_eq!(again, several, "{}: other bits in another run", case.files);
        }
    });
}

#[test]
fn an_overflow_on_one_rank_skips_the_step_on_all() {
    let name = "on_cuda::an_overflow_on_one_rank_skips_the_step_on_all";
    emulated(name, &[], || {
        // So high that 16-bit gradients overflow until it has come down.
        let options = CudaOptions {
            loss_scale: LossScale::Dynamic { initial: 16_777_216.0, growth_interval: 2000 },
            graphs: false,
            ..CudaOptions::new(0, HalfType::F16)
        };
        // `together` compares the ranks' values.
        let several = together(2, move |ranks| train(&CASES[0], options, ranks));
        let one = train(&CASES[0], options, Rc::new(Alone));
        let (loss, _) = differences(&one, &several);
        assert!(loss < 4e-3, "losses differ by {loss:.1e}");
    });
}
