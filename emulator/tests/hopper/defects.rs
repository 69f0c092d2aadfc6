//! Planted defects: each is reported under twenty warp orders, and the correct kernel under none.

use crate::device::{Hopper, Param, fill, kernel, seeds};
use crate::gemm;
use emulator::FaultKind::{self, *};

#[test]
fn the_correct_product_is_right_and_not_accused() {
    let text = gemm::text();
    for seed in seeds() {
        gemm::run(&text, seed).unwrap_or_else(|f| panic!("seed {seed:?}: {f}"));
    }
}

/// A line of the correct kernel is replaced; one of these reports appears under every order.
fn planted(from: &str, to: &str, kinds: &[FaultKind]) {
    let text = gemm::text();
    assert_eq!(text.matches(from).count(), 1, "{from}");
    let text = text.replace(from, to);
    for seed in seeds() {
        let fault = gemm::run(&text, seed).expect_err(from);
        assert!(kinds.contains(&fault.kind), "{from:?} as {to:?}, seed {seed:?}: {fault}");
    }
}

#[test]
fn no_fence_before_the_first_product() {
    planted("wgmma.fence.sync.aligned;\n", "", &[MissingFence]);
}

#[test]
fn no_wait_before_the_sums_are_read() {
    planted("wgmma.wait_group.sync.aligned 0;\n", "", &[PendingProduct]);
}

#[test]
fn sums_touched_in_flight() {
    planted("// committed\n", "mov.b32 %x0, %d3;\n", &[PendingProduct]);
    planted("// committed\n", "mov.b32 %d3, 0;\n", &[PendingProduct]);
}

#[test]
fn a_wait_for_too_few_groups() {
    planted("wait_group.sync.aligned 1;", "wait_group.sync.aligned 2;", &[SharedRace]);
}

#[test]
fn a_stage_freed_before_the_wait() {
    let free = "setp.ne.u32 %p, %tid0, 128;\nxor.b32 %i, %stage, 0;\nshl.b32 %i, %i, 3;\nadd.u32 %empty, %bars, %i;\n\
                @!%p mbarrier.arrive.shared::cta.b64 _, [%empty+16];\n";
    let text = gemm::text()
        .replace("@!%p mbarrier.arrive.shared::cta.b64 _, [%empty+16];\n", "")
        .replace("// committed\n", free);
    for seed in seeds() {
        let fault = gemm::run(&text, seed).expect_err("freed too early");
        assert_eq!(fault.kind, SharedRace, "seed {seed:?}: {fault}");
    }
}

#[test]
fn a_producer_that_ignores_whether_a_stage_is_empty() {
    planted("@!%q bra PW;\n", "", &[SharedRace, PendingAsyncCopy, BarrierDivergence]);
}

#[test]
fn a_consumer_that_ignores_whether_a_stage_is_full() {
    planted("@!%q bra CW;\n", "", &[PendingAsyncCopy, UninitialisedRead]);
}

#[test]
fn expected_bytes_too_many_or_too_few() {
    planted("[%full], 16384;", "[%full], 16400;", &[Deadlock]);
    planted("[%full], 16384;", "[%full], 8192;", &[PendingAsyncCopy, SharedRace, Deadlock]);
}

#[test]
fn a_bulk_store_without_a_proxy_fence() {
    planted("fence.proxy.async.shared::cta;\n", "", &[MissingFence]);
}

#[test]
fn a_bulk_store_without_a_barrier() {
    planted(
        "fence.proxy.async.shared::cta;\nbar.sync 1, 128;\n",
        "fence.proxy.async.shared::cta;\n",
        &[SharedRace, UninitialisedRead],
    );
}

#[test]
fn shared_memory_overwritten_while_a_bulk_store_reads_it() {
    planted("@!%p cp.async.bulk.wait_group.read 0;\n", "", &[SharedRace]);
    planted("@!%p cp.async.bulk.commit_group;\n", "", &[SharedRace]);
}

#[test]
fn shared_memory_overwritten_while_a_product_reads_it() {
    let write = "shl.b32 %i, %stage, 14;\nadd.u32 %i, %smem, %i;\nst.shared.b32 [%i+64], 0;\n";
    planted("// committed\n", write, &[SharedRace]);
}

#[test]
fn a_descriptor_that_is_not_at_the_start_of_a_pattern() {
    planted("add.u64 %v, %w, 512;", "add.u64 %v, %w, 520;", &[Misaligned]);
}

#[test]
fn a_warpgroup_in_parts() {
    let skip = "shr.u32 %i, %tid0, 5;\nsetp.eq.u32 %p, %i, 7;\n@%p bra DONE;\n";
    let from = "CONSUMER:\nsetmaxnreg.inc.sync.aligned.u32 256;\n";
    planted(from, &format!("{from}{skip}"), &[Deadlock, BadMemberMask]);
    let lane = "and.b32 %i, %tid0, 31;\nsetp.eq.u32 %p, %i, 7;\n@%p bra DONE;\n";
    planted(from, &format!("{from}{lane}"), &[BadMemberMask, Deadlock]);
}

#[test]
fn descriptors_that_differ_between_the_warps() {
    let from = "add.u64 %v, %w, 512;\n";
    let other = "shr.u32 %i, %tid0, 5;\nsetp.eq.u32 %p, %i, 6;\n@%p mov.b64 %v, %w;\n";
    planted(from, &format!("{from}{other}"), &[IllegalInstruction]);
}

#[test]
fn a_load_that_nothing_waits_for() {
    let text = gemm::text().replace(
        "setp.lt.u32 %p, %step, 6;\n@%p bra PRODUCE;",
        "setp.lt.u32 %p, %step, 7;\n@%p bra PRODUCE;",
    );
    for seed in seeds() {
        let fault = gemm::run(&text, seed).expect_err("a load too many");
        assert_eq!(fault.kind, PendingAsyncCopy, "seed {seed:?}: {fault}");
    }
}

/// Shared memory that threads write, and a product that reads it.
fn written_by_threads(from: &str, to: &str, seed: Option<u64>) -> Result<(), FaultKind> {
    let hopper = Hopper::seeded(seed);
    let input = hopper.upload(&[0; 4096]);
    let out = hopper.alloc(16);
    let mut body = fill(4096, 128);
    assert!(body.contains(from) || from.is_empty());
    body = body.replacen(from, to, 1);
    body += "mov.b32 %a0, 0;\nmov.b32 %a1, 0;\nmov.b32 %a2, 0;\nmov.b32 %a3, 0;\n\
             mov.b32 %d0, 0;\nmov.b32 %d1, 0;\nmov.b32 %d2, 0;\nmov.b32 %d3, 0;\ncvt.u64.u32 %token, %smem;\nshr.u64 %token, %token, 4;\nor.b64 %desc, %token, 0x4000004000000000;\n\
             wgmma.fence.sync.aligned;\n\
             wgmma.mma_async.sync.aligned.m64n8k16.f32.f16.f16 {%d0, %d1, %d2, %d3}, {%a0, %a1, %a2, %a3}, %desc, 1, 1, 1, 0;\n\
             wgmma.commit_group.sync.aligned;\n// committed\nwgmma.wait_group.sync.aligned 0;\nmov.b32 %a0, 1;\n";
    if to.starts_with("mov.b32") {
        body = body.replace("// committed\n", to);
    }
    let text = kernel(128, "", ".reg .b32 %d<4>, %a<4>;\n", &body);
    let params = [Param::Pointer(input), Param::Pointer(out)];
    hopper.run(&text, (1, 128, 4096), &params).map_err(|f| f.kind)
}

#[test]
fn ordinary_stores_that_a_product_reads() {
    for seed in seeds() {
        assert_eq!(written_by_threads("", "", seed), Ok(()), "{seed:?}");
        assert_eq!(written_by_threads("fence.proxy.async;\n", "", seed), Err(MissingFence));
        // The reader may also fence, after the barrier, and the fence on its own is not enough.
        let turned = "bar.sync 0;\nfence.proxy.async;\n";
        assert_eq!(written_by_threads("fence.proxy.async;\nbar.sync 0;\n", turned, seed), Ok(()));
        let alone = written_by_threads("bar.sync 0;\n", "", seed);
        assert!(matches!(alone, Err(SharedRace | UninitialisedRead)), "{seed:?}: {alone:?}");
    }
}

#[test]
fn registers_of_a_touched_in_flight() {
    for seed in seeds() {
        assert_eq!(written_by_threads("", "mov.b32 %a0, 2;\n", seed), Err(PendingProduct));
    }
}

#[test]
fn a_register_pool_overdrawn() {
    let run = |more: u32, seed| {
        let body = format!(
            "setp.ge.u32 %p, %tid0, 128;\n@%p bra MORE;\nsetmaxnreg.dec.sync.aligned.u32 40;\nbra END;\n\
             MORE:\nsetmaxnreg.inc.sync.aligned.u32 {more};\nEND:\n"
        );
        let hopper = Hopper::seeded(seed);
        let out = hopper.alloc(16);
        let params = [Param::Pointer(out), Param::Pointer(out)];
        hopper.run(&kernel(384, "", "", &body), (1, 384, 16), &params).map_err(|f| f.kind)
    };
    for seed in seeds() {
        assert_eq!(run(232, seed), Ok(()));
        assert_eq!(run(240, seed), Err(Deadlock));
        assert_eq!(run(160, seed), Err(IllegalInstruction), "fewer than there are");
    }
}

/// A launch that may overlap with the previous one reads its results, after a wait or without one.
#[test]
fn a_dependent_launch_that_reads_before_its_wait() {
    let write = kernel(
        64,
        "",
        "",
        "mul.wide.u32 %w, %tid0, 4;\nadd.u64 %w, %w, %in;\nst.global.u32 [%w], %tid0;\ngriddepcontrol.launch_dependents;\n",
    );
    let read = |before: &str, after: &str| {
        let body = format!(
            "{before}mul.wide.u32 %w, %tid0, 4;\nadd.u64 %v, %w, %in;\nld.global.u32 %i, [%v];\n{after}\
             add.u64 %v, %w, %out;\nst.global.u32 [%v], %i;\n"
        );
        kernel(64, "", "", &body)
    };
    let run = |text: &str, dependent: bool, seed| {
        let mut hopper = Hopper::seeded(seed);
        let (input, out) = (hopper.alloc(256), hopper.alloc(256));
        let params = [Param::Pointer(input), Param::Pointer(out)];
        hopper.run(&write, (1, 64, 16), &params).unwrap_or_else(|f| panic!("{f}"));
        hopper.dependent = dependent;
        hopper.run(text, (1, 64, 16), &params).map_err(|f| f.kind)
    };
    let one = "setp.lt.u32 %p, %tid0, 32;\n@%p griddepcontrol.wait;\nbar.sync 0;\n";
    for seed in seeds() {
        assert_eq!(run(&read("griddepcontrol.wait;\n", ""), true, seed), Ok(()));
        assert_eq!(run(&read(one, ""), true, seed), Ok(()), "one warp waits for all");
        assert_eq!(run(&read("", "griddepcontrol.wait;\n"), true, seed), Err(GlobalRace));
        assert_eq!(run(&read("", ""), false, seed), Ok(()), "an ordinary launch");
    }
}

/// One load whose phase another arrival completes: nothing waits for the bytes that do not fit.
#[test]
fn bytes_that_were_not_expected() {
    let run = |expected: u32, seed| {
        let body = format!(
            "setp.ne.u32 %p, %tid0, 0;\n@%p bra END;\nmbarrier.init.shared::cta.b64 [bar], 1;\nmov.u32 %n, 64;\n\
             mbarrier.arrive.expect_tx.shared::cta.b64 _, [bar], {expected};\n\
             cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%smem], [%in], %n, [bar];\n\
             cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%smem+64], [%in], %n, [bar];\n\
             W:\nmbarrier.try_wait.parity.shared::cta.b64 %q, [bar], 0;\n@!%q bra W;\n\
             mbarrier.arrive.shared::cta.b64 _, [bar];\n\
             V:\nmbarrier.try_wait.parity.shared::cta.b64 %q, [bar], 1;\nmbarrier.test_wait.parity.shared::cta.b64 %q, [bar], 1;\nEND:\n"
        );
        let hopper = Hopper::seeded(seed);
        let input = hopper.upload(&[1; 64]);
        let params = [Param::Pointer(input), Param::Pointer(input)];
        hopper.run(&kernel(32, "", "", &body), (1, 32, 128), &params).map_err(|f| f.kind)
    };
    for seed in seeds() {
        assert_eq!(run(128, seed), Ok(()));
        assert_eq!(run(64, seed), Err(PendingAsyncCopy));
    }
}
