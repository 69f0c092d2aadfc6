//! What is refused by name: other targets, other devices, and unsupported forms.

use crate::device::{Hopper, kernel};
use emulator::{DeviceConfig, DeviceMemory, Module};
use std::sync::Arc;

fn refusal(text: &str) -> String {
    let hopper = Hopper::new();
    match hopper.load(text) {
        Ok(_) => panic!("not refused:\n{text}"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn code_for_one_architecture_runs_there_only() {
    let text = kernel(128, "", "", "");
    let memory = Arc::new(DeviceMemory::new(1 << 20));
    for (capability, runs) in [((9, 0), true), ((8, 0), false), ((10, 0), false)] {
        let config = DeviceConfig { capability, ..DeviceConfig::default() };
        assert_eq!(Module::load(&text, &memory, &config).is_ok(), runs, "{capability:?}");
    }
}

#[test]
fn without_the_letter_the_instructions_are_refused() {
    for (text, name) in [
        ("wgmma.fence.sync.aligned;", "wgmma"),
        ("setmaxnreg.dec.sync.aligned.u32 40;", "setmaxnreg"),
        ("tensormap.replace.tile.rank.shared::cta.b1024.b32 [%w], 1;", "tensormap.replace"),
    ] {
        assert!(Hopper::new().load(&kernel(128, "", "", text)).is_ok(), "{text}");
        let plain = kernel(128, "", "", text).replace("sm_90a", "sm_90");
        let error = refusal(&plain);
        assert!(error.contains(name) && error.contains("sm_90a"), "{error}");
    }
}

#[test]
fn forms_that_are_not_there() {
    for (text, part) in [
        (
            "cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes.multicast::cluster [%s], [%w, {%i, %j}], [%t], 3;",
            "multicast",
        ),
        (
            "cp.async.bulk.tensor.3d.shared::cluster.global.im2col.mbarrier::complete_tx::bytes [%s], [%w, {%i, %j, %i}], [%t], {1};",
            "im2col",
        ),
        (
            "cp.reduce.async.bulk.shared::cluster.shared::cta.mbarrier::complete_tx::bytes.add.u32 [%s], [%t], 16, [%n];",
            "blocks",
        ),
        ("cp.reduce.async.bulk.global.shared::cta.bulk_group.max.f32 [%w], [%s], 16;", "reduction"),
        (
            "cp.async.bulk.shared::cluster.shared::cta.mbarrier::complete_tx::bytes [%s], [%t], 16, [%n];",
            "blocks",
        ),
        (
            "wgmma.mma_async.sync.aligned.m64n8k256.s32.b1.b1.and.popc {%x0, %x1, %x2, %x3}, %w, %v, 1;",
            "shape",
        ),
        (
            "wgmma.mma_async.sync.aligned.m64n40k32.s32.s8.s8 {%x0, %x1, %x2, %x3}, %w, %v, 1;",
            "these types",
        ),
        (
            "wgmma.mma_async.sp.sync.aligned.m64n8k32.f32.f16.f16 {%x0, %x1, %x2, %x3}, %w, %v, %i, 0, 1, 1, 1, 0, 0;",
            "sparse",
        ),
        (
            "mma.sp.sync.aligned.m16n8k16.row.col.f32.tf32.tf32.f32 {%x0, %x1, %x2, %x3}, {%i, %i, %i, %i}, {%i, %i, %i, %i}, {%x0, %x1, %x2, %x3}, %j, 0;",
            "sparse",
        ),
        (
            "red.async.relaxed.cluster.shared::cluster.mbarrier::complete_tx::bytes.add.u32 [%s], %i, [%t];",
            "red.async",
        ),
        (
            "wgmma.mma_async.sync.aligned.m64n12k16.f32.f16.f16 {%x0, %x1, %x2, %x3}, %w, %v, 1, 1, 1, 0, 0;",
            "shape",
        ),
        (
            "wgmma.mma_async.sync.aligned.m64n8k16.bf16.bf16.bf16 {%x0, %x1, %x2, %x3}, %w, %v, 1, 1, 1, 0, 0;",
            "these types",
        ),
        (
            "wgmma.mma_async.sync.aligned.m64n8k16.f32.f16.f16 {%x0, %x1, %x2}, %w, %v, 1, 1, 1, 0, 0;",
            "4 registers",
        ),
        (
            "wgmma.mma_async.sync.aligned.m64n8k16.f32.f16.f16 {%x0, %x1, %x2, %x0}, %w, %v, 1, 1, 1, 0, 0;",
            "twice",
        ),
        (
            "wgmma.mma_async.sync.aligned.m64n8k16.f32.f16.f16 {%x0, %x1, %x2, %x3}, %w, %v, 1, 2, 1, 0, 0;",
            "scale",
        ),
        ("setmaxnreg.inc.sync.aligned.u32 100;", "multiple of 8"),
        ("setmaxnreg.inc.sync.aligned.u32 16;", "24 to 256"),
        ("st.async.weak.shared::cluster.mbarrier::complete_tx::bytes.u32 [%s], %i, [%t];", "async"),
    ] {
        let error = refusal(&kernel(128, "", "", text));
        assert!(error.contains(part), "{text}: {error}");
    }
}
