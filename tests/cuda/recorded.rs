//! Recorded steps, and batches that are uploaded alongside them.

use super::*;

/// Batches of several sizes and kinds of step, recorded and not; the reports are read at once and one step late.
#[test]
fn recorded_steps_give_the_bits_of_issued_ones() {
    emulated("recorded::recorded_steps_give_the_bits_of_issued_ones", &[], || {
        for family in [MODELS[0], WORDS] {
            recorded_as_issued(family);
        }
    });
}

fn recorded_as_issued((model, kind, pooling, outputs): Family) {
    let new = |graphs| {
        let options = CudaOptions { graphs, ..CudaOptions::new(0, HalfType::Bf16) };
        let backend = CudaBackend::new(options).unwrap_or_else(|e| panic!("{e:#}"));
        Run::new(model, kind, pooling, outputs, backend)
    };
    let (mut issued, mut recorded) = (new(false), new(true));
    let expected: Vec<StepReport> = (0..STEPS).map(|_| issued.step()).collect();
    let mut reports = Vec::new();
    let mut before = None;
    for _ in 0..STEPS {
        let pending = recorded.issue();
        reports.extend(before.map(|b| recorded.backend.wait_report(b).unwrap()));
        before = Some(pending);
    }
    reports.extend(before.map(|b| recorded.backend.wait_report(b).unwrap()));
    assert_eq!(reports, expected);
    for (a, b) in issued.state().iter().zip(&recorded.state()) {
        assert_eq!(bits(a), bits(b));
    }
    assert_eq!(issued.backend.recordings(), 0);
    let recordings = recorded.backend.recordings();
    assert!((3..STEPS).contains(&recordings), "{recordings} recordings for {STEPS} steps");
}

/// Steps of the test above: one batch and two in turn.
const STEPS: usize = 16;

/// The gradient of six batches, each announced while the previous steps are queued, or after they are done.
#[test]
fn a_batch_goes_up_beside_the_step_before_it_and_changes_no_bit_of_it() {
    let name = "recorded::a_batch_goes_up_beside_the_step_before_it_and_changes_no_bit_of_it";
    let said = emulated(name, &[("CUDA_EMULATOR_TRACE", "1")], || {
        let (model, kind, pooling, outputs) = MODELS[0];
        let gradient = |wait: bool| {
            let mut run = Run::new(model, kind, pooling, outputs, cuda(HalfType::Bf16));
            let whole = run.model.params.trained_range();
            for index in 0..6 {
                let batch = batch(&run.model.config, kind, outputs, index);
                let key = DropoutKey::new(5, index);
                run.backend.set_batch(&batch, key).unwrap();
                let span = Span::micro_batch(index == 0, false);
                run.backend.run(&run.program, span, ONE).unwrap();
                if wait {
                    run.backend.read_params(Slot::Gradient, whole).unwrap();
                }
            }
            if !wait {
                eprintln!("all is queued");
            }
            run.backend.read_params(Slot::Gradient, whole).unwrap()
        };
        let ahead = gradient(false);
        assert!(ahead.iter().any(|&x| x != 0.0));
        assert_eq!(bits(&ahead), bits(&gradient(true)));
    });
    let Some(said) = said else { return };
    // While queueing six steps, the host had to wait for page-locked memory, so uploads had to run: on their own
    // stream, the later ones before the steps ahead of them.
    let (queued, _) = said.split_once("all is queued").unwrap();
    let runs: Vec<(&str, &str)> = queued
        .lines()
        .filter_map(|line| line.split_once("stream ")?.1.split_once(" runs: "))
        .collect();
    let first_step = runs.iter().position(|(_, what)| what.starts_with("graph"));
    let first_step = first_step.expect("a step ran while others were queued");
    let (before, of_steps) = (&runs[..first_step], runs[first_step].0);
    let uploads = before
        .iter()
        .filter(|(stream, what)| *stream != of_steps && what.ends_with("host to device"))
        .count();
    // The first batch, its numbers, and the second batch.
    assert!(
        uploads >= 3,
        "the second batch went up before the first step, on another stream: {before:?}"
    );
}

/// Transfers from and to the host, and what a step clears, are not between its kernels: their stream has one recording
/// per batch and nothing else.
#[test]
fn the_stream_of_the_steps_has_nothing_but_their_recordings() {
    let name = "recorded::the_stream_of_the_steps_has_nothing_but_their_recordings";
    let said = emulated(name, &[("CUDA_EMULATOR_TRACE", "1")], || {
        let (model, kind, pooling, outputs) = MODELS[0];
        let mut run = Run::new(model, kind, pooling, outputs, cuda(HalfType::Bf16));
        eprintln!("all is there");
        let reports = [run.issue(), run.issue()];
        let [first, second] = reports.map(|report| run.backend.wait_report(report).unwrap().loss);
        assert!(first > 0.0 && second > 0.0);
        eprintln!("all is done");
    });
    let Some(said) = said else { return };
    let (_, steps) = said.split_once("all is there").unwrap();
    let (steps, _) = steps.split_once("all is done").unwrap();
    let runs: Vec<(&str, &str)> = steps
        .lines()
        .filter_map(|line| line.split_once("stream ")?.1.split_once(" runs: "))
        .filter(|(_, what)| !matches!(*what, "event" | "wait"))
        .collect();
    let of_graphs = runs.iter().find(|(_, what)| what.starts_with("graph")).unwrap().0;
    let own: Vec<&str> =
        runs.iter().filter(|(stream, _)| *stream == of_graphs).map(|(_, what)| *what).collect();
    // A step of one batch, then one of two.
    assert_eq!(own.len(), 3, "{own:?}");
    assert!(own.iter().all(|what| what.starts_with("graph")), "{own:?}");
    let copies = |what: &str| runs.iter().filter(|(_, op)| op.ends_with(what)).count();
    // Batches, and the numbers of each step with its weight; the reports of both.
    assert_eq!((copies("host to device"), copies("device to host")), (6, 2), "{runs:?}");
    // One product of the last block runs in parallel in each direction, and so does clearing, unless a batch adds to an
    // earlier one.
    let nodes = |graph: &str| -> Vec<usize> {
        graph.split(|c: char| !c.is_ascii_digit()).filter_map(|n| n.parse().ok()).collect()
    };
    for (graph, beside) in [(own[0], 3), (own[1], 3), (own[2], 2)] {
        let [all, in_a_row] = nodes(graph)[..] else { panic!("{graph}") };
        assert_eq!(all - in_a_row, beside, "{graph}");
    }
}

/// What a recording uses must exist until it has run: code, page-locked memory and the recording itself.
#[test]
fn nothing_is_taken_away_from_a_step_that_still_runs() {
    let name = "recorded::nothing_is_taken_away_from_a_step_that_still_runs";
    let said = emulated(name, &[("CUDA_EMULATOR_TRACE", "1")], || {
        let (model, kind, pooling, outputs) = MODELS[0];
        let mut run = Run::new(model, kind, pooling, outputs, cuda(HalfType::Bf16));
        run.issue();
        eprintln!("all is queued");
        drop(run);
        eprintln!("all is gone");
    });
    let Some(said) = said else { return };
    let (before, queued) = said.split_once("all is queued").unwrap();
    let (queued, _) = queued.split_once("all is gone").unwrap();
    let at = |what: &str| queued.find(what).unwrap_or_else(|| panic!("no {what} in:\n{queued}"));
    let waits = at("cuCtxSynchronize");
    assert!(queued.contains("runs: graph"), "the step was done before its backend went");
    for taken in ["cuGraphExecDestroy", "cuMemFreeHost", "cuModuleUnload", "cuMemFree"] {
        assert!(waits < at(taken), "{taken} before the step was waited for");
    }
    // And code exists before a recording begins: a driver may load it only when it is queried or launched.
    let (loading, recording) = before.split_once("cuStreamBeginCapture").unwrap();
    // Copies from memory that the program may reuse are waited for; for page-locked memory an event says when.
    let calls: Vec<&str> = loading
        .lines()
        .filter_map(|line| line.strip_prefix("CUDA emulator: cu"))
        .filter(|call| !call.contains("Current"))
        .collect();
    let copied = |call: &str| call.starts_with("MemcpyHtoD");
    let followed = calls.windows(2).filter(|pair| copied(pair[0]));
    assert!(followed.clone().count() > 10, "{loading}");
    for pair in followed {
        let ordered =
            ["StreamSynchronize", "EventRecord"].iter().any(|next| pair[1].starts_with(next));
        assert!(ordered, "{pair:?} in:\n{loading}");
    }
    let count = |text: &str, what: &str| text.matches(what).count();
    assert!(count(loading, "cuFuncGetAttribute") >= count(loading, "cuModuleGetFunction"));
    assert!(!recording.contains("cuModuleGetFunction") && !recording.contains("cuModuleLoad"));
}

/// LayerNorm kernels finish the sums of earlier kernels, and the gradient's norm finishes what the last ones leave. If
/// the step does not end there, its loss and gradient are complete nevertheless. First tokens go into the head without
/// pooling.
#[test]
fn no_launch_of_a_step_does_nothing_but_finish_sums_or_copy_rows() {
    let name = "recorded::no_launch_of_a_step_does_nothing_but_finish_sums_or_copy_rows";
    emulated(name, &[], || {
        sums_of_a_step(Training::Biases(Saving::KEEP), 4);
        // Then the norm has all of them to finish, and the loss.
        sums_of_a_step(Training::Head, 0);
    });
}

fn sums_of_a_step(training: Training, norms: usize) {
    let (model, kind, pooling, outputs) = MODELS[0];
    let backend = cuda(HalfType::F16);
    let mut run = Run::with(model, kind, pooling, outputs, backend, training);
    let batch = batch(&run.model.config, kind, outputs, 0);
    run.backend.set_batch(&batch, DropoutKey::default()).unwrap();
    let (whole, update) = (run.model.params.trained_range(), run.update());
    let (mut gradients, mut losses, mut norm) = (Vec::new(), Vec::new(), 0.0);
    for (span, alone) in [(Span::micro_batch(true, false), 1), (Span::WHOLE, 0)] {
        let numbers = Numbers { update: Some(update), ..ONE };
        let pieces = run.backend.run_timed(&run.program, span, numbers, None).unwrap();
        let launches: Vec<_> = pieces.iter().filter_map(|piece| piece.kernel.as_ref()).collect();
        let count = |name: &str| launches.iter().filter(|l| l.kernel.starts_with(name)).count();
        assert_eq!(count("norm_backward"), norms, "{launches:?}");
        assert_eq!((count("column_finish"), count("pool")), (alone, 0), "{launches:?}");
        assert_eq!((count("classify"), count("loss")), (1, 0), "{launches:?}");
        gradients.push(run.backend.read_params(Slot::Gradient, whole).unwrap());
        let report = run.backend.step_report().unwrap();
        norm = f64::from(report.grad_norm);
        losses.push(report.loss);
    }
    assert_eq!(bits(&gradients[0]), bits(&gradients[1]));
    assert!(losses[0] > 0.0 && losses[0].to_bits() == losses[1].to_bits(), "{losses:?}");
    let squares = gradients[1].iter().map(|&g| f64::from(g).powi(2)).sum::<f64>();
    assert!((norm / squares.sqrt() - 1.0).abs() < 1e-6, "{norm} and {}", squares.sqrt());
}

/// A loss that is not averaged, and no optimizer step.
const ONE: Numbers = Numbers { weight: 1.0, update: None };

#[test]
fn a_replay_refuses_what_an_issued_step_refuses() {
    emulated("recorded::a_replay_refuses_what_an_issued_step_refuses", &[], || {
        let (model, kind, pooling, outputs) = MODELS[0];
        let mut run = Run::new(model, kind, pooling, outputs, cuda(HalfType::Bf16));
        let mut batch = batch(&run.model.config, kind, outputs, 0);
        run.backend.set_batch(&batch, DropoutKey::default()).unwrap();
        let part = Span::micro_batch(true, false);
        let said = |failed: anyhow::Result<()>| format!("{:#}", failed.unwrap_err());
        let small = Limits { tokens: batch.tokens() - 1, ..LIMITS };
        let element = run.backend.kind().element_bytes();
        let small = run.model.program(small, element, Some(Saving::KEEP));
        let beyond = said(run.backend.run(&small, part, ONE));
        assert!(beyond.contains("for a program of"), "{beyond}");
        // The errors leave the backend unchanged.
        run.backend.run(&run.program, part, ONE).unwrap();
        run.backend.run(&run.program, part, ONE).unwrap();
        assert_eq!(run.backend.recordings(), 1);
        let unsaid = said(run.backend.run(&run.program, Span::WHOLE, ONE));
        assert!(unsaid.contains("Update"), "{unsaid}");
        if let Labels::Classes(classes) = &mut batch.labels {
            classes[0] = 99;
        }
        run.backend.set_batch(&batch, DropoutKey::default()).unwrap();
        let wrong = said(run.backend.run(&run.program, part, ONE));
        assert!(wrong.contains("label 99"), "{wrong}");
    });
}
