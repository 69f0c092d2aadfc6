//! What programs of other authors do: constants that a compiler moves behind a fence, blocks that wait for each other,
//! global memory written by threads and read by copies, chains of dependent launches.

use crate::device::{Hopper, Param, kernel, seeds};
use emulator::FaultKind::{self, *};

fn outcome(
    hopper: &Hopper,
    text: &str,
    shape: (u32, u32, u32),
    at: [u64; 2],
) -> Result<(), FaultKind> {
    hopper.run(text, shape, &at.map(Param::Pointer)).map_err(|f| f.kind)
}

/// A compiler writes the zeros of sums right before the product that takes them, and so behind the fence.
#[test]
fn constants_behind_a_fence_count_as_before_it() {
    let zeros =
        "mov.f32 %f0, 0f00000000;\nmov.f32 %f1, %f0;\nmov.f32 %f2, %f0;\nmov.f32 %f3, %f0;\n";
    let product = "wgmma.mma_async.sync.aligned.m64n8k16.f32.f16.f16 {%f0, %f1, %f2, %f3}, %desc, %desc, 1, 1, 1, 0, 0;\n\
                   wgmma.commit_group.sync.aligned;\nwgmma.wait_group.sync.aligned 0;\n";
    let fill = "mov.b32 %x0, 0;\nmad.lo.u32 %s, %tid0, 16, %smem;\nst.shared.v4.b32 [%s], {%x0, %x0, %x0, %x0};\n\
                fence.proxy.async;\nbar.sync 0;\nshr.u32 %s, %smem, 4;\ncvt.u64.u32 %desc, %s;\nor.b64 %desc, %desc, 0x0000000800080000;\n";
    let store = "mad.wide.u32 %w, %tid0, 4, %out;\nst.global.f32 [%w], %f0;\n";
    let fence = "wgmma.fence.sync.aligned;\n";
    let run = |body: &str, seed| {
        let hopper = Hopper::seeded(seed);
        let out = hopper.alloc(512);
        let text = kernel(128, "", ".reg .f32 %f<4>;\n", &format!("{fill}{body}"));
        outcome(&hopper, &text, (1, 128, 4096), [out; 2])
    };
    for seed in seeds() {
        let right = format!("{fence}{zeros}{product}{store}{fence}{zeros}{product}{store}");
        assert_eq!(run(&right, seed), Ok(()));
        let never = format!("{zeros}{product}{store}");
        assert_eq!(run(&never, seed), Err(MissingFence), "no fence at all");
        let once = format!("{fence}{zeros}{product}{store}{zeros}{product}{store}");
        assert_eq!(run(&once, seed), Err(MissingFence), "none since the first wait");
        let computed = format!("{fence}{zeros}add.f32 %f0, %f0, %f0;\n{product}{store}");
        assert_eq!(run(&computed, seed), Err(MissingFence), "not a constant");
    }
}

/// Every block waits for all others, twice.
#[test]
fn blocks_on_the_device_at_the_same_time_wait_for_each_other() {
    let barrier = |target: u32| {
        format!(
            "bar.sync 0;\n@%p bra B{target};\nmembar.gl;\natom.global.add.u32 %i, [%in], 1;\n\
             P{target}:\nld.volatile.global.u32 %i, [%in];\nsetp.lt.u32 %q, %i, {target};\n@%q bra P{target};\nmembar.gl;\n\
             B{target}:\nbar.sync 0;\n"
        )
    };
    let write =
        "mov.u32 %n, %ctaid.x;\nmad.wide.u32 %w, %n, 4, %out;\n@!%p st.global.u32 [%w], %n;\n";
    let read = "add.u32 %n, %n, 1;\nrem.u32 %n, %n, 12;\nmad.wide.u32 %w, %n, 4, %out;\nld.global.u32 %t, [%w];\n\
                mov.u32 %n, %ctaid.x;\nmad.wide.u32 %w, %n, 4, %out;\n@!%p st.global.u32 [%w+48], %t;\n";
    let body =
        |second: &str| format!("setp.ne.u32 %p, %tid0, 0;\n{write}{}{read}{second}", barrier(12));
    let text = kernel(64, "", "", &body(&barrier(24)));
    for seed in seeds() {
        let hopper = Hopper::seeded(seed);
        let (count, out) = (hopper.upload(&[0; 16]), hopper.alloc(96));
        assert_eq!(outcome(&hopper, &text, (12, 64, 0), [count, out]), Ok(()));
        let expected: Vec<_> = (0..12).map(|n| (n + 1) % 12).collect();
        assert_eq!(hopper.words(out + 48, 12), expected, "seed {seed:?}");
    }
    // A block too few: they wait for ever, and that is said.
    let hopper = Hopper::new();
    let (count, out) = (hopper.upload(&[0; 16]), hopper.alloc(96));
    let text = kernel(64, "", "", &body(&barrier(25)));
    assert_eq!(outcome(&hopper, &text, (12, 64, 0), [count, out]), Err(Deadlock));
}

const LOAD: &str = "@%p bra W;\nmov.u32 %n, 128;\nmbarrier.arrive.expect_tx.shared::cta.b64 _, [bar], 128;\n\
    cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%smem], [%in], %n, [bar];\n\
    W:\nmbarrier.try_wait.parity.shared::cta.b64 %q, [bar], 0;\n@!%q bra W;\n\
    mad.lo.u32 %s, %tid0, 4, %smem;\nld.shared.u32 %i, [%s];\nmad.wide.u32 %w, %tid0, 4, %out;\nst.global.u32 [%w], %i;\n";

/// Threads write global memory, and a bulk copy of the same launch reads it.
#[test]
fn a_copy_of_what_the_same_launch_wrote_needs_a_proxy_fence() {
    let begin = "setp.ne.u32 %p, %tid0, 0;\n@!%p mbarrier.init.shared::cta.b64 [bar], 1;\n";
    let write = "mad.wide.u32 %w, %tid0, 4, %in;\nst.global.u32 [%w], %tid0;\n";
    let run = |fence: &str, seed| {
        let hopper = Hopper::seeded(seed);
        let (input, out) = (hopper.alloc(128), hopper.alloc(128));
        let text = kernel(32, "", "", &format!("{begin}{write}{fence}bar.sync 0;\n{LOAD}"));
        outcome(&hopper, &text, (1, 32, 128), [input, out])
            .map(|()| assert_eq!(hopper.words(out, 32), (0..32).collect::<Vec<_>>()))
    };
    for seed in seeds() {
        assert_eq!(run("fence.proxy.async;\n", seed), Ok(()));
        assert_eq!(run("fence.proxy.async.global;\n", seed), Ok(()));
        assert_eq!(run("fence.proxy.async.shared::cta;\n", seed), Err(MissingFence));
        assert_eq!(run("membar.gl;\n", seed), Err(MissingFence));
    }
}

/// One block writes and publishes, another takes over and copies: either may run the fence.
#[test]
fn a_copy_of_what_another_block_wrote_needs_a_proxy_fence() {
    let run = |writer: &str, reader: &str, seed| {
        let body = format!(
            "setp.ne.u32 %p, %tid0, 0;\nmov.u32 %i, %ctaid.x;\nsetp.ne.u32 %q, %i, 0;\n@%q bra READ;\n\
             mad.wide.u32 %w, %tid0, 4, %in;\nst.global.u32 [%w], %tid0;\n{writer}bar.sync 0;\n\
             @!%p st.release.gpu.global.u32 [%out+128], 1;\nret;\n\
             READ:\n@!%p mbarrier.init.shared::cta.b64 [bar], 1;\n@%p bra GO;\n\
             POLL:\nld.acquire.gpu.global.u32 %i, [%out+128];\nsetp.eq.u32 %q, %i, 0;\n@%q bra POLL;\n\
             GO:\nbar.sync 0;\n{reader}{LOAD}"
        );
        let hopper = Hopper::seeded(seed);
        let (input, out) = (hopper.alloc(128), hopper.upload(&[0; 132]));
        outcome(&hopper, &kernel(32, "", "", &body), (2, 32, 128), [input, out])
            .map(|()| assert_eq!(hopper.words(out, 32), (0..32).collect::<Vec<_>>()))
    };
    for seed in seeds() {
        assert_eq!(run("fence.proxy.async.global;\n", "", seed), Ok(()));
        assert_eq!(run("", "fence.proxy.async;\n", seed), Ok(()));
        assert_eq!(run("", "", seed), Err(MissingFence));
    }
}

/// A block publishes what its bulk store has not yet written.
#[test]
fn a_block_that_publishes_before_its_store_is_complete() {
    let run = |wait: &str, seed| {
        let body = format!(
            "setp.ne.u32 %p, %tid0, 0;\nmov.u32 %i, %ctaid.x;\nsetp.ne.u32 %q, %i, 0;\n@%q bra READ;\n\
             mad.lo.u32 %s, %tid0, 4, %smem;\nst.shared.u32 [%s], %tid0;\nfence.proxy.async;\nbar.sync 0;\n@%p ret;\n\
             mov.u32 %n, 128;\ncp.async.bulk.global.shared::cta.bulk_group [%in], [%smem], %n;\n\
             cp.async.bulk.commit_group;\n{wait}st.release.gpu.global.u32 [%out+128], 1;\nret;\n\
             READ:\n@%p bra GO;\nPOLL:\nld.acquire.gpu.global.u32 %i, [%out+128];\nsetp.eq.u32 %q, %i, 0;\n@%q bra POLL;\n\
             GO:\nbar.sync 0;\nmad.wide.u32 %w, %tid0, 4, %in;\nld.global.u32 %i, [%w];\n\
             mad.wide.u32 %w, %tid0, 4, %out;\nst.global.u32 [%w], %i;\n"
        );
        let hopper = Hopper::seeded(seed);
        let (input, out) = (hopper.alloc(128), hopper.upload(&[0; 132]));
        outcome(&hopper, &kernel(32, "", "", &body), (2, 32, 128), [input, out])
    };
    for seed in seeds() {
        assert_eq!(run("cp.async.bulk.wait_group 0;\n", seed), Ok(()));
        assert_eq!(run("cp.async.bulk.wait_group.read 0;\n", seed), Err(GlobalRace));
    }
}

/// The second of three launches never waits, so the first may still run when the third begins.
#[test]
fn a_dependent_launch_ends_after_the_one_before_only_if_it_waits() {
    let address = "mul.wide.u32 %w, %tid0, 4;\nadd.u64 %v, %w, %in;\nadd.u64 %w, %w, %out;\n";
    let first = kernel(32, "", "", &format!("{address}st.global.u32 [%v], %tid0;\n"));
    let second = |wait: &str| {
        kernel(32, "", "", &format!("{address}st.global.u32 [%w+128], %tid0;\n{wait}"))
    };
    let third = "griddepcontrol.wait;\nld.global.u32 %i, [%v];\nst.global.u32 [%w], %i;\n";
    let third = kernel(32, "", "", &format!("{address}{third}"));
    let early = kernel(32, "", "", &format!("{address}st.global.u32 [%v], %tid0;\n"));
    let read =
        kernel(32, "", "", &format!("{address}ld.global.u32 %i, [%v];\nst.global.u32 [%w], %i;\n"));
    let wait = "griddepcontrol.wait;\n";
    for seed in seeds() {
        let run = |launches: &[(&str, bool)]| {
            let mut hopper = Hopper::seeded(seed);
            let (input, out) = (hopper.upload(&[0; 128]), hopper.alloc(256));
            launches.iter().try_for_each(|&(text, dependent)| {
                hopper.dependent = dependent;
                outcome(&hopper, text, (1, 32, 0), [input, out])
            })
        };
        assert_eq!(run(&[(&first, false), (&second(wait), true), (&third, true)]), Ok(()));
        assert_eq!(run(&[(&first, false), (&second(""), true), (&third, false)]), Ok(()));
        let chain = run(&[(&first, false), (&second(""), true), (&third, true)]);
        assert_eq!(chain, Err(GlobalRace));
        assert_eq!(run(&[(&read, false), (&early, false)]), Ok(()));
        assert_eq!(
            run(&[(&read, false), (&early, true)]),
            Err(GlobalRace),
            "overwrites what is read"
        );
    }
}

/// A producer's warps return early; the others still meet at the block's barrier.
#[test]
fn a_barrier_does_not_wait_for_warps_that_have_left() {
    let body = |first: u32| {
        format!(
            "setp.ge.u32 %p, %tid0, {first};\n@%p ret;\nmad.lo.u32 %s, %tid0, 4, %smem;\nst.shared.u32 [%s], %tid0;\nbar.sync 0;\n\
             xor.b32 %i, %tid0, 63;\nmad.lo.u32 %s, %i, 4, %smem;\nld.shared.u32 %i, [%s];\nmad.wide.u32 %w, %tid0, 4, %out;\nst.global.u32 [%w], %i;\n"
        )
    };
    for seed in seeds() {
        let hopper = Hopper::seeded(seed);
        let out = hopper.alloc(256);
        assert_eq!(
            outcome(&hopper, &kernel(96, "", "", &body(64)), (1, 96, 256), [out; 2]),
            Ok(())
        );
        assert_eq!(hopper.words(out, 64), (0..64).rev().collect::<Vec<_>>());
        let partly = kernel(96, "", "", &body(80));
        assert_eq!(outcome(&hopper, &partly, (1, 96, 512), [out; 2]), Err(BarrierDivergence));
    }
}

/// Volatile stores and atomics are ordinary accesses too, as far as asynchronous reads are concerned.
#[test]
fn strong_accesses_and_asynchronous_reads_of_shared_memory() {
    let run = |before: &str, after: &str, seed| {
        let body = format!(
            "mad.lo.u32 %s, %tid0, 4, %smem;\nst.shared.u32 [%s], 0;\nfence.proxy.async;\nbar.sync 0;\n\
             atom.shared.add.u32 %i, [%s], %tid0;\n{before}bar.sync 0;\nsetp.ne.u32 %p, %tid0, 0;\n@%p ret;\nmov.u32 %n, 128;\n\
             cp.async.bulk.global.shared::cta.bulk_group [%out], [%smem], %n;\ncp.async.bulk.commit_group;\n\
             {after}cp.async.bulk.wait_group 0;\n"
        );
        let hopper = Hopper::seeded(seed);
        let out = hopper.alloc(128);
        outcome(&hopper, &kernel(32, "", "", &body), (1, 32, 128), [out; 2])
            .map(|()| assert_eq!(hopper.words(out, 32), (0..32).collect::<Vec<_>>()))
    };
    let (fence, store) =
        ("fence.proxy.async.shared::cta;\n", "st.volatile.shared.u32 [%smem+4], 7;\n");
    let waited = format!("cp.async.bulk.wait_group.read 0;\n{store}");
    for seed in seeds() {
        assert_eq!(run(fence, &waited, seed), Ok(()));
        assert_eq!(run("", &waited, seed), Err(MissingFence));
        assert_eq!(run(fence, store, seed), Err(SharedRace));
    }
}
